"""Judge the service proxy: mode in force, agreement of equal nodes, and what ipvs mode needs and does."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from pytest_k8snet.cluster.ipvs_table import VirtualServer, parse_table
from pytest_k8snet.cluster.model import Claim, Cluster
from pytest_k8snet.cluster.virtual_servers import IPVS, NFTABLES, is_excluded
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import ProxyExpectation
from pytest_k8snet.judge import tables
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.judge.tables import FEW, few
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.facts import KubeProxy, LateFacts, NodeFacts
from pytest_k8snet.record.ipvs import IpvsRecord

_ASK_MODE = "curl http://127.0.0.1:10249/proxyMode"
_READ_TABLE = "cat /proc/net/ip_vs"
_READ_NFT = "nft list table ip kube-proxy"
_READ_LIVEZ = "curl http://127.0.0.1:10256/livez"
_UNAVAILABLE = 503

#: What begins the names of kube-proxy's metrics about syncs (pkg/proxy/metrics/metrics.go).
_SYNC = "kubeproxy_sync_proxy_rules"

#: What kube-proxy sets at its start in ipvs mode and never looks at again (PrivilegedInit, pkg/proxy/ipvs/backend.go).
IPVS_SYSCTLS = {
    "net.ipv4.vs.conntrack": "1",
    "net.ipv4.vs.expire_nodest_conn": "1",
    "net.ipv4.vs.expire_quiescent_template": "1",
}

_WANT_SERVERS = "a virtual server for every Service port, a real server of weight 1 for every endpoint"

#: Nodes that are named where all of a group are meant.
_NAMED = 5


def mode_in_force(facts: NodeFacts, expect: ProxyExpectation, version: str) -> Judgement:
    """Judge the mode that kube-proxy says it runs in: its own word at run time, not its configuration.

    Chains of iptables mode that a packet can still reach under another mode are a fault, unreferenced ones a remark: a switch from
    iptables to ipvs never cleans them. So is the IPVS table that ipvs mode leaves behind (``Cleanup``, pkg/proxy/ipvs/backend.go).
    """
    if reason := _no_proxy_wanted(expect):
        return Judgement.skipped(reason)
    if expect.mode is None and expect.mode_unknown is not None:
        return Judgement.beyond_reach(f"which mode kube-proxy should run in, if any, could not be read ({expect.mode_unknown})")
    if expect.mode is None:
        return Judgement.skipped("nothing says which mode kube-proxy should run in: the cluster claims none and no profile gives one")
    judgement = Judgement(want=f"kube-proxy in mode {expect.mode}")
    proxy = facts.kube_proxy
    if proxy.mode is None:
        problem = f"{facts.node}: kube-proxy does not tell its mode ({proxy.mode_error})"
        if _absent(proxy):
            judgement.check(
                False,
                f"{problem} and no process of it runs, want mode {expect.mode}",
                wanted=expect.mode.value,
                command=proxy.ask("/proxyMode"),
            )
        else:
            judgement.error(problem, command=proxy.ask("/proxyMode"))
        return judgement
    judgement.evidence["mode"] = proxy.mode
    judgement.check(
        proxy.mode == expect.mode.value,
        f"{facts.node}: kube-proxy runs in mode {proxy.mode}, want {expect.mode}",
        measured=proxy.mode,
        wanted=expect.mode.value,
        command=proxy.ask("/proxyMode"),
    )
    if proxy.mode != "iptables":
        _service_chains(judgement, facts, proxy.mode)
    if proxy.mode != "nftables":
        _nft_tables(judgement, facts, proxy.mode)
    if proxy.mode != "ipvs" and facts.host.link("kube-ipvs0") is not None:
        judgement.remark(
            f"{facts.node}: kube-ipvs0 and its virtual servers are left over from ipvs mode", command="ip link show kube-ipvs0"
        )
    if proxy.mode == "ipvs" and _minor(version) >= 35:
        judgement.advise(
            f"{facts.node}: mode ipvs is deprecated since Kubernetes 1.35, off by default from 1.40 and gone in 1.43 (KEP-5495); "
            "nftables mode replaces it"
        )
    if proxy.mode == "iptables" and _minor(version) >= 33:
        judgement.advise(
            f"{facts.node}: mode iptables was kube-proxy's default for long; nftables mode is stable since Kubernetes 1.33 and the default "
            "from 1.40 (KEP-3866, KEP-5343)"
        )
    return judgement


def configuration_in_force(facts: NodeFacts, claims: Mapping[str, Claim]) -> Judgement:
    """Judge that the node's kube-proxy runs what the cluster's configuration says, whatever a profile wants.

    kube-proxy reads its configuration once: what differs is older, or the node's own, and changes with the next restart.
    """
    mode = claims.get("proxy.mode")
    if mode is None or mode.value is None:
        return Judgement.skipped(f"the cluster does not say how kube-proxy should run{f' ({mode.source})' if mode else ''}")
    if mode.value == "none":
        return Judgement.skipped(f"no kube-proxy is claimed ({mode.source}): the absence checks judge that")
    judgement = Judgement(want=f"mode {mode.value} ({mode.source})")
    proxy = facts.kube_proxy
    if proxy.mode is None:
        return Judgement.skipped("kube-proxy does not tell how it runs: the mode's check judges that")
    in_force: dict[str, str | bool | None] = {"proxy.mode": proxy.mode}
    if proxy.mode == mode.value == "ipvs":
        in_force |= {"proxy.scheduler": None if proxy.scheduler is None else proxy.scheduler or "rr", "proxy.strict_arp": proxy.strict_arp}
    for key, name in (("proxy.mode", "mode"), ("proxy.scheduler", "scheduler"), ("proxy.strict_arp", "strictARP")):
        claim, have = claims.get(key), in_force.get(key)
        if claim is None or claim.value is None or key not in in_force:
            continue
        if have is None:
            judgement.error(
                f"{facts.node}: kube-proxy does not tell its {name}, its configuration says {_word(claim.value)} ({claim.source})",
                command=proxy.ask("/configz"),
            )
            continue
        judgement.check(
            have == claim.value,
            f"{facts.node}: kube-proxy runs with {name} {_word(have)}, its configuration says {_word(claim.value)} ({claim.source}): "
            "it was started before that, or has one of its own",
            measured=_word(have),
            wanted=_word(claim.value),
            command=proxy.ask("/configz"),
        )
    if "proxy.mode_defaulted" in claims:
        judgement.advise(
            f"{claims['proxy.mode_defaulted'].source} is not set: kube-proxy's default, iptables today, becomes nftables in Kubernetes "
            "1.40 (KEP-5343), and since 1.37 it warns of that; write the mode"
        )
    return judgement


def keeps_in_sync(facts: NodeFacts, cluster: Cluster, expect: ProxyExpectation) -> Judgement:
    """Judge that kube-proxy's container runs and that what changes reaches the kernel.

    A sync that was asked for longer ago than two sync periods and has not succeeded since is a fault, as it is for kube-proxy's own
    health (pkg/proxy/healthcheck/proxy_health.go); failures that a later sync made good are a remark. Metrics tell when the newest sync
    was asked for, which is never long ago where changes keep coming: kube-proxy's /livez goes by the oldest that waits.
    """
    if reason := _no_proxy_wanted(expect):
        return Judgement.skipped(reason)
    proxy = facts.kube_proxy
    pods = [pod for item in cluster.kube_proxy_daemonsets for pod in item.get("pods") or () if pod["node"] == facts.node]
    judgement = Judgement(want="a running container and no change that waits for a sync")
    for pod in pods:
        if "restarts" not in pod:
            continue  # of an earlier version's record
        judgement.check(
            pod["waiting"] is None,
            f"{facts.node}: pod {pod['name']} does not run: {pod['waiting']}, after {pod['restarts']} restarts"
            + (f" (the last end: {pod['last_end']})" if pod["last_end"] else ""),
            command=f"kubectl -n kube-system describe pod {pod['name']}",
        )
        if pod["restarts"] and pod["waiting"] is None:
            told = f"{facts.node}: pod {pod['name']} has restarted {pod['restarts']} times"
            judgement.remark(told + (f", the last end: {pod['last_end']}" if pod["last_end"] else ""))
    if proxy.metrics is None and proxy.metrics_error is not None:
        judgement.error(f"{facts.node}: kube-proxy's metrics were not read: {proxy.metrics_error}", command=proxy.ask("/metrics"))
    elif proxy.metrics is None and proxy.mode is None and (pods or proxy.processes):
        judgement.error(
            f"{facts.node}: kube-proxy's metrics were not read: it tells nothing ({proxy.mode_error})", command=proxy.ask("/metrics")
        )
    elif proxy.metrics is not None and proxy.at_s is not None:
        _syncs(judgement, facts, proxy.metrics, proxy.at_s)
    if not judgement.checked and not judgement.findings:
        if _absent(proxy) and proxy.mode is None:
            return Judgement.skipped("kube-proxy does not run here: the mode's check judges that")
        return Judgement.beyond_reach("neither kube-proxy's pod nor its metrics are known here")
    return judgement


def _syncs(judgement: Judgement, facts: NodeFacts, metrics: Mapping[str, float], at_s: float) -> None:
    # Each address family has its own series, where kube-proxy tells them apart.
    syncs = _series(metrics, f"{_SYNC}_last_timestamp_seconds")
    queues = _series(metrics, f"{_SYNC}_last_queued_timestamp_seconds")
    command = facts.kube_proxy.ask("/metrics")
    failures = {name.removeprefix(f"{_SYNC}_"): value for name, value in metrics.items() if "failures_total" in name and value}
    if not syncs:
        judgement.error(f"{facts.node}: kube-proxy's metrics do not tell when it synced", command=command)
        return
    newest = max(syncs.values())
    synced, queued = max(
        ((syncs.get(labels, newest), value) for labels, value in queues.items()),
        key=lambda pair: (pair[1] > pair[0], -pair[1]),  # of those that wait the one that has waited longest
        default=(newest, 0.0),
    )
    judgement.evidence.update(since_last_sync_s=round(at_s - synced, 1), failures={name: int(value) for name, value in failures.items()})
    told = "; ".join(f"{name} {value:.0f}" for name, value in sorted(failures.items()))
    last = f"the last sync is {at_s - synced:.0f} s ago" if synced else "it has never synced"
    waiting_s = at_s - queued if queued > synced else 0.0
    late = waiting_s > 2 * facts.kube_proxy.sync_period_s
    unwell = facts.kube_proxy.livez == _UNAVAILABLE and not late
    judgement.check(
        not unwell,
        f"{facts.node}: kube-proxy says itself that changes wait for longer than two sync periods to be brought into the kernel "
        f"(HTTP {_UNAVAILABLE}); {last}" + (f", failures since its start: {told}" if told else ""),
        command=_READ_LIVEZ,
    )
    judgement.check(
        not late,
        f"{facts.node}: a change has waited {waiting_s:.0f} s for kube-proxy to bring it into the kernel, want at most two sync periods "
        f"({2 * facts.kube_proxy.sync_period_s:.0f} s); {last}" + (f", failures since its start: {told}" if told else ""),
        measured=f"{waiting_s:.0f} s",
        command=command,
    )
    if told and not unwell and not late:
        judgement.remark(f"{facts.node}: syncs of kube-proxy have failed since its start, and succeeded since: {told}", command=command)


def _series(metrics: Mapping[str, float], name: str) -> dict[str, float]:
    """Return the series of a metric by their labels."""
    return {key.removeprefix(name): value for key, value in metrics.items() if key == name or key.startswith(f"{name}{{")}


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def nodes_agree(documents: Mapping[str, Document], cluster: Cluster, expect: ProxyExpectation) -> Judgement:
    """Judge that equal nodes (pool, OS, kernel, machine type) run the proxy in the same mode, and name the odd one out."""
    if reason := _no_proxy_wanted(expect):
        return Judgement.skipped(reason)
    judgement = Judgement(want="one mode on all nodes of a group")
    groups: dict[str, dict[str, str]] = {}
    for name in sorted(documents):  # one by one: all of them do not fit into memory
        try:
            proxy = KubeProxy.from_document(documents[name])
        except RecordError as error:
            judgement.error(str(error))
            continue
        if proxy.mode is None and not _absent(proxy):
            judgement.error(f"{name}: kube-proxy does not tell its mode ({proxy.mode_error})", command=proxy.ask("/proxyMode"))
            continue
        groups.setdefault(cluster.node(name).group, {})[name] = proxy.mode or "none"
    judgement.evidence["modes"] = dict(Counter(mode for modes in groups.values() for mode in modes.values()))
    for modes in groups.values():
        if len(modes) > 1:
            _odd_ones(judgement, modes)
    if not judgement.checked and not judgement.findings:
        return Judgement.skipped("no two nodes are equal (pool, OS, kernel, machine type): nothing to compare")
    return judgement


def scheduler(facts: NodeFacts, expect: ProxyExpectation) -> Judgement:
    """Judge the scheduler of every virtual server: column 3 of the kernel's table, the only truth about it."""
    if left_out := _not_in_mode(facts, expect, "ipvs"):
        return left_out
    if expect.scheduler is None:
        return Judgement.skipped("nothing says which IPVS scheduler is wanted: the cluster claims none and no profile gives one")
    judgement = Judgement(want=f"scheduler {expect.scheduler}")
    table = _table(judgement, facts)
    if table is None:
        return judgement
    exclude = facts.kube_proxy.exclude_cidrs
    servers = [server for server in table if not exclude or not is_excluded(server.key.address, exclude)]
    if not servers:
        judgement.inconclusive(f"{facts.node}: the IPVS table is empty, there is no scheduler to look at", command=_READ_TABLE)
    judgement.evidence["schedulers"] = dict(Counter(server.scheduler for server in servers))
    for name in sorted({server.scheduler for server in servers}):
        having = [server for server in servers if server.scheduler == name]
        judgement.check(
            name == expect.scheduler.value,
            f"{facts.node}: scheduler {name} on {len(having)} of {len(servers)} virtual servers ({_examples(having)}), "
            f"want {expect.scheduler}",
            measured=name,
            wanted=expect.scheduler.value,
            command=_READ_TABLE,
        )
    return judgement


