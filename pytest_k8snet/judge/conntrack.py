"""Judge the connection table of a node: room in it, what it lost during the run and under a burst, and who decides how large it is."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pytest_k8snet.expect.model import ConntrackExpectation, KernelExpectation
from pytest_k8snet.judge.counters import OLDER, RESTARTED, percent
from pytest_k8snet.judge.kernel import holds, release_of
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.activity import Activity, Grown, Log
from pytest_k8snet.record.burst import Again, BurstRecord, Opened, Table
from pytest_k8snet.record.conntrack import RAISES_ONLY_SINCE
from pytest_k8snet.record.facts import LateFacts, NodeFacts

MAX = "net.netfilter.nf_conntrack_max"
NOT_IN_USE = "connection tracking is not in use on this node"

NOT_ASKED = "a burst of connections is sent only when --k8snet-conntrack-burst asks for it"
NO_PORT = "EADDRNOTAVAIL"
_MEANING = {
    NO_PORT: "no source port toward this address and port is left",
    "ETIMEDOUT": "no answer",
    "ECONNREFUSED": "refused",
    "closed": "closed by the other side",
}
_FEW = 2  # packets that anybody on the node may lose in the time of a burst

SILENCE_S = 6.0  # net_ratelimit's 5 s, and what it takes to read both

_COUNTERS = "cat /proc/net/stat/nf_conntrack"
_REUSE = "sysctl net.ipv4.tcp_tw_reuse net.ipv4.tcp_timestamps"
_LOG = "dmesg | grep 'table full'"


def headroom(facts: NodeFacts, expect: ConntrackExpectation) -> Judgement:
    """Judge how much of the connection table is in use, and tell hash chains that are long when it is full."""
    limit, count, buckets = (facts.conntrack.get(name) for name in ("max", "count", "buckets"))
    if limit is None:
        return Judgement.skipped(NOT_IN_USE)
    judgement = Judgement(want=f"less than {percent(expect.full.value)} of the connection table in use ({expect.full.origin})")
    judgement.evidence.update(count=count, max=limit, buckets=buckets)
    command = "sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max"
    if count is None or limit <= 0:
        judgement.error(f"{facts.node}: how many connections are tracked was not measured", command=command)
        return judgement
    used = f"{facts.node}: {count} of {limit} entries of the connection table are in use ({percent(count / limit)})"
    full = count >= expect.full.value * limit
    judgement.check(
        not full,
        f"{used}, want less than {percent(expect.full.value)} ({expect.full.origin}): when it is full, new connections get no answer",
        measured=count,
        wanted=f"< {expect.full.value * limit:.0f}",
        command=command,
    )
    if not full and count >= expect.nearly_full.value * limit:
        judgement.remark(f"{used}, {percent(expect.nearly_full.value)} and more is worth a look ({expect.nearly_full.origin})")
    # kube-proxy raises the hash to a quarter of the table (SetMax, pkg/proxy/conntrack/sysctls.go); longer chains cost time per packet.
    if buckets and limit > 4 * buckets:
        judgement.advise(f"{facts.node}: {limit / buckets:.0f} connections per hash bucket when the table is full, 4 at most is usual")
    return judgement


def losses(facts: LateFacts, grown: Grown | None, expect: ConntrackExpectation) -> Judgement:
    """Judge what the connection table has dropped between the first reading and the second, and what the kernel's log says of it."""
    if facts.conntrack.get("max") is None:
        return Judgement.skipped(NOT_IN_USE)
    if grown is None:
        return Judgement.beyond_reach(OLDER)
    judgement = Judgement(want="a connection table that is never full")
    if grown.restarted:
        judgement.error(f"{facts.node}: {RESTARTED}")
        return judgement
    during = f"within {grown.seconds:.0f} s"
    counted = grown.of("conntrack")
    if counted is not None:
        judgement.evidence.update({name: counted.get(name, 0) for name in ("insert_failed", "drop", "early_drop")}, seconds=grown.seconds)
        _evicted(judgement, facts.node, counted, during)
        for name in ("insert_failed", "drop"):
            _losses(judgement, facts.node, name, counted.get(name, 0), during, expect)
    _log(judgement, facts.node, grown)
    if counted is None:
        text = f"{facts.node}: this kernel tells no counters of the connection table (CONFIG_NF_CONNTRACK_PROCFS)"
        if judgement.checked:
            judgement.remark(text)
        else:
            judgement.error(f"{text}, and its log was not read ({grown.second.log.error or grown.first.log.error})")
    return judgement


