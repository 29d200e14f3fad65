"""The keys of ingress-nginx' ConfigMap, of all its releases to the last ones (1.15.1).

docs/user-guide/nginx-configuration/configmap.md; internal/ingress/controller/config/config.go and internal/ingress/defaults/main.go; the
keys that internal/ingress/controller/template/configmap.go takes by itself. Anything else is dropped without a word (mapstructure).
"""

from __future__ import annotations

_KEYS = """
access-log-params access-log-path add-headers allow-backend-server-header allow-cross-namespace-resources allow-snippet-annotations
annotation-value-word-blocklist annotations-risk-level app-root bind-address bind-address-ipv4 bind-address-ipv6 block-cidrs block-referers
block-user-agents brotli-level brotli-min-length brotli-types client-body-buffer-size client-body-timeout client-header-buffer-size
client-header-timeout compute-full-forwarded-for custom-http-errors datadog-collector-host datadog-collector-port datadog-environment
datadog-operation-name-override datadog-priority-sampling datadog-sample-rate datadog-service-name debug-connections default-type
denylist-source-range disable-access-log disable-http-access-log disable-ipv6 disable-ipv6-dns disable-proxy-intercept-errors
disable-stream-access-log enable-access-log-for-default-backend enable-aio-write enable-auth-access-log enable-brotli enable-modsecurity
enable-multi-accept enable-ocsp enable-opentelemetry enable-opentracing enable-owasp-modsecurity-crs enable-real-ip enable-syslog
enable-underscores-in-headers error-log-level error-log-path force-ssl-redirect forwarded-for-header generate-request-id
global-allowed-response-headers global-auth-always-set-cookie global-auth-cache-duration global-auth-cache-key global-auth-method
global-auth-request-redirect global-auth-response-headers global-auth-signin global-auth-signin-redirect-param global-auth-snippet
global-auth-url global-rate-limit-memcached-connect-timeout global-rate-limit-memcached-host global-rate-limit-memcached-max-idle-timeout
global-rate-limit-memcached-pool-size global-rate-limit-memcached-port global-rate-limit-status-code grpc-buffer-size-kb gzip-disable
gzip-level gzip-min-length gzip-types hide-headers hsts hsts-include-subdomains hsts-max-age hsts-preload http-access-log-path
http-redirect-code http-snippet http2-max-concurrent-streams http2-max-field-size http2-max-header-size http2-max-requests
ignore-invalid-headers jaeger-baggage-header jaeger-collector-host jaeger-collector-port jaeger-debug-header jaeger-endpoint
jaeger-propagation-format jaeger-sampler-host jaeger-sampler-param jaeger-sampler-port jaeger-sampler-type jaeger-service-name
jaeger-trace-baggage-header-prefix jaeger-trace-context-header-name keep-alive keep-alive-requests large-client-header-buffers
limit-conn-status-code limit-conn-zone-variable limit-rate limit-rate-after limit-req-status-code load-balance location-snippet
log-format-escape-json log-format-escape-none log-format-stream log-format-upstream lua-shared-dicts main-snippet map-hash-bucket-size
max-worker-connections max-worker-open-files modsecurity-snippet nginx-status-ipv4-whitelist nginx-status-ipv6-whitelist no-auth-locations
no-tls-redirect-locations opentelemetry-config opentelemetry-operation-name opentelemetry-trust-incoming-span
opentracing-location-operation-name opentracing-operation-name opentracing-trust-incoming-span otel-max-export-batch-size
otel-max-queuesize otel-sampler otel-sampler-parent-based otel-sampler-ratio otel-schedule-delay-millis otel-service-name
otlp-collector-host otlp-collector-port plugins preserve-trailing-slash proxy-add-original-uri-header proxy-body-size proxy-buffer-size
proxy-buffering proxy-buffers-number proxy-busy-buffers-size proxy-connect-timeout proxy-cookie-domain proxy-cookie-path
proxy-headers-hash-bucket-size proxy-headers-hash-max-size proxy-http-version proxy-max-temp-file-size proxy-next-upstream
proxy-next-upstream-timeout proxy-next-upstream-tries proxy-protocol-header-timeout proxy-read-timeout proxy-real-ip-cidr
proxy-redirect-from proxy-redirect-to proxy-request-buffering proxy-send-timeout proxy-set-headers proxy-ssl-location-only
proxy-stream-next-upstream proxy-stream-next-upstream-timeout proxy-stream-next-upstream-tries proxy-stream-responses proxy-stream-timeout
relative-redirects retry-non-idempotent reuse-port server-name-hash-bucket-size server-name-hash-max-size server-snippet server-tokens
service-upstream skip-access-log-urls ssl-buffer-size ssl-ciphers ssl-dh-param ssl-early-data ssl-ecdh-curve ssl-protocols ssl-redirect
ssl-reject-handshake ssl-session-cache ssl-session-cache-size ssl-session-ticket-key ssl-session-tickets ssl-session-timeout
stream-access-log-path stream-snippet strict-validate-path-type syslog-host syslog-port upstream-hash-by upstream-hash-by-subset
upstream-hash-by-subset-size upstream-keepalive-connections upstream-keepalive-requests upstream-keepalive-time upstream-keepalive-timeout
use-forwarded-headers use-geoip use-geoip2 use-gzip use-http2 use-port-in-redirects use-proxy-protocol variables-hash-bucket-size
variables-hash-max-size whitelist-source-range worker-cpu-affinity worker-processes worker-shutdown-timeout zipkin-collector-host
zipkin-collector-port zipkin-sample-rate zipkin-service-name
"""

KEYS = frozenset(_KEYS.split())

#: Keys of other controllers, or of nginx itself, and the one that is meant.
MEANT = {
    "keepalive": "upstream-keepalive-connections",
    "keepalive-timeout": "keep-alive",
    "proxy-buffers": "proxy-buffers-number",
    "upstream-keepalive": "upstream-keepalive-connections",
}

#: Keys whose values are kept: they say how connections, buffers and HSTS are, and hold no secrets. With the values that count without them.
JUDGED = {
    "hsts": "true",
    "hsts-include-subdomains": "true",
    "hsts-max-age": "31536000",
    "hsts-preload": "false",
    "keep-alive": "75",
    "keep-alive-requests": "1000",
    "large-client-header-buffers": "4 8k",
    "max-worker-connections": "16384",
    "proxy-buffer-size": "4k",
    "proxy-buffering": "off",
    "proxy-buffers-number": "4",
    "proxy-busy-buffers-size": "",
    "reuse-port": "true",
    "upstream-keepalive-connections": "320",
    "upstream-keepalive-requests": "10000",
    "upstream-keepalive-time": "1h",
    "upstream-keepalive-timeout": "60",
}

#: Directives that the controller writes for those keys into nginx.conf before the first server (rootfs/etc/nginx/template/nginx.tmpl): of
#: the whole, and of upstream_balancer. What a location has may be an Ingress' own.
DIRECTIVES = {
    "keep-alive": "keepalive_timeout",
    "keep-alive-requests": "keepalive_requests",
    "large-client-header-buffers": "large_client_header_buffers",
    "max-worker-connections": "worker_connections",
}
UPSTREAM = {
    "upstream-keepalive-connections": "keepalive",
    "upstream-keepalive-requests": "keepalive_requests",
    "upstream-keepalive-time": "keepalive_time",
    "upstream-keepalive-timeout": "keepalive_timeout",
}
