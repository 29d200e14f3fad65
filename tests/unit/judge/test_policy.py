from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import PolicyExpectation, Wanted
from pytest_k8snet.judge import policy
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.policy import Answer, Asked, PolicyRecord
from pytest_k8snet.record.store import RunFolder
from tests.unit.judge.builder import outcome, told

RECORDINGS = Path(__file__).parents[2] / "recordings"
OPEN, SHUT, CHOSEN = 8722, 8723, 8724
WANTED = PolicyExpectation(enforced=Wanted(True, "claim DaemonSet kube-system/calico-node"))


def answer(*, answered: bool, waited_s: float = 3.7, error: str | None = "timed out", failed: str | None = None) -> Answer:
    return Answer(answered, None if answered or failed else error, failed, waited_s)


def asked(source: str, port: int, *, allowed: bool, **changes: Any) -> Asked:
    yes = answer(answered=True)
    return replace(Asked(source, False, "TCP", port, allowed, yes, answer(answered=allowed), yes), **changes)


def of_source(source: str, *, chosen: bool = False, **changes: Any) -> list[Asked]:
    ports = ((OPEN, True), (SHUT, False), (CHOSEN, chosen))
    return [asked(source, port, allowed=allowed, **changes) for port, allowed in ports]


def record(*items: Asked, **changes: Any) -> PolicyRecord:
    whole = PolicyRecord("node-2", "net/policy-node-2", "net/policy", None, None, items)
    return replace(whole, **changes)


HEALTHY = record(*of_source("node-1", chosen=True), *of_source("node-2"))


def judged(found: PolicyRecord, expect: PolicyExpectation = WANTED) -> Judgement:
    return policy.enforced(found, expect)


def changed(found: PolicyRecord, port: int, *sources: str, **changes: Any) -> PolicyRecord:
    """Return the record with other answers of one port, from some nodes or from all."""
    return replace(
        found,
        asked=tuple(
            replace(item, **changes) if item.port == port and (not sources or item.source in sources) else item for item in found.asked
        ),
    )


def test_denied_and_allowed_as_written() -> None:
    judgement = judged(HEALTHY)
    assert outcome(judgement) == ("pass", "")
    assert judgement.checked == 12, "each with the policy, and each after it"
    assert judgement.evidence["port 8723 from node-1's pod"] == (
        "denied by the policy: before it answered, during it timed out, after it answered"
    )


@pytest.mark.parametrize(("sources", "whom"), [(("node-1",), "the pod of node-1"), (("node-1", "node-2"), "the pods of node-1, node-2")])
def test_not_enforced(sources: tuple[str, ...], whom: str) -> None:
    found = changed(HEALTHY, SHUT, *sources, during=answer(answered=True, waited_s=31.2))
    message = (
        f"node-2: NetworkPolicy net/policy keeps {whom} away from port 8723 of pod net/policy-node-2, and answers came from there 31 s "
        "after it was made: it is not enforced on this node"
    )
    assert outcome(judged(found)) == ("fail", message)


def test_between_pods_of_one_node_alone() -> None:
    found = changed(HEALTHY, SHUT, "node-2", during=answer(answered=True))
    assert outcome(judged(found))[1].endswith("it is not enforced between pods of this node (net.bridge.bridge-nf-call-iptables?)")
    single = replace(found, asked=tuple(item for item in found.asked if item.source == "node-2"))
    assert outcome(judged(single))[1].endswith("it is not enforced on this node"), "of a cluster of one node nothing else is known"


def test_allowed_and_shut() -> None:
    found = changed(HEALTHY, OPEN, during=answer(answered=False, waited_s=31.2, error="Connection refused"))
    message = (
        "node-2: NetworkPolicy net/policy opens port 8722 of pod net/policy-node-2 to the pods of node-1, node-2, and they were not "
        "answered there 31 s after it was made (Connection refused); without it they were"
    )
    assert outcome(judged(found)) == ("fail", message)


def test_by_label() -> None:
    """One port is opened to some pods alone: both sides of it are judged, each on its own."""
    found = changed(HEALTHY, CHOSEN, "node-2", during=answer(answered=True))
    assert outcome(judged(found))[1].startswith("node-2: NetworkPolicy net/policy keeps the pod of node-2 away from port 8724")
    found = changed(HEALTHY, CHOSEN, "node-1", during=answer(answered=False))
    assert outcome(judged(found))[1].startswith(
        "node-2: NetworkPolicy net/policy opens port 8724 of pod net/policy-node-2 to the pod of node-1"
    )


