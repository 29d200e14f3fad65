"""Healthy answers of the program ``ingress``: an ingress that keeps its connections and lets large headers pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import AccessError

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster, Role

STREAMED = 340
HSTS = "max-age=31536000; includeSubDomains"


def respond(fake: FakeCluster, node: str, role: Role, op: str, params: Mapping[str, Any]) -> Any:
    """Answer like the program would."""
    if op == "ingress.serve":
        return {"number": 1, "port": params["port"]}
    if op == "ingress.stop":
        return None
    if op == "ingress.ask":
        fake.kept[params["token"]] = params
        return answered(params)
    if op == "ingress.stream":
        for series in params["series"]:
            fake.kept[series["token"]] = {**series, "requests": STREAMED}
        return {series["key"]: streamed() for series in params["series"]}
    if op == "ingress.seen":
        asked = fake.kept.get(params["token"])
        if asked is None:  # by the API server, of which the fake has no connection
            return {"requests": 1, "connections": 1, "sources": {"192.168.10.1": 1}, "protocols": {}, "connection": {}, "header_bytes": 0}
        return seen(asked)
    raise AccessError(f"{node}: {op}: the fake has no answer; give one with FakeCluster.answer({node!r}, {op!r}, ..., role={role!r})")


def answered(params: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return what comes of requests that are all answered; `changes` are what came otherwise."""
    count = params["requests"]
    healthy = {"asked": count, "answered": count, "opened": 1, "closed_after": [], "others": {}, "hsts": None, "ms": 0.8 * count}
    return healthy | ({"hsts": HSTS} if params["tls"] else {}) | changes


def streamed(**changes: Any) -> dict[str, Any]:
    """Return what comes of requests at a steady pace."""
    return {"asked": STREAMED, "answered": STREAMED, "others": {}, "failed_s": []} | changes


def seen(params: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return what the server saw of them."""
    count = params["requests"]
    healthy = {
        "requests": count,
        "connections": 1,
        "sources": {"10.244.1.2": count},
        "protocols": {"HTTP/1.1": count},
        "connection": {"": count},
    }
    return healthy | {"header_bytes": params["send_bytes"]} | changes
