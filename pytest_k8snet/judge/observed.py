"""What a node's facts show, in the keys of a profile: what a profile would have to want for the node to be as it is meant to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pytest_k8snet.cluster.ipvs_table import parse_table
from pytest_k8snet.cluster.virtual_servers import is_excluded
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import CROSS_SUBNET, EncapsulationExpectation, Wanted
from pytest_k8snet.expect.source import Location
from pytest_k8snet.expect.words import ENCAPSULATIONS
from pytest_k8snet.judge.encapsulation import GATEWAYS, KINDS_OF, STANDING_FOR_PHYSICAL, routes_to_peers
from pytest_k8snet.judge.kernel import leaf_qdiscs
from pytest_k8snet.judge.model import Verdict
from pytest_k8snet.judge.mtu import far_routes
from pytest_k8snet.record.facts import NodeFacts


@dataclass(frozen=True, slots=True)
class Unread:
    """A value that the facts do not show, and why."""

    why: str


_MODES = ("iptables", "ipvs", "nftables")

_Kind = TypeVar("_Kind", str, int)

#: A value as a profile writes it.
Value = str | int | bool
Seen = Value | Unread


def observe(
    facts: NodeFacts, host_sysctls: Iterable[str], pod_sysctls: Iterable[str], addresses: Mapping[str, Collection[str]]
) -> dict[Location, Seen]:
    """Return what is seen at each key that applies to the node, in the order of a profile. Of sysctls those that were measured.

    `addresses` are the InternalIPs of nodes by name.
    """
    seen: dict[Location, Seen] = {("proxy", "mode"): _mode(facts)}
    if seen["proxy", "mode"] == "ipvs":
        seen["proxy", "scheduler"] = _scheduler(facts)
        seen["proxy", "strict_arp"] = _strict_arp(facts)
    seen["encapsulation",] = _encapsulation(facts, addresses)
    seen["mtu", "pod"] = _pod_mtu(facts)
    seen["mtu", "uplink"] = _uplink_mtu(facts)
    if (tunnel := _tunnel_mtu(facts)) is not None:
        seen["mtu", "tunnel"] = tunnel
    seen["throughput", "line_rate"] = _line_rate(facts)
    values = {**facts.host.sysctls, **_conntrack(facts)}
    seen |= {("kernel", "sysctl", "host", key): _sysctl(values[key]) for key in host_sysctls if key in values}
    if facts.pod is not None:
        inside = facts.pod.sysctls
        seen |= {("kernel", "sysctl", "pod", key): _sysctl(inside[key]) for key in pod_sysctls if key in inside}
    seen["kernel", "qdisc"] = _qdisc(facts)
    seen["kernel", "congestion_control"] = _congestion_control(facts)
    return seen


def _mode(facts: NodeFacts) -> Seen:
    proxy = facts.kube_proxy
    if proxy.mode is not None:
        return proxy.mode if proxy.mode in _MODES else Unread(f"kube-proxy runs in mode {proxy.mode}, for which a profile has no word")
    if not proxy.listening and not proxy.processes:
        return "none"
    return Unread(f"kube-proxy does not tell its mode ({proxy.mode_error})")


def _scheduler(facts: NodeFacts) -> Seen:
    if facts.ipvs_table is None:
        return Unread(f"/proc/net/ip_vs was not read{facts.why('ipvs')}")
    try:
        servers = [item for item in parse_table(facts.ipvs_table) if not is_excluded(item.key.address, facts.kube_proxy.exclude_cidrs)]
    except RecordError as error:
        return Unread(str(error))
    return _only("virtual servers", Counter(server.scheduler for server in servers), "the IPVS table is empty")


def _strict_arp(facts: NodeFacts) -> Seen:
    if facts.uplink is None:
        return Unread("no device holds the node's InternalIP")
    effective = {}
    for name in ("arp_ignore", "arp_announce"):
        keys = (f"net.ipv4.conf.all.{name}", f"net.ipv4.conf.{facts.uplink.replace('.', '/')}.{name}")
        values = [int(value) for key in keys if (value := facts.host.sysctls.get(key)) is not None]
        if not values:
            return Unread(f"{keys[0]} was not measured")
        effective[name] = max(values)
    return effective["arp_ignore"] in (1, 2) and effective["arp_announce"] == 2


def fits_between_subnets(facts: NodeFacts, kind: str, addresses: Mapping[str, Collection[str]]) -> bool:
    """Whether the node's routes are those of a tunnel of this kind between subnets and of none within them."""
    peers = sorted({peer for routes in facts.peer_routes for peer in routes.peers})
    wanted = EncapsulationExpectation(across=Wanted(kind, ""))
    return bool(peers) and routes_to_peers(facts, wanted, peers, addresses).verdict is Verdict.PASS