def test_enforced_after_it_is_gone() -> None:
    found = changed(HEALTHY, SHUT, "node-1", after=answer(answered=False, waited_s=30.9))
    message = (
        "node-2: NetworkPolicy net/policy is gone, and port 8723 of pod net/policy-node-2 did not answer the pod of node-1 31 s later: "
        "it is still enforced on this node"
    )
    assert outcome(judged(found)) == ("fail", message)


def test_without_a_control_nothing_is_seen() -> None:
    dead = record(*of_source("node-1", before=answer(answered=False), during=None, after=None))
    message = (
        "node-2: no connection to pod net/policy-node-2 was answered before there was a NetworkPolicy (from node-1: timed out): whether "
        "one shuts it cannot be seen; does another policy deny it?"
    )
    assert outcome(judged(dead)) == ("inconclusive", message)
    assert outcome(judged(record()))[1].startswith("node-2: no connection to pod net/policy-node-2 was answered before there was a ")
    # From one node the other controls are enough.
    one_way = replace(HEALTHY, asked=(*of_source("node-1", before=answer(answered=False)), *of_source("node-2")))
    assert outcome(judged(one_way)) == ("pass", "")


def test_what_answers_no_more_at_all_is_no_policys_doing() -> None:
    gone = answer(answered=False)
    found = replace(HEALTHY, asked=(*of_source("node-1", during=gone, after=gone), *of_source("node-2")))
    message = "node-2: pod net/policy-node-2 answered the pod of node-1 neither with the NetworkPolicy nor after it: nothing is seen"
    assert outcome(judged(found)) == ("inconclusive", message)


def test_what_could_not_be_tried() -> None:
    failed = answer(answered=False, failed="node-1: the exec stream ended")
    with_it = "node-2: with the NetworkPolicy, port 8723 from node-1's pod: node-1: the exec stream ended"
    assert outcome(judged(changed(HEALTHY, SHUT, "node-1", during=failed))) == ("error", with_it)
    after = "node-2: after the NetworkPolicy, port 8723 from node-1's pod: node-1: the exec stream ended"
    assert outcome(judged(changed(HEALTHY, SHUT, "node-1", after=failed))) == ("error", after)
    assert outcome(judged(changed(HEALTHY, SHUT, "node-1", during=None)))[1].endswith("port 8723 from node-1's pod: not asked")
    assert outcome(judged(changed(HEALTHY, SHUT, "node-1", after=None)))[1].endswith("port 8723 from node-1's pod: not asked")


@pytest.mark.parametrize(("allowed", "what"), [(True, "denies"), (False, "allows")])
def test_both_have_to_be_seen(allowed: bool, what: str) -> None:
    found = replace(HEALTHY, asked=tuple(item for item in HEALTHY.asked if item.allowed is allowed))
    assert outcome(judged(found)) == ("inconclusive", f"node-2: nothing that the NetworkPolicy {what} could be tried")


def both_ways() -> PolicyRecord:
    """Return what is asked of a pod and by it, over TCP and UDP."""
    asked = [
        replace(item, outward=outward, protocol=protocol)
        for outward in (False, True)
        for protocol in ("TCP", "UDP")
        for source in ("node-1", "node-2")
        for item in of_source(source, chosen=source == "node-1")
    ]
    return record(*asked)


def way(found: PolicyRecord, port: int, *, outward: bool, protocol: str, **changes: Any) -> PolicyRecord:
    """Return the record with other answers of one port one way."""
    return replace(
        found,
        asked=tuple(
            replace(item, **changes) if (item.outward, item.protocol, item.port) == (outward, protocol, port) else item
            for item in found.asked
        ),
    )


def test_both_ways_as_written() -> None:
    judgement = judged(both_ways())
    assert (outcome(judgement), judgement.checked) == (("pass", ""), 48)
    assert {name for name in judgement.evidence if "8722" in name and "node-1" in name} == {
        "port 8722 from node-1's pod",
        "UDP port 8722 from node-1's pod",
        "port 8722 of node-1's pod",
        "UDP port 8722 of node-1's pod",
    }


