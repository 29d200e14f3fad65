"""Judge TCP throughput of a pair of nodes: pod path against host path of the same minute, and both against the line.

A/B/A: host path, pod path, host path, and again where they disagree. The best take of a path is what the path carries: a slow one among
quick ones was slowed by something that passed. What the host takes disagree about cannot be held against the pod path.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_k8snet.cluster.pairs import pair_nodes
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import LatencyExpectation, ThroughputExpectation, Wanted
from pytest_k8snet.expect.resolve import BUILT_IN, POD_TO_HOST_ENCAPSULATED
from pytest_k8snet.judge.latency import compared, milliseconds
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.judge.mtu import OVERHEAD
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.facts import NodeFacts
from pytest_k8snet.record.processors import Processors, busy_share, share_of
from pytest_k8snet.record.throughput import Take, ThroughputRecord
from pytest_k8snet.record.udp import SENT, Datagrams, UdpRecord

#: Takes of one path further apart than this carry no verdict that depends on which of them is right.
_SPREAD = 0.15

_LOADED = "TCP request and response beside iperf3"

#: Datagrams that may be lost by chance.
_FEW = 2

#: Pairs that have to be measured before one of them can be told from the others.
_ENOUGH = 3

#: Share of the bytes on an uplink that may be somebody else's.
_FOREIGN = 0.10

#: A node whose processors were busier than this had none to spare for the path.
_BUSY = 0.85  # its ticks are of a little more than the take

#: Share of its processors' time that the hypervisor may take from a node.
_STOLEN = 0.10

#: Percent of a core above which iperf3 is what limits.
_CORE = 95

#: Share of a processor's time above which softirqs are what it does.
_MOSTLY = 0.5

#: A host path below this share of what the line carries says too little about the pod path for a pass.
_FAR_BELOW_LINE = 0.25

#: IPv4 and TCP headers with the timestamp option; Ethernet header, FCS, preamble and gap between frames.
_HEADERS = 20 + 20 + 12
_ETHERNET = 14 + 4 + 8 + 12
_ETHERNET_COUNTED = 14  # what an interface counts of them


@dataclass(frozen=True, slots=True)
class Line:
    """What the wire between two nodes carries, in bit/s, Ethernet included."""

    rate: Wanted[int]

    def payload_bps(self, mss_bytes: int, overhead_bytes: int) -> float:
        """Return the TCP payload that full frames carry at that rate."""
        return self.rate.value * mss_bytes / (mss_bytes + _HEADERS + overhead_bytes + _ETHERNET)


def line_of(source: NodeFacts, target: NodeFacts, expect: ThroughputExpectation) -> Line | str:
    """Return the line between two nodes, or why it is not known.

    The profile's rate counts; else the slower uplink's speed, of a bond or bridge that of one device below it, on bare metal only:
    virtual NICs report fiction ("only valid for interfaces that implement get_link_ksettings", Linux
    Documentation/ABI/testing/sysfs-class-net).
    """
    if expect.line_rate_bps is not None:
        return Line(expect.line_rate_bps)
    speeds: list[tuple[int, str]] = []
    for facts in (source, target):
        if facts.virtual is not None:
            return f"no profile gives the line rate, and what {facts.node}'s NIC reports is not believed: {facts.virtual}"
        found = facts.path_speed()
        if found is None:
            return f"no profile gives the line rate, and {facts.node}'s uplink {facts.uplink} reports none"
        speeds.append((found[0], f"speed of {facts.node}'s {found[1]}"))
    mbit, origin = min(speeds, key=lambda speed: speed[0])
    return Line(Wanted(mbit * 10**6, origin))


PATHS: tuple[Literal["host", "pod"], ...] = ("host", "pod")

Others = Callable[[], Iterable[Document]]
"""What was measured of the other pairs; asked for when a pair is weak."""


def pod_against_host(record: ThroughputRecord, expect: ThroughputExpectation, line: Line | str, others: Others = tuple) -> Judgement:
    """Judge which share of the host path's rate the pod path reaches."""
    if record.pod_absent is not None:
        return Judgement.beyond_reach(record.pod_absent)
    want = expect.pod_to_host
    if want.origin == BUILT_IN and record.encapsulated:
        want = Wanted(POD_TO_HOST_ENCAPSULATED, f"{BUILT_IN}, encapsulated")
    judgement = Judgement(want=f"pod path at least {want} of the host path")
    _record_evidence(judgement, record)
    hosts, pods = _rates(judgement, record, "host"), _rates(judgement, record, "pod")
    if hosts is None or pods is None:
        return judgement
    pod, host = max(pods), max(hosts)
    ratio = pod / host
    holds = ratio >= want.value
    judgement.evidence["pod_to_host"] = round(ratio, 3)
    told = f"{record.pair}: pods {rates_in_words(pods)}, hosts {rates_in_words(hosts)}"
    if not holds and (cost := _of_encryption(want, expect)) is not None:
        judgement.hold(1)
        judgement.advise(
            f"{told}: pod path {ratio:.2f} of the host path, want at least {want}; {cost}", measured=f"{ratio:.2f}", wanted=want.value
        )
        return judgement
    least = _middle([take.received_bps or 0.0 for take in rested(record, record.of("host"))], most=False)
    spread = 1 - least / host
    if spread > _SPREAD and not holds and pod / least >= want.value:
        judgement.inconclusive(
            f"{told}: the host takes differ by {spread:.0%}, too much to tell whether the pod path reaches {want}",
            measured=f"{ratio:.2f} to {pod / least:.2f}",
            wanted=want.value,
        )
        return judgement
    # Foreign traffic slows what it shares the wire with: a slowed host path flatters the pod path, a slowed pod path wrongs it. So does
    # what takes the processors; but what both paths reach without them they do reach.
    disturbed = (
        _foreign(record, "host") if holds else _foreign(record, "pod") or starved(record, quickest(rested(record, record.of("pod"))))
    )
    if disturbed is not None:
        judgement.inconclusive(f"{told}: {disturbed}, so {ratio:.2f} carries no verdict, want at least {want}", measured=f"{ratio:.2f}")
        return judgement
    if holds and isinstance(line, Line):
        carries = line.payload_bps(*_packet(record, "host"))
        if host < _FAR_BELOW_LINE * carries:
            judgement.inconclusive(
                f"{told}: the host path itself is far below the {_rate(carries)} that the line carries ({line.rate.origin}): "
                "that the pod path keeps up with it says little",
                measured=f"{ratio:.2f}",
                wanted=want.value,
            )
            return judgement
    where = "" if holds else located(record.pair, others, lambda other: _share(other) < want.value)
    judgement.check(
        holds, f"{told}: pod path {ratio:.2f} of the host path, want at least {want}{where}", measured=f"{ratio:.2f}", wanted=want.value
    )
    if record.bitrate_bps is not None:
        judgement.remark(f"{record.pair}: {_held(record.bitrate_bps)}: faster was not tried")
    _uneven(judgement, record, "pod", pods)
    _cpu_bound(judgement, record, "pod")
    return judgement


