from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.errors import AccessError, ProbeError
from pytest_k8snet.measure import scale
from pytest_k8snet.measure.registry import MEASUREMENTS, MeasureContext
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.scale import ScaleRecord

NODES = ("node-1", "node-2", "node-3")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "_BETWEEN_S", 0.001)


def measure(fake: FakeCluster, *sizes: int, stopped: threading.Event | None = None, **changes: Any) -> dict[str, Document]:
    cluster: Cluster = replace(fake.read_cluster(), **changes)
    probes = fake.start_probes(cluster, [*fake.nodes], "1").wait(Deadline.after(1))
    context = MeasureContext(
        cluster=cluster,
        access=fake.open_access(cluster, probes),
        probes=probes,
        services=fake.services,
        service_scale=sizes,
        make_frontends=lambda node, number, ports: fake.make_frontends(probes[node], "1", number, ports),
        stopped=stopped or threading.Event(),
    )
    return {item.subject: item for item in MEASUREMENTS["scale"].take(context, [*fake.nodes])}


def made(fake: FakeCluster) -> list[str]:
    return [name for name in fake.created if name.startswith("service")]


def test_nothing_is_made_where_it_is_not_asked_for() -> None:
    fake = FakeCluster(NODES)
    assert {ScaleRecord.from_document(item).sizes for item in measure(fake).values()} == {()}
    assert made(fake) == []
    assert [op for _, _, op in fake.requests] == []


def test_frontends_are_ports_of_few_services() -> None:
    fake = FakeCluster(NODES)
    asked: list[tuple[int, int]] = []
    healthy = fake.make_frontends

    def note(*arguments: Any) -> str:
        asked.append(arguments[2:])
        return healthy(*arguments)

    fake.make_frontends = note  # type: ignore[method-assign,assignment]
    records = [ScaleRecord.from_document(item) for item in measure(fake, 10, 230, 231).values()]
    assert asked == [(1, 10), (2, 100), (3, 100), (4, 20), (5, 1)]
    for record in records:
        assert [(size.frontends, size.services) for size in record.sizes] == [(10, 1), (230, 4), (231, 5)]
        assert {len(size.connected_ms) for size in record.sizes} == {len(size.direct_ms) for size in record.sizes} == {scale.CONNECTIONS}
        assert (record.endpoint, {size.unanswered for size in record.sizes}) == ("node-3", {0})
    assert [node for node, _, op in fake.requests if op == "traffic.stop"] == ["node-3"]


def answered(names: Sequence[str | None]) -> dict[str, Any]:
    return {
        "connections": [
            {"source": None, "name": name, "connected_ms": 0.5, "ms": 0.9, "error": None if name else "timed out"} for name in names
        ]
    }


def test_the_last_one_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCluster(NODES[:2])
    rounds: Iterator[list[str | None]] = iter([[None], [None], ["node-2"], ["node-2"], ["node-2", None], [None]])
    fake.answer("node-1", "balance.connect", lambda params: answered(next(rounds)), role="pod")
    (size,) = ScaleRecord.from_document(measure(fake, 10)["node-1"]).sizes
    assert (size.connected_ms, size.unanswered, size.answering_s is not None) == ((0.5,), 1, True)
    assert size.direct_ms == (0.5,)
    monkeypatch.setattr(scale, "BASE_S", -1.0)
    fake.answer("node-1", "balance.connect", lambda params: answered([None]), role="pod")
    (size,) = ScaleRecord.from_document(measure(fake, 10)["node-1"]).sizes
    assert (size.answering_s, size.error, size.connected_ms) == (None, "timed out", ())


def test_a_run_that_is_ended_makes_no_more_and_connects_to_nothing() -> None:
    fake, stopped = FakeCluster(NODES), threading.Event()
    healthy = fake.make_frontends

    def make(*arguments: Any) -> str:
        if arguments[2] == 30:
            stopped.set()
        return healthy(*arguments)

    fake.make_frontends = make  # type: ignore[method-assign,assignment]
    records = [ScaleRecord.from_document(item) for item in measure(fake, 10, 10_000, stopped=stopped).values()]
    assert made(fake) == [f"service scale-{number}" for number in range(1, 31)]
    assert {tuple(size.frontends for size in record.sizes) for record in records} == {(10,)}
    assert [node for node, _, op in fake.requests if op == "traffic.stop"] == ["node-3"]


def reasons(documents: Mapping[str, Document]) -> set[str | None]:
    return {item.reason for item in documents.values()}


def test_there_must_be_room() -> None:
    fake = FakeCluster(NODES)
    small = [replace(item, cidr="10.96.0.0/26") for item in fake.read_cluster().ranges or () if item.use == "services"]
    words = "--k8snet-service-scale needs 101 addresses of Services, and of 10.96.0.0/26 "
    (reason,) = reasons(measure(fake, 10, 10_000, ranges=tuple(small)))
    assert reason is not None
    assert reason.startswith(words)
    assert reason.endswith(" can be spared")
    unknown = "101 addresses are needed for --k8snet-service-scale, and the range of the Services is not known"
    assert reasons(measure(fake, 10, 10_000, ranges=None)) == {unknown}
    assert made(fake) == []


def test_reasons_why_nothing_could_be_measured() -> None:
    documents = measure(FakeCluster(NODES, pods=False), 10)
    assert {(item.unsupported, item.reason) for item in documents.values()} == {(True, "access fake makes no probe pods here")}

    class Refused(FakeCluster):
        def on_create(self, name: str) -> None:
            if name.startswith("service scale"):
                raise ProbeError("exceeded quota: services")

    assert reasons(measure(Refused(NODES), 10)) == {"exceeded quota: services"}
    fake = FakeCluster(NODES)
    fake.answer("node-2", "balance.connect", AccessError("node-2: gone"), role="pod")
    assert {name: item.reason for name, item in measure(fake, 10, 20).items()} == {"node-1": None, "node-2": "node-2: gone", "node-3": None}
    fake = FakeCluster(NODES[:1])
    fake.fail_probe("node-1", "node-1: ImagePullBackOff")
    assert reasons(measure(fake, 10)) == {"no probe pod runs that Services could lead to"}
