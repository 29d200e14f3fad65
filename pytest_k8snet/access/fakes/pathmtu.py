"""Paths between healthy pods and nodes: every size up to the MTU passes, and segments are as large as that allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.fake import MTU
from pytest_k8snet.errors import AccessError

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster, Role

_TRIES = 10


def respond(fake: FakeCluster, node: str, role: Role, op: str, params: Mapping[str, Any]) -> Any:
    """Answer like the agent's program."""
    if op == "pathmtu.serve":
        return {"number": 1, "port": params["port"], "mtu": MTU}
    if op == "pathmtu.stop":
        return True
    if op == "pathmtu.probe":
        return {target["key"]: _path(target) for target in params["targets"]}
    raise AccessError(f"{node}: {op}: the fake has no answer; give one with FakeCluster.answer({node!r}, {op!r}, ..., role={role!r})")


def _path(target: Mapping[str, Any]) -> dict[str, Any]:
    size = min(MTU, target["mtu"])
    beyond = target.get("beyond")
    way: dict[str, Any] | None = {"sent": _TRIES, "small": _TRIES, "full": _TRIES, "passes": None, "breaks": None, "errors": []}
    segments = {"error": None, "mss": size - (72 if ":" in target["address"] else 52), "mtu": MTU, "timestamps": True}
    if beyond is not None and size <= beyond:
        way = None
    return {
        "error": None,
        "own_mtu": MTU,
        "known_mtu": MTU,
        "size": size,
        "over": "refused",
        "tcp": segments if beyond is None else None,
        "requests": way,
        "replies": way if target["replies"] else None,
    }
