"""Ingresses and HTTPRoutes that lead to a probe pod: what ingress controllers and Gateways are tested with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pytest_k8snet.access.probe_services import INGRESS_TARGET_PORT, SERVED
from pytest_k8snet.cluster.ingress import Route

SERVICE = "ingress"  # of the run's own, which all of its Ingresses lead to
PORT = 80
INGRESSES = "/apis/networking.k8s.io/v1"
HTTP_ROUTES = "/apis/gateway.networking.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class ProbeIngress:
    """An Ingress or HTTPRoute of the run's own whose only endpoint is the probe pod of `node`."""

    name: str
    namespace: str
    route: str
    host: str
    node: str

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProbeIngress:
        """Read what `to_json` gave."""
        return cls(**data)


def ingress_name(number: int) -> str:
    """Return the name of an Ingress."""
    return f"ingress-{number}"


def ingress_host(number: int, run_id: str, domain: str) -> str:
    """Return the name that its requests are for: one label, so that ``*.domain`` takes it."""
    return f"{ingress_name(number)}-{run_id}.{domain}"


def ingress_path(route: Route, namespace: str) -> str:
    """Return where the API server has what is made for a route."""
    base, plural = (INGRESSES, "ingresses") if route.gateway is None else (HTTP_ROUTES, "httproutes")
    return f"{base}/namespaces/{namespace}/{plural}"


def backend_body(metadata: Mapping[str, Any], pod: str) -> dict[str, Any]:
    """Return the Service that the Ingresses lead to, and that leads to one probe pod."""
    ports = [{"name": "http", "protocol": "TCP", "port": PORT, "targetPort": INGRESS_TARGET_PORT}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": dict(metadata), "spec": {"selector": {SERVED: pod}, "ports": ports}}


def ingress_body(metadata: Mapping[str, Any], route: Route, host: str) -> dict[str, Any]:
    """Return the Ingress or HTTPRoute for a route. Without a Secret of its own TLS of an Ingress has the controller's certificate."""
    metadata = {**metadata, "annotations": {**route.annotations, **metadata["annotations"]}}
    if route.gateway is not None:
        return _http_route(metadata, route, host)
    backend = {"service": {"name": SERVICE, "port": {"number": PORT}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata,
        "spec": {
            "ingressClassName": route.ingress_class,
            "rules": [{"host": host, "http": {"paths": paths}}],
            **({"tls": [{"hosts": [host]}]} if route.tls else {}),
        },
    }


def _http_route(metadata: Mapping[str, Any], route: Route, host: str) -> dict[str, Any]:
    namespace, _, name = (route.gateway or "").partition("/")
    parent = {"namespace": namespace, "name": name, **({} if route.listener is None else {"sectionName": route.listener})}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata,
        "spec": {
            "parentRefs": [parent],
            "hostnames": [host],
            "rules": [
                {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [{"name": SERVICE, "port": PORT}]},
            ],
        },
    }
