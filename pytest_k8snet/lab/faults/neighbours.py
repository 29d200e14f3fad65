"""Faults of who has which address on the nodes' link."""

from __future__ import annotations

import json

from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.network import peer_of
from pytest_k8snet.lab.node_files import UPLINK

TWIN = "k8snet-twin"
GONE = "02:fa:11:00:00:01"  # the hardware address of a device that is no more

# The kernel takes the first of several answers, and none for a second after it (net/ipv4/arp.c, LOCKTIME): nobody's table is ever wrong,
# and only who waits for a second answer sees it. What else such a machine breaks is a matter of who answers first: no test can rely on it.
LATER = "300ms"


def _twin(lab: FaultyLab, node: FaultyNode) -> None:
    """Let a machine be in the segment that has the node's address: a network namespace with a device of its own, on the next node."""
    host = peer_of(lab, node).name
    (link,) = json.loads(lab.run(node.name, ["ip", "-j", "-4", "addr", "show", "dev", UPLINK]).stdout)
    length = next(item["prefixlen"] for item in link["addr_info"] if item["local"] == node.address)
    lab.run(host, ["ip", "netns", "add", TWIN])
    lab.run(host, ["ip", "link", "add", "link", UPLINK, "name", TWIN, "netns", TWIN, "type", "macvlan", "mode", "bridge"])
    lab.run(host, ["tc", "-n", TWIN, "qdisc", "add", "dev", TWIN, "root", "netem", "delay", LATER])
    lab.run(host, ["ip", "-n", TWIN, "addr", "add", f"{node.address}/{length}", "dev", TWIN])
    lab.run(host, ["ip", "-n", TWIN, "link", "set", TWIN, "up"])


def _no_twin(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(peer_of(lab, node).name, ["ip", "netns", "delete", TWIN])


def _stale(lab: FaultyLab, node: FaultyNode) -> None:
    address = peer_of(lab, node).address
    lab.run(node.name, ["ip", "neigh", "replace", address, "lladdr", GONE, "nud", "permanent", "dev", UPLINK])


def _learned(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["ip", "neigh", "delete", peer_of(lab, node).address, "dev", UPLINK])


FAULTS = (
    Fault(
        "address-duplicate",
        area="reach",
        summary=f"another machine in the segment has the node's address, and answers ARP for it {LATER} after the node does",
        turns=(Turns("NET-REACH-008"),),
        apply=_twin,
        revert=_no_twin,
        networks=("native",),
    ),
    Fault(
        "neighbour-entry-stale",
        area="reach",
        summary="the node's neighbour table has, permanently, a hardware address for the next node that nobody has any more: what it sends "
        "there vanishes, which checks that send packets see as well",
        turns=(Turns("NET-REACH-007", subject="cluster"),),
        apply=_stale,
        revert=_learned,
        networks=("native",),
    ),
)
