from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster, Role, dual_stack, fake_node
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


class Restarting(FakeCluster):
    """The agent of a pod ends while others ask it, `times` times, and with it what it serves with; its node's starts it again."""

    def __init__(self, *, times: int, node: str = "node-2", role: str = "pod") -> None:
        super().__init__(NODES)
        self.gone = (node, role)
        self.times = times
        self.rounds = 0
        self.seen_to_end = True

    def respond(self, node: str, role: Role, op: str, params: Mapping[str, Any]) -> Any:
        answer = super().respond(node, role, op, params)
        if (node, role, op) == (*self.gone, "traffic.serve"):
            self.rounds += 1
        dead = self.rounds <= self.times
        if op == "traffic.stop" and dead and (node, role) == self.gone:
            return not self.seen_to_end
        if op == "traffic.connect" and dead:
            addresses = (*self.pod_ips(self.gone[0]), *self.nodes[self.gone[0]].addresses)
            for target in params["targets"]:
                if target["address"] in addresses and "silent" not in target:
                    answer[target["key"]].update(name=None, peer=None, error="Connection refused", refused=True)
        return answer


@pytest.mark.parametrize("role", ["pod", "host"])
def test_servers_whose_agent_was_cut_off_are_asked_again(role: str) -> None:
    fake = Restarting(times=1, role=role)
    documents = take(fake)
    assert fake.rounds == 2
    for name, document in documents.items():
        assert document.retried == f"node-2: what answered on its {role} was cut off meanwhile", name
        assert {answer["error"] for answer in (document.values or {})["answers"]} == {None}


def test_nodes_that_had_asked_others_are_not_asked_again() -> None:
    fake = Restarting(times=1)
    documents = take(fake, "ring")
    assert [name for name, document in documents.items() if document.retried] == ["node-1", "node-2"]


def test_servers_that_are_cut_off_again_say_nothing_of_the_network() -> None:
    fake = Restarting(times=2)
    documents = take(fake)
    assert fake.rounds == 2, "once more, and no further"
    for document in documents.values():
        assert document.reason == "node-2: what answered on its pod was cut off meanwhile"
        assert document.retried is None


def test_a_server_that_ends_when_everybody_has_been_answered() -> None:
    fake = FakeCluster(NODES)
    fake.answer("node-2", "traffic.stop", False, role="pod")
    fake.answer("node-3", "traffic.stop", AccessError("node-3: the exec stream ended"), role="host")
    assert {(document.failed, document.retried) for document in take(fake).values()} == {(False, None)}


def test_what_nobody_answers_is_of_the_network_where_servers_have_answered_all_the_time() -> None:
    fake = Restarting(times=2)
    fake.seen_to_end = False
    documents = take(fake)
    assert fake.rounds == 1
    errors = {answer["error"] for answer in (documents["node-1"].values or {})["answers"] if answer["target"] == "node-2"}
    assert "Connection refused" in errors
