from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.errors import RecordError, UnsupportedError
from pytest_k8snet.expect.model import ReachExpectation, Wanted
from pytest_k8snet.judge import loss
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.wire import WireRecord
from tests.unit.judge.builder import outcome, told
from tests.unit.judge.crossings import pair, record, side, stream

NONE = ReachExpectation()
SOME = ReachExpectation(loss=Wanted(0.05, "profile p.yaml:3"))
COUNTED = {"node": {"TcpExt.IPReversePathFilter": 40, "eth0.rx_dropped": 2}, "pod": {"Udp.RcvbufErrors": 1}}


def lossy(place: str, **changes: Any) -> dict[str, Any]:
    return pair(streams=[stream(980, lost={place: 20}), stream(1960, 2000, **{"lost": {place: 40}, **changes})])


AT_MOST = "want 0 % at most (built-in)"
TEXT = "node-1: 40 of 2000 packets to the pod on node-2 were lost (2 %), want 0 % at most (built-in): 40"
SILENT = " (no counter of the kernel moved; a firewall's rules have their own)"


@pytest.mark.parametrize(
    ("direction", "expect", "expected"),
    [
        pytest.param(pair(), NONE, ("pass", ""), id="healthy"),
        pytest.param(lossy("source_pod"), NONE, ("fail", f"{TEXT} in the pod on node-1{SILENT}"), id="in-the-sending-pod"),
        pytest.param(lossy("source_node"), NONE, ("fail", f"{TEXT} on node-1 before its uplink eth0{SILENT}"), id="before-the-uplink"),
        pytest.param(lossy("wire"), NONE, ("fail", f"{TEXT} between the uplinks of node-1 and node-2{SILENT}"), id="on-the-wire"),
        pytest.param(lossy("target_node"), NONE, ("fail", f"{TEXT} on node-2 behind its uplink{SILENT}"), id="behind-the-uplink"),
        pytest.param(
            lossy("target_node", at_target_pod=0),
            NONE,
            ("fail", f"{TEXT} on node-2 behind its uplink, or in the pod there{SILENT}"),
            id="the-pods-device-shows-nothing",
        ),
        pytest.param(lossy("target_pod"), NONE, ("fail", f"{TEXT} in the pod on node-2{SILENT}"), id="in-the-receiving-pod"),
        pytest.param(
            lossy("wire", overflow=3, target=side(counters=COUNTED), source=side(counters={"node": {"softnet.dropped": 4}, "pod": {}})),
            NONE,
            (
                "fail",
                (
                    f"{TEXT} between the uplinks of node-1 and node-2 (counters that moved there: softnet.dropped +4 on node-1, "
                    "TcpExt.IPReversePathFilter +40 on node-2, eth0.rx_dropped +2 on node-2, pod: Udp.RcvbufErrors +1 on node-2)"
                ),
            ),
            id="more-than-our-own-buffer-lost",
        ),
        pytest.param(
            lossy("target_node", target=side(counters=COUNTED)),
            NONE,
            (
                "fail",
                (
                    f"{TEXT} on node-2 behind its uplink (counters that moved there: TcpExt.IPReversePathFilter +40, eth0.rx_dropped +2, "
                    "pod: Udp.RcvbufErrors +1)"
                ),
            ),
            id="with-counters",
        ),
        pytest.param(
            lossy("source_node", source=side(counters={"node": {f"c{number}": 9 for number in range(8)}, "pod": {}})),
            NONE,
            (
                "fail",
                f"{TEXT} on node-1 before its uplink eth0 (counters that moved there: c0 +9, c1 +9, c2 +9, c3 +9, c4 +9, c5 +9 and 2 more)",
            ),
            id="with-many-counters",
        ),
        pytest.param(
            pair(streams=[stream(0, lost={"target_node": 1000}), stream(0, 2000, lost={"target_node": 2000})]),
            NONE,
            (
                "fail",
                (
                    f"node-1: 2000 of 2000 packets to the pod on node-2 were lost (100 %), {AT_MOST}: 2000 on node-2 behind "
                    f"its uplink, or in the pod there{SILENT}. Nothing arrives at all: a NetworkPolicy or a firewall that keeps UDP closed "
                    "looks the same"
                ),
            ),
            id="nothing-arrives",
        ),
        pytest.param(
            pair(streams=[stream(980, lost={"wire": 20})]),
            NONE,
            (
                "fail",
                (
                    f"node-1: 20 of 1000 packets to the pod on node-2 were lost (2 %), {AT_MOST}: 20 between the uplinks of "
                    f"node-1 and node-2{SILENT}"
                ),
            ),
            id="not-sent-again",
        ),
        pytest.param(lossy("wire"), SOME, ("pass", ""), id="as-much-as-a-profile-allows"),
        pytest.param(
            lossy("source_node", source=side({}), target=side({})),
            NONE,
            (
                "fail",
                (
                    f"node-1: 40 of 2000 packets to the pod on node-2 were lost (2 %), {AT_MOST}: where is not known, as none "
                    "was seen at the uplinks (encrypted?)"
                ),
            ),
            id="encrypted",
        ),
        pytest.param(
            lossy("wire", target=side(dropped=7)),
            NONE,
            (
                "inconclusive",
                (
                    "node-1: 40 of 2000 packets to the pod on node-2 were lost, but the capture on node-2 had no room for 7 packets: "
                    "measuring was too much for it"
                ),
            ),
            id="capture-dropped",
        ),
        pytest.param(
            lossy("target_pod", overflow=40),
            NONE,
            (
                "inconclusive",
                "node-1: 40 of 2000 packets to the pod on node-2 were lost, 40 of them for want of room in the buffers of our own receiver",
            ),
            id="our-own-buffer",
        ),
        pytest.param(
            pair(streams=[stream(0, 0, packets=1000, errors={"Operation not permitted": 1000})]),
            NONE,
            ("error", "node-1: no packet to the pod on node-2 could be sent: Operation not permitted (1000)"),
            id="nothing-sent",
        ),
        pytest.param(
            pair(streams=[stream(400, 400, packets=1000, errors={"Network is unreachable": 600})]),
            NONE,
            (
                "inconclusive",
                (
                    "node-1: 600 of 1000 packets to the pod on node-2 could not be sent (Network is unreachable (600)): "
                    "of the others 0 were lost"
                ),
            ),
            id="not-all-sent",
        ),
        pytest.param(
            pair(streams=[stream(960, 960, packets=1000, errors={"Operation not permitted": 40})]),
            SOME,
            ("pass", ""),
            id="as-many-sent-as-a-profile-allows",
        ),
        pytest.param(
            {"error": "node-2 (host): wire.capture: no room", "unsupported": False, "missing": False},
            NONE,
            ("error", "node-1: nothing could be measured to node-2: node-2 (host): wire.capture: no room"),
            id="not-measured",
        ),
        pytest.param(
            {"error": "node-2: the node has no python3", "unsupported": True, "missing": False},
            NONE,
            ("skip", "node-2: the node has no python3"),
            id="no-way",
        ),
    ],
)
def test_silent_loss(direction: dict[str, Any], expect: ReachExpectation, expected: tuple[str, str]) -> None:
    assert outcome(loss.silent_loss(record(direction), expect)) == expected