def kernel_support(facts: NodeFacts, expect: ProxyExpectation) -> Judgement:
    """Judge that the kernel serves IPVS, whether built in or as a module: lists of modules prove nothing (kubernetes#114669).

    Also what kube-proxy sets for it once at its start: a later reset is not healed.
    """
    if left_out := _not_in_mode(facts, expect, "ipvs"):
        return left_out
    judgement = Judgement(want="/proc/net/ip_vs, device kube-ipvs0, net.ipv4.vs.conntrack 1")
    judgement.check(facts.ipvs_loaded, f"{facts.node}: the kernel has no /proc/net/ip_vs, want IPVS", command=_READ_TABLE)
    if facts.ipvs_loaded:
        _table(judgement, facts)
    judgement.check(
        facts.host.link("kube-ipvs0") is not None,
        f"{facts.node}: no device kube-ipvs0, want the one that holds the Services' addresses",
        command="ip link show kube-ipvs0",
    )
    for key, want in IPVS_SYSCTLS.items():
        if key not in facts.host.sysctls:
            judgement.error(f"{facts.node}: {key} was not measured")
            continue
        have = facts.host.sysctls[key]
        judgement.check(
            have == want,
            f"{facts.node}: {key} {'is not there' if have is None else have}, want {want} (set by kube-proxy at its start)",
            measured=have,
            wanted=want,
            command=f"sysctl {key}",
        )
    return judgement


