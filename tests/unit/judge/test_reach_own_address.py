from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.judge import reach
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.duplicates import DuplicatesRecord
from tests.unit.judge.builder import outcome, told

OWN, OTHER, ADDRESS = "02:00:00:00:00:01", "02:00:00:00:00:09", "192.168.10.11"
COMMAND = f"(arping -D -I eth0 -c 3 {ADDRESS})"


def record(values: dict[str, Any] | None, reason: str | None = None) -> DuplicatesRecord:
    return DuplicatesRecord.from_document(
        Document(kind="duplicates", subject="node-1", started="x", duration_s=0.0, method="x", values=values, reason=reason)
    )


def judged(
    heard: list[str],
    by_others: list[str] | None = None,
    *,
    node: str | None = None,
    addresses: int = 1,
    controls: dict[str, int] | None = None,
) -> Judgement:
    """Judge what node-1 heard, and node-2."""
    strangers = {mac: {"node": node, "addresses": addresses} for mac in {*heard, *(by_others or ())} - {OWN, "02:00:00:00:00:04"}}
    values = {
        "device": "eth0",
        "mac": OWN,
        "macs": [OWN, "02:00:00:00:00:04"],
        "network": "192.168.10.11/24",
        "routers": ["02:00:00:00:00:fe"],
        "address": ADDRESS,
        "heard_by": {"node-1": heard, **({} if by_others is None else {"node-2": by_others})},
        "controls": {"192.168.10.12": 1} if controls is None else controls,
        "strangers": strangers,
    }
    return reach.own_address(record(values))


def test_the_node_alone() -> None:
    judgement = judged([], [OWN])
    assert (outcome(judgement), judgement.checked) == (("pass", ""), 2)
    assert judgement.evidence == {"address": ADDRESS, "heard_by": {"node-1": [], "node-2": [OWN]}}
    assert outcome(judged(["02:00:00:00:00:04"], [OWN])) == ("pass", ""), "by another device of its own"
    assert outcome(judged([], [OWN], controls={"192.168.10.12": 0})) == ("pass", ""), "another hears it, and would hear a second one"


@pytest.mark.parametrize(
    ("heard", "by_others", "hearing"),
    [
        ([OTHER], [OWN, OTHER], "node-1, node-2"),
        ([OTHER], None, "node-1"),
        ([], [OTHER, OWN], "node-2"),
        ([OTHER], [OTHER], "node-1, node-2"),
    ],
    ids=["both", "itself", "another", "first"],
)
def test_two_machines(heard: list[str], by_others: list[str] | None, hearing: str) -> None:
    words = (
        f"node-1: two machines answer ARP for its address {ADDRESS}: {OWN} (its eth0) and {OTHER} (no node's), heard by {hearing}, want it "
        f"alone: others send to whichever answers first {COMMAND}"
    )
    assert outcome(judged(heard, by_others)) == ("fail", words)


def test_another_node() -> None:
    assert f"and {OTHER} (node-3's), heard by" in judged([OTHER], node="node-3").message
    assert judged([OTHER], node="node-3", addresses=2).verdict == "fail", "a node is no proxy"


@pytest.mark.parametrize(
    ("mac", "heard", "by_others", "addresses", "why"),
    [
        ("00:00:5e:00:01:07", True, [OWN], 1, "to node-1: it is a virtual router's (VRRP)"),
        ("02:00:00:00:00:fe", True, [OWN], 1, "to node-1: it is that of a gateway (proxy ARP)"),
        (OTHER, True, [OWN], 2, "to node-1: it answers for 2 nodes' addresses (proxy ARP)"),
        (
            OTHER,
            False,
            [OTHER],
            1,
            "to node-2: it answers in the node's stead, which is not heard itself: its hardware address is translated on the way",
        ),
    ],
    ids=["vrrp", "gateway", "proxy", "translated"],
)
def test_what_explains_another_answer(mac: str, heard: bool, by_others: list[str], addresses: int, why: str) -> None:
    judgement = judged([mac] if heard else [], by_others, addresses=addresses)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, Weight.REMARK) == [f"node-1: {mac} answers for its address {ADDRESS} {why}"]


def test_nobody_could_be_heard() -> None:
    assert outcome(judged([], controls={})) == ("skip", "node-1: no other node is in its subnet 192.168.10.0/24")
    judgement = judged([], controls={"192.168.10.12": 0, "192.168.10.13": 0})
    words = (
        "node-1: nobody answers an ARP probe for 192.168.10.12, 192.168.10.13 either, which are nodes' addresses: this network carries "
        "none, and another machine would not be heard"
    )
    assert (outcome(judgement), judgement.unsupported) == (("skip", words), True)
    assert judged([OTHER], controls={}).verdict == "fail", "who is heard is heard"


def test_nobody_was_asked() -> None:
    assert outcome(reach.own_address(record({"absent": "eth0 is no Ethernet"}))) == ("skip", "node-1: eth0 is no Ethernet")
    with pytest.raises(RecordError, match="node-1: no duplicates: evicted"):
        record(None, "evicted")
    with pytest.raises(RecordError, match="node-1: the duplicates document is damaged: KeyError"):
        record({})