def _losses(judgement: Judgement, node: str, name: str, lost: int, during: str, expect: ConntrackExpectation) -> None:
    # Two packets of a new connection at once, as resolvers send them for A and AAAA: the loser is dropped, and waits 5 s.
    text = f"{node}: {lost} packets were lost to the connection table ({name}) {during}"
    if expect.losses is not None:
        most = expect.losses
        judgement.check(lost <= most.value, f"{text}, want {most.value} at most ({most.origin})", measured=lost, command=_COUNTERS)
    elif lost:
        judgement.remark(text, measured=lost, command=_COUNTERS)


def _log(judgement: Judgement, node: str, grown: Grown) -> None:
    first, log = grown.first.log, grown.second.log
    unread = first.error or log.error
    if unread is not None:
        judgement.remark(f"{node}: the kernel's log was not read ({unread}): whether the table was full before is not known")
        return
    during = [at_s for at_s in log.table_full_s if at_s > first.last_s]
    before = [at_s for at_s in log.table_full_s if at_s <= first.last_s]
    dropped = (grown.of("conntrack") or {}).get("drop", 0)
    # While the table stays full the kernel says so no more than ten times in each five seconds, and a run may fall between.
    still = dropped > 0 and bool(before) and grown.first.at_s - before[-1] <= SILENCE_S
    judgement.check(
        not during,
        f"{node}: the kernel's log says {len(during)} times that the connection table is full, "
        f"last {_ago(during, grown)} before the end of the run",
        measured=len(during),
        wanted=0,
        command=_LOG,
    )
    if still and not during:
        judgement.check(
            False,
            f"{node}: the connection table is full by the kernel's log, {_ago(before, grown)} before the end of the run, "
            f"and dropped {dropped} packets since",
            measured=dropped,
            wanted=0,
            command=_LOG,
        )
    elif before:
        judgement.remark(f"{node}: the connection table was full before the run: {_told(log, before, grown)}", command=_LOG)


def _told(log: Log, before: list[float], grown: Grown) -> str:
    more = log.table_full - len(log.table_full_s)
    return f"{len(before) + more} messages in the kernel's log, the last one {_ago(before, grown)} ago"


def _ago(times: list[float], grown: Grown) -> str:
    seconds = max(0.0, grown.second.at_s - times[-1]) if times else 0.0
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size_owner(facts: NodeFacts, expect: KernelExpectation, version: str) -> Judgement:
    """Judge that the table's size is what kube-proxy made it, and that what the profile wants outlasts kube-proxy's next start.

    `version` is that of the cluster. Where kube-proxy has no say the check is skipped, and tells who decides.
    """
    limit = facts.conntrack.get("max")
    if limit is None:
        return Judgement.skipped(NOT_IN_USE)
    if facts.activity is None:
        return Judgement.beyond_reach(OLDER)
    processors = facts.activity.processor.get("online") or 1
    settings = facts.kube_proxy.conntrack
    release = release_of(version.removeprefix("v"), unknown=(1, 0))
    made = None if settings is None else settings.wanted(processors, release)
    if settings is None or made is None:
        return Judgement.skipped(f"kube-proxy has no say in {MAX}: {_why_not(facts)}; {limit} comes from {_other_owner(facts)}")
    by = f"conntrack.maxPerCore {settings.max_per_core} x {processors} processors, min {settings.min}"
    judgement = Judgement(want=f"{MAX} {made} at least (kube-proxy's {by})")
    judgement.evidence.update(max=limit, owner="kube-proxy", made=made)
    command = f"sysctl {MAX}"
    judgement.check(
        limit >= made,
        f"{facts.node}: {MAX} {limit}, kube-proxy made it {made} when it started ({by}): something has lowered it since",
        measured=limit,
        wanted=f">= {made}",
        command=command,
    )
    # Up to 1.36 it sets exactly that; from 1.37 on it only raises.
    after = max(limit, made) if release >= RAISES_ONLY_SINCE else made
    wants = [] if expect.advice else [want for want in expect.host_sysctls if want.key == MAX]
    for want in wants:
        judgement.check(
            holds(str(after), want),
            f"{facts.node}: kube-proxy makes {MAX} {after} at its next start ({by}), want {want}",
            measured=after,
            wanted=f"{want.operator} {want.value}",
            command=command,
        )
    if after < limit:
        judgement.remark(f"{facts.node}: {MAX} is {limit} until kube-proxy starts again and makes it {after} ({by})")
    return judgement


