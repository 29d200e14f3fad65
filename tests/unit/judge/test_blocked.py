from __future__ import annotations

from pathlib import Path

import pytest

from pytest_k8snet.catalogue import checks
from pytest_k8snet.cluster.policies.model import FLOWS, FROM_NODES, FROM_PODS, TO_DNS, TO_PODS, Blocked
from pytest_k8snet.errors import RecordError
from pytest_k8snet.judge import blocked
from pytest_k8snet.judge.model import Judgement, Verdict
from pytest_k8snet.record.blocking import BlockingRecord
from pytest_k8snet.record.document import Document

BY = ("NetworkPolicy shop/default-deny",)
DENIED = BlockingRecord("shop", tuple(Blocked(flow, BY, sure=True) for flow in FLOWS), {})
OPEN = (
    ": blocked is not broken. Allow it by a policy for pods with the label app.kubernetes.io/managed-by=pytest-k8snet "
    "in namespace shop, or let the run use another namespace (--k8snet-namespace)"
)


def failed() -> Judgement:
    judgement = Judgement()
    judgement.check(False, "node-1: no answer", command="ip route get 10.244.1.5")
    return judgement


def test_what_is_blocked_is_no_fault() -> None:
    judgement = blocked.doubted(failed(), "NET-REACH-001", DENIED)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.message == (
        "traffic from other pods of the run, to other pods of the run is blocked by NetworkPolicy shop/default-deny"
        f"{OPEN}\nnode-1: no answer (ip route get 10.244.1.5)"
    )
    assert len(judgement.evidence["blocked"]) == len(FLOWS)


def test_what_may_be_blocked() -> None:
    record = BlockingRecord("shop", (Blocked(FROM_PODS, BY, sure=True), Blocked(TO_PODS, ("GlobalNetworkPolicy x",), sure=False)), {})
    assert blocked.told("NET-REACH-001", record) == (
        "traffic from other pods of the run is blocked by NetworkPolicy shop/default-deny; "
        f"traffic to other pods of the run may be blocked by GlobalNetworkPolicy x{OPEN}"
    )


def test_what_is_not_blocked_stays_a_fault() -> None:
    record = BlockingRecord("shop", (Blocked(TO_DNS, BY, sure=True), Blocked(FROM_NODES, BY, sure=True)), {})
    assert blocked.doubted(failed(), "NET-REACH-001", record).verdict is Verdict.FAIL


def test_an_error_names_the_policy_and_stays_one() -> None:
    judgement = Judgement()
    judgement.error("iperf3: unable to connect to server")
    judgement = blocked.doubted(judgement, "NET-THROUGHPUT-001", DENIED)
    assert judgement.verdict is Verdict.ERROR
    assert judgement.message.splitlines()[1] == "iperf3: unable to connect to server"
    assert "is blocked by NetworkPolicy shop/default-deny" in judgement.message.splitlines()[0]


def test_policies_that_could_not_be_read_are_remarked() -> None:
    judgement = blocked.doubted(failed(), "NET-REACH-001", BlockingRecord("shop", (), {"NetworkPolicy": "HTTP 403"}))
    assert judgement.verdict is Verdict.FAIL
    assert judgement.findings[-1].message == "whether a NetworkPolicy blocks what the run sends is not known: HTTP 403"


def test_who_is_concerned() -> None:
    assert blocked.concerns("NET-REACH-001", Verdict.FAIL)
    assert blocked.concerns("NET-THROUGHPUT-001", Verdict.ERROR)
    assert not blocked.concerns("NET-THROUGHPUT-001", Verdict.FAIL), "what was slow was not blocked"
    assert not blocked.concerns("NET-REACH-001", Verdict.PASS)
    assert not blocked.concerns("NET-MTU-001", Verdict.FAIL)


#: Checks that send packets and need no flow of the pod network: between nodes' own networks, or nothing but what the kernel does.
WITHOUT = {"NET-NODE-005", "NET-NODE-006", "NET-REACH-006", "NET-REACH-008", "NET-THROUGHPUT-002"}


def test_every_check_that_sends_says_what_it_needs() -> None:
    sending = {check.id for check in checks() if check.level != "read"}
    assert not blocked.UNANSWERED.keys() & blocked.ANSWERED.keys()
    assert (blocked.UNANSWERED.keys() | blocked.ANSWERED.keys()) ^ sending == sending & WITHOUT


def test_the_document(tmp_path: Path) -> None:
    values = {"namespace": "shop", "blocked": [item.to_json() for item in DENIED.blocked], "unreadable": {}}
    document = Document(kind="blocking", subject="cluster", started="", duration_s=0, method="", values=values)
    assert BlockingRecord.from_document(document) == DENIED
    with pytest.raises(RecordError, match="cluster: the blocking document is damaged: KeyError"):
        BlockingRecord.from_document(Document(kind="blocking", subject="cluster", started="", duration_s=0, method="", values={}))
