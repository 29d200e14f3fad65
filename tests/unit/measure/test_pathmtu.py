from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster, dual_stack, fake_node
from pytest_k8snet.agent.pathmtu import SECRET_BYTES
from pytest_k8snet.errors import AccessError, ExecTransportError, UnsupportedError
from pytest_k8snet.judge import mtu
from pytest_k8snet.measure import pathmtu
from pytest_k8snet.measure.answering import PORT
from pytest_k8snet.options import PairChoice
from pytest_k8snet.plan import choose_pairs
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.pathmtu import PathMtuRecord
from tests.unit.judge.builder import facts
from tests.unit.measure.faked import Cut, context


def documents(fake: FakeCluster, pairs: PairChoice) -> Mapping[str, Document]:
    given = replace(context(fake), pairs=choose_pairs(pairs, [*fake.nodes]))
    return {item.subject: item for item in pathmtu.take(given, [*fake.nodes])}


@pytest.mark.parametrize(("choice", "targets", "back"), [("all", ["node-3", "node-1"], False), ("ring", ["node-3"], True)])
def test_each_direction_is_measured_once(choice: Any, targets: list[str], back: bool) -> None:
    """Answers of full size are asked for where no node measures that direction by itself."""
    record = PathMtuRecord.from_document(documents(FakeCluster(), PairChoice(choice))["node-2"])
    assert [path.target for path in record.paths] == targets
    assert record.paths[0].address == "10.244.3.5"
    assert {path.replies is not None for path in record.paths} == {back}
    assert str(mtu.path_mtu(record, facts("node-2")).verdict) == "pass"
    assert str(mtu.segment_size(record).verdict) == "pass"


def test_servers_answer_those_alone_who_have_the_secret_of_the_measurement() -> None:
    fake = FakeCluster()
    secrets: set[str] = set()

    def noting(op: str, node: str) -> Any:
        healthy = FakeCluster()

        def answer(params: Mapping[str, Any]) -> Any:
            secrets.add(params["secret"])
            return healthy.respond(node, "pod", op, params)

        return answer

    for node in fake.nodes:
        for op in ("pathmtu.serve", "pathmtu.probe"):
            fake.answer(node, op, noting(op, node), role="pod")
    found = documents(fake, PairChoice("all"))
    (first,) = secrets
    assert len(bytes.fromhex(first)) == SECRET_BYTES
    assert not any(first in str(item.to_json()) for item in found.values())
    documents(fake, PairChoice("all"))
    assert len(secrets) == 2, "another measurement has another one"


def test_the_smaller_mtu_of_both_ends_counts() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-2", "pathmtu.serve", {"number": 1, "port": PORT, "mtu": 1450}, role="pod")
    record = PathMtuRecord.from_document(documents(fake, PairChoice("all"))["node-1"])
    assert record.paths[0].size == 1450


def test_both_families_of_a_path_are_measured_where_both_pods_have_them() -> None:
    both, one = dual_stack(fake_node("node-1", 1)), fake_node("node-3", 3)
    found = documents(FakeCluster([both, dual_stack(fake_node("node-2", 2)), one]), PairChoice("all"))
    record = PathMtuRecord.from_document(found["node-1"])
    assert [path.address for path in record.paths] == ["10.244.2.5", "10.244.3.5", "fd00:10:244:12::5"]
    judgement = mtu.segment_size(record)
    assert str(judgement.verdict) == "pass"
    assert judgement.evidence["mss"] == {"node-2": 1448, "node-3": 1448, "node-2 at fd00:10:244:12::5": 1428}
    assert [path.address for path in PathMtuRecord.from_document(found["node-3"]).paths] == ["10.244.1.5", "10.244.2.5"]


def test_a_family_whose_path_is_too_narrow_is_named() -> None:
    fake = FakeCluster([dual_stack(fake_node(f"node-{number}", number)) for number in (1, 2)])

    def probe(params: Mapping[str, Any]) -> Any:
        answer = FakeCluster([*fake.nodes.values()]).respond("node-1", "pod", "pathmtu.probe", params)
        for target in params["targets"]:
            if ":" in target["address"]:
                answer[target["key"]]["requests"].update(full=0, passes=1280, breaks=1400)
        return answer

    fake.answer("node-1", "pathmtu.probe", probe, role="pod")
    judgement = mtu.path_mtu(PathMtuRecord.from_document(documents(fake, PairChoice("all"))["node-1"]), facts())
    assert judgement.message == (
        "node-1: pod to pod of node-2 (fd00:10:244:12::5): packets of 1280 bytes pass, those of 1400 and more vanish and no ICMP error "
        "says so: a black hole, where connections hang, want 1500 (MTU of both pods) (UDP, IP_MTU_DISCOVER=IP_PMTUDISC_PROBE)"
    )


