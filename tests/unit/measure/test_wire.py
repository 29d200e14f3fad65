from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster, Role, dual_stack, fake_node
from pytest_k8snet.errors import ExecTransportError
from pytest_k8snet.expect.model import ReachExpectation, Wanted
from pytest_k8snet.judge.loss import silent_loss
from pytest_k8snet.judge.model import Weight
from pytest_k8snet.measure import wire
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.wire import WireRecord
from tests.unit.measure.faked import context

PAIR = ("node-1:node-2", "node-2:node-1")
Change = Callable[[dict[str, Any]], object]


def taken(fake: FakeCluster, *pairs: str, subjects: tuple[str, ...] = ("node-1", "node-2")) -> dict[str, Document]:
    given = replace(context(fake, settle_s=0.0), pairs=pairs or PAIR)
    return {document.subject: document for document in wire.take(given, subjects)}


def changed(fake: FakeCluster, node: str, op: str, change: Change, role: Role = "host", only: int | None = None) -> None:
    """Change what an agent answers, always or the `only`-th time."""
    healthy, asked = FakeCluster([*fake.nodes.values()]), [0]

    def answer(params: Mapping[str, Any]) -> Any:
        healthy.kept = fake.kept
        found = healthy.respond(node, role, op, params)
        asked[0] += 1
        if only in (None, asked[0]):
            change(found)
        return found

    fake.answer(node, op, answer, role=role)


