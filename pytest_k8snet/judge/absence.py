"""Judge that no kube-proxy is there and that nothing of one is left in force. Only where the wanted mode is none."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address

from pytest_k8snet.cluster import virtual_servers
from pytest_k8snet.cluster.claims.cilium import NAME as CILIUM
from pytest_k8snet.cluster.ipvs_table import parse_table
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.cluster.ranges import Network
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import ProxyExpectation, Wanted
from pytest_k8snet.judge import tables
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.judge.tables import few
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.facts import LateFacts, NodeFacts
from pytest_k8snet.record.ipvs import IpvsRecord

#: Chains that kube-proxy makes in table nat, in any of its modes (pkg/proxy/iptables/proxier.go, pkg/proxy/ipvs/proxier.go). What is
#: not here is not kube-proxy's: KUBE-FIREWALL, KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT, KUBE-MARK-* and KUBE-POSTROUTING are kubelet's
#: (pkg/kubelet/kubelet_network_linux.go, KEP-3178), KUBE-ROUTER-*, KUBE-NWPLCY-* and KUBE-POD-FW-* are kube-router's.
PROXY_CHAINS = (
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-SEP-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-XLB-",
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-PROXY-",
)


CILIUM_SOCKET = "/run/cilium/cilium.sock"

_ASK_CILIUM = f"curl --unix-socket {CILIUM_SOCKET} http://localhost/v1/healthz"
_READ_CILIUM = "cilium-dbg bpf lb list"
_IN_PART = ("partial", "probe")


def processes(facts: NodeFacts, expect: ProxyExpectation) -> Judgement:
    """Judge that no kube-proxy runs on the node, as a process or within another (k3s): nothing answers /proxyMode.

    Port 10256 would prove nothing: Cilium and Calico serve it as well.
    """
    wanted = _wanted(expect)
    if isinstance(wanted, Judgement):
        return wanted
    proxy = facts.kube_proxy
    judgement = Judgement(want=f"no process and no answer on port {proxy.port}, mode {wanted}")
    judgement.check(
        not proxy.processes,
        f"{facts.node}: kube-proxy runs ({'; '.join(proxy.processes)}), want mode {wanted}",
        measured="; ".join(proxy.processes),
        command="ps -e -o pid,args",
    )
    judgement.check(
        proxy.mode is None,
        f"{facts.node}: 127.0.0.1:{proxy.port}/proxyMode answers {proxy.mode}, want mode {wanted}",
        measured=proxy.mode,
        command=proxy.ask("/proxyMode"),
    )
    if proxy.listening and proxy.mode is None:
        told = f"{facts.node}: something listens on port {proxy.port} and tells no mode ({proxy.mode_error})"
        if (proxy.mode_error or "").startswith("HTTP"):
            judgement.remark(f"{told}: not kube-proxy")
        else:
            judgement.inconclusive(told, command=proxy.ask("/proxyMode"))
    return judgement


def replacement(facts: NodeFacts, expect: ProxyExpectation, cni: str | None) -> Judgement:
    """Judge that Cilium's agent says of itself that it replaces kube-proxy: it runs with what it read at its start.

    Modes are those of its API, `True` and `Strict` (until 1.13) for all of kube-proxy.
    """
    wanted = _wanted(expect)
    if isinstance(wanted, Judgement):
        return wanted
    if cni != CILIUM:
        return Judgement.skipped(f"the cluster's network is {cni or 'unknown'}, not Cilium's")
    judgement = Judgement(want=f"kube-proxy replacement on, mode {wanted}")
    cilium = facts.cilium
    if cilium is None:
        why = facts.why("cilium") or f": there is no {CILIUM_SOCKET} on the node"
        judgement.error(f"{facts.node}: Cilium's agent does not tell whether it replaces kube-proxy{why}", command=_ASK_CILIUM)
        return judgement
    if cilium.replacement is None:
        judgement.error(f"{facts.node}: Cilium's agent says nothing of kube-proxy replacement", command=_ASK_CILIUM)
        return judgement
    if cilium.replacement.lower() in _IN_PART:
        judgement.inconclusive(
            f"{facts.node}: Cilium's agent replaces kube-proxy in part ({cilium.replacement}), want all of it ({wanted.origin})",
            command=_ASK_CILIUM,
        )
        return judgement
    judgement.check(
        cilium.replaces_kube_proxy,
        f"{facts.node}: Cilium's agent runs with kube-proxy replacement {cilium.replacement}, want True ({wanted.origin})",
        measured=cilium.replacement,
        wanted="True",
        command=_ASK_CILIUM,
    )
    if cilium.state not in (None, "Ok"):
        judgement.remark(f"{facts.node}: Cilium's agent is in state {cilium.state}: {cilium.message}", command=_ASK_CILIUM)
    return judgement


def _not_replaced(facts: LateFacts, cni: str | None) -> str | None:
    """Return why nothing is to be expected of Cilium's maps of Services on the node, None when they serve there."""
    if cni != CILIUM:
        return f"the cluster's network is {cni or 'unknown'}, not Cilium's"
    cilium = facts.cilium
    if cilium is not None and cilium.replacement is not None and not cilium.replaces_kube_proxy:
        return f"Cilium's agent does not replace all of kube-proxy here ({cilium.replacement})"
    return None