def _of_encryption(share: Wanted[float], expect: ThroughputExpectation) -> str | None:
    """Return why a share that is missed is no fault: one that is built in says nothing of what encrypting costs; None where it counts.

    A third of the rate without it is usual on quick lines (cilium#30329), and what the processors can do decides.
    """
    if expect.encrypted is None or not share.origin.startswith(BUILT_IN):
        return None
    return f"pods' traffic is encrypted by {expect.encrypted}, whose cost only a profile can judge"


def host_against_line(record: ThroughputRecord, expect: ThroughputExpectation, line: Line | str, others: Others = tuple) -> Judgement:
    """Judge which share of the payload that the line carries the host path reaches."""
    return _against_line(record, expect, line, "host", others)


def pod_against_line(record: ThroughputRecord, expect: ThroughputExpectation, line: Line | str, others: Others = tuple) -> Judgement:
    """Judge which share of the payload that the line carries the pod path reaches.

    When the host path does not reach it either, that is no finding about pods.
    """
    if record.pod_absent is not None:
        return Judgement.beyond_reach(record.pod_absent)
    return _against_line(record, expect, line, "pod", others)


def under_load(record: ThroughputRecord, expect: LatencyExpectation) -> Judgement:
    """Judge whether answers between pods still come in time while TCP fills the path: what waits then waits in somebody's queue."""
    if record.pod_absent is not None:
        return Judgement.beyond_reach(record.pod_absent)
    known = [take for take in record.takes if take.error is None]
    if record.bitrate_bps is not None:
        return Judgement.skipped(f"{_held(record.bitrate_bps)}: that may not fill the path")
    if known and all(take.answers is None for take in known):
        return Judgement.skipped("the recording is of a version that did not look at answers beside the load")
    judgement = Judgement(
        want=f"answers between pods take no longer than {expect.pod_to_host} times those between nodes, or {expect.loaded_slack_ms} ms more"
    )
    medians: dict[str, list[float]] = {}
    for path in ("host", "pod"):
        takes = rested(record, record.of("host")) if path == "host" else record.of(path)
        found = [take.answers for take in takes if take.answers is not None]
        judgement.evidence[path] = [{"samples": item.samples, "p50_ms": item.p50_ms, "p99_ms": item.p99_ms} for item in found]
        wrong = dict.fromkeys(take.error for take in takes if take.error is not None)
        wrong |= dict.fromkeys(item.error or "no answer" for item in found if item.p50_ms is None)
        # What ended early does not say how long those would have taken that did not come: a take that is whole does.
        whole = [item for item in found if item.error is None] if path == "pod" else found
        if not whole:
            wrong |= dict.fromkeys(f"answers ended after {item.samples}: {item.error}" for item in found if item.p50_ms is not None)
        medians[path] = [item.p50_ms for item in whole if item.p50_ms is not None]
        if path == "host" and wrong and not medians[path]:
            judgement.remark(f"{record.pair}: no answers between the nodes to compare with: {'; '.join(wrong)}", command=_LOADED)
            continue
        for error in wrong:
            judgement.error(f"{record.pair}: {path} path: {error}", command=_LOADED)
        if wrong or not takes:
            return judgement
    pods, hosts = medians["pod"], medians["host"]
    told = f"{record.pair}: while TCP fills the path, p50 pods {milliseconds(pods)}"
    if (most := expect.loaded_p50_ms) is not None:
        judgement.check(min(pods) <= most.value, f"{told}, want {most} ms at most", measured=min(pods), wanted=most.value, command=_LOADED)
    if hosts:
        spread = (min(hosts), _middle(hosts, most=True))
        busy = starved(record, _soonest(record, "pod"))
        compared(judgement, f"{told}, hosts {milliseconds(hosts)}", min(pods), spread, expect.loaded_slack_ms, expect, _LOADED, busy)
    elif most is None:
        judgement.skip_reason = "no answers between the nodes to compare with, and latency.loaded_p50_ms of no profile says what is wanted"
    return judgement


