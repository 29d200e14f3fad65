"""Judge the machines under the nodes: what their hypervisors take, what their network devices lose, their clocks, uplinks and places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from statistics import median

from pytest_k8snet.cluster.model import Cluster, Node
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import NodeExpectation, Wanted
from pytest_k8snet.expect.resolve import BUILT_IN
from pytest_k8snet.judge.counters import OLDER, RESTARTED, percent
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.judge.tables import few
from pytest_k8snet.record.activity import Grown
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.facts import LateFacts, NodeFacts, Uplink
from pytest_k8snet.record.wakeups import WakeupsRecord

#: A shorter look at steal proves nothing.
LEAST_SECONDS = 5.0

#: Frames of protocols that this kernel has no use for (LLDP, spanning tree) count as dropped: a few a second are no loss.
LEAST_LOST = 10
LEAST_LOST_PER_SECOND = 5.0

#: A node that is late by no more than so many times what is usual among the others is not the odd one.
OUT_OF_LINE = 3.0

#: Nodes that are named where all of a group are meant.
_NAMED = 5

_STOLEN = "head -1 /proc/stat"
_SLEEPS = "sleeps of 1 ms"
_KEYS = {"region": "topology.kubernetes.io/region", "zone": "topology.kubernetes.io/zone"}


def steal(facts: LateFacts, grown: Grown | None, expect: NodeExpectation) -> Judgement:
    """Judge which share of the processors' time the hypervisor gave to others while this machine wanted to run."""
    if grown is None:
        return Judgement.beyond_reach(OLDER)
    limit = expect.steal
    judgement = Judgement(want=f"{percent(limit.value)} of the processors' time stolen at most ({limit.origin})")
    ticks = None if grown.restarted else grown.of("processor")
    if ticks is None:
        judgement.error(f"{facts.node}: {RESTARTED}")
        return judgement
    total = sum(value for name, value in ticks.items() if name != "online")
    if not total or "steal" not in ticks:
        judgement.error(f"{facts.node}: the processors' time was not measured", command=_STOLEN)
        return judgement
    share = ticks["steal"] / total
    judgement.evidence.update(steal=round(share, 4), seconds=round(grown.seconds, 1), virtual=facts.virtual)
    text = f"{facts.node}: {percent(share)} of the processors' time was stolen by the hypervisor within {grown.seconds:.0f} s"
    wanted = f"want {percent(limit.value)} at most ({limit.origin})"
    if share > limit.value and grown.seconds < LEAST_SECONDS:
        judgement.inconclusive(f"{text}, {wanted}: too short a time to say more", measured=percent(share), command=_STOLEN)
        return judgement
    judgement.check(share <= limit.value, f"{text}, {wanted}", measured=percent(share), wanted=percent(limit.value), command=_STOLEN)
    if limit.value / 10 < share <= limit.value:
        judgement.remark(text, command=_STOLEN)
    return judgement


def packet_losses(facts: LateFacts, grown: Grown | None, expect: NodeExpectation) -> Judgement:
    """Judge what the processors' queues and the network devices lost during the run, as shares of what they carried."""
    if grown is None:
        return Judgement.beyond_reach(OLDER)
    judgement = Judgement(want=f"{percent(expect.losses.value)} of packets lost at most ({expect.losses.origin})")
    softnet = None if grown.restarted else grown.of("softnet")
    if softnet is None:
        judgement.error(
            f"{facts.node}: {RESTARTED if grown.restarted else 'the counters of the queues were not read'}",
            command="cat /proc/net/softnet_stat",
        )
        return judgement
    judgement.evidence.update(softnet, seconds=round(grown.seconds, 1))
    command = "cat /proc/net/softnet_stat"
    lost = softnet["dropped"]
    _lost(judgement, f"{facts.node}: the processors' queues dropped", lost, softnet["processed"] + lost, grown, expect, command)
    if softnet["time_squeeze"] > expect.losses.value * softnet["processed"]:
        judgement.remark(
            f"{facts.node}: {softnet['time_squeeze']} times within {grown.seconds:.0f} s packets had to wait for the next turn "
            "(time_squeeze): net.core.netdev_budget",
            command=command,
        )
    for name, counts in sorted(grown.devices().items()):
        for direction, verb in (("rx", "receiving"), ("tx", "sending")):
            lost = counts.get(f"{direction}_dropped", 0) + counts.get(f"{direction}_errors", 0)
            carried = counts.get(f"{direction}_packets", 0) + lost
            text = f"{facts.node}: {name} lost, {verb},"
            _lost(judgement, text, lost, carried, grown, expect, f"ip -s -s link show {name}")
    return judgement