def narrow_pods(fake: FakeCluster, mtu_bytes: int = 1450) -> list[Mapping[str, Any]]:
    """Give pods a smaller MTU than nodes; return what hosts are asked, when they are."""
    asked: list[Mapping[str, Any]] = []
    healthy = FakeCluster([*fake.nodes.values()])

    def noting(node: str) -> Any:
        def probe(params: Mapping[str, Any]) -> Any:
            asked.extend({"node": node, **target} for target in params["targets"])
            return healthy.respond(node, "host", "pathmtu.probe", params)

        return probe

    for node in fake.nodes:
        fake.answer(node, "pathmtu.serve", {"number": 1, "port": PORT, "mtu": mtu_bytes}, role="pod")
        fake.answer(node, "pathmtu.probe", noting(node), role="host")
    return asked


def test_nodes_send_what_their_pods_do_not() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    asked = narrow_pods(fake)
    record = PathMtuRecord.from_document(documents(fake, PairChoice("all"))["node-1"])
    assert [(item["node"], item["address"], item["beyond"], item["replies"]) for item in asked if item["node"] == "node-1"] == [
        ("node-1", "192.168.10.12", 1450, False)
    ]
    (path,) = record.host_paths
    assert (path.target, path.address, path.size, path.requests is not None, path.segments) == ("node-2", "192.168.10.12", 1500, True, None)
    judgement = mtu.path_mtu(record, facts("node-1"))
    assert (str(judgement.verdict), judgement.evidence["paths between nodes"][0]["full"]) == ("pass", "10/10")


def test_nodes_do_not_repeat_what_their_pods_have_sent() -> None:
    record = PathMtuRecord.from_document(documents(FakeCluster(["node-1", "node-2"]), PairChoice("all"))["node-1"])
    assert [(path.size, path.requests) for path in record.host_paths] == [(1500, None)]
    judgement = mtu.path_mtu(record, facts("node-1"))
    assert (str(judgement.verdict), "paths between nodes" in judgement.evidence) == ("pass", False)


def test_both_families_between_nodes() -> None:
    fake = FakeCluster([dual_stack(fake_node(f"node-{number}", number)) for number in (1, 2)])
    asked = narrow_pods(fake)
    record = PathMtuRecord.from_document(documents(fake, PairChoice("ring"))["node-1"])
    assert [path.address for path in record.host_paths] == ["192.168.10.12", "fd00:192:168::12"]
    assert {item["beyond"] for item in asked} == {1450}


def test_nodes_whose_pods_are_not_measured_send_whatever_they_can() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    asked = narrow_pods(fake)
    fake.answer("node-2", "pathmtu.serve", AccessError("node-2: ip: not on the node"), role="pod")
    documents(fake, PairChoice("all"))
    assert [item["beyond"] for item in asked if item["node"] == "node-1"] == [0]


def test_a_node_that_cannot_serve_is_an_error_of_those_who_ask_it() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-2", "pathmtu.serve", AccessError("node-2: ip: not on the node"), role="host")
    found = documents(fake, PairChoice("all"))
    judgement = mtu.path_mtu(PathMtuRecord.from_document(found["node-1"]), facts())
    assert judgement.message == "node-1: path to node node-2 not measured: node-2: ip: not on the node"


@pytest.mark.parametrize("op", ["pathmtu.serve", "pathmtu.probe"])
def test_a_way_to_the_nodes_that_runs_no_programs_leaves_the_pods(op: str) -> None:
    fake = FakeCluster(["node-1", "node-2"])
    for node in fake.nodes:
        fake.answer(node, op, UnsupportedError(f"{node}: no python3"), role="host")
    found = documents(fake, PairChoice("all"))
    judgement = mtu.path_mtu(PathMtuRecord.from_document(found["node-1"]), facts())
    assert str(judgement.verdict) == "pass"
    assert [finding.message for finding in judgement.findings] == ["node-1: the paths between nodes were not looked at: node-1: no python3"]


