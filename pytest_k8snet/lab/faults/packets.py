"""Faults that only packets show: what a firewall, or a path that loses them, does to DNS, Services and the API server.

The rules stand in the table mangle, chain POSTROUTING: what IPVS sends on never passes FORWARD.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_k8snet.access.probe_services import GROUP_TARGET_PORTS, SPREAD, TARGET_PORT
from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.faults.model import ANY_NETWORK, INTO_NODE, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.network import peer_of
from pytest_k8snet.lab.faults.reach import NEW
from pytest_k8snet.measure.throughput import PORTS

WITH_SERVICES = ("ipvs", "iptables")
#: End of a name, then AAAA and IN: how a question for AAAA ends, which an answer repeats.
AAAA = "|00001c0001|"

Rule = Sequence[str]
Rules = Callable[[FaultyLab, FaultyNode], Sequence[Rule]]


def _change(lab: FaultyLab, node: FaultyNode, action: str, rules: Sequence[Rule]) -> None:
    for chain, *matches in rules:
        table = "mangle" if chain == "POSTROUTING" else "filter"
        rule = [chain, *matches, "-m", "comment", "--comment", "k8snet-lab fault", "-j", "DROP"]
        lab.run(node.name, ["iptables-legacy", "-w", "-t", table, action, *rule])


def _dropping(rules: Rules) -> tuple[Callable[[FaultyLab, FaultyNode], None], Callable[[FaultyLab, FaultyNode], None]]:
    """Return what drops the packets that the rules match, and what ends that."""
    return (
        lambda lab, node: _change(lab, node, "-I", rules(lab, node)),
        lambda lab, node: _change(lab, node, "-D", rules(lab, node)),
    )


def _fault(
    name: str,
    area: str,
    summary: str,
    turns: tuple[Turns, ...],
    rules: Rules,
    *,
    proxy_modes: tuple[str, ...] = WITH_SERVICES,
    networks: tuple[str, ...] = ANY_NETWORK,
) -> Fault:
    apply, revert = _dropping(rules)
    return Fault(name, area=area, summary=summary, turns=turns, apply=apply, revert=revert, proxy_modes=proxy_modes, networks=networks)


def _dns_server(lab: FaultyLab, node: FaultyNode) -> Sequence[Rule]:
    """Match what goes to the DNS server on the next node."""
    place = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"namespace": "kube-system", "name": "kube-dns"}}
    endpoints = lab.read_object(place)
    peer = peer_of(lab, node).name
    for subset in endpoints.get("subsets") or ():
        for address in subset.get("addresses") or ():
            if address.get("nodeName") == peer:
                return [("POSTROUTING", "-d", address["ip"], "-p", protocol, "--dport", "53") for protocol in ("udp", "tcp")]
    raise LabError(f"no ready endpoint of kube-system/kube-dns is on {peer}; is CoreDNS ready?")


def _second_answer(lab: FaultyLab, node: FaultyNode) -> Sequence[Rule]:
    del lab
    return [("POSTROUTING", "-d", node.pod_cidr, "-p", "udp", "--sport", "53", "-m", "string", "--algo", "bm", "--hex-string", AAAA)]


def _datagrams(lab: FaultyLab, node: FaultyNode) -> Sequence[Rule]:
    """Match one in twenty of what iperf3 sends to the node's pods by UDP."""
    del lab
    ports = f"{PORTS[0]}:{PORTS[1]}"
    return [
        ("POSTROUTING", "-d", node.pod_cidr, "-p", "udp", "--dport", ports, "-m", "statistic", "--mode", "random", "--probability", "0.05")
    ]


def _of_services(lab: FaultyLab, node: FaultyNode) -> Sequence[Rule]:
    """Match full packets, beyond a megabyte a second, of what comes to the node's pods by the run's Services.

    By bytes: the kernel passes on as one packet what the device joined.
    """
    del lab
    many = ("-m", "hashlimit", "--hashlimit-above", "1mb/s", "--hashlimit-burst", "1mb", "--hashlimit-name", "k8snet-lab")
    return [("POSTROUTING", "-d", node.pod_cidr, "-p", "tcp", "--dport", str(TARGET_PORT), "-m", "length", "--length", "1000:", *many)]


def _dns_tcp(lab: FaultyLab, node: FaultyNode) -> Sequence[Rule]:
    del lab
    return [("POSTROUTING", "-s", node.pod_cidr, "-p", "tcp", "--dport", "53")]