def strict_arp(facts: NodeFacts, expect: ProxyExpectation) -> Judgement:
    """Judge strict ARP on the uplink: arp_ignore 1 and arp_announce 2, each the larger of ``all`` and the device's own.

    So the kernel takes it (Documentation/networking/ip-sysctl: "the max value from conf/{all,interface}/arp_ignore is used").
    kube-proxy sets ``all`` once at its start; strictARP: false resets nothing and so wants nothing.
    """
    if left_out := _not_in_mode(facts, expect, "ipvs"):
        return left_out
    if expect.strict_arp is None or not expect.strict_arp.value:
        return Judgement.skipped("strict ARP is neither claimed nor wanted")
    judgement = Judgement(want=f"arp_ignore 1 and arp_announce 2 ({expect.strict_arp.origin})")
    if facts.uplink is None:
        judgement.error(f"{facts.node}: no device holds the node's InternalIP")
        return judgement
    device = facts.uplink.replace(".", "/")
    for name, want in (("arp_ignore", 1), ("arp_announce", 2)):
        keys = (f"net.ipv4.conf.all.{name}", f"net.ipv4.conf.{device}.{name}")
        values = [int(value) for key in keys if (value := facts.host.sysctls.get(key)) is not None]
        if keys[0] not in facts.host.sysctls or not values:
            judgement.error(f"{facts.node}: {keys[0]} was not measured")
            continue
        effective = max(values)
        if effective < want and keys[1] not in facts.host.sysctls:
            judgement.error(f"{facts.node}: {keys[1]} was not measured")
            continue
        # arp_ignore 2 is stricter still: it also wants the sender in the same subnet.
        judgement.check(
            effective in ((1, 2) if name == "arp_ignore" else (2,)),
            f"{facts.node}: {facts.uplink} {name} {effective} in force, want {want} (strictARP, {expect.strict_arp.origin})",
            measured=effective,
            wanted=want,
            command=f"sysctl {' '.join(keys)}",
        )
    return judgement


