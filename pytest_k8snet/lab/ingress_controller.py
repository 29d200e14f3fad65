"""The lab's ingress controller: follows Ingresses, HTTPRoutes and endpoints, writes nginx' configuration, lets the real nginx take it in.

It runs in a pod, from a ConfigMap, with the standard library alone. What is configured is in a second ConfigMap, by the keys that
ingress-nginx has; one that is not there leaves nginx at its own default, and one that is not known here changes nothing. As ingress-nginx
does it has nginx test what it has written, and leaves the file that is in force where nginx refuses the new one.

What has no key in ingress-nginx, which has flags for some of it, is in that ConfigMap's annotations.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONFIGURATION, NEW = Path("/tmp/nginx.conf"), Path("/tmp/nginx.new")  # noqa: S108 - of a pod of its own
ANNOTATION = "k8snet.lab/"
REFUSED = "nginx refuses the new configuration"
CERTIFICATE = "/etc/ingress-tls/tls"
WATCH_S = 300
AGAIN_S = 1.0
QUIET_S = 0.2  # changes come several at a time

Rule = tuple[str, str, str, "str | int"]  # namespace, host, Service and its port
Objects = Mapping[str, Mapping[str, Any]]


class Watch:
    """Objects of a kind as they are now, followed in a thread of its own."""

    def __init__(self, path: str, changed: threading.Event, query: str = "") -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.known = threading.Event()
        self._path, self._query = path, query
        self._changed = changed
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while True:
            try:
                self._list_and_watch()
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                print(f"{self._path}: {error}", flush=True)
                time.sleep(AGAIN_S)

    def _list_and_watch(self) -> None:
        listed = json.loads(get(f"{self._path}?{self._query}").read())
        self.objects = {name_of(item): item for item in listed["items"]}
        self.known.set()
        self._changed.set()
        version = listed["metadata"]["resourceVersion"]
        query = f"watch=1&timeoutSeconds={WATCH_S}&resourceVersion={version}&{self._query}"
        for line in get(f"{self._path}?{query}"):
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise ValueError(event["object"].get("message"))
            objects = dict(self.objects)
            objects.pop(name_of(event["object"]), None)
            if event["type"] != "DELETED":
                objects[name_of(event["object"])] = event["object"]
            self.objects = objects
            self._changed.set()


def get(path: str) -> http.client.HTTPResponse:
    """Ask the API server; raise `ValueError` with what it says when that is no answer."""
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    connection = http.client.HTTPSConnection(host, port, timeout=WATCH_S + 30, context=context)
    connection.request("GET", path, headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise ValueError(f"HTTP {answer.status}: {answer.read(300).decode(errors='replace')}")
    return answer


def name_of(item: Mapping[str, Any]) -> str:
    """Return namespace/name of an object."""
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def configuration(rules: Iterable[Rule], slices: Objects, settings: Mapping[str, str]) -> str:
    """Return nginx' configuration."""
    followed = [rule for rule in rules if rule[0] == settings.get("watch-namespace", rule[0])]
    age = settings.get("hsts-max-age")
    lines = [
        "user www-data; worker_processes 1; pid /run/nginx.pid; error_log stderr;",
        "events { worker_connections 1024; }",
        "http {",
        "  access_log off; server_tokens off;",
        f"  map $https $hsts {{ default ''; on '{f'max-age={age}' if age else ''}'; }}",  # an empty header is not sent
        *_directive("keepalive_requests", settings.get("keep-alive-requests")),
        *_directive("large_client_header_buffers", settings.get("large-client-header-buffers")),
        f"  ssl_certificate {CERTIFICATE}.crt; ssl_certificate_key {CERTIFICATE}.key;",
        "  server { listen 80 default_server; listen 443 ssl default_server;",
        f"    location = /healthz {{ return 200 '{json.dumps(dict(settings), sort_keys=True)}'; }}",  # what is in force
        "    location / { return 404; } }",
    ]
    for number, (namespace, host, service, port) in enumerate(followed):
        lines += _server(f"upstream-{number}", host, [*_endpoints(slices, namespace, service, port)], settings)
    return "\n".join([*lines, "}", ""])


def rules_of_ingresses(ingresses: Objects, ingress_class: str) -> Iterator[Rule]:
    """Yield the rules of a class; of each the first path counts, and is taken for all paths."""
    for _, item in sorted(ingresses.items()):
        if item["spec"].get("ingressClassName") != ingress_class:
            continue
        for rule in item["spec"].get("rules") or ():
            paths = (rule.get("http") or {}).get("paths") or ()
            if paths and _is_host(rule.get("host")):
                service = paths[0]["backend"]["service"]
                port = service["port"].get("name") or service["port"]["number"]
                yield item["metadata"]["namespace"], rule["host"], service["name"], port


def rules_of_routes(routes: Objects, gateway: str) -> Iterator[Rule]:
    """Yield the same of HTTPRoutes of a Gateway, by its namespace/name; the first back end counts."""
    for _, item in sorted(routes.items()):
        namespace = item["metadata"]["namespace"]
        parents = {f"{parent.get('namespace', namespace)}/{parent['name']}" for parent in item["spec"].get("parentRefs") or ()}
        ends = [end for rule in item["spec"].get("rules") or () for end in rule.get("backendRefs") or ()]
        if gateway in parents and ends:
            yield from (
                (namespace, host, ends[0]["name"], ends[0]["port"]) for host in item["spec"].get("hostnames") or () if _is_host(host)
            )


def _is_host(name: str | None) -> bool:
    return re.fullmatch(r"[a-z0-9.-]+", name or "") is not None


