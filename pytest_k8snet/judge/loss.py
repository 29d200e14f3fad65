"""Judge whether packets from pod to pod are lost between nodes, and tell where."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_k8snet.expect.model import ReachExpectation, Wanted
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.judge.wire import each_crossing, listed
from pytest_k8snet.record.wire import Crossing, Side, Stream, WireRecord

_TOLD = 6  # counters


def silent_loss(record: WireRecord, expect: ReachExpectation) -> Judgement:
    """Judge that of a numbered stream to every target no more is lost than may be, and say where the rest went missing.

    A stream that loses is sent again, longer: what was lost once and not again is told, and is no fault. Packets that the pod's own kernel
    does not take are not sent: more of them than may be lost leave open what would have become of them.
    """
    judgement = Judgement(want=f"loss {_percent(expect.loss.value)} at most ({expect.loss.origin})")
    return each_crossing(judgement, record, lambda crossing: _loss(judgement, record, crossing, expect.loss))


def _loss(judgement: Judgement, record: WireRecord, crossing: Crossing, most: Wanted[float]) -> None:
    node, stream = record.node, crossing.streams[-1]
    first = crossing.streams[0]
    if not stream.sent:
        judgement.error(f"{node}: no packet to the pod on {crossing.to} could be sent: {listed(stream.errors)}")
        return
    text = f"{node}: {stream.missing} of {stream.sent} packets to the pod on {crossing.to} were lost"
    if first is not stream and first.missing / max(first.sent, 1) > most.value >= stream.missing / stream.sent:
        judgement.remark(
            f"{node}: {first.missing} of {first.sent} packets to the pod on {crossing.to} were lost{_where(record, crossing, first)}, "
            f"but {stream.missing} of {stream.sent} right after"
        )
    if crossing.not_again is not None:
        judgement.remark(f"{node}: the pod on {crossing.to} was not sent to again, to see whether the loss stays: {crossing.not_again}")
    if stream.missing / stream.sent <= most.value:
        if stream.unsent / stream.packets > most.value:
            judgement.inconclusive(
                f"{node}: {stream.unsent} of {stream.packets} packets to the pod on {crossing.to} could not be sent "
                f"({listed(stream.errors)}): of the others {stream.missing} were lost",
                measured=stream.unsent,
                wanted=0,
            )
        else:
            judgement.hold(1)
        return
    where = _where(record, crossing, stream)
    dropped = {name: side.dropped for name, side in ((node, stream.source), (crossing.target, stream.target)) if side.dropped}
    if (stream.missing - stream.overflow) / stream.sent <= most.value:
        judgement.inconclusive(f"{text}, {stream.overflow} of them for want of room in the buffers of our own receiver")
    elif dropped:
        rooms = " and ".join(f"the capture on {name} had no room for {count} packets" for name, count in dropped.items())
        judgement.inconclusive(f"{text}, but {rooms}: measuring was too much for it")
    else:
        hint = "" if stream.delivered else ". Nothing arrives at all: a NetworkPolicy or a firewall that keeps UDP closed looks the same"
        judgement.check(
            False,
            f"{text} ({_percent(stream.missing / stream.sent)}), want {_percent(most.value)} at most ({most.origin}){where}{hint}",
            measured=_percent(stream.missing / stream.sent),
            wanted=_percent(most.value),
        )


def _where(record: WireRecord, crossing: Crossing, stream: Stream) -> str:
    """Return the places behind which packets went missing, with the kernel's counters that moved there."""
    node, target = record.node, crossing.target
    if not stream.source.seen and not stream.target.seen and stream.delivered:
        return ": where is not known, as none was seen at the uplinks (encrypted?)"
    uplink = f" {record.uplink}" if record.uplink else ""
    here, there = {node: stream.source}, {target: stream.target}
    places = {
        "source_pod": (f"in the pod on {node}", here),
        "source_node": (f"on {node} before its uplink{uplink}", here),
        "wire": (f"between the uplinks of {node} and {target}", {**here, **there}),
        "target_node": (f"on {target} behind its uplink{'' if stream.at_target_pod else ', or in the pod there'}", there),
        "target_pod": (f"in the pod on {target}", there),
    }
    told = [f"{stream.lost[place]} {text}{_moved(sides)}" for place, (text, sides) in places.items() if stream.lost.get(place)]
    return f": {'; '.join(told)}" if told else ""


def _moved(sides: Mapping[str, Side]) -> str:
    counters = [
        f"{name} +{count}{f' on {node}' if len(sides) > 1 else ''}"
        for node, side in sides.items()
        for name, count in sorted(side.counters.items(), key=lambda item: -item[1])
    ]
    if not counters:
        return " (no counter of the kernel moved; a firewall's rules have their own)"
    rest = f" and {len(counters) - _TOLD} more" if len(counters) > _TOLD else ""
    return f" (counters that moved there: {', '.join(counters[:_TOLD])}{rest})"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
