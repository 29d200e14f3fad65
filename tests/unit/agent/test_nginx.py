"""What the agent reads of nginx.conf: files as ingress-nginx writes them by its template."""

from __future__ import annotations

import pytest

from pytest_k8snet.agent.agent import nginx_directives, nginx_file

WRITTEN = """
# Configuration checksum: 7035283166422286411

# setup custom paths that do not require root access
pid /tmp/nginx/nginx.pid;

daemon off;

worker_processes 8;
worker_rlimit_nofile 1047552;
worker_shutdown_timeout 240s ;

events {
\tmulti_accept        on;
\tworker_connections  16384;
\tuse                 epoll;
}

http {
\tinit_by_lua_block {
\t\tcollectgarbage("collect")
\t\tconfiguration.nameservers = { "10.96.0.10" }
\t}
\tkeepalive_timeout  75s;
\tkeepalive_requests 1000;
\tlarge_client_header_buffers     4 8k;
\tproxy_set_header Authorization "Bearer secret";
\tlog_format upstreaminfo escape=json '{"time": "$time_iso8601", "keepalive_timeout": "5s"}';

\tupstream upstream_balancer {
\t\t### Attention!!!
\t\tserver 0.0.0.1; # placeholder
\t\tbalancer_by_lua_block {
\t\t\tbalancer.balance()
\t\t}
\t\tkeepalive 320;
\t\tkeepalive_time 1h;
\t\tkeepalive_timeout  60s;
\t\tkeepalive_requests 10000;
\t}

\t## start server _
\tserver {
\t\tserver_name _ ;
\t\tkeepalive_timeout 1s;
\t}
}
"""
DIRECTIVES = {
    "worker_connections": "16384",
    "keepalive_timeout": "75s",
    "keepalive_requests": "1000",
    "large_client_header_buffers": "4 8k",
}
UPSTREAM = {"keepalive": "320", "keepalive_time": "1h", "keepalive_timeout": "60s", "keepalive_requests": "10000"}


def test_what_ingress_nginx_writes() -> None:
    assert nginx_directives(WRITTEN) == {"directives": DIRECTIVES, "upstream": UPSTREAM}
    assert nginx_directives(WRITTEN.replace("\t\tkeepalive ", "\t\t# keepalive "))["upstream"] == {
        name: value for name, value in UPSTREAM.items() if name != "keepalive"
    }


def test_files_of_others() -> None:
    assert nginx_directives(None) == {"directives": None, "upstream": None}
    assert nginx_directives("") == {"directives": {}, "upstream": None}
    assert nginx_directives("http { server { keepalive_timeout 5s; } }") == {"directives": {}, "upstream": None}
    assert nginx_directives("keepalive_timeout 65;\n  server  {\nkeepalive_timeout 5s;")["directives"] == {"keepalive_timeout": "65"}


@pytest.mark.parametrize(
    ("cmdline", "want"),
    [
        ("nginx: master process /usr/bin/nginx -c /etc/nginx/nginx.conf\0\0\0", "/etc/nginx/nginx.conf"),
        ("nginx: master process nginx -g daemon off; -c /srv/nginx.conf", "/srv/nginx.conf"),
        ("nginx: master process nginx", "/etc/nginx/nginx.conf"),
        ("nginx: worker process", None),
        ("grep\0nginx: master process\0", None),
        ("", None),
    ],
)
def test_the_file_of_a_master_process(cmdline: str, want: str | None) -> None:
    assert nginx_file(cmdline) == want