def _lost(judgement: Judgement, text: str, lost: int, carried: int, grown: Grown, expect: NodeExpectation, command: str) -> None:
    limit = expect.losses
    many = lost >= LEAST_LOST and lost >= LEAST_LOST_PER_SECOND * grown.seconds
    share = lost / carried if carried else 0.0
    told = f"{text} {lost} of {carried} packets ({percent(share)}) within {grown.seconds:.0f} s"
    held = judgement.check(
        share <= limit.value or not many,
        f"{told}, want {percent(limit.value)} at most ({limit.origin})",
        measured=percent(share),
        wanted=percent(limit.value),
        command=command,
    )
    if held and lost:
        judgement.remark(told, command=command)


def clock(facts: NodeFacts, expect: NodeExpectation) -> Judgement:
    """Judge that the kernel takes its clock for synchronised; without a profile that wants it, it is advice."""
    if facts.clock is None and (facts.activity is None or facts.agent == "shell"):
        return Judgement.beyond_reach(OLDER if facts.activity is None else f"the clock's state is not read by shell{facts.why('clock')}")
    judgement = Judgement(want=None if expect.clock is None else f"clock {expect.clock}")
    command = "timedatectl; chronyc tracking"
    if facts.clock is None:
        judgement.error(f"{facts.node}: the state of the clock was not read{facts.why('clock')}", command=command)
    else:
        judgement.evidence.update(max_error_us=facts.clock.max_error_us)
        judgement.check(
            not facts.clock.problems,
            f"{facts.node}: the kernel's clock is {', '.join(facts.clock.problems)} (error of up to {facts.clock.max_error_us / 1e6:g} s)"
            + (f", want {expect.clock}" if expect.clock else ""),
            measured=", ".join(facts.clock.problems),
            wanted="synchronised",
            command=command,
        )
    return judgement if expect.clock else judgement.only_advice("no profile wants a synchronised clock (node.clock)")


def uplinks_agree(documents: Mapping[str, Document], cluster: Cluster) -> Judgement:
    """Judge that the uplinks of equal machines (pool, OS, kernel, machine type) are alike: one speed, full duplex, one MTU in a subnet.

    What a virtual device says of its speed is fiction: such nodes are left out of that. Machines that nobody gave a label to are of one
    kind, for their speed, where they have as many processors and are all of the control plane, or all not.
    """
    judgement = Judgement(want="one speed and one MTU on all nodes of a group, full duplex (built-in)")
    speeds: dict[tuple[str, bool, int | None], dict[str, int]] = {}
    mtus: dict[tuple[str, str], dict[str, int]] = {}
    left_out, untold_duplex = [], []
    for name in sorted(documents):  # one by one: all of them do not fit into memory
        try:
            uplink = Uplink.from_document(documents[name])
        except RecordError as error:
            judgement.error(str(error))
            continue
        node = cluster.node(name)
        if uplink.mtu is not None:
            mtus.setdefault((node.group, _subnet(uplink, node)), {})[name] = uplink.mtu
        if uplink.virtual is not None or uplink.speed_mbit is None:
            untold = f"{uplink.device} does not tell its speed" if uplink.device else "no device holds the node's InternalIP"
            left_out.append(f"{name}: {uplink.virtual or untold}")
            continue
        command = f"ethtool {uplink.device}"
        judgement.check(
            uplink.duplex != "half",
            f"{name}: {uplink.device} runs half duplex, want full (built-in)",
            measured="half",
            command=command,
        )
        if uplink.duplex not in ("half", "full"):
            untold_duplex.append(f"{name}: {uplink.device}")
        speeds.setdefault((node.group, node.control_plane, uplink.processors), {})[name] = uplink.speed_mbit
    for of_group in speeds.values():
        _odd_ones(judgement, of_group, "the uplink runs at {} Mbit/s", "equal nodes", "cat /sys/class/net/UPLINK/speed")
    for (_, subnet), of_link in mtus.items():
        if len(of_link) > 1:
            among = f"equal nodes in {subnet}" if subnet else "equal nodes"
            _odd_ones(judgement, of_link, "the uplink has MTU {}", among, "ip link show UPLINK")
    judgement.evidence["speeds_mbit"] = _counted(speeds.values())
    judgement.evidence["mtus"] = _counted(mtus.values())
    if not judgement.checked and not judgement.findings:
        return Judgement.skipped(
            f"no uplink tells a speed that could be believed ({left_out[0] if left_out else 'there is none'}), and no two equal nodes are "
            "in one subnet"
        )
    if speeds and left_out:
        judgement.remark(f"speeds are not compared of {len(left_out)} nodes: {few(left_out)}", command="cat /sys/class/net/UPLINK/speed")
    if untold_duplex:
        judgement.remark(
            f"whether they run half duplex is not known of {len(untold_duplex)} nodes: {few(untold_duplex)}",
            command="cat /sys/class/net/UPLINK/duplex",
        )
    return judgement