def _why_not(facts: NodeFacts) -> str:
    proxy = facts.kube_proxy
    if proxy.mode is None:
        return "it does not answer on this node" if proxy.listening or proxy.processes else "it does not run on this node"
    return "its /configz does not tell" if proxy.conntrack is None else "its conntrack.maxPerCore is 0"


def _other_owner(facts: NodeFacts) -> str:
    assigned = facts.at_boot(MAX)
    if assigned is not None and assigned.value == str(facts.conntrack.get("max")):
        return f"{assigned.file}:{assigned.line}"
    return "the kernel, or from somebody who set it while it ran"


def burst(record: BurstRecord, first: Activity | None, expect: ConntrackExpectation) -> Judgement:
    """Judge that the connections of a burst were all opened, and that the node's table lost nothing meanwhile.

    `first` is an earlier reading of the counters: what others lose is not held against the burst.
    """
    if not record.asked:
        return Judgement.skipped(NOT_ASKED)
    found = record.found
    if found is None:
        judgement = Judgement.skipped(f"no probe pod on another node than {record.node} answers: there is nothing to connect to")
        if record.node in record.not_serving:
            judgement.error(f"{record.node}: its probe pod could not be made to answer: {record.not_serving[record.node]}")
        return judgement
    judgement = Judgement(want=f"{record.asked} short connections, none lost, and nothing lost to the connection table")
    what = f"{record.node}: connections of its pod to the pod on {record.endpoint}"
    if not found.opened.opened:
        judgement.inconclusive(
            f"{what}: none of {found.opened.tried} could be opened ({_failures(found.opened)}): what the connection table would make "
            "of them is not seen (NET-REACH-001 says more)"
        )
        return judgement
    _connections(judgement, what, record.asked, found.opened)
    _tracked(judgement, record.node, found.opened, found.table)
    if found.table is not None:
        _counted(judgement, record.node, found.grown, first, found.opened.opened, expect)
    _used_again(judgement, what, record.endpoint, found.again)
    return judgement


def _failures(found: Opened) -> str:
    return ", ".join(f"{count} {name}: {_MEANING.get(name, 'see errno(3)')}" for name, count in sorted(found.failed.items()))


def _connections(judgement: Judgement, what: str, asked: int, found: Opened) -> None:
    judgement.evidence.update(asked=asked, tried=found.tried, opened=found.opened, failed=dict(found.failed), late=found.late)
    judgement.evidence.update(seconds=found.seconds, ports=None if found.ports is None else list(found.ports))
    ports = "" if found.range is None else f"; the pod may use the ports {found.range[0]} to {found.range[1]}"
    judgement.check(
        not found.failed,
        f"{what}: {sum(found.failed.values())} of {found.tried} failed ({_failures(found)}){ports if NO_PORT in found.failed else ''}",
        measured=sum(found.failed.values()),
        wanted=0,
        command="connect(2)",
    )
    if found.tried < asked:
        judgement.inconclusive(f"{what}: {found.tried} of {asked} were tried in {found.seconds:.0f} s, not the others")
    if found.late:
        judgement.remark(f"{what}: {found.late} of {found.opened} took a second or more: their first packet, or the answer to it, was lost")
    if found.range is not None and found.ports is not None:
        judgement.check(
            found.range[0] <= found.ports[0] and found.ports[1] <= found.range[1],
            f"{what}: came from the ports {found.ports[0]} to {found.ports[1]}{ports}",
            measured=found.ports,
            wanted=found.range,
            command="sysctl net.ipv4.ip_local_port_range",
        )


