"""Judge what Services' addresses do with packets."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.cluster.serving import REPLACING, is_served
from pytest_k8snet.expect.model import LatencyExpectation, ProxyExpectation, ServiceExpectation, ThroughputExpectation, Wanted
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.judge.throughput import Others, located, quickest, rates_in_words, rested, starved
from pytest_k8snet.record.balance import BalanceRecord, Noticed, Rule, Spread
from pytest_k8snet.record.facts import NodeFacts
from pytest_k8snet.record.idle import IdleRecord
from pytest_k8snet.record.scale import ScaleRecord
from pytest_k8snet.record.service import Asked, ServiceRecord
from pytest_k8snet.record.throughput import ThroughputRecord

_READ_CONNECTIONS = "cat /proc/net/ip_vs_conn"
_NFT_IS_BLIND = "the rules of nftables mode have no counters: that no other data path had them is all there is to see"

#: Where kube-proxy's iptables mode sends what is for a Service's address (pkg/proxy/iptables/proxier.go).
_TO_SERVICE = (" -j KUBE-SVC-", " -j KUBE-SVL-", " -j KUBE-EXT-")
#: Of chains that are not kube-proxy's: what takes a packet away from Services' addresses.
_TAKING = (" -j DNAT ", " -j REDIRECT ", " -j NETMAP ")

#: IPVS schedulers that give servers of the same weight the same number of connections, and those that leave none out.
_EVEN = ("rr", "wrr")
_SOME = ("lc", "wlc")

#: What iperf3 says where nothing listens, or nothing comes back.
_NOT_CONNECTED = "unable to connect"

FALSE_ALARM = 1e-6  # of a case, by a choice that is really random


def nobody_serves(facts: NodeFacts, cluster: Cluster) -> str | None:
    """Return why nothing leads from Services' addresses to pods here, None when something should.

    A kube-proxy that is missing on one node of several is a fault, and no reason.
    """
    proxy = facts.kube_proxy
    if proxy.mode is not None or proxy.listening or proxy.processes or is_served(cluster):
        return None
    return "no kube-proxy runs in this cluster, and nothing is known to stand for it: no Service address leads anywhere"


def cluster_ip(record: ServiceRecord, facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that the node and its pods reach the endpoint on another node that a ClusterIP leads to."""
    return _reached(record, record.of("cluster-ip"), facts, cluster, _alone(record))


