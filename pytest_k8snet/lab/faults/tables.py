"""Faults of the kernel's tables of routes and neighbours."""

from __future__ import annotations

from pytest_k8snet.lab.faults.kernel import sysctl
from pytest_k8snet.lab.faults.model import ANY_KUBE_PROXY, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.network import peer_of
from pytest_k8snet.lab.node_files import UPLINK

NEIGHBOURS = "net.ipv4.neigh.default.gc_thresh3"
USUAL_NEIGHBOURS = 1024
NOBODYS_RANGE = 0
"""The third number of a range that no node of a lab has, amid those that nodes have: node-1 has 1."""


def _nobodys(node: FaultyNode) -> str:
    first, second, *_ = node.pod_cidr.split(".")
    return f"{first}.{second}.{NOBODYS_RANGE}.0/24"


def _left_over(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["ip", "route", "add", _nobodys(node), "via", peer_of(lab, node).address, "dev", UPLINK])


def _tidied(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["ip", "route", "delete", _nobodys(node)])


def _few_neighbours(lab: FaultyLab, node: FaultyNode) -> None:
    """Leave room for the other nodes and one pod: CoreDNS' alone fills that."""
    sysctl(f"{NEIGHBOURS}={len(lab.nodes)}")(lab, node)


FAULTS = (
    Fault(
        "route-left-over",
        area="control_plane",
        summary="a route leads to the pod range of a node that is gone, by the address of another one",
        turns=(Turns("NET-CONTROL-005"),),
        apply=_left_over,
        revert=_tidied,
        networks=("native",),
    ),
    Fault(
        "neighbour-table-small",
        area="control_plane",
        summary="the kernel's table of neighbours has no room for the nodes and the node's own pods (gc_thresh3)",
        turns=(Turns("NET-CONTROL-004"),),
        apply=_few_neighbours,
        revert=sysctl(f"{NEIGHBOURS}={USUAL_NEIGHBOURS}"),
        proxy_modes=ANY_KUBE_PROXY,  # without Services CoreDNS is in the host's network
    ),
)
