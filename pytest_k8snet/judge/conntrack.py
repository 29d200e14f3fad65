"""Judge the connection table of a node: room in it, what it lost during the run, and who decides how large it is."""

from __future__ import annotations

from pytest_k8snet.expect.model import ConntrackExpectation, KernelExpectation
from pytest_k8snet.judge.counters import OLDER, RESTARTED, percent
from pytest_k8snet.judge.kernel import holds, release_of
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.activity import Grown, Log
from pytest_k8snet.record.conntrack import RAISES_ONLY_SINCE
from pytest_k8snet.record.facts import NodeFacts

MAX = "net.netfilter.nf_conntrack_max"
NOT_IN_USE = "connection tracking is not in use on this node"

SILENCE_S = 6.0  # net_ratelimit's 5 s, and what it takes to read both

_COUNTERS = "cat /proc/net/stat/nf_conntrack"
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


def losses(facts: NodeFacts, grown: Grown | None, expect: ConntrackExpectation) -> Judgement:
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
        evicted = counted.get("early_drop", 0)
        judgement.check(
            evicted == 0,
            f"{facts.node}: the connection table was full: {evicted} connections were evicted (early_drop) {during}",
            measured=evicted,
            wanted=0,
            command=_COUNTERS,
        )
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