def _encapsulation(facts: NodeFacts, addresses: Mapping[str, Collection[str]]) -> Seen:
    kinds: Counter[str] = Counter()
    for routes in facts.peer_routes:
        if not routes.peers:
            continue
        link = facts.host.link(routes.dev) if routes.dev else None
        if routes.error is not None or link is None:
            return Unread(f"the route to a pod of {min(routes.peers)} was not read: {routes.error or 'it names no known device'}")
        if link.name in GATEWAYS or link.kind == "openvswitch":
            return Unread(f"routes lead to {link.name}, behind which the CNI decides")
        kind = next((name for name, kinds_of in KINDS_OF.items() if link.kind in kinds_of), None)
        if kind is None and (link.name in facts.physical or link.name == facts.uplink or link.kind in STANDING_FOR_PHYSICAL):
            kind = "none"
        if kind is None:
            return Unread(f"the route to a pod of {min(routes.peers)} leaves by {link.name} ({link.kind}), for which a profile has no word")
        kinds[kind] += len(routes.peers)
    if len(kinds) == 2 and "none" in kinds:
        (tunnel,) = kinds.keys() - {"none"}
        if f"{tunnel}{CROSS_SUBNET}" in ENCAPSULATIONS and fits_between_subnets(facts, tunnel, addresses):
            return f"{tunnel}{CROSS_SUBNET}"
    none = (
        f"its routes were not read{facts.why('peer_routes')}"
        if "peer_routes" in facts.errors
        else "there is no other node to have a route to"
    )
    return _only("other nodes", kinds, none)


def _pod_mtu(facts: NodeFacts) -> Seen:
    if facts.pod is None:
        return Unread(facts.pod_absent or f"the probe pod was not measured: {facts.pod_error or 'no reason recorded'}")
    networks = [facts.pod, *(pod.network for pod in facts.existing_pods)]
    mtus = Counter(mtu for network in networks for mtu in {route.mtu for route in far_routes(network)})
    return _only("pods", mtus, "no pod has a route that leads anywhere")


def _uplink_mtu(facts: NodeFacts) -> Seen:
    link = facts.host.link(facts.uplink) if facts.uplink else None
    return Unread("no device holds the node's InternalIP") if link is None else link.mtu


def _tunnel_mtu(facts: NodeFacts) -> Seen | None:
    kinds = {kind for kinds in KINDS_OF.values() for kind in kinds}
    used = {routes.dev for routes in facts.peer_routes}
    mtus = Counter(link.mtu for link in facts.host.links if link.name in used and link.kind in kinds)
    return _only("tunnel devices", mtus, "") if mtus else None


def _line_rate(facts: NodeFacts) -> Seen:
    if facts.virtual is not None:
        return Unread(f"what its NIC reports is not believed: {facts.virtual}")
    found = facts.path_speed()
    if found is None:
        return Unread(f"its uplink {facts.uplink} reports no speed")
    speed, _ = found
    return f"{speed // 1000}gbit" if speed % 1000 == 0 else f"{speed}mbit"


def _conntrack(facts: NodeFacts) -> Mapping[str, str]:
    return {f"net.netfilter.nf_conntrack_{name}": str(value) for name, value in facts.conntrack.items() if value is not None}


def _sysctl(value: str | None) -> Seen:
    if value is None:
        return Unread("this kernel does not know it")
    text = " ".join(value.split())
    if not text:
        return Unread("it is empty")
    return int(text) if text.isdecimal() and str(int(text)) == text else text


def _qdisc(facts: NodeFacts) -> Seen:
    if facts.uplink is None:
        return Unread("no device holds the node's InternalIP")
    leaves = leaf_qdiscs(facts, facts.uplink)
    unread = [device for device, kinds in leaves.items() if not kinds]
    if unread:
        return Unread(f"no qdisc of {unread[0]} was measured{facts.why('qdiscs')}")
    return _only("queues", Counter(kind for kinds in leaves.values() for kind in kinds), "")


def _congestion_control(facts: NodeFacts) -> Seen:
    on_node = facts.host.congestion_control
    in_pod = on_node if facts.pod_absent is not None else None if facts.pod is None else facts.pod.congestion_control
    if on_node is None or in_pod is None:
        return Unread(f"a fresh socket's was not measured{f': {facts.pod_error}' if facts.pod_error else ''}")
    return on_node if on_node == in_pod else Unread(f"{on_node} on the node, {in_pod} in the probe pod")


def _only(of: str, counts: Counter[_Kind], none: str) -> _Kind | Unread:
    """Return the only value there is; when there are several, how many have each."""
    if not counts:
        return Unread(none)
    if len(counts) == 1:
        return next(iter(counts))
    return Unread(f"{of} differ: " + ", ".join(f"{value} on {count}" for value, count in counts.most_common()))
