"""Faults of the paths between pods: which sizes of packets they carry, and how long that takes."""

from __future__ import annotations

from pytest_k8snet.lab.faults.model import PEER_NODE, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.network import BRIDGE, WITH_BRIDGE, have_bridge, peer_of
from pytest_k8snet.lab.node_files import UPLINK

NARROW = 1400  # bytes, IP header included
CLAMPED = 1300
DELAY = "20ms"
SLOW_DNS = "250ms"

_IPTABLES = ("iptables-legacy", "-w")
_ICMP = ("OUTPUT", "-p", "icmp", "--icmp-type", "fragmentation-needed", "-j", "DROP")
_SYN_ACK = ("-i", UPLINK, "-p", "tcp", "--tcp-flags", "SYN,RST,ACK", "SYN,ACK")
_CLAMP = ("FORWARD", *_SYN_ACK, "-j", "TCPMSS", "--set-mss", str(CLAMPED))


def _black_hole(change: str, lab: FaultyLab, node: FaultyNode) -> None:
    """Drop what is larger, on its way to one peer's pods: offloads are no matter here, as UDP is sent packet by packet."""
    large = ("FORWARD", "-d", peer_of(lab, node).pod_cidr, "-m", "length", "--length", f"{NARROW + 1}:65535", "-j", "DROP")
    lab.run(node.name, [*_IPTABLES, "-t", "mangle", change, *large])


def _narrow(lab: FaultyLab, node: FaultyNode, *more: str) -> None:
    peer = peer_of(lab, node)
    lab.run(node.name, ["ip", "route", "replace", peer.pod_cidr, "via", peer.address, "dev", UPLINK, *more])


def _narrow_route(lab: FaultyLab, node: FaultyNode) -> None:
    """Let the node be a router that has only so much room toward one peer's pods, and says so to who sends more."""
    _narrow(lab, node, "mtu", "lock", str(NARROW))


def _wide_route(lab: FaultyLab, node: FaultyNode) -> None:
    _narrow(lab, node)


def _silent_narrow_route(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, [*_IPTABLES, "-A", *_ICMP])
    _narrow_route(lab, node)


def _telling_wide_route(lab: FaultyLab, node: FaultyNode) -> None:
    _wide_route(lab, node)
    lab.run(node.name, [*_IPTABLES, "-D", *_ICMP])


def _clamp(change: str, lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, [*_IPTABLES, "-t", "mangle", change, *_CLAMP])


def _delay(lab: FaultyLab, node: FaultyNode, delay: str, *match: str) -> None:
    """Delay what comes from elsewhere into the node's pods, as far as it matches."""
    have_bridge(lab, node)
    # Every priority leads to the second band, so that the third one has only what the filter puts there.
    lab.run(node.name, ["tc", "qdisc", "replace", "dev", BRIDGE, "root", "handle", "1:", "prio", "priomap", *["1"] * 16])
    lab.run(node.name, ["tc", "qdisc", "add", "dev", BRIDGE, "parent", "1:3", "handle", "30:", "netem", "delay", delay])
    chosen = ["protocol", "ip", "u32", "match", "ip", *match, "flowid", "1:3"]
    lab.run(node.name, ["tc", "filter", "add", "dev", BRIDGE, "parent", "1:", *chosen])


def _no_delay(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["tc", "qdisc", "delete", "dev", BRIDGE, "root"])


FAULTS = (
    Fault(
        "mtu-black-hole",
        area="mtu",
        summary="packets of more than 1400 bytes to one peer's pods vanish; those from there do not",
        turns=(Turns("NET-MTU-005"),),
        apply=lambda lab, node: _black_hole("-A", lab, node),
        revert=lambda lab, node: _black_hole("-D", lab, node),
        networks=("native",),
    ),
    Fault(
        "path-narrower",
        area="mtu",
        summary="the way to one peer's pods carries 1400 bytes, and who sends more is told so; the peer's pods then send less, too",
        turns=(Turns("NET-MTU-005"), Turns("NET-MTU-006", subject=PEER_NODE)),
        apply=_narrow_route,
        revert=_wide_route,
        networks=("native",),
    ),
    Fault(
        "frag-needed-dropped",
        area="mtu",
        summary="the way to one peer's pods carries 1400 bytes, and the ICMP errors that say so are dropped",
        turns=(Turns("NET-MTU-005"),),
        apply=_silent_narrow_route,
        revert=_telling_wide_route,
        networks=("native",),
    ),
    Fault(
        "segments-clamped",
        area="mtu",
        summary="a rule on the node lowers the segment size of the connections that its pods open",
        turns=(Turns("NET-MTU-006"),),
        apply=lambda lab, node: _clamp("-A", lab, node),
        revert=lambda lab, node: _clamp("-D", lab, node),
        networks=("native",),
    ),
    Fault(
        "pods-delayed",
        area="latency",
        summary="what comes from one peer's pods waits 20 ms before it enters the node's; its host path does not",
        turns=(Turns("NET-LATENCY-001"), Turns("NET-LATENCY-001", subject=PEER_NODE)),
        apply=lambda lab, node: _delay(lab, node, DELAY, "src", peer_of(lab, node).pod_cidr),
        revert=_no_delay,
        networks=WITH_BRIDGE,
    ),
    Fault(
        "dns-servers-slow",
        area="dns",
        summary="what DNS servers of other nodes answer the node's pods comes 250 ms late (seen where dns.p99_ms is less)",
        turns=(Turns("NET-DNS-004"), Turns("NET-DNS-005")),
        apply=lambda lab, node: _delay(lab, node, SLOW_DNS, "sport", "53", "0xffff"),
        revert=_no_delay,
        proxy_modes=("ipvs",),
        networks=WITH_BRIDGE,
    ),
)