def located(pair: str, others: Others, is_weak: Callable[[ThroughputRecord], bool]) -> str:
    """Return in words, to be added to a message, what a weak pair has in common with others that were measured; "" of too few."""
    records = [record for document in others() if (record := _whole(document)) is not None]
    weak = {record.pair for record in records if is_weak(record)} | {pair}
    measured = {record.pair for record in records} | {pair}
    source, target = pair_nodes(pair)
    if len(measured) < _ENOUGH:
        return ""
    if weak == measured:
        return f"; so are all {len(measured)} pairs that were measured: look at what they share"
    if weak == {pair}:
        return f"; it is the only one of the {len(measured)} pairs that were measured"
    sides = (
        (target, f"into {target}", {name for name in measured if pair_nodes(name)[1] == target}),
        (source, f"out of {source}", {name for name in measured if pair_nodes(name)[0] == source}),
        (target, f"of {target}", {name for name in measured if target in pair_nodes(name)}),
        (source, f"of {source}", {name for name in measured if source in pair_nodes(name)}),
    )
    for node, which, pairs in sides:
        if weak == pairs:
            return f"; so are all {len(pairs)} pairs {which} that were measured, and no other: look at {node}"
    return f"; so are {len(weak)} of the {len(measured)} pairs that were measured"


def _whole(document: Document) -> ThroughputRecord | None:
    """Return the record of a pair of which no take went wrong; what did is told of that pair."""
    try:
        record = ThroughputRecord.from_document(document)
    except RecordError:
        return None
    return record if all(take.error is None for take in record.takes) and record.of("host") else None