@pytest.mark.parametrize(("protocol", "port"), [("TCP", "port 8723"), ("UDP", "UDP port 8723")])
def test_egress_rules_that_are_not_enforced(protocol: str, port: str) -> None:
    found = way(both_ways(), SHUT, outward=True, protocol=protocol, during=answer(answered=True, waited_s=31.2))
    message = (
        f"node-2: NetworkPolicy net/policy keeps pod net/policy-node-2 away from {port} of the pods of node-1, node-2, and answers came "
        "from there 31 s after it was made: its egress rules are not enforced on this node"
    )
    assert outcome(judged(found)) == ("fail", message)


def test_egress_that_is_allowed_and_shut() -> None:
    found = way(both_ways(), OPEN, outward=True, protocol="UDP", during=answer(answered=False, waited_s=31.2))
    message = (
        "node-2: NetworkPolicy net/policy lets pod net/policy-node-2 reach UDP port 8722 of the pods of node-1, node-2, and it was not "
        "answered there 31 s after it was made (timed out); without the policy it was"
    )
    assert outcome(judged(found)) == ("fail", message)


def test_datagrams() -> None:
    found = way(both_ways(), SHUT, outward=False, protocol="UDP", during=answer(answered=True))
    assert outcome(judged(found))[1].startswith(
        "node-2: NetworkPolicy net/policy keeps the pods of node-1, node-2 away from UDP port 8723 of pod net/policy-node-2, and answers"
    )
    found = way(both_ways(), OPEN, outward=False, protocol="UDP", during=answer(answered=False))
    assert outcome(judged(found))[1].startswith(
        "node-2: NetworkPolicy net/policy opens UDP port 8722 of pod net/policy-node-2 to the pods "
    )


def test_nobody_to_ask_for_the_pod() -> None:
    broken = {"node-2": "node-2: no port", "node-1": "the exec stream ended"}
    found = both_ways()
    inward = replace(found, asked=tuple(item for item in found.asked if not item.outward))
    assert outcome(judged(inward)) == ("pass", ""), "an older recording has one way alone"
    assert outcome(judged(replace(inward, not_serving=broken))) == (
        "inconclusive",
        (
            "node-2: pod net/policy-node-2 had no probe pod to ask, as none could be made to answer (node-1: the exec stream ended; "
            "node-2: no port): whether egress rules are enforced cannot be seen"
        ),
    )
    some = judged(replace(found, not_serving={"node-3": "node-3: no port"}))
    assert outcome(some) == ("pass", "")
    assert told(some, "remark") == [
        "node-2: pod net/policy-node-2 asked not all probe pods, as some could not be made to answer (node-3: no port)"
    ]


@pytest.mark.parametrize(
    ("outward", "what"),
    [
        (False, "UDP port 8722 of pod net/policy-node-2 did not answer the pods of node-1, node-2"),
        (True, "UDP port 8722 of the pods of node-1, node-2 did not answer pod net/policy-node-2"),
    ],
)
def test_still_enforced_one_way(outward: bool, what: str) -> None:
    found = way(both_ways(), OPEN, outward=outward, protocol="UDP", after=answer(answered=False, waited_s=30.9))
    message = f"node-2: NetworkPolicy net/policy is gone, and {what} 31 s later: it is still enforced on this node"
    assert outcome(judged(found)) == ("fail", message)


@pytest.mark.parametrize(
    ("outward", "protocol", "what"),
    [
        (
            False,
            "UDP",
            "no datagram to pod net/policy-node-2 was answered before there was a NetworkPolicy (from node-1: timed out; from node-2:",
        ),
        (
            True,
            "TCP",
            "no connection from pod net/policy-node-2 was answered before there was a NetworkPolicy (to node-1: timed out; to node-2:",
        ),
    ],
)
def test_one_way_without_a_control(outward: bool, protocol: str, what: str) -> None:
    found = both_ways()
    for port in (OPEN, SHUT, CHOSEN):
        found = way(found, port, outward=outward, protocol=protocol, before=answer(answered=False), during=None, after=None)
    verdict, message = outcome(judged(found))
    assert verdict == "inconclusive"
    assert message.startswith(f"node-2: {what}")
    broken = way(found, SHUT, outward=not outward, protocol="TCP", during=answer(answered=True))
    assert judged(broken).verdict == "fail", "the other way is seen"


@pytest.mark.parametrize(
    ("outward", "protocol", "what"),
    [(True, "UDP", "could be tried over UDP from pod net/policy-node-2"), (False, "UDP", "could be tried over UDP")],
)
def test_one_way_of_which_only_a_half_was_seen(outward: bool, protocol: str, what: str) -> None:
    found = both_ways()
    for port in (OPEN, CHOSEN):
        found = way(found, port, outward=outward, protocol=protocol, before=answer(answered=False), during=None, after=None)
    assert outcome(judged(found)) == ("inconclusive", f"node-2: nothing that the NetworkPolicy allows {what}")


