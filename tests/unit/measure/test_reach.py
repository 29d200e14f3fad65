from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_k8snet.access.fake import FakeCluster, dual_stack, fake_node
from pytest_k8snet.errors import AccessError
from pytest_k8snet.measure import reach
from pytest_k8snet.measure.registry import MeasureContext
from pytest_k8snet.options import PairChoice
from pytest_k8snet.plan import choose_pairs
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.reach import ReachRecord
from tests.unit.measure.faked import context

NODES = ("node-1", "node-2", "node-3")


def paired(fake: FakeCluster, kind: Any = "all") -> MeasureContext:
    return replace(context(fake), pairs=choose_pairs(PairChoice(kind), [*fake.nodes]))


def take(fake: FakeCluster, kind: Any = "all") -> dict[str, Document]:
    return {document.subject: document for document in reach.take(paired(fake, kind), [*fake.nodes])}


def asked(document: Document, place: str, to: str) -> set[str]:
    return {answer.target for answer in ReachRecord.from_document(document).of(place, to)}  # type: ignore[arg-type]


def test_each_asks_the_others_and_its_own() -> None:
    documents = take(FakeCluster(NODES))
    assert sorted(documents) == [*NODES]
    assert asked(documents["node-1"], "pod", "pod") == {"node-2", "node-3"}
    assert asked(documents["node-1"], "host", "pod") == {*NODES}
    assert asked(documents["node-1"], "pod", "host") == {*NODES}, "its own one, and two that say whom they see"
    assert all(answer["error"] is None for answer in (documents["node-1"].values or {})["answers"])


def test_both_families_are_asked_where_pod_and_node_have_them() -> None:
    nodes = [dual_stack(fake_node(f"node-{number}", number)) for number in (1, 2)]
    record = ReachRecord.from_document(take(FakeCluster(nodes))["node-1"])
    assert {answer.address for answer in record.of("pod", "pod")} == {"10.244.2.5", "fd00:10:244:12::5"}
    assert {answer.address for answer in record.of("pod", "host") if answer.target == "node-1"} == {"192.168.10.11", "fd00:192:168::11"}
    assert {answer.error for answer in record.answers} == {None}
    alone = replace(nodes[0], pod_cidrs=nodes[0].pod_cidrs[:1])
    record = ReachRecord.from_document(take(FakeCluster([alone, nodes[1]]))["node-1"])
    assert {answer.address for answer in record.of("pod", "host") if answer.target == "node-1"} == {"192.168.10.11"}


def test_only_the_chosen_pairs() -> None:
    documents = take(FakeCluster(NODES), "ring")
    assert asked(documents["node-1"], "pod", "pod") == {"node-2"}
    assert asked(documents["node-3"], "host", "pod") == {"node-3", "node-1"}
    assert asked(documents["node-3"], "pod", "host") == {"node-3", "node-1"}


def test_not_all_nodes_of_many_say_whom_they_see() -> None:
    documents = take(FakeCluster([f"node-{number}" for number in range(1, 7)]))
    assert len(asked(documents["node-1"], "pod", "host")) == 1 + reach.OTHER_NODES


def test_servers_are_stopped() -> None:
    fake = FakeCluster(NODES)
    take(fake)
    done = [(op, node, role) for node, role, op in fake.requests]
    assert sorted(item[1:] for item in done if item[0] == "traffic.serve") == sorted(item[1:] for item in done if item[0] == "traffic.stop")


def test_node_whose_server_does_not_start_is_not_asked_and_has_no_values() -> None:
    fake = FakeCluster(NODES)
    fake.answer("node-2", "traffic.serve", AccessError("node-2 (pod): OOMKilled"), role="pod")
    documents = take(fake)
    assert documents["node-2"].reason == "node-2 (pod): OOMKilled"
    values = documents["node-1"].values or {}
    assert values["unasked"] == {"node-2": "node-2 (pod): OOMKilled"}
    assert asked(documents["node-1"], "pod", "pod") == {"node-3"}


def test_without_a_server_on_the_node_its_kubelet_is_asked_alone() -> None:
    fake = FakeCluster(NODES)
    fake.answer("node-1", "traffic.serve", AccessError("no port"))
    values = take(fake)["node-1"].values or {}
    own = [answer["port"] for answer in values["answers"] if answer["to"] == "host" and answer["target"] == "node-1"]
    assert own == [reach.KUBELET_PORT]
    assert asked((take(fake))["node-2"], "pod", "host") == {"node-2", "node-3"}


def test_without_pods_it_is_beyond_reach() -> None:
    fake = FakeCluster(NODES, pods=False)
    documents = take(fake)
    assert [(document.unsupported, document.reason) for document in documents.values()] == [
        (True, "access fake makes no probe pods here")
    ] * len(NODES)
