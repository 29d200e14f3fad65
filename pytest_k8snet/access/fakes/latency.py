"""Healthy nodes, which answer quickly and wake up in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import AccessError

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster, Role


def respond(fake: FakeCluster, node: str, role: Role, op: str, params: Mapping[str, Any]) -> Any:
    """Answer like the agent's program."""
    del fake
    if op == "latency.rtt":
        return {"sorted_ms": _times(0.2 if role == "host" else 0.25, params["samples"]), "jitter_ms": 0.02}
    if op == "latency.echo":
        return {"refused": None, "sorted_ms": _times(0.15 if role == "host" else 0.2, params["samples"]), "jitter_ms": 0.01, "lost": 0}
    if op == "latency.begin":
        return {"number": 1}
    if op == "latency.end":
        return {"sorted_ms": _times(1.0 if role == "host" else 1.1, 300), "jitter_ms": 0.2, "error": None}
    if op == "latency.connect":
        return {"sorted_ms": _times(0.5, params["samples"]), "error": None}
    if op == "latency.wakeups":
        processor = {"user": 3, "nice": 0, "system": 2, "idle": 95, "iowait": 0, "irq": 0, "softirq": 0, "steal": 0}
        return {"late_ms": _times(0.06, 900), "processor": processor}
    raise AccessError(f"{node}: {op}: the fake has no answer; give one with FakeCluster.answer({node!r}, {op!r}, ..., role={role!r})")


def _times(first_ms: float, count: int) -> list[float]:
    return [round(first_ms + number / 1000, 3) for number in range(count)]