def hairpin(record: ServiceRecord, facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that a pod reaches itself through its own Service."""
    return _reached(record, record.of("hairpin"), facts, cluster, _not_served(record))


def node_port(record: ServiceRecord, other: ServiceRecord | None, facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that the node's NodePorts answer its own pod, and a pod of another node, `other`'s.

    A pod that reached no Service at all by an address family says nothing of this node by that.
    """
    own = [item for item in record.of("node-port") if item.node == record.node]
    judgement = _reached(record, own, facts, cluster, _alone(record))
    if judgement.skip_reason is not None:
        return judgement
    if other is None or not any(item.node == record.node for item in other.of("node-port")):
        judgement.remark(f"{record.node}: its NodePorts were asked by its own pod alone: no pod of another node has asked them")
        return judgement
    for item in other.of("node-port"):
        if item.node != record.node:
            continue
        told = f"{record.node}: {_told(item, other.node)}"
        alike = [asked for asked in other.asked if asked.role == "pod" and (":" in asked.address) == (":" in item.address)]
        if not item.fine and not any(asked.fine for asked in alike):
            judgement.remark(f"{told}; that pod reached no Service at all, which says nothing of {record.node}")
        else:
            judgement.check(item.fine, told, measured=item.what, wanted=f"an answer of the pod on {item.endpoint}")
            _keep(judgement, item)
    return judgement


def _reached(record: ServiceRecord, asked: Sequence[Asked], facts: NodeFacts, cluster: Cluster, none: str) -> Judgement:
    if not asked:
        return _nothing(record, none)
    if not any(item.fine for item in record.asked) and (why := nobody_serves(facts, cluster)) is not None:
        return Judgement.skipped(why)
    judgement = Judgement(want="every connection answered by the Service's only endpoint")
    for item in asked:
        judgement.check(
            item.fine,
            f"{record.node}: {_told(item, record.node)}",
            measured=item.what,
            wanted=f"an answer of the pod on {item.endpoint}",
        )
        _keep(judgement, item)
    return judgement


def _nothing(record: ServiceRecord | IdleRecord | BalanceRecord, none: str) -> Judgement:
    """Skip, unless it was this node's own pod that was in the way: what others' pods do is their own error."""
    others = dict(record.not_serving)
    own = others.pop(record.node, None)
    if own is not None:
        judgement = Judgement()
        judgement.error(f"{record.node}: its probe pod could not be made to answer: {own.removeprefix(f'{record.node}: ')}")
        return judgement
    reasons = "; ".join(f"{node}: {why.removeprefix(f'{node}: ')}" for node, why in others.items())
    return Judgement.skipped(f"{none} ({reasons})" if reasons else none)


def _alone(record: ServiceRecord) -> str:
    return f"no probe pod on another node than {record.node} has a Service: nothing can be far away"


def _not_served(record: ServiceRecord) -> str:
    return f"of many nodes some have a Service of their own probe pod, and {record.node} is none of them"


def _told(item: Asked, client: str) -> str:
    """Say what was asked and what came back."""
    place = f"{client}'s {'pod' if item.role == 'pod' else 'host network'}"
    kind = "ClusterIP" if item.path != "node-port" else f"{item.node}'s NodePort"
    where = "that pod itself" if item.path == "hairpin" else f"on {item.endpoint}"
    return (
        f"{place} to {kind} {item.address} port {item.port}, whose only endpoint is {where}: {item.what}, "
        f"after {item.waited_s:.0f} s of trying (Service {item.service})"
    )


def _keep(judgement: Judgement, item: Asked) -> None:
    """Keep figures of what was answered."""
    times = [connection.ms for connection in item.connections if connection.ms is not None and connection.error is None]
    sources = {connection.source for connection in item.connections if connection.source is not None}
    if times:
        key = f"{item.role} to {item.path} {item.address} port {item.port}"
        judgement.evidence[key] = f"{max(times):g} ms, seen as {', '.join(sorted(sources))}"


def data_path(record: BalanceRecord, facts: NodeFacts, expect: ProxyExpectation, cluster: Cluster) -> Judgement:
    """Judge that the connections of the node's pod were found where the mode that is claimed puts them, and nowhere else.

    IPVS keeps a table of them; a rule of iptables' table nat counts the first packet of each. That they were answered is the control.
    """
    spread = record.spread
    answered = len(spread.answered)
    if not answered and (why := nobody_serves(facts, cluster)) is not None:
        return Judgement.skipped(why)
    mode = facts.kube_proxy.mode if expect.mode is None else expect.mode.value
    if mode not in ("ipvs", "iptables", "nftables"):
        return Judgement.skipped(_unread(mode, cluster))
    origin = f"{mode}, the mode in force" if expect.mode is None else str(expect.mode)
    judgement = Judgement(want=f"every connection by {origin}")
    in_ipvs = sum(item.source in spread.in_ipvs for item in spread.answered)
    counting = [rule for rule in spread.rules if rule.packets > 0 and any(word in f"{rule.rule} " for word in (*_TO_SERVICE, *_TAKING))]
    by_rules = sum(rule.packets for rule in counting if _leads_on(rule))
    judgement.evidence |= {
        "connections to": spread.what,
        "answered": answered,
        "in the table of IPVS": in_ipvs,
        "rules that counted": [*map(str, counting)],
    }
    if not answered:
        judgement.inconclusive(f"{record.node}: {spread.what}: no connection of the node's pod was answered: {spread.unanswered}")
        return judgement
    where = f"{record.node}: of {answered} connections that {spread.what} answered"
    if not in_ipvs and not counting and mode != "nftables" and _may_be_replaced(expect, cluster):
        judgement.inconclusive(f"{where} none was counted by IPVS or iptables; {cluster.cni} can serve Services beside kube-proxy")
        return judgement
    if mode == "ipvs":
        judgement.check(
            in_ipvs == answered,
            f"{where} {in_ipvs} are in the table of IPVS, want all ({origin}){_instead(spread, counting)}",
            measured=in_ipvs,
            wanted=answered,
            command=_READ_CONNECTIONS,
        )
        return judgement
    _unreadable(judgement, record)
    judgement.check(
        in_ipvs == 0,
        f"{where} {in_ipvs} are in the table of IPVS, want none ({origin})",
        measured=in_ipvs,
        wanted=0,
        command=_READ_CONNECTIONS,
    )
    if mode == "iptables" and 0 < by_rules < answered and all(map(_leads_on, counting)):
        judgement.inconclusive(
            f"{where} rules of KUBE-SERVICES counted {by_rules}: kube-proxy wrote them anew whenever they were read, or they were bypassed"
        )
    elif mode == "iptables" and not spread.errors:
        judgement.check(
            by_rules >= answered,
            f"{where} rules of KUBE-SERVICES counted {by_rules}, want all ({origin}){_instead(spread, counting)}",
            measured=by_rules,
            wanted=answered,
            command=f"iptables-save -c -t nat | grep {spread.address}",
        )
    elif mode == "nftables":
        judgement.check(
            not counting, f"{where} rules of iptables counted some, want none ({origin}){_instead(spread, counting)}", measured=by_rules
        )
        judgement.skip_reason = _NFT_IS_BLIND
    return judgement


def _leads_on(rule: Rule) -> bool:
    """Whether it is a rule of kube-proxy's iptables mode that leads from a Service's address to its chain."""
    return any(word in rule.rule for word in _TO_SERVICE)


def _may_be_replaced(expect: ProxyExpectation, cluster: Cluster) -> bool:
    """Whether the CNI may serve Services beside a kube-proxy that nobody but the cluster's own configuration asks for."""
    return cluster.cni in REPLACING and (expect.mode is None or not expect.mode.origin.startswith("profile"))


def _unread(mode: str | None, cluster: Cluster) -> str:
    if cluster.cni is not None and mode in (None, "none"):
        return f"no kube-proxy serves Services here, and how {cluster.cni} counts connections is not read"
    return f"what serves Services here (mode {mode}) has no counters that are read"


def _unreadable(judgement: Judgement, record: BalanceRecord) -> None:
    for backend, problem in record.spread.errors.items():
        judgement.error(f"{record.node}: the rules of iptables-{backend} could not be read: {problem}")


def _instead(spread: Spread, counting: list[Rule]) -> str:
    """Name what else had them."""
    if counting:
        return f"; counted instead: {', '.join(map(str, counting[:3]))}"
    if spread.errors:
        return f"; rules of iptables could not be read ({', '.join(spread.errors.values())})"
    return "; no rule of iptables that names the address counted any"


def spread(record: BalanceRecord, facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that connections are spread over the Service's endpoints as what chooses among them promises.

    IPVS with rr: even within one. A random choice, as iptables and nftables make it: within what chance allows.
    """
    found = record.spread
    shares = {node: found.shares[node] for node in record.endpoints}
    if not found.answered and (why := nobody_serves(facts, cluster)) is not None:
        return Judgement.skipped(why)
    if record.node in record.not_serving:
        return _nothing(record, _no_choice(record))
    if len(record.endpoints) < 2:
        return Judgement.skipped(_no_choice(record))
    promise, least, most = _promise(found, len(shares))
    judgement = Judgement(want=promise)
    judgement.evidence |= {"connections to": found.what, "answered by": dict(shares)}
    if found.unanswered and record.not_serving:
        judgement.inconclusive(
            f"{record.node}: {found.what}: {found.unanswered} of the node's pod were not answered, and that may be those to an endpoint "
            f"that could not be made to answer ({'; '.join(record.not_serving.values())})",
            measured=found.unanswered,
        )
        return judgement
    judgement.check(
        not found.unanswered,
        f"{record.node}: {found.what}: {found.unanswered} of the node's pod were not answered{_left_out(record, shares)}",
        measured=found.unanswered,
    )
    if found.earlier and not found.unanswered:
        judgement.remark(f"{record.node}: {found.what}: {found.unanswered_earlier} were not answered, and all of as many more were")
    for name in sorted(found.shares.keys() - shares.keys()):
        judgement.check(False, f"{record.node}: {found.what}: {name} answered {found.shares[name]}, and is no endpoint")
    if found.unanswered:
        return judgement  # how the rest is spread says nothing more
    for node, share in shares.items():
        judgement.check(
            least <= share <= most,
            f"{record.node}: {found.what}: the endpoint on {node} ({record.endpoints[node]}) got {share} of "
            f"{len(found.connections)} connections, want {promise}",
            measured=share,
            wanted=f"{least} to {most}",
        )
    return judgement


def affinity(record: BalanceRecord, facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that a Service with affinity by the client's address gives all connections of the node's pod to one endpoint."""
    found = record.sticky
    if not found.answered and (why := nobody_serves(facts, cluster)) is not None:
        return Judgement.skipped(why)
    if len(record.endpoints) < 2:
        return Judgement.skipped(_no_choice(record))
    judgement = Judgement(want="one endpoint for all connections of a client")
    judgement.evidence |= {"connections to": found.what, "answered by": dict(found.shares)}
    if len(found.answered) < 2:
        silent = f" ({'; '.join(record.not_serving.values())})" if record.not_serving else ""
        judgement.inconclusive(f"{record.node}: {found.what}: connections of the node's pod were not answered: {found.unanswered}{silent}")
        return judgement
    told = ", ".join(f"{name} ({share})" for name, share in sorted(found.shares.items()))
    judgement.check(
        len(found.shares) == 1,
        f"{record.node}: {found.what} keeps a client with one endpoint (sessionAffinity ClientIP), "
        f"and {len(found.answered)} connections of the node's pod were answered by {told}",
        measured=told,
    )
    if found.unanswered:
        judgement.remark(f"{record.node}: {found.what}: {found.unanswered} were not answered; NET-SERVICE-005 judges that")
    return judgement


def propagation(record: BalanceRecord, facts: NodeFacts, expect: ServiceExpectation, cluster: Cluster) -> Judgement:
    """Judge how long the node uses an endpoint that is gone, and does not use one that has come, and that open connections are kept."""
    moved, limit = record.moved, expect.propagation_s
    if not record.spread.answered and (why := nobody_serves(facts, cluster)) is not None:
        return Judgement.skipped(why)
    if moved is None:
        return Judgement.skipped(_no_choice(record))
    if moved.refused:
        return Judgement.beyond_reach(f"the run may not change labels of its pods, so that none leaves a Service: {moved.error}")
    what = f"{record.node}: {record.spread.what}: its endpoint on {moved.endpoint}"
    judgement = Judgement(want=f"a change of endpoints in use within {limit.value:g} s")
    if moved.error is not None:
        judgement.error(f"{what} could not be moved: {moved.error}")
        return judgement
    if not moved.used or moved.left is None:
        judgement.inconclusive(f"{what} was never used from here: that it leaves, and comes back, is not seen")
        return judgement
    _noticed(judgement, moved.left, limit, f"{what} has left", "was still used", "gone")
    if moved.came is not None:
        _noticed(judgement, moved.came, limit, f"{what} has come back", "was not used", "back")
    broken = f"{what} has left while its pod runs on, and a connection to it that was open is broken: {moved.session}"
    if moved.session is None:
        judgement.remark(f"{what}: no connection to it was open when it left")
    elif facts.kube_proxy.mode in ("ipvs", "iptables", "nftables"):
        judgement.check(moved.session == "kept", broken)
    elif moved.session != "kept":
        judgement.remark(broken)
    return judgement


def _noticed(judgement: Judgement, found: Noticed, limit: Wanted[float], what: str, still: str, key: str) -> None:
    if found.error is not None:
        judgement.error(f"{what}, and whether it is noticed could not be seen: {found.error}")
        return
    if found.since_s is None and found.until_s is None:
        judgement.inconclusive(f"{what}, and no connection was answered by anybody since")
        return
    until_s = found.until_s or 0.0
    judgement.evidence[key] = f"{until_s:g} s" if found.since_s is None else f"between {until_s:g} s and {found.since_s:g} s"
    judgement.check(
        found.since_s is not None and until_s <= limit.value,
        f"{what}, and {still} {until_s:.1f} s later, want at most {limit.value:g} s ({limit.origin})",
        measured=f"{until_s:g} s",
        wanted=f"{limit.value:g} s",
    )


def scale(record: ScaleRecord, facts: NodeFacts, expect: ServiceExpectation, latency: LatencyExpectation, cluster: Cluster) -> Judgement:
    """Judge that connecting to the last of many frontends takes no longer than to the last of a few.

    Rules of iptables are gone through one by one: there it is advice, unless a profile sets the factor.
    """
    if not record.sizes:
        return Judgement.skipped("many Services are made only when --k8snet-service-scale asks for them")
    silent = [size for size in record.sizes if size.answering_s is None]
    if len(silent) == len(record.sizes) and (why := nobody_serves(facts, cluster)) is not None:
        return Judgement.skipped(why)
    factor = expect.scale_factor
    judgement = Judgement(want=f"connecting at most {factor.value:g} times as long with many Services as with few")
    for size in record.sizes:
        what = f"{record.node}: the last of {size.frontends} frontends of Services"
        if size.answering_s is None:
            judgement.check(False, f"{what} was not answered within {size.waited_s:.0f} s after it was made: {size.error}")
            continue
        judgement.check(not size.unanswered, f"{what}: {size.unanswered} of {size.unanswered + len(size.connected_ms)} connections failed")
        if size.connected_ms:
            figures = f"p50 {size.percentile(0.5):.2f} ms, p99 {size.percentile(0.99):.2f} ms"
            judgement.evidence[f"{size.frontends} frontends"] = f"{figures}, answering {size.answering_s:g} s after the first was made"
        if size.connected_ms and not size.direct_ms:
            judgement.inconclusive(f"{what}: the pod itself answered no connection: how much the Service adds is not seen")
    sizes = [size for size in record.sizes if size.connected_ms and size.direct_ms]
    if len(sizes) < 2:
        judgement.remark(f"{record.node}: there is one number of Services to look at, and nothing to compare it with")
        return judgement
    few, many = sizes[0].more_ms, sizes[-1].more_ms
    told = (
        f"{record.node}: connecting takes {many:.2f} ms (p50) longer than to the pod itself with {sizes[-1].frontends} frontends of "
        f"Services and {few:.2f} ms with {sizes[0].frontends}, want at most {factor.value:g} times that or {latency.slack_ms.value:g} ms "
        f"more ({factor.origin})"
    )
    holds = many <= max(few * factor.value, few + latency.slack_ms.value)
    if facts.kube_proxy.mode == "iptables" and factor.origin == "built-in":
        judgement.hold(1)
        if not holds:
            judgement.advise(f"{told}: rules of iptables are gone through one by one; ipvs and nftables modes look them up")
        return judgement
    judgement.check(holds, told, measured=f"{many:.2f} ms", wanted=f"{few:.2f} ms")
    return judgement


def idle(record: IdleRecord, facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that a connection through a Service lives on while nobody uses it, as one beside it does that is used."""
    if not record.asked_s:
        return Judgement.skipped("connections are left idle only when --k8snet-idle asks for it")
    if record.endpoint is None:
        return _nothing(record, f"no probe pod on another node than {record.node} answers: nothing can be far away")
    what = f"{record.node}: a connection of its pod to Service {record.service}, with the pod on {record.endpoint},"
    found = record.opened
    if found is None:
        if (why := nobody_serves(facts, cluster)) is not None:
            return Judgement.skipped(why)
        judgement = Judgement()
        judgement.inconclusive(f"{what} could not be opened: whether it would live on is not seen (NET-SERVICE-001 says more)")
        return judgement
    judgement = Judgement(want=f"alive after {record.asked_s} s that nobody used it")
    judgement.evidence.update(idle_s=found.waited_s, keepalive_s=found.keepalive_s, ipvs_forgets_after_s=found.expires_s)
    if found.used is not None:
        judgement.inconclusive(f"{what} that was used all the time ended, too, after {found.waited_s:.0f} s: {found.used}")
        return judgement
    timeouts = "ipvsadm -l --timeout" if found.expires_s is not None else "sysctl net.netfilter.nf_conntrack_tcp_timeout_established"
    forgets = "" if found.expires_s is None else f"IPVS forgets what nobody uses after {found.expires_s} s, and "
    late = f"{forgets}the pod's kernel asks the other side only after {found.keepalive_s} s"
    command = f"{timeouts}; sysctl net.ipv4.tcp_keepalive_time"
    judgement.check(
        found.idle is None,
        f"{what} that nobody used for {found.waited_s:.0f} s is dead ({found.idle}), and one beside it that was used is alive: {late}",
        measured=found.idle,
        wanted="alive",
        command=command,
    )
    if found.idle is None and found.expires_s is not None and found.expires_s < found.keepalive_s:
        judgement.advise(f"{record.node}: connections through Services that nobody uses do not live for ever: {late}", command=command)
    return judgement


def _no_choice(record: BalanceRecord) -> str:
    missing = "; ".join(why for why in record.not_serving.values())
    return f"the Service has one endpoint: there is nothing to choose from{f' ({missing})' if missing else ''}"


def _left_out(record: BalanceRecord, shares: dict[str, int]) -> str:
    silent = [f"{node} ({record.endpoints[node]})" for node, share in shares.items() if not share]
    return f"; of its endpoints none was answered by the one on {', '.join(silent)}" if silent else "; each endpoint answered some"


def _promise(found: Spread, endpoints: int) -> tuple[str, int, int]:
    """Return what is promised in words, and the least and the most that an endpoint may get."""
    count = len(found.connections)
    if found.scheduler is None:
        least, most = bounds(count, endpoints)
        return f"{least} to {most} of a random choice among {endpoints}", least, most
    if found.scheduler in _EVEN:
        least = count // endpoints
        most = -(-count // endpoints)
        return f"{least if least == most else f'{least} or {most}'} by scheduler {found.scheduler}", least, most
    if found.scheduler in _SOME:
        return f"some by scheduler {found.scheduler}", 1, count
    return f"any number by scheduler {found.scheduler}", 0, count


def bounds(count: int, endpoints: int, false_alarm: float = FALSE_ALARM) -> tuple[int, int]:
    """Return the least and the most of `count` connections that one of several endpoints gets by a fair random choice.

    That any of them is outside by chance happens with a probability of less than `false_alarm`.
    """
    share = 1 / endpoints
    allowed = false_alarm / (2 * endpoints)  # each endpoint, on either side
    chances = [comb(count, hits) * share**hits * (1 - share) ** (count - hits) for hits in range(count + 1)]
    least, below = 0, chances[0]
    while below < allowed:
        least += 1
        below += chances[least]
    most, above = count, chances[count]
    while above < allowed:
        most -= 1
        above += chances[most]
    return least, most


def throughput(
    record: ThroughputRecord, facts: NodeFacts, cluster: Cluster, expect: ThroughputExpectation, others: Others = tuple
) -> Judgement:
    """Judge which share of what pods carry directly they carry by the ClusterIP of a Service; `facts` are of the pair's source.

    The best take of each counts. That there is no connection at all is no finding here.
    """
    if record.pod_absent is not None:
        return Judgement.beyond_reach(record.pod_absent)
    if (nobody := nobody_serves(facts, cluster)) is not None:
        return Judgement.skipped(nobody)
    through = record.service
    if through is None:
        wrong = any(take.error is not None for take in record.takes)
        why = "a take without a Service went wrong: NET-THROUGHPUT-001 tells how" if wrong else "nothing was sent through a Service"
        return Judgement.skipped(why)
    if through.absent is not None:
        return Judgement.skipped(through.absent)
    want = expect.service_to_pod
    judgement = Judgement(want=f"through a Service at least {want} of what pods carry directly")
    if through.error is not None:
        judgement.error(f"{record.pair}: {through.error}")
        return judgement
    if errors := [take.error for take in through.takes if take.error is not None]:
        if all(_NOT_CONNECTED in error for error in errors):
            return Judgement.skipped(f"no connection through the Service ({errors[0]}): NET-SERVICE-001 judges that")
        judgement.error(f"{record.pair}: through {through.address} port {through.port}: {errors[0]}", command="iperf3")
        return judgement
    direct = [take.received_bps or 0.0 for take in record.of("pod")]
    rates = [take.received_bps or 0.0 for take in through.takes]
    share = max(rates) / max(direct)
    judgement.evidence.update(service_bps=rates, pod_bps=direct, service_to_pod=round(share, 3), streams=record.streams)
    told = f"{record.pair}: through {through.address} port {through.port} {rates_in_words(rates)}, directly {rates_in_words(direct)}"
    rule = f"want at least {want}"
    if share < want.value <= max(rates) / min(direct):
        judgement.inconclusive(f"{told}: the direct takes differ too much to tell, {rule}", measured=f"{share:.2f}", wanted=want.value)
        return judgement
    if share < want.value and (busy := starved(record, quickest(rested(record, through.takes)))) is not None:
        judgement.inconclusive(f"{told}: {busy}, so {share:.2f} carries no verdict, {rule}", measured=f"{share:.2f}", wanted=want.value)
        return judgement
    holds = share >= want.value
    where = "" if holds else located(record.pair, others, lambda other: (_share_through(other) or 1.0) < want.value)
    judgement.check(holds, f"{told}: {share:.2f} of it, {rule}{where}", measured=f"{share:.2f}", wanted=want.value, command="iperf3")
    return judgement


def _share_through(record: ThroughputRecord) -> float | None:
    """Return which share of the direct rate of a pair its Service carries, None where that was not measured."""
    takes = record.service.takes if record.service is not None else ()
    if not takes or any(take.error is not None for take in takes) or not record.of("pod"):
        return None
    return (quickest(takes).received_bps or 0.0) / (quickest(record.of("pod")).received_bps or 1.0)
