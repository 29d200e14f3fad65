from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fake import FakeCluster, Role, dual_stack, fake_node
from pytest_k8snet.access.fakes import traffic
from pytest_k8snet.access.probe_services import ProbeService, served
from pytest_k8snet.errors import AccessError, ProbeError
from pytest_k8snet.measure import service
from pytest_k8snet.measure.registry import MEASUREMENTS, MeasureContext
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.service import ServiceRecord

NODES = ("node-1", "node-2", "node-3")


def measure(fake: FakeCluster) -> dict[str, Document]:
    cluster = fake.read_cluster()
    probing = fake.start_probes(cluster, [*fake.nodes], "1")
    probes = probing.wait(Deadline.after(1))

    def services() -> Sequence[ProbeService]:
        return probing.make_services([*fake.nodes])

    context = MeasureContext(
        cluster=cluster, access=fake.open_access(cluster, probes), probes=probes, services=fake.services, probe_services=services
    )
    return {item.subject: item for item in MEASUREMENTS["service"].take(context, [*fake.nodes])}


def records(fake: FakeCluster) -> dict[str, ServiceRecord]:
    return {name: ServiceRecord.from_document(document) for name, document in measure(fake).items()}


def seen(record: ServiceRecord) -> set[tuple[Any, ...]]:
    return {(item.path, item.role, item.address, item.port, item.endpoint, item.node) for item in record.asked}


def test_the_endpoint_is_elsewhere_and_the_node_port_a_third_nodes() -> None:
    found = records(FakeCluster(NODES))
    assert seen(found["node-1"]) == {
        ("cluster-ip", "host", "10.96.1.3", 80, "node-3", None),
        ("cluster-ip", "pod", "10.96.1.3", 80, "node-3", None),
        ("node-port", "pod", "192.168.10.11", 30003, "node-3", "node-1"),
        ("node-port", "pod", "192.168.10.12", 30003, "node-3", "node-2"),
        ("hairpin", "pod", "10.96.1.1", 80, "node-1", None),
    }
    assert {name: record.asked_by for name, record in found.items()} == {"node-1": "node-3", "node-2": "node-1", "node-3": "node-2"}
    for record in found.values():
        assert all(item.fine and len(item.connections) == service.CONNECTIONS for item in record.asked)
    assert {item.connections[0].source for item in found["node-1"].asked} == {"192.168.10.11", "10.244.1.5"}


def test_every_family_of_a_service_is_asked() -> None:
    found = records(FakeCluster([dual_stack(fake_node(f"node-{number}", number)) for number in (1, 2)]))["node-1"]
    assert seen(found) == {
        *(("cluster-ip", role, address, 80, "node-2", None) for role in ("host", "pod") for address in ("10.96.1.2", "fd00:10:96::1:2")),
        *(("node-port", "pod", f"192.168.10.1{number}", 30002, "node-2", f"node-{number}") for number in (1, 2)),
        *(("node-port", "pod", f"fd00:192:168::1{number}", 30002, "node-2", f"node-{number}") for number in (1, 2)),
        *(("hairpin", "pod", address, 80, "node-1", None) for address in ("10.96.1.1", "fd00:10:96::1:1")),
    }
    assert {item.fine for item in found.asked} == {True}


def test_a_family_that_pods_or_nodes_do_not_have_is_not_asked() -> None:
    """Services may have both families where pods have one, and pods where nodes have one."""
    one = FakeCluster(NODES[:2])
    one.cluster_ips_of = lambda node: (one.service_of(node)[0], "fd00:10:96::1")  # type: ignore[method-assign]
    assert {item.address for item in records(one)["node-1"].asked if ":" in item.address} == set()
    nodes = [replace(dual_stack(fake_node(f"node-{number}", number)), internal_ips=()) for number in (1, 2)]
    found = records(FakeCluster(nodes))["node-1"]
    assert {(item.path, item.role) for item in found.asked if ":" in item.address} == {("cluster-ip", "pod"), ("hairpin", "pod")}


def test_two_nodes_and_one() -> None:
    two = records(FakeCluster(NODES[:2]))["node-1"]
    assert {(item.endpoint, item.node) for item in two.of("node-port")} == {("node-2", "node-1"), ("node-2", "node-2")}
    one = records(FakeCluster(NODES[:1]))["node-1"]
    assert (seen(one), one.asked_by) == ({("hairpin", "pod", "10.96.1.1", 80, "node-1", None)}, None)


def test_of_many_nodes_some_have_a_service() -> None:
    names = [f"node-{number:02}" for number in range(40)]
    assert len(served(names)) == len(set(served(names))) == 16
    assert served(names[:3]) == names[:3]
    found = records(FakeCluster(names))
    assert all(record.of("cluster-ip") and record.of("node-port") for record in found.values())
    assert {name for name, record in found.items() if record.of("hairpin")} == set(served(names))
    assert all(item.endpoint != name for name, record in found.items() for item in record.of("cluster-ip"))


