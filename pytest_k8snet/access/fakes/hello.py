"""Healthy answers of the program ``hello``: every server answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster


def respond(fake: FakeCluster, node: str, role: str, op: str, params: Mapping[str, Any]) -> Any:
    """Answer like the program would."""
    del fake, node, role, op
    return {target["key"]: {"connected_ms": 0.3, "answered_ms": 1.2, "tries": 1, "error": None} for target in params["targets"]}