def without(numbers: int) -> Change:
    """Take the first packets out of the long streams that arrived."""

    def change(answer: dict[str, Any]) -> None:
        for stream in answer["streams"].values():
            bits = int.from_bytes(bytes.fromhex(stream["bits"]), "little")
            kept = bits & ~((1 << numbers) - 1)
            stream["bits"] = kept.to_bytes(len(stream["bits"]) // 2, "little").hex()

    return change


def test_healthy() -> None:
    documents = taken(FakeCluster(["node-1", "node-2"]))
    record = WireRecord.from_document(documents["node-1"])
    assert (record.node, record.uplink) == ("node-1", "eth0")
    (crossing,) = record.crossings
    (stream,) = crossing.streams
    assert (crossing.target, stream.sent, stream.delivered, stream.missing) == ("node-2", 1000, 1000, 0)
    assert (stream.source.forms, stream.target.forms) == ({"native": 1000}, {"native": 1000})
    assert stream.senders == stream.target.addresses == (crossing.address,) == ("10.244.1.5",)
    assert crossing.control is not None
    assert (crossing.control.sent, crossing.control.senders) == (64, ("192.168.10.11",))
    assert crossing.tcp is not None
    assert (crossing.tcp.sent, crossing.tcp.delivered, crossing.tcp.source) == (49152, 49152, {"native": 49152})
    assert "token" not in str(documents["node-1"].to_json())  # what is called so is taken for a secret


def dual(*nodes: str) -> FakeCluster:
    return FakeCluster([dual_stack(fake_node(name, number)) for number, name in enumerate(nodes, 1)])


def test_both_families_cross_where_nodes_and_pods_have_them() -> None:
    found = WireRecord.from_document(taken(dual("node-1", "node-2"))["node-1"])
    assert [(crossing.family, crossing.to, crossing.address) for crossing in found.crossings] == [
        ("IPv4", "node-2 by IPv4", "10.244.1.5"),
        ("IPv6", "node-2 by IPv6", "fd00:10:244:11::5"),
    ]
    for crossing, node in zip(found.crossings, ("192.168.10.11", "fd00:192:168::11"), strict=True):
        (stream,) = crossing.streams
        assert (stream.delivered, stream.senders) == (1000, (crossing.address,))
        assert crossing.control is not None
        assert crossing.control.senders == (node,)
        assert crossing.tcp is not None
        assert crossing.tcp.delivered == 49152


def test_pairs_of_which_one_end_has_one_family_cross_once() -> None:
    fake = FakeCluster([dual_stack(fake_node("node-1")), fake_node("node-2", 2)])
    (crossing,) = WireRecord.from_document(taken(fake)["node-1"]).crossings
    assert (crossing.family, crossing.to) == ("", "node-2")


def test_loss_of_one_family_is_told_with_it() -> None:
    fake = dual("node-1", "node-2")

    def lose(answer: dict[str, Any]) -> None:
        if {sender for stream in answer["streams"].values() for sender in stream["senders"] if ":" in sender}:
            without(20)(answer)

    changed(fake, "node-2", "wire.received", lose, role="pod")
    record = WireRecord.from_document(taken(fake)["node-1"])
    judgement = silent_loss(record, ReachExpectation(Wanted(0.0, "built-in")))
    (finding,) = [finding.message for finding in judgement.findings if finding.weight is Weight.FAULT]
    assert finding.startswith("node-1: 20 of 2000 packets to the pod on node-2 by IPv6 were lost (1 %), want 0 % at most (built-in): ")


def test_a_pair_that_loses_is_sent_more() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    changed(fake, "node-2", "wire.received", without(20), role="pod")
    documents = taken(fake)
    first, second = WireRecord.from_document(documents["node-1"]).crossings[0].streams
    assert (first.sent, first.delivered, second.sent, second.delivered) == (1000, 980, 2000, 1980)
    assert first.lost == {"target_pod": 20, "target_node": 0, "wire": 0, "source_node": 0, "source_pod": 0}
    assert len(WireRecord.from_document(documents["node-2"]).crossings[0].streams) == 1


def test_why_nothing_was_sent_again_is_kept() -> None:
    fake, asked = FakeCluster(["node-1", "node-2"]), [0]
    changed(fake, "node-2", "wire.received", without(20), role="pod")

    def once(params: Mapping[str, Any]) -> Any:
        asked[0] += 1
        if asked[0] > 1:
            raise ExecTransportError("node-1: the exec stream ended")
        del fake._answers["node-1", "pod", "wire.send"]
        answer = fake.respond("node-1", "pod", "wire.send", params)
        fake.answer("node-1", "wire.send", once, role="pod")
        return answer

    fake.answer("node-1", "wire.send", once, role="pod")
    (crossing,) = WireRecord.from_document(taken(fake, "node-1:node-2")["node-1"]).crossings
    assert (len(crossing.streams), crossing.not_again) == (1, "node-1: the exec stream ended")


def seen_less(numbers: int, *devices: str) -> Change:
    def change(answer: dict[str, Any]) -> None:
        for item in answer["seen"]:
            if item["device"] in devices and item["different"] >= 1000:
                bits = int.from_bytes(bytes.fromhex(item["bits"]), "little") & ~((1 << numbers) - 1)
                item["bits"] = bits.to_bytes(len(item["bits"]) // 2, "little").hex()

    return change


@pytest.mark.parametrize(
    ("at_source", "at_target", "place", "nowhere"),
    [
        ((), ("veth1",), "target_node", 0),
        ((), ("veth1", "eth0"), "wire", 0),
        (("eth0",), ("veth1", "eth0"), "source_node", 20),
        (("eth0", "veth1"), ("veth1", "eth0"), "source_pod", 20),
    ],
)
def test_the_last_place_at_which_a_lost_packet_was_seen(
    at_source: tuple[str, ...], at_target: tuple[str, ...], place: str, nowhere: int
) -> None:
    fake = FakeCluster(["node-1", "node-2"])
    changed(fake, "node-2", "wire.received", without(20), role="pod")
    changed(fake, "node-1", "wire.captured", seen_less(20, *at_source))
    changed(fake, "node-2", "wire.captured", seen_less(20, *at_target))
    stream = WireRecord.from_document(taken(fake, "node-1:node-2")["node-1"]).crossings[0].streams[0]
    assert {name: count for name, count in stream.lost.items() if count} == {place: 20}
    assert stream.nowhere == nowhere


def test_without_a_device_to_the_pod_nobody_knows_whether_they_left_it() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    changed(fake, "node-2", "wire.received", without(20), role="pod")
    for node in ("node-1", "node-2"):
        changed(fake, node, "wire.captured", seen_less(20, "eth0"))
        healthy = fake._answers[node, "host", "wire.captured"]

        def answer(params: Mapping[str, Any], healthy: Any = healthy) -> Any:
            found = healthy(params)
            found["seen"] = [item for item in found["seen"] if item["device"] != "veth1"]
            return found

        fake.answer(node, "wire.captured", answer)
    stream = WireRecord.from_document(taken(fake, "node-1:node-2")["node-1"]).crossings[0].streams[0]
    assert (stream.lost["source_node"], stream.lost["source_pod"], stream.at_target_pod) == (20, 0, 0)


def test_a_target_that_fails_is_told_with_its_pair() -> None:
    fake = FakeCluster(["node-1", "node-2", "node-3"])
    fake.fail_probe("node-2", "node-2: pod k8snet-r1/probe-node-2: ImagePullBackOff")
    documents = taken(fake, "node-1:node-2", "node-1:node-3", "node-2:node-1", subjects=("node-1", "node-2", "node-3"))
    crossings = {crossing.target: crossing for crossing in WireRecord.from_document(documents["node-1"]).crossings}
    assert (crossings["node-2"].error, crossings["node-2"].missing) == ("node-2: pod k8snet-r1/probe-node-2: ImagePullBackOff", True)
    assert crossings["node-3"].streams[0].delivered == 1000
    assert documents["node-2"].reason == "node-2: pod k8snet-r1/probe-node-2: ImagePullBackOff"
    assert WireRecord.from_document(documents["node-3"]).crossings == ()


@pytest.mark.parametrize("op", ["wire.capture", "wire.captured"])
def test_a_way_that_breaks(op: str) -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-1", op, ExecTransportError("node-1: the exec stream ended"))
    documents = taken(fake)
    assert documents["node-1"].reason == "node-1: the exec stream ended"
    assert WireRecord.from_document(documents["node-2"]).crossings[0].error == "node-1: the exec stream ended"
    ended = [(node, role) for node, role, asked in fake.requests if asked == "wire.received"]
    assert sorted(ended) == [(node, role) for node in ("node-1", "node-2") for role in ("host", "pod") for _ in range(2)]


@pytest.mark.parametrize("op", ["wire.receive", "wire.capture", "wire.send", "wire.captured", "wire.received"])
def test_what_was_cut_is_taken_again(op: str) -> None:
    fake = FakeCluster(["node-1", "node-2"])
    cut = [ExecTransportError("node-1: the exec stream ended")]

    def once(params: Mapping[str, Any]) -> Any:
        if cut:
            raise cut.pop()
        healthy.kept = fake.kept
        return healthy.respond("node-1", "host", op, params)

    healthy = FakeCluster([*fake.nodes.values()])
    fake.answer("node-1", op, once)
    documents = taken(fake)
    assert {document.retried for document in documents.values()} == {"node-1: the exec stream ended"}
    for document in documents.values():
        (crossing,) = WireRecord.from_document(document).crossings
        assert (crossing.streams[0].sent, crossing.streams[0].delivered) == (1000, 1000)


def test_what_ended_by_itself_has_missed_something() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    changed(fake, "node-1", "wire.captured", lambda answer: answer.update(told=False))
    text = "node-1: wire.captured: it ended by itself after 92 s; the nodes are too busy for it"
    assert taken(fake)["node-1"].reason == text


def test_a_node_that_is_not_ready_is_in_no_pair_and_not_measured() -> None:
    fake = FakeCluster(["node-1", "node-2", "node-3"])
    fake.not_ready("node-2", "KubeletNotReady: gone")
    documents = taken(fake, "node-1:node-3", "node-3:node-1", subjects=("node-1", "node-2", "node-3"))
    assert documents["node-2"].reason == "node-2: the node is NotReady: KubeletNotReady: gone"
    assert documents["node-1"].values is not None


def test_without_pods_there_is_nothing_to_send_from() -> None:
    documents = taken(FakeCluster(["node-1", "node-2"], pods=False))
    assert documents["node-1"].unsupported
    assert documents["node-1"].reason == "access fake makes no probe pods here"


def test_of_many_nodes_few_capture_at_the_same_time() -> None:
    names = [f"n{number:02}" for number in range(70)]
    fake = FakeCluster(names)
    pairs = [f"{name}:{names[(index + 1) % 70]}" for index, name in enumerate(names)]
    given = replace(context(fake, settle_s=0.0), pairs=pairs)
    groups = [*wire._groups(given, names)]
    assert [name for group in groups for name in group] == names
    assert max(len({*group, *(target for name in group for target in given.targets_of(name))}) for group in groups) <= wire.TOGETHER
    assert len(groups) == 3


def test_encrypted_packets_between_the_two_nodes_are_kept() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    between = {"device": "eth0", "kind": "wireguard", "source": "192.168.10.11", "target": "192.168.10.12", "length": 188, "count": 1010}

    def change(answer: dict[str, Any]) -> None:
        answer["cipher"] = [between, {**between, "target": "192.168.10.99"}, {**between, "device": "eth1", "count": 9}]

    changed(fake, "node-1", "wire.captured", change)
    crossing = WireRecord.from_document(taken(fake, "node-1:node-2")["node-1"]).crossings[0]
    assert [(item.kind, item.length_bytes, item.count) for item in crossing.encrypted_source] == [("wireguard", 188, 1010)]
    assert crossing.encrypted_target == ()


def test_packets_are_kept_beside_the_document() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    frame = {"at_s": 1.5, "device": "eth0", "protocol": 0x800, "direction": 4, "hardware": 1, "length": 128, "data": "RQAA"}
    changed(fake, "node-1", "wire.captured", lambda answer: answer.update(frames=[frame] * 3))
    documents = taken(fake)
    assert documents["node-1"].pcap is not None
    assert documents["node-1"].pcap.startswith(b"\x0a\x0d\x0d\x0a")
    assert documents["node-1"].pcap == documents["node-2"].pcap  # it is a target there
    changed(fake, "node-1", "wire.captured", lambda answer: answer.update(frames=[frame] * 10_000))
    assert taken(fake)["node-1"].pcap is None  # more than there is room for