def test_a_loss_that_does_not_come_back_is_told() -> None:
    judgement = loss.silent_loss(record(pair(streams=[stream(999, lost={"wire": 1}), stream(2000, 2000)])), NONE)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [
        (
            "node-1: 1 of 1000 packets to the pod on node-2 were lost: 1 between the uplinks of node-1 and node-2 (no counter of the "
            "kernel moved; a firewall's rules have their own), but 0 of 2000 right after"
        )
    ]


def test_why_nothing_was_sent_again_is_told() -> None:
    judgement = loss.silent_loss(record(pair(streams=[stream(999, lost={"wire": 1})], not_again="node-2 (pod): no answer")), NONE)
    assert judgement.verdict == "fail"
    text = "node-1: the pod on node-2 was not sent to again, to see whether the loss stays: node-2 (pod): no answer"
    assert told(judgement, "remark") == [text]


def test_captures_that_dropped_do_not_matter_where_nothing_was_lost() -> None:
    assert outcome(loss.silent_loss(record(pair(streams=[stream(source=side(dropped=5))])), NONE)) == ("pass", "")


def test_each_pair_is_judged_and_shown() -> None:
    judgement = loss.silent_loss(record(pair(), lossy("wire"), {"error": "gone", "unsupported": False, "missing": True}), NONE)
    assert judgement.verdict == "fail"
    assert "node-3" in judgement.message
    assert told(judgement, "remark") == ["node-1: not measured: gone"]
    assert judgement.evidence["pairs"]["node-3"]["delivered"] == [980, 1960]
    assert judgement.evidence["pairs"]["node-4"] == {"error": "gone"}
    assert judgement.want == "loss 0 % at most (built-in)"


def test_where_nobody_is_sent_to() -> None:
    assert outcome(loss.silent_loss(record(), NONE)) == (
        "skip",
        "this node sends to no other: --k8snet-pairs chooses which, and it takes two ready nodes",
    )


def test_where_all_are_missing() -> None:
    """Their own cases are errors."""
    judgement = loss.silent_loss(record({"error": "node-2: no pod", "unsupported": False, "missing": True}), NONE)
    assert outcome(judgement) == ("skip", "node-2: no pod")


def wire_document(**values: Any) -> Document:
    return Document(kind="wire", subject="node-1", started="", duration_s=0.0, method="", **values)


def test_documents_without_values() -> None:
    with pytest.raises(RecordError, match="node-1: no packets to other nodes' pods: the pod is gone"):
        WireRecord.from_document(wire_document(reason="node-1: the pod is gone"))
    with pytest.raises(UnsupportedError, match="access ssh makes no probe pods"):
        WireRecord.from_document(wire_document(reason="access ssh makes no probe pods", unsupported=True))


@pytest.mark.parametrize(
    "values", [{}, {"pairs": {"node-2": {}}, "devices": None}, {"pairs": {"node-2": pair(streams=[])}, "devices": None}, {"pairs": 3}]
)
def test_damaged_documents(values: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="node-1: the wire document is damaged"):
        WireRecord.from_document(wire_document(values=values))