def _node_ports(lab: FaultyLab, node: FaultyNode) -> Sequence[Rule]:
    del lab, node
    return [("INPUT", "-p", "tcp", "--dport", "30000:32767")]


def _hairpin(lab: FaultyLab, node: FaultyNode) -> Sequence[Rule]:
    """Match what a pod sends to itself: kube-proxy keeps the addresses of the node's endpoints in a set, to masquerade that.

    Of Services of several endpoints, of which it is one, that would be a dead one.
    """
    del lab, node
    loop_back = ("-m", "set", "--match-set", "KUBE-LOOP-BACK", "dst,dst,src")
    return [("POSTROUTING", "-p", "tcp", "--dport", str(TARGET_PORT), *loop_back)]


def _api_servers(lab: FaultyLab) -> list[tuple[str, str]]:
    """Return their addresses and ports."""
    endpoints = lab.read_object({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"namespace": "default", "name": "kubernetes"}})
    (subset,) = endpoints["subsets"]
    return [(item["ip"], str(subset["ports"][0]["port"])) for item in subset["addresses"]]


def _api_server(lab: FaultyLab, node: FaultyNode) -> Sequence[Rule]:
    return [("POSTROUTING", "-s", node.pod_cidr, "-d", address, "-p", "tcp", "--dport", port) for address, port in _api_servers(lab)]


def _webhooks(lab: FaultyLab, node: FaultyNode) -> Sequence[Rule]:
    """Match connections of the API servers to the node's pods, to whatever port: the way to a webhook."""
    return [("POSTROUTING", "-s", address, "-d", node.pod_cidr, *NEW) for address, _ in _api_servers(lab)]


def _endpoint(lab: FaultyLab, node: FaultyNode) -> Sequence[Rule]:
    """Match what the node's pods send, by the Service that is to spread it, to the endpoint on the next node."""
    port = str(GROUP_TARGET_PORTS[SPREAD])
    return [("POSTROUTING", "-s", node.pod_cidr, "-d", peer_of(lab, node).pod_cidr, "-p", "tcp", "--dport", port)]


FAULTS = (
    _fault(
        "endpoint-dead",
        "service",
        "one of a Service's endpoints, that on the next node, answers the node's pods no more, and is chosen still",
        (Turns("NET-SERVICE-005"),),
        _endpoint,
    ),
    _fault(
        "node-ports-firewalled",
        "service",
        "the node's firewall drops what comes for NodePorts",
        (Turns("NET-SERVICE-002"),),
        _node_ports,
    ),
    _fault(
        "services-throttled",
        "service",
        "a firewall on the node lets no more than a megabyte a second to its pods that came by a Service",
        (Turns("NET-SERVICE-010", subject=INTO_NODE),),
        _of_services,
        proxy_modes=("ipvs",),
    ),
    _fault(
        "hairpin-dropped",
        "service",
        "what the node's pods send to themselves by a Service is dropped",
        (Turns("NET-SERVICE-003"),),
        _hairpin,
        proxy_modes=("ipvs",),
    ),
    _fault(
        "api-server-cut-from-pods",
        "control_plane",
        "the node's pods do not reach the API server; the node does",
        (Turns("NET-CONTROL-008"),),
        _api_server,
    ),
    _fault(
        "webhooks-cut-off",
        "control_plane",
        "what the API server sends to the node's pods by itself is dropped; they reach it, and it reaches the kubelet",
        (Turns("NET-CONTROL-009"),),
        _webhooks,
        proxy_modes=("ipvs",),
        networks=("native",),
    ),
    _fault(
        "dns-server-cut",
        "dns",
        "nothing from the node reaches the CoreDNS of the next node: one server of several is dead from there",
        (Turns("NET-DNS-004"), Turns("NET-DNS-005")),
        _dns_server,
    ),
    _fault(
        "dns-second-answer-dropped",
        "dns",
        "of two answers to the node's pods the one for AAAA is lost, as in the race of connection tracking",
        (Turns("NET-DNS-006"),),
        _second_answer,
    ),
    _fault(
        "dns-tcp-dropped",
        "dns",
        "a firewall lets the node's pods ask DNS over UDP alone",
        (Turns("NET-DNS-004"), Turns("NET-DNS-005")),
        _dns_tcp,
    ),
    _fault(
        "pod-datagrams-lost",
        "throughput",
        "one in twenty datagrams of a stream to the node's pods is lost, and none of its host path (seen with --k8snet-udp=5mbit)",
        (Turns("NET-THROUGHPUT-005", subject=INTO_NODE),),
        _datagrams,
        proxy_modes=("ipvs",),
    ),
)