def failing(answers: Sequence[str | None]) -> Any:
    """Answer every connection like this, round by round."""
    rounds = iter(answers)

    def respond(params: Mapping[str, Any]) -> Any:
        name = next(rounds)
        return {target["key"]: traffic.answered(name, "10.244.1.5") for target in params["targets"]}

    return respond


def test_what_fails_is_asked_again_until_every_proxy_must_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_BETWEEN_S", 0.01)
    fake = FakeCluster(NODES[:2])
    fake.answer("node-1", "traffic.connect", failing([None, None, "node-2"]))
    assert all(item.fine for item in records(fake)["node-1"].asked if item.role == "host")
    monkeypatch.setattr(service, "MADE_S", 0.0)
    fake = FakeCluster(NODES[:2])
    fake.answer("node-1", "traffic.connect", lambda params: failing([None])(params))
    (item,) = (item for item in records(fake)["node-1"].asked if item.role == "host")
    assert (item.fine, item.what) == (False, "timed out (3 of 3)")


def test_pods_that_cannot_be_made_to_answer() -> None:
    fake = FakeCluster(NODES)
    fake.answer("node-3", "traffic.serve", AccessError("node-3: gone"), role="pod")
    found = records(fake)
    assert {item.endpoint for item in found["node-1"].of("cluster-ip")} == {"node-2"}
    assert (found["node-3"].of("hairpin"), found["node-3"].not_serving) == ((), {"node-3": "node-3: gone"})


def test_servers_are_stopped() -> None:
    fake = FakeCluster(NODES)
    measure(fake)
    assert sorted(node for node, role, op in fake.requests if op == "traffic.stop" and role == "pod") == [*NODES]


def test_reasons_why_nothing_could_be_measured() -> None:
    documents = measure(FakeCluster(NODES, pods=False))
    assert {(item.unsupported, item.reason) for item in documents.values()} == {(True, "access fake makes no probe pods here")}

    class Refused(FakeCluster):
        def on_create(self, name: str) -> None:
            if name.startswith("service"):
                raise ProbeError("Service x/probe-1 could not be made: exceeded quota")

    documents = measure(Refused(NODES))
    assert {item.reason for item in documents.values()} == {"Service x/probe-1 could not be made: exceeded quota"}
    fake = FakeCluster(NODES)
    fake.answer("node-2", "traffic.connect", AccessError("node-2: gone"), role="pod")
    documents = measure(fake)
    assert {name: item.reason for name, item in documents.items()} == {"node-1": None, "node-2": "node-2: gone", "node-3": None}


class Restarting(FakeCluster):
    """The agent of node-3's pod ends while others ask it, `times` times, and with it what it serves with."""

    def __init__(self, times: int) -> None:
        super().__init__(NODES)
        self.times = times
        self.rounds = 0
        self.seen_to_end = True

    def respond(self, node: str, role: Role, op: str, params: Mapping[str, Any]) -> Any:
        answer = super().respond(node, role, op, params)
        self.rounds += (node, role, op) == ("node-3", "pod", "traffic.serve")
        dead = self.rounds <= self.times
        if (node, role, op) == ("node-3", "pod", "traffic.stop"):
            return not (dead and self.seen_to_end)
        if op == "traffic.connect" and dead:
            for target in params["targets"]:
                if target["address"] == "10.96.1.3" or target["port"] == 30003:
                    answer[target["key"]].update(name=None, peer=None, error="Connection refused", refused=True)
        return answer


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MADE_S", 0.0)


@pytest.mark.usefixtures("impatient")
def test_endpoints_whose_agent_was_cut_off_are_asked_again() -> None:
    fake = Restarting(1)
    documents = measure(fake)
    cut = "node-3: what answered in its pod was cut off meanwhile"
    # Of the three only node-2 asks no Service of node-3.
    assert {name: document.retried for name, document in documents.items()} == {"node-1": cut, "node-2": None, "node-3": cut}
    for document in documents.values():
        assert all(item.fine for item in ServiceRecord.from_document(document).asked)
    assert ServiceRecord.from_document(documents["node-1"]).asked_by == "node-3"


@pytest.mark.usefixtures("impatient")
def test_endpoints_that_are_cut_off_again_say_nothing_of_services() -> None:
    fake = Restarting(2)
    documents = measure(fake)
    assert fake.rounds == 2
    assert documents["node-1"].reason == "node-3: what answered in its pod was cut off meanwhile"
    assert documents["node-2"].reason is None


@pytest.mark.usefixtures("impatient")
def test_endpoints_that_do_not_answer_although_their_servers_do() -> None:
    fake = Restarting(2)
    fake.seen_to_end = False
    documents = measure(fake)
    assert not any(item.fine for item in ServiceRecord.from_document(documents["node-1"]).of("cluster-ip"))
    assert (documents["node-1"].retried, fake.rounds) == (None, 1)