def _best(record: ThroughputRecord, path: Literal["host", "pod"]) -> float:
    return max((take.received_bps or 0.0 for take in record.of(path)), default=0.0)


def _share(record: ThroughputRecord) -> float:
    """Return which share of its host path's rate the pod path of a pair reaches."""
    return _best(record, "pod") / _best(record, "host")


def _against_line(
    record: ThroughputRecord, expect: ThroughputExpectation, line: Line | str, path: Literal["host", "pod"], others: Others
) -> Judgement:
    if isinstance(line, str):
        return Judgement.skipped(line)
    share = expect.line_share
    carries = line.payload_bps(*_packet(record, path))
    least = share.value * carries
    if record.bitrate_bps is not None and record.bitrate_bps < least / SENT:
        return Judgement.skipped(f"{_held(record.bitrate_bps)}: at least {_rate(least)} would be wanted of them")
    judgement = Judgement(want=f"at least {share} of the {_rate(carries)} payload that {_rate(line.rate.value)} carry ({line.rate.origin})")
    _record_evidence(judgement, record)
    rates = _rates(judgement, record, path)
    if rates is None:
        return judgement
    best = max(rates)
    judgement.evidence["line_share"] = round(best / carries, 3)
    told = f"{record.pair}: {path} path {rates_in_words(rates)}"
    want = f"want at least {_rate(least)}: {share} of the payload that {_rate(line.rate.value)} carry ({line.rate.origin})"
    if best < least:
        if path == "pod" and (cost := _of_encryption(share, expect)) is not None:
            judgement.hold(1)
            judgement.advise(f"{told}, {want}; {cost}", measured=round(best), wanted=round(least))
            return judgement
        if disturbed := _foreign(record, path) or starved(record, quickest(rested(record, record.of(path)))) or _bound(record, path):
            judgement.inconclusive(f"{told}: {disturbed}, {want}", measured=round(best), wanted=round(least))
            return judgement
        hosts = [take.received_bps for take in record.of("host") if take.received_bps is not None]
        if path == "pod" and hosts and (host := max(hosts)) < share.value * line.payload_bps(*_packet(record, "host")):
            judgement.inconclusive(
                f"{told}: the host path carries only {_rate(host)} itself, which NET-THROUGHPUT-002 judges; {want}",
                measured=round(best),
                wanted=round(least),
            )
            return judgement
    where = "" if best >= least else located(record.pair, others, lambda other: _best(other, path) < least)
    judgement.check(best >= least, f"{told}, {want}{where}", measured=round(best), wanted=round(least))
    _uneven(judgement, record, path, rates)
    _cpu_bound(judgement, record, path)
    return judgement


def _rates(judgement: Judgement, record: ThroughputRecord, path: Literal["host", "pod"]) -> list[float] | None:
    """Return the rates of one path, or None when a take of it went wrong: the errors are noted then."""
    takes = record.of(path)
    if not takes:
        judgement.error(f"{record.pair}: no take of the {path} path was recorded")
        return None
    for number, take in enumerate(takes, start=1):
        if take.error is not None:
            judgement.error(f"{record.pair}: take {number} of {len(takes)} of the {path} path: {take.error}", command="iperf3")
        elif not take.received_bps:
            judgement.error(f"{record.pair}: take {number} of {len(takes)} of the {path} path received nothing", command="iperf3")
    if any(take.error is not None or not take.received_bps for take in takes):
        return None
    return [take.received_bps for take in takes if take.received_bps]