def cilium_map_matches(document: Document, facts: LateFacts, cni: str | None, internal_ip: str | None) -> Judgement:
    """Judge that Cilium's maps of Services are what Services and EndpointSlices ask for, in the manner of `table_matches`.

    Raises `RecordError` when Cilium replaces kube-proxy on the node and its maps were not recorded.
    """
    if reason := _not_replaced(facts, cni):
        return Judgement.skipped(reason)
    record = IpvsRecord.from_document(document, "Cilium's map of Services")
    judgement = Judgement(want="a frontend for every Service port that leads to its endpoints and to nothing else")
    if not record.readings or record.readings[-1].cilium is None:
        why = record.readings[-1].cilium_error if record.readings else None
        told = f"Cilium's maps of Services were not read: {why}" if why else "Cilium has no maps of Services in /sys/fs/bpf/tc/globals"
        judgement.error(f"{record.node}: {told}", command=_READ_CILIUM)
        return judgement
    judgement.evidence["lost_slots"] = sum(frontend["lost_slots"] for frontend in record.readings[-1].cilium)
    return tables.compared(
        record,
        internal_ip,
        tables.differing_in_cilium,
        judgement,
        _READ_CILIUM,
        servers=tables.cilium_servers,
        healer=virtual_servers.CILIUM.healer,
    )


def workloads(cluster: Cluster, expect: ProxyExpectation) -> Judgement:
    """Judge that no DaemonSet and no static pod brings kube-proxy. A DaemonSet that wants no pod is absence, as Calico documents it."""
    wanted = _wanted(expect)
    if isinstance(wanted, Judgement):
        return wanted
    judgement = Judgement(want=f"no pod of kube-proxy, mode {wanted}", checked=1)
    for item in cluster.kube_proxy_daemonsets:
        name = f"{item['namespace']}/{item['name']}"
        pods = item.get("pods") or []
        if not item["desired"] and not pods:
            judgement.remark(f"DaemonSet {name} is there and wants no pod (node selector {item.get('node_selector')})")
            continue
        where = ", ".join(sorted(f"{pod['name']} on {pod['node']}{', static' if pod.get('static') else ''}" for pod in pods)[:3])
        judgement.check(
            False,
            f"DaemonSet {name} wants {item['desired']} pods{f', {len(pods)} are there ({where})' if pods else ''}, want mode {wanted}",
            measured=item["desired"],
            wanted=0,
            command=f"kubectl -n {item['namespace']} get daemonset {item['name']}",
        )
    return judgement


def iptables_chains(facts: NodeFacts, expect: ProxyExpectation) -> Judgement:
    """Judge the nat tables of both iptables back ends: kube-proxy's chains that a packet can reach are a fault, others a remark."""
    wanted = _wanted(expect)
    if isinstance(wanted, Judgement):
        return wanted
    judgement = Judgement(want=f"no chains of kube-proxy, mode {wanted}")
    for name in ("legacy", "nft"):
        backend = facts.iptables.get(name)
        command = f"iptables-{name}-save -t nat"
        if backend is None or backend.error is not None:
            judgement.error(f"{facts.node}: iptables-{name} was not read: {backend.error if backend else 'not measured'}", command=command)
            continue
        chains = backend.chains.of(PROXY_CHAINS)
        reachable = backend.reachable.of(PROXY_CHAINS)
        judgement.check(
            not reachable,
            f"{facts.node}: {len(reachable)} chains of kube-proxy are in force in iptables-{name} ({few(reachable.names)}), want none "
            f"({wanted.origin})",
            measured=len(reachable),
            wanted=0,
            command=command,
        )
        if len(chains) > len(reachable):
            idle = chains.less(reachable)
            judgement.remark(
                f"{facts.node}: {len(idle)} chains of kube-proxy are left over in iptables-{name}, no packet reaches them "
                f"({few(idle.names)})",
                command=command,
            )
    return judgement


