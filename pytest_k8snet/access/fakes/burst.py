"""Healthy answers of the program ``burst``: every connection is tracked, and every port can be used again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster


def respond(fake: FakeCluster, node: str, role: str, op: str, params: Mapping[str, Any]) -> Any:
    """Answer like the program would."""
    del role
    sent = f"burst: connections of {node}"
    if op == "burst.narrow":
        return None
    if op == "burst.open":
        count = fake.kept[sent] = params["count"]
        ports, used = [1024, 65535], [20000, 20000 + count]
        return {"tried": count, "opened": count, "failed": {}, "late": 0, "seconds": 1.5, "ports": used, "range": ports}
    if op == "burst.again":
        most = params["most"]
        sysctls = {"tcp_tw_reuse": "1", "tcp_timestamps": "1"}
        return {"held": most, "over": "EADDRNOTAVAIL", "reused": most, "failed": {}, "timestamps": True, **sysctls}
    table = fake.answered(node, "host", "facts", {})["conntrack"]
    count = None if table["max"] is None else table["count"] + fake.kept.get(sent, 0)
    return {"number": 1, "count": count, "max": table["max"]} if op == "burst.begin" else {"peak": count, "count": count, "grown": 0}
