"""The program ``traffic`` in a cluster where everybody is reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster

PORT = 40000


def respond(fake: FakeCluster, node: str, role: Literal["host", "pod"], op: str, params: Mapping[str, Any]) -> Any:
    """Answer an operation."""
    if op == "traffic.serve":
        return {"number": 1, "port": params["port"] or PORT, "families": ["IPv4"]}
    if op == "traffic.connect":
        peer = fake.pod_ip(node) if role == "pod" else fake.nodes[node].internal_ip
        return {target["key"]: _answer(fake, target, [peer, 50000]) for target in params["targets"]}
    return None


def _answer(fake: FakeCluster, target: Mapping[str, Any], peer: list[Any]) -> dict[str, Any]:
    at = target["address"]
    name = next((name for name in fake.nodes if at in (fake.pod_ip(name), fake.nodes[name].internal_ip)), None)
    told: dict[str, Any] = {"ms": 0.4, "tries": 1, "refused": False}
    if name is None:
        return {**told, "name": None, "peer": None, "error": "timed out", "tries": 2}
    return {**told, "name": name, "peer": peer, "error": None}