def nft_tables(facts: NodeFacts, expect: ProxyExpectation) -> Judgement:
    """Judge that nftables mode left no table ``kube-proxy`` (KEP-3866). An nft that cannot tell proves nothing (KEP-5343)."""
    wanted = _wanted(expect)
    if isinstance(wanted, Judgement):
        return wanted
    judgement = Judgement(want=f"no nftables table kube-proxy, mode {wanted}")
    if facts.nft_error is not None:
        judgement.inconclusive(f"{facts.node}: the nftables tables could not be listed: {facts.nft_error}", command="nft list tables")
        return judgement
    left = [table for table in facts.nft_tables if table.split()[-1] == "kube-proxy"]
    judgement.check(
        not left,
        f"{facts.node}: nftables has table {' and '.join(left)}, want none ({wanted.origin})",
        measured=len(left),
        wanted=0,
        command="nft list tables",
    )
    return judgement


def ipvs_leftovers(facts: NodeFacts, expect: ProxyExpectation, services: Collection[Network] = ()) -> Judgement:
    """Judge that no virtual server and no device kube-ipvs0 is left. kube-router's own (device kube-dummy-if) are not kube-proxy's.

    Nor are those of keepalived or kube-vip (pkg/loadbalancer/ipvs.go), which balance the API server or an address of the site: kube-proxy's
    table has one for every address of the Services' ranges (pkg/proxy/ipvs/proxier.go, syncProxyRules), `services`, where they are known.
    """
    wanted = _wanted(expect)
    if isinstance(wanted, Judgement):
        return wanted
    judgement = Judgement(want=f"no IPVS table and no kube-ipvs0, mode {wanted}")
    judgement.check(
        facts.host.link("kube-ipvs0") is None,
        f"{facts.node}: device kube-ipvs0 is there, want none ({wanted.origin})",
        command="ip link show kube-ipvs0",
    )
    if not facts.ipvs_loaded:
        return judgement
    command = "cat /proc/net/ip_vs"
    if facts.ipvs_table is None:
        judgement.error(f"{facts.node}: /proc/net/ip_vs was not read{facts.why('ipvs')}", command=command)
        return judgement
    try:
        servers = parse_table(facts.ipvs_table)
    except RecordError as error:
        judgement.error(f"{facts.node}: {error}", command=command)
        return judgement
    if servers and facts.host.link("kube-dummy-if") is not None:
        judgement.remark(f"{facts.node}: {len(servers)} virtual servers are kube-router's (device kube-dummy-if)")
        return judgement
    if servers and services and not any(ip_address(server.key.address) in network for server in servers for network in services):
        named = few([str(server.key) for server in servers])
        judgement.remark(
            f"{facts.node}: {len(servers)} virtual servers ({named}) are another program's: none is within the Services' ranges"
        )
        return judgement
    judgement.check(
        not servers,
        f"{facts.node}: {len(servers)} virtual servers in the IPVS table ({few([str(server.key) for server in servers])}), want none "
        f"({wanted.origin})",
        measured=len(servers),
        wanted=0,
        command=command,
    )
    return judgement


def _wanted(expect: ProxyExpectation) -> Wanted[str] | Judgement:
    """Return the wanted mode none, or the skipped judgement when it is another one."""
    if expect.mode is None and expect.mode_unknown is not None:
        return Judgement.beyond_reach(f"whether there should be no kube-proxy could not be read ({expect.mode_unknown})")
    if expect.mode is None:
        return Judgement.skipped("nothing says that there should be no kube-proxy")
    if expect.mode.value != "none":
        return Judgement.skipped(f"kube-proxy is wanted, in mode {expect.mode}")
    return expect.mode
