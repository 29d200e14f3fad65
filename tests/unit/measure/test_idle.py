from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.errors import AccessError
from pytest_k8snet.measure import idle
from pytest_k8snet.measure.registry import MEASUREMENTS, MeasureContext
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.idle import IdleRecord, Opened

NODES = ("node-1", "node-2", "node-3")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_BETWEEN_S", 0.001)
    monkeypatch.setattr(idle, "USED_EVERY_S", 0.3)
    monkeypatch.setattr(idle, "MADE_S", 0.01)


def measure(fake: FakeCluster, idle_s: int = 1, before: Callable[[MeasureContext], None] = lambda context: None) -> dict[str, Document]:
    cluster = fake.read_cluster()
    probing = fake.start_probes(cluster, [*fake.nodes], "1")
    probes = probing.wait(Deadline.after(1))
    context = MeasureContext(
        cluster=cluster,
        access=fake.open_access(cluster, probes),
        probes=probes,
        services=fake.services,
        probe_groups=probing.make_groups,
        idle_s=idle_s,
    )
    before(context)
    return {item.subject: item for item in MEASUREMENTS["idle"].take(context, [*fake.nodes])}


def asked(fake: FakeCluster, op: str) -> list[str]:
    return [node for node, _, name in fake.requests if name == op]


def test_nothing_is_opened_where_it_is_not_asked_for() -> None:
    fake = FakeCluster(NODES)
    records = [IdleRecord.from_document(item) for item in measure(fake, 0).values()]
    assert {(record.asked_s, record.endpoint, record.opened) for record in records} == {(0, None, None)}
    assert fake.requests == []


def test_one_is_left_idle_and_one_is_used() -> None:
    fake = FakeCluster(NODES)
    for node, document in measure(fake).items():
        record = IdleRecord.from_document(document)
        assert (record.asked_s, record.service, record.not_serving) == (1, "k8snet-1/probe-spread", {})
        assert record.endpoint not in (node, None)
        assert record.opened is not None
        assert (record.opened.idle, record.opened.used, record.opened.keepalive_s) == (None, None, 7200)
        assert record.opened.waited_s >= 1
        assert asked(fake, "balance.hold").count(node) == 2
        assert asked(fake, "balance.held").count(node) >= 4, "used at least twice, and both of them asked at the end"
    assert sorted(asked(fake, "traffic.stop")) == [*NODES]


def test_one_dies() -> None:
    fake = FakeCluster(NODES)
    numbers = iter(range(1, 9))

    def hold(params: Mapping[str, Any]) -> dict[str, Any]:
        return {"number": next(numbers), "source": ["10.244.1.5", 1], "keepalive_s": 600}

    def held(params: Mapping[str, Any]) -> dict[str, Any]:
        alive = params["number"] == 2
        return {"alive": alive, "error": None if alive else "Connection reset by peer"}

    fake.answer("node-1", "balance.hold", hold, role="pod")
    fake.answer("node-1", "balance.held", held, role="pod")
    found = IdleRecord.from_document(measure(fake)["node-1"]).opened
    assert found is not None
    assert (found.keepalive_s, found.idle, found.used) == (600, "Connection reset by peer", None)


def test_the_way_breaks_down() -> None:
    """Nothing is waited for that cannot be proved any more."""
    fake = FakeCluster(NODES)
    for node in NODES:
        fake.answer(node, "balance.held", lambda params: {"alive": False, "error": "timed out"}, role="pod")
    for document in measure(fake, 600).values():
        found = IdleRecord.from_document(document).opened
        assert found is not None
        assert (found.idle, found.used, found.waited_s < 60) == ("timed out", "timed out", True)


def opened(answer: Mapping[str, Any]) -> Opened | None:
    fake = FakeCluster(NODES)
    fake.answer("node-1", "balance.hold", lambda params: answer, role="pod")
    return IdleRecord.from_document(measure(fake)["node-1"]).opened


def test_no_connection() -> None:
    assert opened({"number": None, "source": None, "keepalive_s": None}) is None


def test_pods_that_cannot_answer() -> None:
    fake = FakeCluster(NODES[:2])

    def refuse(params: Mapping[str, Any]) -> Any:
        raise AccessError("node-2: the probe pod was evicted")

    fake.answer("node-2", "traffic.serve", refuse, role="pod")
    documents = measure(fake)
    alone = IdleRecord.from_document(documents["node-1"])
    assert (alone.endpoint, alone.opened, alone.not_serving) == (None, None, {"node-2": "node-2: the probe pod was evicted"})
    assert IdleRecord.from_document(documents["node-2"]).endpoint == "node-1"


def test_a_run_that_ends() -> None:
    documents = measure(FakeCluster(NODES), 600, lambda context: context.stopped.set())
    assert {item.reason for item in documents.values()} == {"the run ended before the connection had been idle for long enough"}