def _tracked(judgement: Judgement, node: str, found: Opened, table: Table | None) -> None:
    if table is None:
        judgement.remark(f"{node}: connections are not tracked on this node: only what became of the connections is judged")
        return
    judgement.evidence["table"] = {"max": table.max, "before": table.before, "peak": table.peak, "after": table.after}
    # Where the table empties meanwhile, of what others left, what is added tells; else both ends do, which others' new entries sway less.
    grown = table.grown if table.after < table.before and table.grown is not None else table.peak - table.before
    if grown < found.opened / 2 and table.peak < table.max:
        judgement.inconclusive(
            f"{node}: {found.opened} connections were opened, and the entries of the connection table only grew from {table.before} to "
            f"{table.peak}: the node does not track them (eBPF, notrack), and its counters say nothing of them",
            measured=table.peak - table.before,
            wanted=found.opened,
            command="sysctl net.netfilter.nf_conntrack_count",
        )


def _counted(judgement: Judgement, node: str, grown: Grown, first: Activity | None, opened: int, expect: ConntrackExpectation) -> None:
    if grown.restarted:
        judgement.error(f"{node}: {RESTARTED}")
        return
    counted = grown.of("conntrack")
    _log(judgement, node, grown)
    if counted is None:
        judgement.remark(f"{node}: this kernel tells no counters of the connection table (CONFIG_NF_CONNTRACK_PROCFS)")
        return
    during = f"in the {grown.seconds:.0f} s of the burst"
    _evicted(judgement, node, counted, during)
    for name in ("insert_failed", "drop"):
        lost = counted.get(name, 0)
        judgement.evidence[name] = lost
        most, why = _most(name, grown, first, opened, expect)
        judgement.check(
            lost <= most,
            f"{node}: {lost} packets were lost to the connection table ({name}) {during}, want {most} at most ({why})",
            measured=lost,
            wanted=most,
            command=_COUNTERS,
        )


def _evicted(judgement: Judgement, node: str, counted: Mapping[str, int], during: str) -> None:
    evicted = counted.get("early_drop", 0)
    judgement.check(
        evicted == 0,
        f"{node}: the connection table was full: {evicted} connections were evicted (early_drop) {during}",
        measured=evicted,
        wanted=0,
        command=_COUNTERS,
    )


def _most(name: str, grown: Grown, first: Activity | None, opened: int, expect: ConntrackExpectation) -> tuple[int, str]:
    """Return how many packets may be lost in the time of a burst, and who says so."""
    if expect.losses is not None:
        return expect.losses.value, expect.losses.origin
    before = None if first is None else Grown(first, grown.first)
    lost = 0 if before is None else (before.of("conntrack") or {}).get(name, 0)
    usual = lost * grown.seconds / before.seconds if before is not None and before.seconds > 0 else 0.0
    # What comes by chance is spread by the root of its number; four times that is next to never.
    return math.ceil(usual + 4 * math.sqrt(usual)) + max(_FEW, opened // 1000), "built-in, with what was lost before"


def _used_again(judgement: Judgement, what: str, endpoint: str | None, found: Again | str) -> None:
    if isinstance(found, str):
        judgement.remark(f"{what}: whether source ports are used again was not seen: {found}")
        return
    judgement.evidence["again"] = {name: getattr(found, name) for name in Again.__slots__}
    if found.over != NO_PORT or not found.held:
        so = "one more could be opened" if found.over is None else f"one more failed with {found.over}, not with {NO_PORT}"
        judgement.inconclusive(
            f"{what}: with few ports left {found.held} were held, and {so}: whether source ports are used again is not seen"
        )
        return
    told = f"{found.reused} of {found.held} source ports could be used again {found.waited_s:g} s after their connections"
    if found.tcp_tw_reuse != "1":
        judgement.remark(f"{what}: {told}: net.ipv4.tcp_tw_reuse of the pod is {found.tcp_tw_reuse}", command=_REUSE)
    elif not found.timestamps and found.tcp_timestamps != "0":
        judgement.remark(f"{what}: {told}: the pod on {endpoint} does without TCP timestamps, and tcp_tw_reuse needs them", command=_REUSE)
    else:
        why = "; without net.ipv4.tcp_timestamps, which is 0, it has no effect" if found.tcp_timestamps == "0" else ""
        judgement.check(
            found.reused == found.held,
            f"{what}: {told}, want all: net.ipv4.tcp_tw_reuse of the pod is 1{why}",
            measured=found.reused,
            wanted=found.held,
            command=_REUSE,
        )