def test_a_pod_that_was_answered_no_more_at_all() -> None:
    gone = answer(answered=False)
    found = both_ways()
    found = replace(
        found,
        asked=tuple(replace(item, during=gone, after=gone) if item.outward and item.source == "node-1" else item for item in found.asked),
    )
    words = "neither with the NetworkPolicy nor after it: nothing is seen"
    answered = "node-2: the pod of node-1 answered pod net/policy-node-2"
    assert judged(found).message.splitlines() == [f"{answered} {words}", f"{answered} over UDP {words}"]


def test_a_pod_that_could_not_be_told_whom_to_ask() -> None:
    failed = answer(answered=False, failed="pod policy-node-2 could not be told whom to ask: timed out")
    found = way(both_ways(), SHUT, outward=True, protocol="TCP", during=failed)
    assert judged(found).message.splitlines()[0] == (
        "node-2: with the NetworkPolicy, port 8723 of node-1's pod: pod policy-node-2 could not be told whom to ask: timed out"
    )


def test_pods_that_do_not_run() -> None:
    found = record(pod_error="node-2: pod net/policy-node-2: ImagePullBackOff: no such image")
    assert outcome(judged(found)) == ("error", "node-2: pod net/policy-node-2: ImagePullBackOff: no such image")


def test_where_it_does_not_apply() -> None:
    assert outcome(judged(HEALTHY, PolicyExpectation())) == ("skip", policy.NOBODY)
    not_wanted = PolicyExpectation(enforced=Wanted(False, "claim ConfigMap kube-system/cilium-config enable-policy"))
    reason = "NetworkPolicies are not enforced here: policy.enforced is false (claim ConfigMap kube-system/cilium-config enable-policy)"
    assert outcome(judged(HEALTHY, not_wanted)) == ("skip", reason)
    refused = judged(record(refused="POST: HTTP 403: User cannot create"))
    assert outcome(refused) == ("skip", "the run may make no NetworkPolicy: POST: HTTP 403: User cannot create")
    older = judged(record(pod=None))
    assert outcome(older) == ("skip", "nobody was known to enforce NetworkPolicies when this was measured: none was made")
    assert (refused.unsupported, older.unsupported) == (True, True)


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        ("ipvs-policy", {}),
        (
            "ipvs-faults-policy",
            {
                "node-1": {"keeps the pods of node-1, node-2 away from port 8723", "keeps the pod of node-2 away from port 8724"},
                "node-2": {"to the pod of node-1, and", "keeps the pod of node-2 away", "not enforced between pods of this node"},
            },
        ),
        (
            "ipvs-faults-policy-part",
            {
                "node-1": {
                    "away from port 8723 of the pods of node-1, node-2, and answers came from there 31 s",
                    "away from port 8724 of the pod of node-2",
                    "away from UDP port 8723 of the pods of node-1, node-2",
                    "its egress rules are not enforced on this node",
                },
                "node-2": {"opens UDP port 8722 of pod ", "reach UDP port 8722 of the pods of node-1, node-2, and it was not answered"},
            },
        ),
    ],
)
def test_what_a_real_lab_gave(recording: str, expected: dict[str, set[str]]) -> None:
    folder = RunFolder(RECORDINGS / recording)
    found: dict[str, set[str]] = {}
    for name in ("node-1", "node-2"):
        document = folder.get("policy", name)
        assert document is not None
        verdict, message = outcome(judged(PolicyRecord.from_document(document)))
        if verdict != "pass":
            assert verdict == "fail"
            wanted = expected.get(name, set())
            found[name] = {words for words in wanted if words in message} or {message}
    assert found == expected


def document(values: Any, reason: str | None = None) -> Document:
    return Document(
        kind="policy", subject="node-2", started="2026-11-26T08:00:00Z", duration_s=1.0, method="m", values=values, reason=reason
    )


def test_documents_without_values_and_damaged_ones() -> None:
    with pytest.raises(RecordError, match="exceeded quota: pods"):
        PolicyRecord.from_document(document(None, "exceeded quota: pods"))
    with pytest.raises(RecordError, match="node-2: the policy document is damaged: KeyError"):
        PolicyRecord.from_document(document({"pod": None}))