def _subnet(uplink: Uplink, node: Node) -> str:
    """Return the range that the node's InternalIP and its neighbours on the link are in; nothing where there is none (clouds with /32)."""
    if node.internal_ip is None:
        return ""
    address = ip_address(node.internal_ip)
    return next((network for network in uplink.on_link if address in ip_network(network)), "")


def _counted(groups: Iterable[Mapping[str, int]]) -> dict[int, int]:
    return dict(Counter(value for having in groups for value in having.values()))


def _odd_ones(judgement: Judgement, having: Mapping[str, int], told: str, among: str, command: str) -> None:
    """Check one group: whoever has not what most have is odd; where there is no majority all is told as it is."""
    counts = Counter(having.values())
    (usual, most), *others = counts.most_common()
    if others and others[0][1] == most:
        differing = "; ".join(
            f"{told.format(value)} on {few((name for name in having if having[name] == value), _NAMED)}" for value in sorted(counts)
        )
        judgement.check(False, f"{among} differ: {differing}", command=command)
        return
    for name, value in having.items():
        judgement.check(
            value == usual,
            f"{name}: {told.format(value)}, that of {most} of {len(having)} {among} {usual}",
            measured=value,
            wanted=usual,
            command=command,
        )


def place(node: Node, expect: NodeExpectation) -> Judgement:
    """Judge region and zone of a node by its labels: data that must stay in a country is where its nodes are."""
    wanted: dict[str, Wanted[tuple[str, ...]]] = {
        name: patterns for name, patterns in (("region", expect.regions), ("zone", expect.zones)) if patterns is not None
    }
    if not wanted:
        return Judgement.skipped("no profile says in which regions or zones nodes may be")
    if node.region is None:
        return Judgement.beyond_reach("the recording is older than the reading of regions")
    judgement = Judgement(want="; ".join(f"{name} {_told(patterns)}" for name, patterns in wanted.items()))
    for name, patterns in wanted.items():
        have = getattr(node, name) or ""
        judgement.check(
            have != "" and any(fnmatchcase(have, pattern) for pattern in patterns.value),
            f"{node.name}: {have + ' in label' if have else 'no label'} {_KEYS[name]}, want {_told(patterns)}",
            measured=have or "no label",
            wanted=" or ".join(patterns.value),
            command=f"kubectl get node {node.name} -L {_KEYS[name]}",
        )
    return judgement


def _told(patterns: Wanted[tuple[str, ...]]) -> str:
    return f"{' or '.join('any' if pattern == '*' else pattern for pattern in patterns.value)} ({patterns.origin})"


def wakeups(record: WakeupsRecord, documents: Mapping[str, Document], expect: NodeExpectation) -> Judgement:
    """Judge which share of the time a node's wake-ups came too late; `documents` are those of all nodes, to compare with."""
    limit = expect.late
    judgement = Judgement(want=f"{percent(limit.value)} of the time late at most ({limit.origin})")
    best = record.best
    others = {name: other.best.late_share for name, other in _wakeups_of(documents) if name != record.node}
    judgement.evidence.update(
        late_share=best.late_share, gaps=best.gaps, p50_ms=best.p50_ms, p99_ms=best.p99_ms, max_ms=best.max_ms, steal=best.steal_share
    )
    text = f"{record.node}: woke up too late for {percent(best.late_share)} of {record.seconds:g} s, by {best.max_ms:.0f} ms at most"
    if others:
        text += f"; other nodes {percent(min(others.values()))} to {percent(max(others.values()))}"
    if best.steal_share:
        text += f"; {percent(best.steal_share)} of the processors' time was stolen"
    usual = median(others.values()) if others else 0.0
    if best.late_share > limit.value and limit.origin == BUILT_IN and best.late_share <= OUT_OF_LINE * usual:
        judgement.hold(1)
        judgement.advise(f"{text}: nodes are alike in that, what they all run on is short of processors", command=_SLEEPS)
        return judgement
    judgement.check(
        best.late_share <= limit.value,
        f"{text}, want {percent(limit.value)} at most ({limit.origin})",
        measured=percent(best.late_share),
        wanted=percent(limit.value),
        command=_SLEEPS,
    )
    if limit.value / 4 < best.late_share <= limit.value:
        judgement.advise(f"{text}: something keeps its processors", command=_SLEEPS)
    return judgement


def _wakeups_of(documents: Mapping[str, Document]) -> list[tuple[str, WakeupsRecord]]:
    return [(name, WakeupsRecord.from_document(document)) for name, document in documents.items() if document.values is not None]
