"""What a verdict is worth where a policy keeps the run's own packets away: blocked is not broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pytest_k8snet.cluster.ownership import MANAGED_BY, MANAGER
from pytest_k8snet.cluster.policies.model import FROM_NODES, FROM_OTHERS, FROM_PODS, TO_DNS, TO_OTHERS, TO_PODS, Blocked
from pytest_k8snet.judge.model import Finding, Judgement, Verdict, Weight
from pytest_k8snet.record.blocking import BlockingRecord

_PODS = (FROM_PODS, TO_PODS)

#: Checks whose fault is that something does not answer, and the flows without which nothing can.
UNANSWERED: Mapping[str, tuple[str, ...]] = {
    "NET-CONNTRACK-004": _PODS,
    "NET-CONTROL-008": (TO_OTHERS,),
    "NET-CONTROL-009": (FROM_NODES, FROM_OTHERS),
    "NET-DNS-004": (TO_DNS,),
    "NET-DNS-005": (TO_DNS,),
    **dict.fromkeys([f"NET-INGRESS-00{number}" for number in range(4, 10)], (FROM_OTHERS, *_PODS)),
    "NET-LATENCY-002": (TO_OTHERS,),
    "NET-LOSS-001": _PODS,
    "NET-REACH-001": _PODS,
    "NET-REACH-002": (FROM_NODES,),
    "NET-REACH-003": (TO_OTHERS,),
    "NET-REACH-005": (TO_OTHERS,),
    "NET-SERVICE-001": (*_PODS, FROM_NODES),
    "NET-SERVICE-002": (*_PODS, FROM_NODES, TO_OTHERS),
    "NET-SERVICE-003": (*_PODS, FROM_NODES),
    "NET-SERVICE-005": _PODS,
    "NET-SERVICE-008": _PODS,
}
#: Checks whose fault takes packets that got through: a policy is named only where nothing was measured.
ANSWERED: Mapping[str, tuple[str, ...]] = {
    "NET-DNS-006": (TO_DNS,),
    "NET-DNS-007": (TO_DNS,),
    **dict.fromkeys(("NET-SERVICE-004", "NET-SERVICE-006", "NET-SERVICE-007", "NET-SERVICE-009", "NET-SERVICE-010"), _PODS),
    **dict.fromkeys([f"NET-THROUGHPUT-00{number}" for number in (1, 3, 4, 5)], _PODS),
    **dict.fromkeys(("NET-ENCAP-004", "NET-LATENCY-001", "NET-MTU-005", "NET-MTU-006", "NET-POLICY-001", "NET-REACH-004"), _PODS),
}


def concerns(check: str, verdict: Verdict) -> bool:
    """Whether policies may be why a check has such a verdict."""
    return (verdict is Verdict.FAIL and check in UNANSWERED) or (
        verdict in (Verdict.ERROR, Verdict.INCONCLUSIVE) and (check in UNANSWERED or check in ANSWERED)
    )


def told(check: str, record: BlockingRecord) -> str | None:
    """Return by which policies what a check sends is blocked, and what to do; None when it is not."""
    flows = UNANSWERED.get(check) or ANSWERED.get(check, ())
    found = [item for item in record.blocked if item.flow in flows]
    if not found:
        return None
    sure = [item for item in found if item.sure]
    words = [_words(sure, "is blocked"), _words([item for item in found if not item.sure], "may be blocked")]
    labels = f"{MANAGED_BY}={MANAGER}"
    return (
        f"{'; '.join(filter(None, words))}: blocked is not broken. Allow it by a policy for pods with the label {labels} "
        f"in namespace {record.namespace}, or let the run use another namespace (--k8snet-namespace)"
    )


def _words(found: list[Blocked], what: str) -> str:
    if not found:
        return ""
    by = dict.fromkeys(name for item in found for name in item.by)
    return f"traffic {', '.join(item.flow for item in found)} {what} by {', '.join(by)}"


def doubted(judgement: Judgement, check: str, record: BlockingRecord) -> Judgement:
    """Return a judgement in which a policy that blocks the run's packets is named, and what it may have caused is no fault.

    Where the policies could not be read, that is remarked.
    """
    if (why := told(check, record)) is None:
        for kind, reason in record.unreadable.items():
            judgement.remark(f"whether a {kind} blocks what the run sends is not known: {reason}")
        return judgement
    weight = Weight.ERROR if judgement.verdict is Verdict.ERROR else Weight.INCONCLUSIVE
    kept = [replace(item, weight=weight) if item.weight is Weight.FAULT else item for item in judgement.findings]
    judgement.findings = [Finding(weight=weight, message=why), *kept]
    judgement.evidence["blocked"] = [item.to_json() for item in record.blocked]
    return judgement
