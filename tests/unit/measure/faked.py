"""Measurements on a fake cluster, and an agent whose stream breaks during its first answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fake import FakeCluster, Role
from pytest_k8snet.errors import ExecTransportError
from pytest_k8snet.measure.registry import MeasureContext, MeasureSettings


def context(fake: FakeCluster, **settings: Any) -> MeasureContext:
    """Return what measurements of `fake` are given; `settings` are those of `MeasureSettings`."""
    cluster = fake.read_cluster()
    probes = fake.start_probes(cluster, [*fake.nodes], "r1").wait(Deadline.after(5))
    given = MeasureSettings(**{"facts_threads": 4, **settings})
    return MeasureContext(cluster=cluster, access=fake.open_access(cluster, probes), probes=probes, services=fake.services, settings=given)


class Cut:
    """An answer for `FakeCluster.answer`: broken off at first, afterwards what the agent of `node` would say to `op`."""

    def __init__(self, fake: FakeCluster, node: str, role: Role, op: str = "facts") -> None:
        self._where = (fake, node, role, op)
        self.asked = 0

    def __call__(self, params: Mapping[str, Any]) -> Any:
        fake, node, role, op = self._where
        self.asked += 1
        if self.asked == 1:
            raise ExecTransportError(f"{node}: the exec stream ended")
        fake.answer(node, op, FakeCluster([*fake.nodes]).respond(node, role, op, params), role=role)
        return fake.respond(node, role, op, params)