def _packet(record: ThroughputRecord, path: Literal["host", "pod"]) -> tuple[int, int]:
    """Return payload bytes of a full packet of a path, and the bytes that encapsulation adds to it."""
    known = [take.mss_bytes for take in record.of(path) if take.mss_bytes]
    mss = min(known) if known else 1500 - _HEADERS
    return mss, OVERHEAD["vxlan"] if path == "pod" and record.encapsulated else 0


def _foreign(record: ThroughputRecord, path: Literal["host", "pod"]) -> str | None:
    """Return in words that too much of what crossed the uplinks during the best take of `path` was somebody else's, None when not."""
    share = _foreign_share(record, quickest(record.of(path)))
    if share is not None and share > _FOREIGN:
        return f"{share:.0%} of the bytes on the uplinks during the {path} take were not ours"
    return None


def quickest(takes: Sequence[Take]) -> Take:
    """Return the take that stands for its path."""
    return max(takes, key=lambda take: take.received_bps or 0)


def _middle(values: Sequence[float], *, most: bool) -> float:
    """Return the value in the middle, of two the larger or the smaller one: one of several takes that was disturbed raises no doubt."""
    return sorted(values, reverse=not most)[len(values) // 2]


def rested(record: ThroughputRecord, takes: Sequence[Take]) -> Sequence[Take]:
    """Return the takes in which both nodes had processors to spare, all of them where there is none: what others say is their noise."""
    return [take for take in takes if starved(record, take) is None] or takes


def _soonest(record: ThroughputRecord, path: Literal["host", "pod"]) -> Take:
    """Return the take that stands for the answers of its path."""
    return min(
        rested(record, record.of(path)),
        key=lambda take: math.inf if take.answers is None or take.answers.p50_ms is None else take.answers.p50_ms,
    )


def _nodes(record: ThroughputRecord, take: Take) -> tuple[tuple[str, Processors | None], ...]:
    return ((record.source, take.source_processors), (record.target, take.target_processors))


def starved(record: ThroughputRecord, take: Take) -> str | None:
    """Return in words that a node had no processor to spare during a take, None when both had or nobody counted."""
    for node, processors in _nodes(record, take):
        if processors is None:
            continue
        if processors.stolen > _STOLEN:
            return f"the hypervisor took {processors.stolen:.0%} of {node}'s processors' time during the {take.path} take"
        if processors.busy > _BUSY:
            return f"{node}'s processors were {processors.busy:.0%} busy during the {take.path} take"
    return None


def _bound(record: ThroughputRecord, path: Literal["host", "pod"]) -> str | None:
    """Return in words that iperf3 itself was what limited the best take of a path, None when it was not."""
    used = _used_up(record, quickest(record.of(path)))
    return None if used is None else f"{used}: what more the line carries it cannot show"


def _percent(take: Take) -> float:
    """Return what iperf3 used of a core, at the end that used more; 0 where nobody knows."""
    return max(take.cpu_sender_percent or 0.0, take.cpu_receiver_percent or 0.0)


def _threads(record: ThroughputRecord, take: Take) -> int:
    """Return how many processors iperf3 may use: it has a thread a stream since 3.16 (its RELNOTES)."""
    found = re.match(r"iperf (\d+)\.(\d+)", take.iperf3_version or "")
    return record.streams if found is not None and (int(found[1]), int(found[2])) >= (3, 16) else 1


def _used_up(record: ThroughputRecord, take: Take) -> str | None:
    """Return in words that iperf3 used up the processors that it may use in a take, None when it did not."""
    threads, percent = _threads(record, take), _percent(take)
    if percent <= _CORE * threads:
        return None
    return f"iperf3 used {percent:.0f} % of " + ("a core" if threads == 1 else f"{threads} cores")


def _foreign_share(record: ThroughputRecord, take: Take) -> float | None:
    """Return which share of the busier uplink's bytes was not ours, by what iperf3 says it carried.

    Counters run over the whole take, iperf3 leaves out the seconds it omits: its rate is taken for them too. That rather overrates what
    is ours.
    """
    if take.wire is None or take.received_bps is None:
        return None
    mss, overhead = _packet(record, take.path)
    payload = max(take.received_bps / 8 * (record.seconds + record.omit_s), take.received_bytes or 0, take.sent_bytes or 0)
    ours = (payload + (take.retransmits or 0) * mss) * (mss + _HEADERS + overhead + _ETHERNET_COUNTED) / mss
    busiest = max(take.wire.source_tx_bytes, take.wire.target_rx_bytes)
    return max(0.0, 1 - ours / busiest) if busiest else 0.0


def _record_evidence(judgement: Judgement, record: ThroughputRecord) -> None:
    judgement.evidence["streams"] = record.streams
    judgement.evidence["takes"] = [
        {
            "path": take.path,
            "received_bps": take.received_bps,
            "retransmits": take.retransmits,
            "error": take.error,
            "foreign_share": None if (foreign := _foreign_share(record, take)) is None else round(foreign, 3),
            "busy": {node: {"busy": round(item.busy, 3), "stolen": round(item.stolen, 3)} for node, item in _nodes(record, take) if item},
        }
        for take in record.takes
    ]


def _uneven(judgement: Judgement, record: ThroughputRecord, path: Literal["host", "pod"], rates: Sequence[float]) -> None:
    """Note that a path did not carry in every take what it carried in its best."""
    if 1 - min(rates) / max(rates) > _SPREAD:
        busy = starved(record, min(record.of(path), key=lambda take: take.received_bps or 0))
        why = "" if busy is None else f"; {busy} that was slowest"
        judgement.remark(f"{record.pair}: the takes of the {path} path differ: {rates_in_words(rates)}; the best one counts{why}")


def _cpu_bound(judgement: Judgement, record: ThroughputRecord, path: Literal["host", "pod"]) -> None:
    """Note that iperf3 used up a core, or one processor of several worked alone: they and not the network may be what limits.

    The figure of iperf3 leaves out what is done in softirqs.
    """
    used = _used_up(record, max(record.of(path), key=_percent))
    if used is not None:
        judgement.remark(f"{record.pair}: {used} on the {path} path: it may be what limits")
    best = quickest(record.of(path))
    for node, processors in _nodes(record, best):
        if processors is None or processors.online == 1 or processors.busy > _BUSY or busy_share(processors.busiest) <= _BUSY:
            continue
        softirq = share_of(processors.busiest, "softirq")
        if softirq > _MOSTLY:
            judgement.remark(
                f"{record.pair}: one of {node}'s {processors.online} processors took in packets for {softirq:.0%} of the {path} take, "
                f"and all together were {processors.busy:.0%} busy: more queues or RPS would spread that",
                command="mpstat -P ALL 1; ethtool -l <uplink>",
            )


def rates_in_words(rates: Sequence[float]) -> str:
    """Return rates as they are told, ``22.5 Mbit/s and 45 Mbit/s``."""
    return " and ".join(_rate(rate) for rate in rates)


def _held(bps: int) -> str:
    return f"takes were held to {_rate(bps)} (--k8snet-bitrate)"


def _rate(bps: float) -> str:
    for unit, factor in (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3)):
        if bps >= factor:
            return f"{bps / factor:.3g} {unit}"
    return f"{bps:.0f} bit/s"