def table_matches(document: Document, facts: LateFacts, expect: ProxyExpectation, internal_ip: str | None) -> Judgement:
    """Judge that the table is what Services and EndpointSlices ask for (`pytest_k8snet.cluster.virtual_servers` says what that is).

    A difference is a fault when the first and the last reading have it and lie one sync period apart: kube-proxy heals what is younger.
    Raises `RecordError` when the node runs ipvs mode and its table was not recorded.
    """
    if left_out := _not_in_mode(facts, expect, "ipvs"):
        return left_out
    record = IpvsRecord.from_document(document)
    if not record.loaded or not record.readings:
        judgement = Judgement(want=_WANT_SERVERS)
        judgement.error(f"{record.node}: the IPVS table was not read", command=_READ_TABLE)
        return judgement
    differing = partial(tables.differing, IPVS, facts.kube_proxy.exclude_cidrs)
    return tables.compared(record, internal_ip, differing, Judgement(want=_WANT_SERVERS), _READ_TABLE)


def nft_table_matches(document: Document, facts: LateFacts, expect: ProxyExpectation, internal_ip: str | None) -> Judgement:
    """Judge that kube-proxy's nftables table is what Services and EndpointSlices ask for, in the manner of `table_matches`.

    NodePorts are not judged where the table names no address of the node that has them (``nodePortAddresses`` may match none).
    Raises `RecordError` when the node runs nftables mode and its table was not recorded.
    """
    if left_out := _not_in_mode(facts, expect, "nftables"):
        return left_out
    record = IpvsRecord.from_document(document, "nftables table")
    judgement = Judgement(want="an entry for every Service port that leads to its endpoints and to nothing else")
    if not record.readings or record.readings[-1].node_port_addresses is None:
        judgement.error(f"{record.node}: kube-proxy's nftables table was not read", command=_READ_NFT)
        return judgement
    return tables.compared(record, internal_ip, partial(tables.differing, NFTABLES, ()), judgement, _READ_NFT)