class Endpoints:
    """EndpointSlices as nginx is told of them: late, when a setting says so, as by a controller that has much to do."""

    def __init__(self) -> None:
        self.told: dict[str, Mapping[str, Any]] = {}
        self._due: dict[str, float] = {}  # what has changed, and when nginx is told of it

    @property
    def pending(self) -> bool:
        """Whether there is something that nginx is not told yet."""
        return bool(self._due)

    def take(self, slices: Objects, delay_s: float, now: float) -> Objects:
        """Take in what is there at the time `now`; endpoints where there were none are told at once."""
        self.told = {key: item for key, item in self.told.items() if key in slices}
        for key, item in slices.items():
            known = (self.told.get(key) or {}).get("endpoints")
            if known and known != item.get("endpoints") and now < self._due.setdefault(key, now + delay_s):
                continue
            self.told[key] = item
            self._due.pop(key, None)
        self._due = {key: at for key, at in self._due.items() if key in slices}
        return self.told


def _endpoints(slices: Objects, namespace: str, service: str, port: str | int) -> Iterator[str]:
    """Yield address:port of the ready endpoints; the only port of a slice is that of the Service, whatever its number."""
    for item in slices.values():
        metadata = item["metadata"]
        if metadata["namespace"] != namespace or (metadata.get("labels") or {}).get("kubernetes.io/service-name") != service:
            continue
        ports = item.get("ports") or ()
        found = next((known["port"] for known in ports if len(ports) == 1 or port in (known.get("name"), known["port"])), None)
        for endpoint in item.get("endpoints") or ():
            if found is not None and (endpoint.get("conditions") or {}).get("ready") is not False:
                yield from (f"{address}:{found}" for address in endpoint["addresses"])


def _server(upstream: str, host: str, endpoints: Sequence[str], settings: Mapping[str, str]) -> list[str]:
    server = f"  server {{ listen 80; listen 443 ssl; server_name {host};"
    if not endpoints:
        return [f"{server} return 503; }}"]
    kept = settings.get("upstream-keepalive-connections")
    size = settings.get("proxy-buffer-size")
    pods = " ".join(f"server {endpoint};" for endpoint in endpoints)
    return [
        f"  upstream {upstream} {{ {pods}{f' keepalive {kept};' if kept else ''} }}",
        server,
        "    location / {",
        f"      proxy_pass http://{upstream}; proxy_set_header Host $host;",
        *(['      proxy_http_version 1.1; proxy_set_header Connection "";'] if kept else []),
        *([f"      proxy_buffer_size {size}; proxy_buffers 4 {size};"] if size else []),
        "      add_header Strict-Transport-Security $hsts always;",
        "    } }",
    ]


def _directive(name: str, value: str | None) -> list[str]:
    return [] if value is None else [f"  {name} {value};"]


def settings_of(config_map: Mapping[str, Any]) -> dict[str, str]:
    """Return what a ConfigMap says: its data, and those of its annotations that are this controller's."""
    annotations = (config_map.get("metadata") or {}).get("annotations") or {}
    own = {name.removeprefix(ANNOTATION): value for name, value in annotations.items() if name.startswith(ANNOTATION)}
    return {**(config_map.get("data") or {}), **own}


def refused(text: str) -> str | None:
    """Let nginx test a configuration; return what it says when it does not take it."""
    NEW.write_text(text)
    tested = subprocess.run(["nginx", "-t", "-q", "-c", str(NEW)], capture_output=True, text=True, check=False)
    return None if tested.returncode == 0 else tested.stderr.strip().replace("\n", "; ")


def main() -> None:
    """Follow the cluster until nginx ends."""
    given = argparse.ArgumentParser()
    given.add_argument("--configmap", required=True, metavar="NAMESPACE/NAME")
    settings_map = given.parse_args().configmap
    namespace, _, name = settings_map.partition("/")
    ingress_class, gateway = (os.environ[name] for name in ("INGRESS_CLASS", "GATEWAY"))
    changed = threading.Event()
    ingresses = Watch("/apis/networking.k8s.io/v1/ingresses", changed)
    routes = Watch("/apis/gateway.networking.k8s.io/v1/httproutes", changed)
    slices = Watch("/apis/discovery.k8s.io/v1/endpointslices", changed)
    maps = Watch(f"/api/v1/namespaces/{namespace}/configmaps", changed, f"fieldSelector=metadata.name%3D{name}")
    for watch in (ingresses, routes, slices, maps):
        watch.known.wait()
    nginx: subprocess.Popen[bytes] | None = None
    endpoints = Endpoints()
    before = ""
    while nginx is None or nginx.poll() is None:
        if not changed.wait(AGAIN_S) and not endpoints.pending:
            continue
        time.sleep(QUIET_S)
        changed.clear()
        settings = settings_of(maps.objects.get(settings_map, {}))
        rules = [*rules_of_ingresses(ingresses.objects, ingress_class), *rules_of_routes(routes.objects, gateway)]
        told = endpoints.take(slices.objects, float(settings.get("endpoints-delay", "0")), time.monotonic())
        wanted = configuration(rules, told, settings)
        if wanted == before:
            continue
        before = wanted
        if (why := refused(wanted)) is not None:
            print(f"{REFUSED}: {why}", flush=True)
            continue
        CONFIGURATION.write_text(wanted)
        if nginx is None:
            nginx = subprocess.Popen(["nginx", "-c", str(CONFIGURATION), "-g", "daemon off;"])
        else:
            nginx.send_signal(signal.SIGHUP)  # as ingress-nginx does: old processes answer what they have begun
        print(f"{len(rules)} rules, settings {dict(settings)}", flush=True)
    raise SystemExit(f"nginx ended: {nginx.returncode}")


if __name__ == "__main__":
    main()
