"""Faults of packets on their way between pods of two nodes, from the node to the next one in a ring.

They concern UDP packets of the length of those that checks number and count, and nothing else: each shows at one place, and no other
check's packets are lost with them.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from pytest_k8snet.agent.wire import PAYLOAD_BYTES
from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.network import peer_of
from pytest_k8snet.lab.node_files import UPLINK
from pytest_k8snet.lab.tap_filter import one_in

LENGTH = 20 + 8 + PAYLOAD_BYTES  # as IP has it
LOST = 50  # of so many one

NUMBERED = ("-p", "udp", "-m", "length", "--length", str(LENGTH))
ONE_IN_MANY = ("-m", "statistic", "--mode", "nth", "--every", str(LOST), "--packet", "0")
MARK = "0x5e"
TABLE = "199"
NOWHERE = "k8snet-nowhere"
TUNNEL = "k8snet-hidden"
TUNNEL_PORT = "31999"


def _iptables(lab: FaultyLab, name: str, table: str, action: str, chain: str, *rule: str) -> None:
    lab.run(name, ["iptables-legacy", "-w", "-t", table, action, chain, *rule])


def _before_uplink(action: str, lab: FaultyLab, node: FaultyNode) -> None:
    rule = ("-o", UPLINK, "-d", peer_of(lab, node).pod_cidr, *NUMBERED, *ONE_IN_MANY, "-j", "DROP")
    _iptables(lab, node.name, "mangle", action, "POSTROUTING", *rule)


def _after_uplink(action: str, lab: FaultyLab, node: FaultyNode) -> None:
    rule = ("-i", UPLINK, "-s", node.pod_cidr, *NUMBERED, *ONE_IN_MANY, "-j", "DROP")
    _iptables(lab, peer_of(lab, node).name, "mangle", action, "FORWARD", *rule)


def _reverse_path(lab: FaultyLab, node: FaultyNode) -> None:
    """Let the way back of one packet in many lead by another device than it came by, and the peer mind that."""
    peer = peer_of(lab, node).name
    lab.run(peer, ["ip", "link", "add", NOWHERE, "type", "dummy"])
    lab.run(peer, ["ip", "link", "set", NOWHERE, "up"])
    lab.run(peer, ["ip", "route", "add", node.pod_cidr, "dev", NOWHERE, "table", TABLE])
    lab.run(peer, ["ip", "rule", "add", "fwmark", MARK, "lookup", TABLE])
    _marking("-I", lab, node)
    lab.run(peer, ["sysctl", "-q", "-w", f"net.ipv4.conf.{UPLINK}.src_valid_mark=1", f"net.ipv4.conf.{UPLINK}.rp_filter=1"])


def _no_reverse_path(lab: FaultyLab, node: FaultyNode) -> None:
    peer = peer_of(lab, node).name
    lab.run(peer, ["sysctl", "-q", "-w", f"net.ipv4.conf.{UPLINK}.src_valid_mark=0", f"net.ipv4.conf.{UPLINK}.rp_filter=0"])
    _marking("-D", lab, node)
    lab.run(peer, ["ip", "rule", "delete", "fwmark", MARK, "lookup", TABLE])
    lab.run(peer, ["ip", "link", "delete", NOWHERE])


def _marking(action: str, lab: FaultyLab, node: FaultyNode) -> None:
    rule = ("-i", UPLINK, "-s", node.pod_cidr, *NUMBERED, *ONE_IN_MANY, "-j", "MARK", "--set-mark", MARK)
    _iptables(lab, peer_of(lab, node).name, "mangle", action, "PREROUTING", *rule)


def _on_the_wire(lab: FaultyLab, node: FaultyNode) -> None:
    lab.filter_wire(peer_of(lab, node).name, one_in(LOST, IPv4Network(node.pod_cidr), LENGTH))


def _whole_wire(lab: FaultyLab, node: FaultyNode) -> None:
    lab.filter_wire(peer_of(lab, node).name, None)


def _hidden_tunnel(lab: FaultyLab, node: FaultyNode) -> None:
    """Put packets into vxlan behind the route, which leads to the uplink as ever: so do a CNI's programs."""
    peer = peer_of(lab, node)
    address = lab.run(peer.name, ["cat", f"/sys/class/net/{UPLINK}/address"]).stdout.strip()
    for here, there, options in ((node, peer, ()), (peer, node, ("address", address))):
        kind = ("type", "vxlan", "id", TABLE, "remote", there.address, "dstport", TUNNEL_PORT, "dev", UPLINK)
        lab.run(here.name, ["ip", "link", "add", TUNNEL, *options, *kind])
        lab.run(here.name, ["ip", "link", "set", TUNNEL, "up"])
    numbered = ("match", "ip", "protocol", "17", "0xff", "match", "u16", str(LENGTH), "0xffff", "at", "2")
    match = ("u32", "match", "ip", "dst", peer.pod_cidr, *numbered)
    lab.run(node.name, ["tc", "qdisc", "add", "dev", UPLINK, "clsact"])
    redirect = ("action", "mirred", "egress", "redirect", "dev", TUNNEL)
    lab.run(node.name, ["tc", "filter", "add", "dev", UPLINK, "egress", "protocol", "ip", *match, *redirect])


def _no_hidden_tunnel(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["tc", "qdisc", "delete", "dev", UPLINK, "clsact"])
    for here in (node, peer_of(lab, node)):
        lab.run(here.name, ["ip", "link", "delete", TUNNEL])


LOSES = Turns("NET-LOSS-001")

FAULTS = (
    Fault(
        "packets-lost-before-uplink",
        area="loss",
        summary=f"a rule drops one in {LOST} packets to one peer's pods on the node itself: seen at its pod's device, not at its uplink",
        turns=(LOSES, Turns("NET-ENCAP-004", verdict="inconclusive")),
        apply=lambda lab, node: _before_uplink("-I", lab, node),
        revert=lambda lab, node: _before_uplink("-D", lab, node),
        networks=("native",),
    ),
    Fault(
        "packets-lost-on-the-wire",
        area="loss",
        summary=f"the wire into one peer loses one in {LOST} packets of the node's pods, and no packet the other way",
        turns=(LOSES,),
        apply=_on_the_wire,
        revert=_whole_wire,
        networks=("native",),
    ),
    Fault(
        "packets-lost-after-uplink",
        area="loss",
        summary=f"a rule on one peer drops one in {LOST} packets of the node's pods: seen at the peer's uplink, not at its pod's device",
        turns=(LOSES,),
        apply=lambda lab, node: _after_uplink("-I", lab, node),
        revert=lambda lab, node: _after_uplink("-D", lab, node),
        networks=("native",),
    ),
    Fault(
        "reverse-path-filtered",
        area="loss",
        summary=f"the way back of one in {LOST} packets of the node's pods leads by another device of one peer, whose rp_filter is strict",
        turns=(LOSES,),
        apply=_reverse_path,
        revert=_no_reverse_path,
        networks=("native",),
    ),
    Fault(
        "vxlan-behind-route",
        area="encapsulation",
        summary="packets to one peer's pods are put into (working) vxlan although the route leads to the uplink",
        turns=(Turns("NET-ENCAP-004"),),
        apply=_hidden_tunnel,
        revert=_no_hidden_tunnel,
        networks=("native",),
    ),
)
