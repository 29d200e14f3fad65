from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.errors import AccessError
from pytest_k8snet.measure.registry import MEASUREMENTS, BurstWishes, MeasureContext
from pytest_k8snet.record.burst import Again, BurstRecord, Table
from pytest_k8snet.record.document import Document

NODES = ("node-1", "node-2", "node-3")


def measure(fake: FakeCluster, connections: int = 600, *, forced: bool = False) -> dict[str, Document]:
    cluster = fake.read_cluster()
    probes = fake.start_probes(cluster, [*fake.nodes], "1").wait(Deadline.after(1))
    context = MeasureContext(
        cluster=cluster,
        access=fake.open_access(cluster, probes),
        probes=probes,
        services=fake.services,
        burst=BurstWishes(connections, forced),
    )
    return {item.subject: item for item in MEASUREMENTS["burst"].take(context, [*fake.nodes])}


def asked(fake: FakeCluster, op: str) -> list[tuple[str, str]]:
    return sorted((node, role) for node, role, name in fake.requests if name == op)


def test_nothing_else_is_measured_beside_it() -> None:
    assert MEASUREMENTS["burst"].exclusive
    assert MEASUREMENTS["throughput"].exclusive
    assert not MEASUREMENTS["idle"].exclusive


def test_nothing_is_sent_where_it_is_not_asked_for() -> None:
    fake = FakeCluster(NODES)
    records = [BurstRecord.from_document(item) for item in measure(fake, 0).values()]
    assert {(record.asked, record.endpoint, record.found) for record in records} == {(0, None, None)}
    assert fake.requests == []


def test_every_pod_connects_to_the_next_one() -> None:
    fake = FakeCluster(NODES)
    targets: dict[str, str] = {}
    ranges: list[Any] = []

    def narrow(params: Mapping[str, Any]) -> None:
        ranges.append((params["pod"], params["range"]))

    for node in NODES:
        fake.answer(node, "burst.narrow", narrow)
    records = {name: BurstRecord.from_document(item) for name, item in measure(fake).items()}
    targets = {name: str(record.endpoint) for name, record in records.items()}
    assert targets == {"node-1": "node-2", "node-2": "node-3", "node-3": "node-1"}
    found = records["node-1"].found
    assert found is not None
    assert (found.opened.tried, found.opened.opened, found.opened.ports, found.opened.range) == (600, 600, (20000, 20600), (1024, 65535))
    assert found.table == Table(max=131072, before=120, peak=720, after=720, grown=0)
    assert isinstance(found.again, Again)
    assert (found.again.held, found.again.reused, found.again.over, found.again.waited_s) == (16, 16, "EADDRNOTAVAIL", 2.5)
    own = [given for pod, given in ranges if pod == "k8snet-1/probe-node-1"]
    assert own == [[65520, 65535], [1024, 65535]], "and the pod has its own again afterwards"
    assert asked(fake, "traffic.stop") == sorted((node, "pod") for node in NODES * 2)


@pytest.mark.parametrize("node", ["node-1", "node-2"], ids=["own", "peer"])
def test_there_is_too_little_room(node: str) -> None:
    fake = FakeCluster(NODES)
    fake.change_facts(node, lambda facts: facts["conntrack"].update(count=120, max=2000))
    documents = measure(fake)
    full = (
        f"{node}: 600 connections would take 1200 of the 1880 free entries of the connection table, and more than half of them is not "
        "taken: ask for 470 at most, or give --k8snet-conntrack-burst-anyway as well"
    )
    assert documents["node-1"].reason == full
    assert documents["node-3" if node == "node-2" else "node-2"].reason is None
    assert ("node-1", "pod") not in asked(fake, "burst.open")
    assert {item.reason for item in measure(fake, 470).values()} == {None}
    assert {item.reason for item in measure(fake, 600, forced=True).values()} == {None}


def test_connections_are_not_tracked() -> None:
    fake = FakeCluster(NODES)
    fake.change_facts("node-1", lambda facts: facts["conntrack"].update(count=None, max=None))
    found = BurstRecord.from_document(measure(fake)["node-1"]).found
    assert found is not None
    assert found.table is None


def again(fake: FakeCluster) -> Again | str:
    found = BurstRecord.from_document(measure(fake)["node-1"]).found
    assert found is not None
    return found.again


def test_why_it_is_not_seen_whether_ports_are_used_again() -> None:
    fake = FakeCluster(NODES)
    fake.answer("node-1", "burst.narrow", AccessError("node-1: its network namespace was not found"))
    assert again(fake) == "node-1: its network namespace was not found"
    opened = {"tried": 600, "opened": 600, "failed": {}, "late": 0, "seconds": 1.5, "ports": [1, 2]}
    for ports, told in (([40000, 40009], "40000 to 40009"), ([], "unknown")):
        fake.answer("node-1", "burst.open", {**opened, "range": ports}, role="pod")
        assert again(fake) == f"the pod has the ports {told}"


def test_the_pods_ports_are_given_back_whatever_happens() -> None:
    fake = FakeCluster(NODES)
    fake.answer("node-1", "burst.again", AccessError("node-1: cut off"), role="pod")
    assert again(fake) == "node-1: cut off"
    assert asked(fake, "burst.narrow").count(("node-1", "host")) == 2


def test_pods_that_cannot_answer() -> None:
    fake = FakeCluster(NODES)
    fake.answer("node-2", "traffic.serve", AccessError("node-2: the probe pod was evicted"), role="pod")
    records = {name: BurstRecord.from_document(item) for name, item in measure(fake).items()}
    assert [records[name].endpoint for name in NODES] == ["node-3", None, "node-1"]
    assert records["node-2"].not_serving == {"node-2": "node-2: the probe pod was evicted"}


def test_a_node_alone() -> None:
    record = BurstRecord.from_document(measure(FakeCluster(NODES[:1]))["node-1"])
    assert (record.endpoint, record.found) == (None, None)


def test_nodes_without_pods() -> None:
    fake = FakeCluster(NODES)
    fake.fail_probe("node-3", "node-3: evicted")
    documents = measure(fake)
    assert documents["node-3"].reason == "node-3: evicted"
    assert BurstRecord.from_document(documents["node-2"]).endpoint == "node-1"
    without = measure(FakeCluster(NODES, pods=False))
    assert {item.unsupported for item in without.values()} == {True}
