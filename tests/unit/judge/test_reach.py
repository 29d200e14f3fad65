from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import EgressExpectation, Wanted
from pytest_k8snet.judge import reach
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.reach import ReachRecord

POD, HOST = "10.244.1.5", "192.168.10.11"


def answer(place: str, target: str, protocol: str, **changes: Any) -> dict[str, Any]:
    told = {"name": target, "peer": [POD if place == "pod" else HOST, 40000], "ms": 0.5, "tries": 1, "error": None, "refused": False}
    address = f"10.244.{target[-1]}.5"
    return {"from": place, "target": target, "to": "pod", "address": address, "port": 9, "protocol": protocol, **told, **changes}


def own(protocol: str, **changes: Any) -> dict[str, Any]:
    return answer("pod", "node-1", protocol, **{"to": "host", "address": HOST, **changes})


NO_ANSWER = {"name": None, "peer": None, "ms": 3000.0, "tries": 2, "error": "timed out"}
REFUSED = {**NO_ANSWER, "error": "Connection refused", "refused": True}


def healthy() -> list[dict[str, Any]]:
    return [
        *(answer("pod", f"node-{number}", protocol) for number in (2, 3) for protocol in ("TCP", "UDP")),
        *(answer("host", f"node-{number}", protocol) for number in (1, 2, 3) for protocol in ("TCP", "UDP")),
        own("TCP", port=10250, name=None, peer=None, silent=True),
        own("TCP"),
        own("UDP"),
    ]