def _no_proxy_wanted(expect: ProxyExpectation) -> str | None:
    if expect.mode is not None and expect.mode.value == "none":
        return f"no kube-proxy is wanted ({expect.mode.origin}): the absence checks judge that"
    return None


def _not_in_mode(facts: LateFacts, expect: ProxyExpectation, mode: str) -> Judgement | None:
    """Return the judgement of a check of one mode on a node that does not run in it, None when it does."""
    if reason := _no_proxy_wanted(expect):
        return Judgement.skipped(reason)
    proxy = facts.kube_proxy
    if proxy.mode == mode:
        return None
    if proxy.mode is not None:
        return Judgement.skipped(f"kube-proxy runs in mode {proxy.mode} here, not {mode}")
    if _absent(proxy):
        return Judgement.skipped("kube-proxy does not run here, in ipvs mode or any other")
    judgement = Judgement()
    judgement.error(f"{facts.node}: kube-proxy does not tell its mode ({proxy.mode_error})", command=proxy.ask("/proxyMode"))
    return judgement


def _absent(proxy: KubeProxy) -> bool:
    return not proxy.listening and not proxy.processes


def _table(judgement: Judgement, facts: NodeFacts) -> tuple[VirtualServer, ...] | None:
    if facts.ipvs_table is None:
        judgement.error(f"{facts.node}: /proc/net/ip_vs was not read{facts.why('ipvs')}", command=_READ_TABLE)
        return None
    try:
        servers = parse_table(facts.ipvs_table)
    except RecordError as error:
        judgement.error(f"{facts.node}: {error}", command=_READ_TABLE)
        return None
    return servers


