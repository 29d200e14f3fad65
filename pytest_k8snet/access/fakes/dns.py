"""Healthy answers of the program ``dns``: every server is there and knows the API server's Service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster

API = "10.96.0.1"


def respond(fake: FakeCluster, node: str, role: str, op: str, params: Mapping[str, Any]) -> Any:
    """Answer like the program would."""
    del fake, node, role
    if op == "dns.walk":
        return {
            name: {
                "questions": 2 * len(params["search"]),
                "tried": [[f"{name}.{domain}", "NXDOMAIN"] for domain in params["search"][:-1]]
                + [[f"{name}.{params['search'][-1]}", "NOERROR"]],
                "addresses": [API],
            }
            for name in params["names"]
        }
    if op == "dns.request":
        return {name: requested(name, params["count"]) for name in params["names"]}
    return {series["key"]: answered(series) for series in params["series"]}


def requested(name: str, count: int) -> dict[str, Any]:
    """Return what comes of requests by a name: the more questions it takes, the longer it takes."""
    resolve_ms = 0.4 * (1 if name.endswith(".") else 2 if name.count(".") == 1 else 4)
    return {"requests": [{"resolve_ms": resolve_ms, "connect_ms": 0.3, "answer_ms": 6.0}] * count, "error": None}


def answered(series: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a series of which every question was answered."""
    count = series["count"]
    addresses = [] if series["protocol"] == "loopback" else [API]
    return {"asked": count, "answered": count, "ms": [0.4] * count, "addresses": addresses, "errors": {}, "missing": {}}
