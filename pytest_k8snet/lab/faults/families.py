"""Faults of IPv6 alone, on clusters that have it: what they break goes on working by IPv4, where there is that too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.faults.model import NODE, PEER_NODE, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.network import peer_of
from pytest_k8snet.lab.faults.paths import NARROW
from pytest_k8snet.lab.faults.reach import NEW, NO_DNS
from pytest_k8snet.lab.faults.service_proxy import weigh_cluster_dns

#: What asks the other node's pods and gets no answer, whichever of the two lacks the route.
_BOTH_WAYS = ("DNS-004", "DNS-005", "REACH-001", "SERVICE-001")

Rule = Callable[[FaultyNode, FaultyNode], Sequence[str]]


def _cut_off(node: FaultyNode, peer: FaultyNode) -> Sequence[str]:
    return ["-I", "FORWARD", "-s", pods_6(node), "-d", pods_6(peer), "-p", "tcp", *NO_DNS, *NEW, "-j", "DROP"]


def _black_hole(_node: FaultyNode, peer: FaultyNode) -> Sequence[str]:
    return ["-t", "mangle", "-I", "FORWARD", "-d", pods_6(peer), "-m", "length", "--length", f"{NARROW + 1}:65535", "-j", "DROP"]


def _masqueraded(node: FaultyNode, peer: FaultyNode) -> Sequence[str]:
    return ["-t", "nat", "-I", "POSTROUTING", "-s", pods_6(node), "-d", pods_6(peer), "-j", "MASQUERADE"]


def pods_6(node: FaultyNode) -> str:
    """Return the node's IPv6 range of pods."""
    return next(cidr for cidr in node.pod_cidrs if ":" in cidr)


def _peer(lab: FaultyLab, node: FaultyNode) -> FaultyNode:
    peer = peer_of(lab, node)
    if peer.name == node.name:
        raise LabError("this fault is of the way to another node's pods: it takes a lab of two nodes or more")
    return peer


def _rule(rule: Rule, name: str, area: str, summary: str, *turns: Turns) -> Fault:
    def change(lab: FaultyLab, node: FaultyNode, action: str) -> None:
        words = [action if word == "-I" else word for word in rule(node, _peer(lab, node))]
        lab.run(node.name, ["ip6tables", "-w", *words])

    return Fault(
        name,
        area=area,
        summary=summary,
        turns=turns,
        apply=lambda lab, node: change(lab, node, "-I"),
        revert=lambda lab, node: change(lab, node, "-D"),
        networks=("native",),
        with_ipv6=True,
    )


def _no_route(lab: FaultyLab, node: FaultyNode) -> None:
    peer = _peer(lab, node)
    lab.run(node.name, ["ip", "route", "delete", pods_6(peer), "via", _address_6(peer)])
    # Not the default route instead, which leads to the lab's gateway.
    lab.run(node.name, ["ip", "route", "add", "unreachable", pods_6(peer)])


def _route(lab: FaultyLab, node: FaultyNode) -> None:
    peer = _peer(lab, node)
    lab.run(node.name, ["ip", "route", "delete", "unreachable", pods_6(peer)])
    lab.run(node.name, ["ip", "route", "add", pods_6(peer), "via", _address_6(peer)])


def _address_6(node: FaultyNode) -> str:
    return next(address for address in node.addresses if ":" in address)


FAULTS = (
    _rule(
        _cut_off,
        "ipv6-pods-cut-off",
        "reach",
        "the node drops new TCP connections by IPv6 of its pods to one peer's, DNS apart",
        Turns("NET-REACH-001"),
    ),
    _rule(
        _black_hole,
        "ipv6-mtu-black-hole",
        "mtu",
        "packets of IPv6 of more than 1400 bytes to one peer's pods vanish",
        Turns("NET-MTU-005"),
    ),
    _rule(
        _masqueraded,
        "ipv6-pods-masqueraded",
        "reach",
        "what the node's pods send to one peer's by IPv6 bears the node's address",
        Turns("NET-REACH-004"),
        Turns("NET-ENCAP-004"),
    ),
    Fault(
        "ipv6-route-missing",
        area="encapsulation",
        summary="the node has no route to the IPv6 range of the pods of its only peer, whose packets arrive and are not answered",
        turns=(
            Turns("NET-ENCAP-001"),
            Turns("NET-ENCAP-004", verdict="inconclusive"),
            *(Turns(check) for check in ("NET-LOSS-001", "NET-REACH-002", "NET-SERVICE-002")),
            *(Turns(f"NET-{check}", subject=subject) for check in _BOTH_WAYS for subject in (NODE, PEER_NODE)),
        ),
        apply=_no_route,
        revert=_route,
        networks=("native",),
        with_ipv6=True,
    ),
    Fault(
        "ipv6-real-server-weight-0",
        area="proxy",
        summary="a real server of kube-dns' IPv6 address has weight 0: it gets no connections",
        turns=(Turns("NET-PROXY-006"),),
        apply=lambda lab, node: weigh_cluster_dns(lab, node, now=1, then=0, by_ipv6=True),
        revert=lambda lab, node: weigh_cluster_dns(lab, node, now=0, then=1, by_ipv6=True),
        proxy_modes=("ipvs",),
        with_ipv6=True,
    ),
)