def _service_chains(judgement: Judgement, facts: NodeFacts, mode: str) -> None:
    for name, backend in sorted(facts.iptables.items()):
        command = f"iptables-{name}-save -t nat"
        if backend.error is not None:
            judgement.error(f"{facts.node}: whether chains of iptables mode are in force was not read: {backend.error}", command=command)
            continue
        reachable = backend.reachable.of(("KUBE-SVC-", "KUBE-SEP-"))
        unreferenced = backend.chains.of(("KUBE-SVC-", "KUBE-SEP-")).less(reachable)
        if reachable:
            judgement.check(
                False,
                f"{facts.node}: {len(reachable)} chains of iptables mode are still in force beside mode {mode} "
                f"(iptables-{name}: {few(reachable.names)}), want none",
                command=command,
            )
        if unreferenced:
            judgement.remark(
                f"{facts.node}: {len(unreferenced)} chains of iptables mode are left over, no packet reaches them "
                f"(iptables-{name}: {few(unreferenced.names)})",
                command=command,
            )


def _nft_tables(judgement: Judgement, facts: NodeFacts, mode: str) -> None:
    """Tables of nftables mode have base chains: as long as they are there every packet goes through them."""
    tables = [table for table in facts.nft_tables if table.split()[-1] == "kube-proxy"]
    if facts.nft_error is not None:
        judgement.remark(
            f"{facts.node}: whether tables of nftables mode are left was not read: {facts.nft_error}", command="nft list tables"
        )
    elif tables:
        judgement.check(
            False,
            f"{facts.node}: nftables has table {' and '.join(tables)} of nftables mode, in force beside mode {mode}, want none",
            command="nft list tables",
        )


def _odd_ones(judgement: Judgement, modes: Mapping[str, str]) -> None:
    """Check one group: every node whose mode is not that of most is odd; without a majority the modes are told as they are."""
    count = Counter(modes.values())
    (usual, most), *rest = count.most_common()
    if rest and rest[0][1] == most:
        told = "; ".join(f"{mode} on {few((name for name in sorted(modes) if modes[name] == mode), _NAMED)}" for mode in sorted(count))
        judgement.check(False, f"equal nodes run kube-proxy in different modes: {told}", command=_ASK_MODE)
        return
    others = few((name for name in sorted(modes) if modes[name] == usual), _NAMED)
    for name, mode in sorted(modes.items()):
        judgement.check(
            mode == usual,
            f"{name}: kube-proxy runs in mode {mode}, want {usual} as its equals have it ({others})",
            measured=mode,
            wanted=usual,
            command=_ASK_MODE,
        )


def _examples(servers: Sequence[VirtualServer]) -> str:
    first = heapq.nsmallest(FEW + 1, (server.key for server in servers))  # of a thousand there is no need to sort all
    return few([str(key) for key in first])


def _minor(version: str) -> int:
    match = re.match(r"v?1\.(\d+)", version)
    return int(match.group(1)) if match else 0