def changed(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the healthy answers with some replaced by those of the same question."""
    key = ("from", "to", "target", "address", "port", "protocol")
    new = {tuple(item[name] for name in key): item for item in changes}
    return [new.get(tuple(item[name] for name in key), item) for item in healthy()]


def record(answers: list[dict[str, Any]] | None = None, **values: Any) -> ReachRecord:
    document = {"pod_ips": [POD], "host_ip": HOST, "answers": healthy() if answers is None else answers, "unasked": {}, **values}
    return ReachRecord.from_document(Document(kind="reach", subject="node-1", started="", duration_s=0.1, method="", values=document))


def outcome(judgement: Judgement) -> tuple[str, str]:
    return judgement.verdict.value, judgement.message


OTHER = "192.168.10.12"


def shown(protocol: str, **changes: Any) -> dict[str, Any]:
    """Return what another node's host told this node's pod."""
    return answer("pod", "node-2", protocol, to="host", address=OTHER, **changes)


def egress(wanted: str | None, *told: dict[str, Any]) -> Judgement:
    expect = EgressExpectation(None if wanted is None else Wanted(wanted, "profile x.yaml:3"))
    return reach.egress_source(record([*healthy(), *told]), expect)


@pytest.mark.parametrize(("wanted", "seen"), [("pod", POD), ("node", HOST)])
def test_nodes_see_what_the_profile_wants(wanted: str, seen: str) -> None:
    judgement = egress(wanted, shown("TCP", peer=[seen, 1]), shown("UDP", peer=[seen, 1]))
    assert (outcome(judgement), judgement.checked) == (("pass", ""), 2)
    assert judgement.evidence == {"node-2, TCP": seen, "node-2, UDP": seen}


@pytest.mark.parametrize(
    ("wanted", "seen", "told"),
    [
        ("pod", HOST, f"{HOST} (UDP), its node's address, want its own address"),
        ("node", POD, f"{POD} (UDP), its own address, want its node's address"),
        ("node", "203.0.113.9", "203.0.113.9 (UDP), neither its own address nor its node's, want its node's address"),
    ],
)
def test_nodes_see_another_address(wanted: str, seen: str, told: str) -> None:
    right = POD if wanted == "pod" else HOST
    judgement = egress(wanted, shown("TCP", peer=[right, 1]), shown("UDP", peer=[seen, 1]))
    message = f"node-1: node-2 sees its pod {POD} as {told} (profile x.yaml:3) (iptables-save -t nat)"
    assert outcome(judgement) == ("fail", message)


def test_no_node_says_whom_it_sees() -> None:
    assert outcome(egress(None)) == ("skip", "no profile says under whose address other nodes see pods (egress.source)")
    assert outcome(egress("pod")) == ("skip", "node-1: no other node could be asked whom it sees")
    silent = egress("pod", shown("TCP", **NO_ANSWER), shown("UDP", name="node-3"))
    said = "TCP timed out (2 tries), UDP answered by node-3"
    assert outcome(silent) == ("inconclusive", f"node-1: no other node answered its pod, so none has said whom it sees ({said})")


def test_what_other_nodes_see_says_nothing_of_the_own_one() -> None:
    silent = [shown(protocol, **NO_ANSWER) for protocol in ("TCP", "UDP")]
    assert reach.pod_reaches_own_node(record([*healthy(), *silent])).evidence == reach.pod_reaches_own_node(record()).evidence


JUDGES = [reach.pods_reach_pods, reach.node_reaches_pods, reach.pod_reaches_own_node, reach.source_is_kept]


@pytest.mark.parametrize("judge", JUDGES)
def test_healthy(judge: Any) -> None:
    judgement = judge(record())
    assert (outcome(judgement), judgement.findings) == (("pass", ""), [])
    assert judgement.checked >= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            [answer("pod", "node-3", "UDP", **NO_ANSWER)],
            "node-1: its pod 10.244.1.5 does not reach the pod on node-3 at 10.244.3.5: TCP answered; UDP timed out (2 tries), "
            "want an answer from it (ip route get 10.244.3.5)",
            id="one-protocol",
        ),
        pytest.param(
            [answer("pod", "node-2", "TCP", **REFUSED), answer("pod", "node-2", "UDP", **{**NO_ANSWER, "error": "No route to host"})],
            "node-1: its pod 10.244.1.5 does not reach the pod on node-2 at 10.244.2.5: TCP Connection refused (2 tries); "
            "UDP No route to host (2 tries), want an answer from it (ip route get 10.244.2.5)",
            id="both-protocols",
        ),
        pytest.param(
            [answer("pod", "node-2", "TCP", name="node-3"), answer("pod", "node-2", "UDP", name="node-3")],
            "node-1: its pod 10.244.1.5 does not reach the pod on node-2 at 10.244.2.5: TCP answered by node-3; UDP answered by node-3, "
            "want an answer from it: two pods have this address, or it is routed to node-3 (ip route get 10.244.2.5)",
            id="another-pod",
        ),
    ],
)
def test_pods_that_are_not_reached(changes: list[dict[str, Any]], message: str) -> None:
    assert outcome(reach.pods_reach_pods(record(changed(*changes)))) == ("fail", message)
    assert reach.node_reaches_pods(record(changed(*changes))).verdict == "pass"


def test_node_that_does_not_reach_its_own_pod() -> None:
    answers = changed(answer("host", "node-1", "TCP", **NO_ANSWER), answer("host", "node-1", "UDP", **NO_ANSWER))
    assert outcome(reach.node_reaches_pods(record(answers))) == (
        "fail",
        (
            "node-1: it does not reach the pod on node-1 at 10.244.1.5: TCP timed out (2 tries); UDP timed out (2 tries), "
            "want an answer from it (ip route get 10.244.1.5)"
        ),
    )
    assert reach.pods_reach_pods(record(answers)).verdict == "pass"


def test_second_try_is_advice() -> None:
    judgement = reach.pods_reach_pods(record(changed(answer("pod", "node-2", "TCP", tries=2))))
    assert judgement.verdict == "pass"
    assert [(finding.weight, finding.message) for finding in judgement.findings] == [
        (
            "advice",
            "node-1: its pod 10.244.1.5 reached the pod on node-2 at 10.244.2.5 only at the second try (TCP): packets are lost on the way",
        )
    ]


def test_nodes_that_could_not_be_asked_are_named() -> None:
    without = [item for item in healthy() if item["target"] != "node-3"]
    judgement = reach.pods_reach_pods(record(without, unasked={"node-3": "the node is NotReady"}))
    assert judgement.verdict == "pass"
    assert [finding.message for finding in judgement.findings] == ["node-1: the pod on node-3 was not asked: the node is NotReady"]


@pytest.mark.parametrize("judge", [reach.pods_reach_pods, reach.source_is_kept])
def test_nobody_could_be_asked(judge: Any) -> None:
    alone = [item for item in healthy() if item["target"] == "node-1"]
    assert outcome(judge(record(alone, unasked={"node-2": "node-2: gone"}))) == (
        "skip",
        "node-1: no pod of another node could be asked (node-2: gone)",
    )
    assert outcome(judge(record(alone))) == ("skip", "node-1: there is no other node that it sends to")


def test_own_node_that_answers_nothing() -> None:
    answers = changed(own("TCP", port=10250, silent=True, **NO_ANSWER), own("TCP", **NO_ANSWER), own("UDP", **NO_ANSWER))
    assert outcome(reach.pod_reaches_own_node(record(answers))) == (
        "fail",
        (
            "node-1: its pod 10.244.1.5 gets no answer from its own node at 192.168.10.11 (TCP 10250 timed out, "
            "TCP 9 timed out, UDP 9 timed out), "
            "want any: agents on the node's own address, such as NodeLocal DNSCache, are out of reach for pods"
        ),
    )


def test_own_node_that_answers_nothing_by_one_family() -> None:
    by_ipv6 = [own(protocol, **{**NO_ANSWER, "address": "fd00:1::11"}) for protocol in ("TCP", "UDP")]
    judgement = reach.pod_reaches_own_node(record([*healthy(), *by_ipv6], pod_ips=[POD, "fd00:2::5"]))
    assert outcome(judgement) == (
        "fail",
        (
            "node-1: its pod fd00:2::5 gets no answer from its own node at fd00:1::11 (TCP 9 timed out, UDP 9 timed out), "
            "want any: agents on the node's own address, such as NodeLocal DNSCache, are out of reach for pods"
        ),
    )
    assert set(judgement.evidence) == {"answers", "answers at fd00:1::11"}


def test_any_answer_of_the_own_node_will_do() -> None:
    answers = changed(own("TCP", port=10250, silent=True, **REFUSED), own("TCP", **NO_ANSWER), own("UDP", **NO_ANSWER))
    assert reach.pod_reaches_own_node(record(answers)).verdict == "pass"


def test_node_without_an_address() -> None:
    without = [item for item in healthy() if item["to"] == "pod"]
    assert outcome(reach.pod_reaches_own_node(record(without, host_ip=None))) == ("skip", "node-1: the node has no InternalIP")


def test_masqueraded_by_ipv6() -> None:
    seen = answer("pod", "node-2", "TCP", address="fd00:2::5", peer=["fd00:1::11", 1024])
    message = "node-1: its pod fd00:2::4 is seen as fd00:1::11 by pods on node-2 (TCP), want its own address: it is masqueraded "
    judgement = reach.source_is_kept(record([*healthy(), seen], pod_ips=[POD, "fd00:2::4"]))
    assert outcome(judgement) == ("fail", f"{message}(ip6tables-save -t nat)")


def test_masqueraded() -> None:
    seen = {"peer": [HOST, 1024]}
    answers = changed(
        answer("pod", "node-2", "TCP", **seen),
        answer("pod", "node-2", "UDP", **seen),
        answer("pod", "node-3", "TCP", peer=["192.0.2.9", 1]),
    )
    assert outcome(reach.source_is_kept(record(answers))) == (
        "fail",
        (
            "node-1: its pod 10.244.1.5 is seen as 192.168.10.11 by pods on node-2 (TCP and UDP), want its own address: it is masqueraded "
            "(iptables-save -t nat)\n"
            "node-1: its pod 10.244.1.5 is seen as 192.0.2.9 by pods on node-3 (TCP), want its own address: it is masqueraded "
            "(iptables-save -t nat)"
        ),
    )


def test_nobody_has_seen_the_pod() -> None:
    answers = [{**item, **NO_ANSWER} if item["from"] == "pod" and item["to"] == "pod" else item for item in healthy()]
    assert outcome(reach.source_is_kept(record(answers))) == (
        "inconclusive",
        "node-1: no pod of another node was reached, so none has seen its pod's address",
    )


def test_both_families() -> None:
    """Of a pod with two addresses the one of the same family is meant."""
    six = {"address": "fd00:2::5", "peer": ["fd00:1::5", 40000]}
    answers = [*healthy(), answer("pod", "node-2", "TCP", **six), answer("pod", "node-2", "UDP", **{**six, **NO_ANSWER})]
    both = record(answers, pod_ips=[POD, "fd00:1::5"])
    assert reach.source_is_kept(both).verdict == "pass"
    assert outcome(reach.pods_reach_pods(both)) == (
        "fail",
        (
            "node-1: its pod fd00:1::5 does not reach the pod on node-2 at fd00:2::5: TCP answered; UDP timed out (2 tries), "
            "want an answer from it (ip route get fd00:2::5)"
        ),
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"answers": [answer("pod", "node-2", "TCP", name=None)]}, "an answer without error tells neither name nor peer"),
        ({"answers": [answer("moon", "node-2", "TCP")]}, "'moon' to 'pod' is not between pods and hosts"),
        ({"answers": [{}]}, "KeyError"),
    ],
)
def test_damaged(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=f"node-1: the reach document is damaged: .*{message}"):
        record(**values)


def test_nothing_measured() -> None:
    document = Document(kind="reach", subject="node-1", started="", duration_s=0.0, method="", reason="node-1: gone")
    with pytest.raises(RecordError, match="node-1: no answers from other nodes: gone"):
        ReachRecord.from_document(document)