def udp(record: UdpRecord, expect: ThroughputExpectation) -> Judgement:
    """Judge what pods lose of UDP at a given rate, against their nodes, and how unevenly it arrives."""
    if record.rate_bps is None:
        return Judgement.skipped("UDP at a given rate is sent only when --k8snet-udp asks for it")
    if record.pod_absent is not None:
        return Judgement.beyond_reach(record.pod_absent)
    want = expect.udp_loss
    judgement = Judgement(want=f"no more than {want} of UDP at {_rate(record.rate_bps)} lost beyond what the nodes lose")
    judgement.evidence["takes"] = [
        {
            "path": take.path,
            "error": take.error,
            "packets": take.packets,
            "lost": take.lost,
            "overflowed": take.overflowed,
            "unseen": take.unseen,
            "jitter_ms": take.jitter_ms,
        }
        for take in record.takes
    ]
    for path in PATHS:
        own = record.of(path)
        for number, take in enumerate(own, start=1):
            if take.error is not None:
                judgement.error(f"{record.pair}: take {number} of {len(own)} of the {path} path: {take.error}", command="iperf3 -u")
        if not own:
            judgement.error(f"{record.pair}: no take of the {path} path was recorded")
    if judgement.findings:
        return judgement
    sent = {path: [take for take in record.of(path) if take.sent_bps >= SENT * record.rate_bps] for path in PATHS}
    for path, takes in sent.items():
        if not takes:
            most = max(take.sent_bps for take in record.of(path))
            judgement.inconclusive(
                f"{record.pair}: the {path} path: iperf3 sent {_rate(most)} of the {_rate(record.rate_bps)} asked for, and what more would "
                "be lost is not seen",
                measured=_rate(most),
                wanted=_rate(record.rate_bps),
            )
    if not judgement.findings:
        _lost(judgement, record, sent["host"], sent["pod"], want)
        _jitter(judgement, record, sent["pod"], expect.udp_jitter_ms)
    return judgement