def test_what_is_cut_off_on_a_node_is_asked_again() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    served = iter([False, True])
    fake.answer("node-2", "pathmtu.stop", lambda params: next(served), role="host")
    found = documents(fake, PairChoice("all"))
    assert found["node-1"].retried == "node-2: what answered there was cut off meanwhile"
    assert not any(document.failed for document in found.values())


def test_what_cannot_serve_is_an_error_of_those_who_ask_it() -> None:
    fake = FakeCluster(["node-1", "node-2", "node-3"])
    fake.answer("node-2", "pathmtu.serve", AccessError("node-2: ip: not on the node"), role="pod")
    found = documents(fake, PairChoice("all"))
    judgement = mtu.path_mtu(PathMtuRecord.from_document(found["node-1"]), facts())
    assert judgement.message == "node-1: path to the pod of node-2 not measured: node-2: ip: not on the node"
    assert str(mtu.path_mtu(PathMtuRecord.from_document(found["node-2"]), facts()).verdict) == "pass"


def test_a_node_that_cannot_ask() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-1", "pathmtu.probe", AccessError("node-1: the exec stream ended"), role="pod")
    assert documents(fake, PairChoice("all"))["node-1"].reason == "node-1: the exec stream ended"


def test_without_pods() -> None:
    fake = FakeCluster(["node-1", "node-2"], pods=False)
    found = documents(fake, PairChoice("all"))
    assert PathMtuRecord.from_document(found["node-1"]).pod_absent == "access fake makes no probe pods here"
    assert not [op for _, role, op in fake.requests if role == "host"], "nodes serve nobody either"


def test_pods_that_serve_nowhere() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    for node in fake.nodes:
        fake.answer(node, "pathmtu.serve", AccessError(f"{node}: ip: not on the node"), role="pod")
    record = PathMtuRecord.from_document(documents(fake, PairChoice("all"))["node-1"])
    assert (record.paths[0].error, record.host_paths) == ("node-2: ip: not on the node", ())


def test_servers_are_stopped_whatever_happens() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-1", "pathmtu.probe", AccessError("gone"), role="pod")
    documents(fake, PairChoice("all"))
    stopped = [(node, role) for node, role, op in fake.requests if op == "pathmtu.stop"]
    assert sorted(stopped) == [(node, role) for node in ("node-1", "node-2") for role in ("host", "pod")]


def test_a_node_that_is_cut_off_while_it_asks_is_asked_again() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    cut = Cut(fake, "node-1", "pod", "pathmtu.probe")
    fake.answer("node-1", "pathmtu.probe", cut, role="pod")
    found = documents(fake, PairChoice("all"))
    assert (found["node-1"].retried, cut.asked) == ("node-1: the exec stream ended", 2)
    assert str(mtu.path_mtu(PathMtuRecord.from_document(found["node-1"]), facts()).verdict) == "pass"
    assert found["node-2"].retried is None


def test_what_was_cut_off_while_others_asked_it_is_asked_again() -> None:
    fake = FakeCluster(["node-1", "node-2", "node-3"])
    served = iter([False, True])
    fake.answer("node-2", "pathmtu.stop", lambda params: next(served), role="pod")
    found = documents(fake, PairChoice("ring"))
    cut = "node-2: what answered there was cut off meanwhile"
    assert {name: document.retried for name, document in found.items()} == {"node-1": cut, "node-2": None, "node-3": None}
    assert not any(document.failed for document in found.values())


def test_what_is_cut_off_again_is_no_path_that_loses_packets() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-2", "pathmtu.stop", False, role="pod")
    found = documents(fake, PairChoice("all"))
    assert found["node-1"].reason == "node-2: what answered there was cut off meanwhile"
    assert found["node-2"].reason is None


def test_a_server_that_never_started_was_not_cut_off() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-2", "pathmtu.serve", ExecTransportError("node-2: the exec stream ended"), role="pod")
    found = documents(fake, PairChoice("all"))
    assert found["node-1"].retried is None
    record = PathMtuRecord.from_document(found["node-1"])
    assert mtu.path_mtu(record, facts("node-1")).message == "node-1: path to the pod of node-2 not measured: node-2: the exec stream ended"
