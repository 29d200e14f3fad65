"""Ingress controllers and Gateway API implementations as the API server knows them, and the settings of ingress-nginx.

A ConfigMap of ingress-nginx may hold secrets (snippets, ticket keys): of it only the names of keys and the values of a few are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NGINX = "k8s.io/ingress-nginx"
SERVED_WITHIN_S = 60  # in which a controller serves what is new, where nobody says otherwise
DRAIN_S = 10  # that a pod goes on to answer when it is replaced, where nobody says otherwise
DOMAIN = "k8snet.invalid"
"""That no DNS has (RFC 6761), so that nothing which follows names of Ingresses publishes them."""


@dataclass(frozen=True, slots=True)
class NginxController:
    """A Deployment or DaemonSet of ingress-nginx."""

    name: str  # namespace/name
    image: str
    config_map: str | None  # namespace/name
    keys: tuple[str, ...] | None  # of the ConfigMap; None when it is not there or was not read
    values: Mapping[str, str]  # of those keys that are judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """What brings requests into the cluster."""

    nginx: tuple[NginxController, ...] = ()
    classes: Mapping[str, str] = field(default_factory=dict)  # IngressClass to its controller
    gateways: Mapping[str, str] = field(default_factory=dict)  # GatewayClass to its controller
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return {
            "nginx": [
                {
                    "name": item.name,
                    "image": item.image,
                    "config_map": item.config_map,
                    "keys": None if item.keys is None else [*item.keys],
                    "values": dict(item.values),
                }
                for item in self.nginx
            ],
            "classes": dict(self.classes),
            "gateways": dict(self.gateways),
            "unreadable": dict(self.unreadable),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ingress:
        """Read what `to_json` gave."""
        return cls(
            nginx=tuple(
                NginxController(**{**item, "keys": None if item["keys"] is None else tuple(item["keys"])}) for item in data["nginx"]
            ),
            classes=dict(data["classes"]),
            gateways=dict(data["gateways"]),
            unreadable=dict(data["unreadable"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A way into the cluster that is to be tested: whose it is, and where it answers."""

    name: str
    ingress_class: str | None = None
    gateway: str | None = None  # namespace/name, instead of a class
    listener: str | None = None  # of the Gateway; None is all that take it
    domain: str = DOMAIN  # of the names that requests are for
    service: str | None = None  # namespace/name of the controller's own Service
    address: str | None = None
    port: int
    tls: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
    served_within_s: int = SERVED_WITHIN_S
    drain_s: int = DRAIN_S
    header_bytes: int

    @property
    def made(self) -> str:
        """Say what a run makes for it."""
        return f"HTTPRoute of Gateway {self.gateway}" if self.gateway is not None else f"Ingress of class {self.ingress_class}"