def _lost(judgement: Judgement, record: UdpRecord, hosts: Sequence[Datagrams], pods: Sequence[Datagrams], want: Wanted[float]) -> None:
    pod = min([take for take in pods if not take.ended_early] or pods, key=lambda take: take.share)
    quiet, lossy = (pick(hosts, key=lambda take: take.share) for pick in (min, max))
    told = f"{record.pair}: of UDP at {_rate(record.rate_bps or 0)} pods lost {_shares(pods)}, hosts {_shares(hosts)}"
    rule = f"want at most {want.value:.3g} of it ({want.origin}) more than the hosts"
    measured, wanted = f"{pod.share:.4f}", f"{quiet.share + want.value:.4f}"
    if not _few(quiet, want.value):
        judgement.inconclusive(f"{told}: the hosts lose too much of it themselves for the pods to be judged", measured=measured)
    elif _few(pod, quiet.share + want.value) and pod.ended_early:
        judgement.inconclusive(
            f"{told}: the last {pod.unseen} datagrams that were sent never came, and the receiver, which counts by their numbers, does not "
            "know of them",
            measured=pod.unseen,
            command="iperf3 -u",
        )
    elif _few(pod, quiet.share + want.value):
        judgement.hold(1)
    elif _few(pod, 2 * lossy.share + want.value):
        judgement.inconclusive(f"{told}: the host takes differ too much to tell, {rule}", measured=measured, wanted=wanted)
    else:
        judgement.check(False, f"{told}, {rule}", measured=measured, wanted=wanted, command="iperf3 -u")


def _few(take: Datagrams, share: float) -> bool:
    """Whether no more packets were lost than this share of them, and those that may be by chance."""
    return take.on_the_way <= share * take.packets + _FEW


def _jitter(judgement: Judgement, record: UdpRecord, pods: Sequence[Datagrams], want: Wanted[float] | None) -> None:
    known = [take.jitter_ms for take in pods if take.jitter_ms is not None]
    if want is not None and known:
        judgement.check(
            min(known) <= want.value,
            f"{record.pair}: UDP at {_rate(record.rate_bps or 0)} between pods arrives with a jitter of {milliseconds(known)}, "
            f"want {want.value:g} ms at most ({want.origin})",
            measured=min(known),
            wanted=want.value,
            command="iperf3 -u",
        )


def _shares(takes: Sequence[Datagrams]) -> str:
    """Say what of takes was lost on the way, and what the receiver had no room for when it came."""
    late = sum(take.overflowed for take in takes)
    came = f" (and the receiver read {late} too late)" if late else ""
    return " and ".join(f"{take.on_the_way} of {take.packets}" for take in takes) + came
