"""Judge what was seen of packets from pod to pod on their way between nodes: what they were inside of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from ipaddress import ip_address
from typing import Any

from pytest_k8snet.expect.model import Wanted
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.wire import NATIVE, Connection, Crossing, Encrypted, Side, Stream, WireRecord

#: What a wanted encapsulation looks like on the wire; what is encrypted does not look like anything.
FORMS_OF = {
    "none": NATIVE,
    "vxlan": "vxlan",
    "ipip": "ipip",
    "geneve": "geneve",
    "gre": "gre",
    "tun": "fou",  # flannel's udp
    "fou": "gue",  # kube-router's (docs/tunnels.md)
}
ENCRYPTED = {"wireguard": "WireGuard", "esp": "ESP", "ah": "AH"}

_WORDS = {"vxlan": "VXLAN", "geneve": "Geneve", "ipip": "IPIP", "gre": "GRE", "fou": "FOU", "gue": "GUE", **ENCRYPTED}
_NEARLY = 0.9  # of a stream's packets: so many encrypted ones of one length are taken for them
_SEEN = 0.5  # of the packets between the nodes' own addresses, to believe a capture

NOBODY = "this node sends to no other: --k8snet-pairs chooses which, and it takes two ready nodes"


def words(form: str) -> str:
    """Return a form as a reader would say it: ``vxlan/8472+ipip`` is ``inside IPIP in VXLAN (UDP port 8472)``."""
    if form == NATIVE:
        return "as they are"
    parts = []
    for part in reversed(form.split("+")):
        kind, _, port = part.partition("/")
        parts.append(_WORDS.get(kind, kind) + (f" (UDP port {port})" if port else ""))
    return f"inside {' in '.join(parts)}"


def each_crossing(judgement: Judgement, record: WireRecord, judge: Callable[[Crossing], None]) -> Judgement:
    """Judge what was measured; say of the rest why it was not."""
    if not record.crossings:
        return Judgement.skipped(NOBODY)
    judgement.evidence["pairs"] = evidence(record)
    reasons = []
    for crossing in record.crossings:
        if crossing.error is None:
            judge(crossing)
        elif crossing.unsupported or crossing.missing:
            reasons.append(crossing.error)
        else:
            judgement.error(f"{record.node}: nothing could be measured to {crossing.to}: {crossing.error}")
    if len(reasons) == len(record.crossings):
        return Judgement.beyond_reach("; ".join(dict.fromkeys(reasons)))
    for reason in dict.fromkeys(reasons):
        judgement.remark(f"{record.node}: not measured: {reason}")
    return judgement


def crosses_as_wanted(judgement: Judgement, node: str, crossing: Crossing, want: Wanted[str]) -> None:
    """Judge that every packet crosses in the wanted form, by counts at both uplinks.

    What was seen in another form is a fault; what was not seen at all never passes.
    """
    stream, to = crossing.streams[0], f"{node}: packets to the pod on {crossing.to}"
    if not stream.sent:
        judgement.error(f"{to}: none could be sent: {listed(stream.errors)}")
        return
    senders = {address for address in {*stream.senders, *stream.target.addresses} if ip_address(address) != ip_address(crossing.address)}
    judgement.check(
        not senders,
        f"{to} come from {' and '.join(sorted(senders))} and not from the pod's own {crossing.address}: they are masqueraded",
        measured=" ".join(sorted(senders)),
        wanted=crossing.address,
    )
    hidden = _encrypted(crossing, stream) if not stream.source.seen else None
    if hidden is None and (wrong := _wrong(stream, want)):
        for form, count in wrong.items():
            text = f"{to} cross {words(form)}: {count} of {stream.sent}, want {_wanted_words(want)}"
            judgement.check(False, text, measured=form, wanted=want.value)
        return
    if reasons := [*_blind(node, stream.source, crossing), *_blind(crossing.target, stream.target, crossing, at_target=True)]:
        judgement.inconclusive(f"{to}: {'; '.join(reasons)}")
        return
    if hidden is not None:
        judgement.check(
            hidden.kind == want.value,
            f"{to} cross {words(hidden.kind)}, {hidden.count} packets of {hidden.length_bytes} bytes, want {_wanted_words(want)}",
            measured=hidden.kind,
            wanted=want.value,
        )
    elif want.value in ENCRYPTED:
        judgement.inconclusive(
            f"{to}: nothing of {stream.sent} was seen in plain text, but as many encrypted packets of one length were not seen either: "
            f"{_most(crossing.encrypted_source)} at {node}, {_most(crossing.encrypted_target)} at {crossing.target}"
        )
    elif want.value not in FORMS_OF:
        judgement.inconclusive(f"{to}: what {want.value} looks like on the wire is not known to this check")
    elif stream.source.unseen or stream.target.unseen:
        judgement.inconclusive(
            f"{to}: not all are accounted for: of {stream.sent} sent {stream.source.unseen} were not seen at the uplink of {node}, of "
            f"{stream.delivered} delivered {stream.target.unseen} not at that of {crossing.target}"
        )
    else:
        judgement.hold(1)
    if stream.missing:
        judgement.remark(f"{to}: {stream.missing} of {stream.sent} were lost: NET-LOSS-001 says where")
    if crossing.tcp is not None:
        _connection(judgement, f"{node}: the TCP connection to the pod on {crossing.to}", crossing.tcp, want, hidden=hidden is not None)


def _connection(judgement: Judgement, what: str, tcp: Connection, want: Wanted[str], *, hidden: bool) -> None:
    if tcp.error is not None:
        judgement.remark(f"{what}: {tcp.error}")
        return
    right = FORMS_OF.get(want.value)
    if right is None and want.value not in ENCRYPTED:
        return
    wrong = {form: max(tcp.source.get(form, 0), tcp.target.get(form, 0)) for form in sorted({*tcp.source, *tcp.target})}
    wrong = {form: count for form, count in wrong.items() if form.partition("/")[0] != right or "+" in form}
    if wrong and not (hidden and not tcp.source):  # a kernel shows what it has decrypted on the device that it came by
        for form, count in wrong.items():
            judgement.check(False, f"{what} crosses {words(form)}: {count} of {tcp.sent} bytes, want {_wanted_words(want)}", measured=form)
    elif right is not None and not hidden:
        seen = [sum(side.values()) for side in (tcp.source, tcp.target)]
        if min(seen) < tcp.delivered or tcp.delivered < tcp.sent:
            judgement.inconclusive(
                f"{what}: not all is accounted for: of {tcp.sent} bytes {seen[0]} were seen leaving, {seen[1]} arriving, and "
                f"{tcp.delivered} were delivered"
            )
        else:
            judgement.hold(1)


def _wrong(stream: Stream, want: Wanted[str]) -> dict[str, int]:
    """Return what crosses in another form than the wanted one."""
    right = FORMS_OF.get(want.value)
    if right is None and want.value not in ENCRYPTED:
        return {}
    forms = {*stream.source.forms, *stream.target.forms}
    counts = {form: max(stream.source.forms.get(form, 0), stream.target.forms.get(form, 0)) for form in sorted(forms)}
    return {form: count for form, count in counts.items() if count and (form.partition("/")[0] != right or "+" in form)}


def _wanted_words(want: Wanted[str]) -> str:
    form = FORMS_OF.get(want.value, want.value)
    return f"{words(form)} ({want.origin})"


def _blind(name: str, side: Side, crossing: Crossing, *, at_target: bool = False) -> list[str]:
    """Return why what a capture has not seen says nothing."""
    reasons = []
    if side.dropped:
        reasons.append(f"the capture on {name} had no room for {side.dropped} packets")
    if side.cut:
        reasons.append(f"the capture on {name} saw more than it could count")
    control = crossing.control
    if control is not None and (side.unseen or not side.seen):  # a capture that saw all there was is its own control
        seen = sum((control.target if at_target else control.source).forms.values())
        if seen < control.packets * _SEEN:
            reasons.append(
                f"of {control.packets} packets between the nodes' own addresses the capture at the uplink of {name} saw {seen}: "
                "it cannot be believed that it sees what passes (is UDP between nodes kept closed, or encrypted?)"
            )
    return reasons


def _encrypted(crossing: Crossing, stream: Stream) -> Encrypted | None:
    """Return the encrypted packets that the stream has become: of one kind and length, as many as it has, at both nodes."""
    there = {(item.kind, item.length_bytes): item.count for item in crossing.encrypted_target}
    found = [
        item
        for item in crossing.encrypted_source
        if item.count >= stream.sent and there.get((item.kind, item.length_bytes), 0) >= max(stream.delivered, _NEARLY * stream.sent)
    ]
    return min(found, key=lambda item: item.length_bytes, default=None)


def _most(encrypted: Collection[Encrypted]) -> int:
    return max((item.count for item in encrypted), default=0)


def evidence(record: WireRecord) -> dict[str, Any]:
    """Return counts of every pair."""
    return {crossing.to: {"error": crossing.error} if crossing.error is not None else _shown(crossing) for crossing in record.crossings}


def _shown(crossing: Crossing) -> dict[str, Any]:
    stream, control, tcp = crossing.streams[0], crossing.control, crossing.tcp
    return {
        "sent": [item.sent for item in crossing.streams],
        "delivered": [item.delivered for item in crossing.streams],
        "at source": dict(stream.source.forms),
        "at target": dict(stream.target.forms),
        "control": None if control is None else [sum(side.forms.values()) for side in (control.source, control.target)],
        "tcp bytes": None if tcp is None else {"sent": tcp.sent, "at source": dict(tcp.source), "at target": dict(tcp.target)},
    }


def listed(errors: Mapping[str, int]) -> str:
    """Return why packets could not be sent."""
    return ", ".join(f"{reason} ({count})" for reason, count in errors.items()) or "no reason given"
