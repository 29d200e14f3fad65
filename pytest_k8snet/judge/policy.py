"""NetworkPolicies: whether a node's pods get what one opens to them, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_k8snet.expect.model import PolicyExpectation
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.policy import Asked, PolicyRecord

NOBODY = (
    "nobody is known to enforce NetworkPolicies here: neither the CNI nor what there is beside it says so; "
    "with policy.enforced: true in a profile it is judged all the same"
)


def enforced(record: PolicyRecord, expect: PolicyExpectation) -> Judgement:
    """Judge that what a NetworkPolicy denies to the node's pod is denied, and that what it allows passes.

    What was not answered before there was one proves nothing either way.
    """
    if expect.enforced is None:
        return Judgement.skipped(NOBODY)
    if not expect.enforced.value:
        return Judgement.skipped(f"NetworkPolicies are not enforced here: policy.enforced is false ({expect.enforced.origin})")
    if record.refused is not None:
        return Judgement.beyond_reach(f"the run may make no NetworkPolicy: {record.refused}")
    if record.pod is None and record.pod_error is None:
        return Judgement.beyond_reach("nobody was known to enforce NetworkPolicies when this was measured: none was made")
    judgement = Judgement(want=f"NetworkPolicies enforced ({expect.enforced.origin}) within {expect.settle_s.value:g} s")
    if record.pod_error is not None:
        judgement.error(record.pod_error)
        return judgement
    judgement.evidence |= {_which(item): _told(item) for item in record.asked}
    if not any(item.has_control for item in record.asked):
        judgement.inconclusive(_unseen(record, record.asked))
        return judgement
    ways = dict.fromkeys((item.outward, item.protocol) for item in record.asked)
    for way in ways:
        of_way = [item for item in record.asked if (item.outward, item.protocol) == way]
        usable = [item for item in of_way if item.has_control]
        if usable:
            _written(judgement, record, usable)
        else:
            judgement.inconclusive(_unseen(record, of_way))
    _not_asked(judgement, record)
    return judgement


def _not_asked(judgement: Judgement, record: PolicyRecord) -> None:
    """Tell of whom the pod could not ask. Where that is everybody, nothing was seen of egress rules."""
    told = "; ".join(f"{node}: {why.removeprefix(f'{node}: ')}" for node, why in sorted(record.not_serving.items()))
    if told and any(item.outward for item in record.asked):
        judgement.remark(f"{record.node}: pod {record.pod} asked not all probe pods, as some could not be made to answer ({told})")
    elif told:
        judgement.inconclusive(
            f"{record.node}: pod {record.pod} had no probe pod to ask, as none could be made to answer ({told}): whether egress rules are "
            "enforced cannot be seen"
        )


def _unseen(record: PolicyRecord, asked: Sequence[Asked]) -> str:
    """Say that what was never answered cannot be seen to be shut."""
    what = "datagram" if any(item.protocol == "UDP" for item in asked[:1]) else "connection"
    here, there = ("from", "to") if any(item.outward for item in asked[:1]) else ("to", "from")
    said = "; ".join(dict.fromkeys(f"{there} {item.source}: {item.before.what}" for item in asked if item.before is not None))
    return (
        f"{record.node}: no {what} {here} pod {record.pod} was answered before there was a NetworkPolicy ({said or 'nobody asked'}): "
        "whether one shuts it cannot be seen; does another policy deny it?"
    )


def _written(judgement: Judgement, record: PolicyRecord, usable: Sequence[Asked]) -> None:
    """Judge what was asked one way over one protocol."""
    way = _way(usable[0], record)
    lost = {source for source in {item.source for item in usable} if _is_lost([item for item in usable if item.source == source])}
    for source in sorted(lost):
        of_source = (
            f"the pod of {source} answered pod {record.pod}" if usable[0].outward else f"pod {record.pod} answered the pod of {source}"
        )
        judgement.inconclusive(f"{record.node}: {of_source}{_by(usable[0])} neither with the NetworkPolicy nor after it: nothing is seen")
    failed = [item for item in usable if item.during is None or item.during.failed is not None]
    for item in failed:
        why = "not asked" if item.during is None else item.during.failed
        judgement.error(f"{record.node}: with the NetworkPolicy, {_which(item)}: {why}")
    seen = [item for item in usable if item not in failed and item.source not in lost]
    for allowed in (False, True):
        group = [item for item in seen if item.allowed is allowed]
        if not group and not failed and not lost:
            judgement.inconclusive(f"{record.node}: nothing that the NetworkPolicy {'allows' if allowed else 'denies'} could be tried{way}")
        for port in sorted({item.port for item in group}):
            of_port = [item for item in group if item.port == port]
            wrong = [item for item in of_port if item.during is not None and item.during.answered is not allowed]
            judgement.hold(len(of_port) - len(wrong))
            if wrong:
                judgement.check(False, _wrong(record, wrong, allowed=allowed), measured=wrong[0].during and wrong[0].during.what)
    _gone(judgement, record, seen)


def _way(item: Asked, record: PolicyRecord) -> str:
    """Say of which way something is, where it is not that of every recording: connections to the pod."""
    return f"{_by(item)}{f' from pod {record.pod}' if item.outward else ''}"


def _by(item: Asked) -> str:
    return " over UDP" if item.protocol == "UDP" else ""


def _port(item: Asked) -> str:
    return f"{'UDP ' if item.protocol == 'UDP' else ''}port {item.port}"


def _wrong(record: PolicyRecord, wrong: Sequence[Asked], *, allowed: bool) -> str:
    first = wrong[0]
    waited_s = max(item.during.waited_s for item in wrong if item.during is not None)
    policy, pod, whom, port = f"{record.node}: NetworkPolicy {record.policy}", f"pod {record.pod}", _sources(wrong), _port(first)
    if not allowed:
        own = {item.source for item in wrong} == {record.node} and any(item.source != record.node for item in record.asked)
        where = "between pods of this node (net.bridge.bridge-nf-call-iptables?)" if own else "on this node"
        kept, away = (pod, whom) if first.outward else (whom, pod)
        rules = "its egress rules are" if first.outward else "it is"
        what = f"{policy} keeps {kept} away from {port} of {away}"
        return f"{what}, and answers came from there {waited_s:.0f} s after it was made: {rules} not enforced {where}"
    said = ", ".join(dict.fromkeys(item.during.what for item in wrong if item.during is not None))
    if first.outward:
        return (
            f"{policy} lets {pod} reach {port} of {whom}, and it was not answered there {waited_s:.0f} s after it was made ({said}); "
            "without the policy it was"
        )
    return (
        f"{policy} opens {port} of {pod} to {whom}, and they were not answered there "
        f"{waited_s:.0f} s after it was made ({said}); without it they were"
    )


def _gone(judgement: Judgement, record: PolicyRecord, seen: Sequence[Asked]) -> None:
    """Judge that everything is open again after the policy is gone."""
    asked = [item for item in seen if item.after is not None and item.after.failed is None]
    shut = [item for item in asked if item.after is not None and not item.after.answered]
    judgement.hold(len(asked) - len(shut))
    if shut:
        waited_s = max(item.after.waited_s for item in shut if item.after is not None)
        ports = ", ".join(map(str, sorted({item.port for item in shut})))
        port = f"{'UDP ' if shut[0].protocol == 'UDP' else ''}port {ports}"
        if shut[0].outward:
            what = f"{port} of {_sources(shut)} did not answer pod {record.pod}"
        else:
            what = f"{port} of pod {record.pod} did not answer {_sources(shut)}"
        judgement.check(
            False,
            f"{record.node}: NetworkPolicy {record.policy} is gone, and {what} {waited_s:.0f} s later: it is still enforced on this node",
        )
    for item in seen:
        if item not in asked:
            why = "not asked" if item.after is None else item.after.failed
            judgement.error(f"{record.node}: after the NetworkPolicy, {_which(item)}: {why}")


def _is_lost(asked: Iterable[Asked]) -> bool:
    """Whether a source was answered no more at all: that is no policy's doing."""
    return not any(answer is not None and (answer.answered or answer.failed) for item in asked for answer in (item.during, item.after))


def _sources(asked: Iterable[Asked]) -> str:
    names = sorted({item.source for item in asked})
    return f"the pod{'s' if len(names) > 1 else ''} of {', '.join(names)}"


def _which(item: Asked) -> str:
    return f"{_port(item)} {'of' if item.outward else 'from'} {item.source}'s pod"


def _told(item: Asked) -> str:
    phases = {"before": item.before, "during": item.during, "after": item.after}
    said = ", ".join(f"{name} it {answer.what}" for name, answer in phases.items() if answer is not None)
    return f"{'allowed' if item.allowed else 'denied'} by the policy: {said or 'not asked'}"
