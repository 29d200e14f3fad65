from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.judge import reach
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.owners import OwnersRecord
from tests.unit.judge.builder import outcome, told

VIP = "192.168.10.250"
WHAT = f"{VIP} of Service default/web"
COMMAND = f"(arping -c 3 {VIP})"
FOREIGN = "00:00:5e:00:01:07"


def mac(number: int) -> str:
    return f"02:00:00:00:00:0{number}"


def document(name: str, values: dict[str, Any] | None, reason: str | None = None) -> Document:
    return Document(kind="owners", subject=name, started="x", duration_s=0.0, method="x", values=values, reason=reason)


def judged(
    *answers: list[str] | None, ready: bool = True, control: bool = True, left_out: int = 0, not_asked: dict[str, str] | None = None
) -> Judgement:
    """Judge what nodes heard, one after the other; None: it has another subnet."""
    documents = {name: document(name, None, why) for name, why in (not_asked or {}).items()}
    told = {"addresses": {VIP: {"services": ["default/web"], "ready": ready}}, "left_out": left_out}
    for number, heard in enumerate(answers, start=1):
        asked = {
            "device": "eth0",
            "macs": [mac(number), mac(number + 3)],
            "network": f"192.168.10.1{number}/24",
            "control": "192.168.10.11" if len(answers) > 1 else None,
            "control_macs": [mac(9)] if control and len(answers) > 1 else None,
            "answers": {} if heard is None else {VIP: heard},
        }
        earlier = {**asked, "answers": {VIP: [FOREIGN, mac(8)]}}
        documents[f"node-{number}"] = document(f"node-{number}", {**told, "heard": [earlier, asked]})
    return reach.load_balancer_owner(documents)


def test_one_owner() -> None:
    judgement = judged([], [mac(1)], [mac(1)])
    assert outcome(judgement) == ("pass", "")
    assert judgement.evidence == {VIP: {"owners": f"{mac(1)} (node-1)", "heard_by": ["node-2", "node-3"]}}
    assert outcome(judged([mac(7)], [mac(7)])) == ("pass", ""), "a machine that is no node"
    assert outcome(judged([FOREIGN], [])) == ("pass", ""), "one by another hardware address, which does not hear itself"
    assert outcome(judged([], [mac(1), mac(4)], [mac(4)])) == ("pass", ""), "a node with two devices in the segment"
    assert outcome(judged([], [mac(1)], None)) == ("pass", ""), "a node in another subnet"


def test_two_owners() -> None:
    words = f"{WHAT}: 2 machines answer for it: {mac(1)} (node-1), {mac(7)}, want one: clients talk to whichever is quicker"
    assert outcome(judged([mac(7)], [mac(1), mac(7)], [mac(1)])) == ("fail", f"{words} {COMMAND}")
    each = f"{WHAT}: 2 machines answer for it: {mac(1)} (node-1), {mac(2)} (node-2), want one"
    assert judged([mac(2)], [mac(1)]).message.startswith(each), "each of two hears the other"


def test_nobody_answers() -> None:
    words = f"{WHAT}: nobody answers for it to node-1, node-2, want one; answers for another node's address are heard {COMMAND}"
    assert outcome(judged([], [])) == ("fail", words)


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (([],), "there is one node to ask, which does not hear itself"),
        (([], []), "nobody answers for the nodes' own either"),
    ],
    ids=["alone", "deaf"],
)
def test_nothing_is_heard_at_all(answers: tuple[list[str], ...], why: str) -> None:
    words = f"{WHAT}: nobody answers for it, and {why}: whether it has an owner is not seen {COMMAND}"
    assert outcome(judged(*answers, control=False)) == ("inconclusive", words)


def test_nobody_needs_to_answer() -> None:
    judgement = judged([], [], ready=False)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, Weight.REMARK) == [f"{WHAT}: nobody answers for it; no endpoint is ready behind it, and nobody needs to"]
    assert judged([mac(2)], [mac(1)], ready=False).verdict == "fail", "two are too many all the same"


def test_a_node_that_hears_no_answer() -> None:
    words = f"{WHAT}: {mac(1)} (node-1) answers for it, and node-3 hears no answer, want one for every node of its subnet {COMMAND}"
    assert outcome(judged([], [mac(1)], [])) == ("fail", words)
    words = f"{WHAT}: {FOREIGN} answers for it, and node-2, node-3 hears no answer, want one for every node of its subnet {COMMAND}"
    assert outcome(judged([FOREIGN], [], [])) == ("fail", words)


def test_addresses_of_other_subnets() -> None:
    words = "no address of a load balancer is in the nodes' own subnet (192.168.10.0/24): nobody answers ARP for it"
    assert outcome(judged(None, None)) == ("skip", words)


def test_there_are_none() -> None:
    words = "no Service has an IPv4 address of a load balancer that nodes answer for"
    none = {"addresses": {}, "left_out": 0, "heard": []}
    documents = {"node-1": document("node-1", none), "node-2": document("node-2", None, "node-2: evicted")}
    assert outcome(reach.load_balancer_owner(documents)) == ("skip", words)


def test_nobody_was_asked_on_purpose() -> None:
    judgement = reach.load_balancer_owner({"node-1": document("node-1", {"absent": "a run in shards asks nobody"})})
    assert (outcome(judgement), judgement.unsupported) == (("skip", "a run in shards asks nobody"), True)


def test_nodes_that_cannot_ask() -> None:
    nobody = "no node could be asked who answers for addresses of load balancers"
    assert outcome(judged(not_asked={"node-1": "no python3"})) == ("error", f"{nobody}: node-1: no owners of addresses: no python3")
    assert outcome(reach.load_balancer_owner({})) == ("error", f"{nobody}: there is none")
    judgement = judged([], [mac(1)], not_asked={"node-3": "no python3"}, left_out=4)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, Weight.REMARK) == [
        "not asked: node-3: no owners of addresses: no python3",
        "4 more addresses of load balancers were not asked for",
    ]


def test_documents_that_cannot_be_read() -> None:
    with pytest.raises(RecordError, match="node-1: no owners of addresses: gone"):
        OwnersRecord.from_document(document("node-1", None, "gone"))
    with pytest.raises(RecordError, match="node-1: the owners document is damaged"):
        OwnersRecord.from_document(document("node-1", {"x": 1}))
