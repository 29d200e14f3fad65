"""Faults of who reaches whom, made by rules of iptables on the node."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.faults.model import ANY_PROXY_MODE, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.network import WITH_BRIDGE

NEW = ("-m", "conntrack", "--ctstate", "NEW")  # answers pass: what others begin is not broken by it

NO_DNS = ("!", "--dport", "53")  # where its servers run is for the scheduler to say

Rule = Callable[[FaultyLab, FaultyNode], Sequence[str]]


def _to_other_pods(lab: FaultyLab, node: FaultyNode) -> list[str]:
    return ["-d", ",".join(other.pod_cidr for other in lab.nodes if other.name != node.name)]


def _masqueraded(lab: FaultyLab, node: FaultyNode) -> list[str]:
    return ["POSTROUTING", "-t", "nat", "-s", node.pod_cidr, *_to_other_pods(lab, node), "-j", "MASQUERADE"]


def _masqueraded_to_nodes(lab: FaultyLab, node: FaultyNode) -> list[str]:
    others = ",".join(other.address for other in lab.nodes if other.name != node.name)
    return ["POSTROUTING", "-t", "nat", "-s", node.pod_cidr, "-d", others, "-j", "MASQUERADE"]


def _pods_kept_in(lab: FaultyLab, node: FaultyNode) -> list[str]:
    return ["FORWARD", "-s", node.pod_cidr, *_to_other_pods(lab, node), "-p", "tcp", *NO_DNS, *NEW, "-j", "DROP"]


def _node_kept_in(lab: FaultyLab, node: FaultyNode) -> list[str]:
    return ["OUTPUT", *_to_other_pods(lab, node), "-p", "udp", *NO_DNS, *NEW, "-j", "DROP"]


def _own_pods_kept_out(_lab: FaultyLab, node: FaultyNode) -> list[str]:
    return ["INPUT", "-s", node.pod_cidr, "-d", node.address, *NEW, "-j", "DROP"]


def _apply(rule: Rule) -> Callable[[FaultyLab, FaultyNode], None]:
    return lambda lab, node: _iptables(lab, node, "-I", rule)


def _revert(rule: Rule) -> Callable[[FaultyLab, FaultyNode], None]:
    return lambda lab, node: _iptables(lab, node, "-D", rule)


def _iptables(lab: FaultyLab, node: FaultyNode, action: str, rule: Rule) -> None:
    chain, *rest = rule(lab, node)
    if "-d" in rest and rest[rest.index("-d") + 1] == "":
        raise LabError("this fault is of the way to another node's pods: it takes a lab of two nodes or more")
    lab.run(node.name, ["iptables", "-w", action, chain, *rest])


def _fault(name: str, summary: str, rule: Rule, *turned: str, proxy_modes: tuple[str, ...] = ANY_PROXY_MODE) -> Fault:
    return Fault(
        name, area="reach", summary=summary, turns=tuple(map(Turns, turned)), apply=_apply(rule), revert=_revert(rule), networks=WITH_BRIDGE
    )


FAULTS = (
    _fault(
        "pods-cut-off-by-tcp",
        "the node drops new TCP connections of its pods to other nodes' pods, DNS apart",
        _pods_kept_in,
        "NET-REACH-001",
    ),
    _fault(
        "node-cut-off-from-pods",
        "the node drops what it sends by UDP itself to pods of other nodes, DNS apart",
        _node_kept_in,
        "NET-REACH-002",
    ),
    _fault(
        "node-closed-to-its-pods",
        "the node's firewall drops what its pods send to it",
        _own_pods_kept_out,
        "NET-REACH-003",
        "NET-SERVICE-002",
        proxy_modes=("ipvs",),
    ),
    _fault(
        "pods-masqueraded",
        "what the node's pods send to other nodes' pods bears the node's address",
        _masqueraded,
        "NET-REACH-004",
        "NET-ENCAP-004",
    ),
    _fault(
        "egress-masqueraded",
        "what the node's pods send to other nodes bears the node's address, which the profile does not want",
        _masqueraded_to_nodes,
        "NET-REACH-005",
    ),
)
