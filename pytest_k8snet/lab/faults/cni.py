"""Faults of flannel, BGP and VXLAN: what their daemons have told the kernel, or each other, is not so any more."""

from __future__ import annotations

import json
import re

from pytest_k8snet.lab.faults.model import EVERY_NODE, PEER_NODE, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.network import peer_of
from pytest_k8snet.lab.flannel import CONFIG_MAP, NAMESPACE, SUBNET_FILE
from pytest_k8snet.lab.networks import MTU, NETWORKS
from pytest_k8snet.lab.node_files import BIRD_CONFIGURATION, TUNNEL, UPLINK, bird_protocol

VXLAN = tuple(kind for kind, network in NETWORKS.items() if network.encapsulation == "vxlan" and network.routes_by != "cilium")
FLANNEL_DEVICES = {"flannel-vxlan": "flannel.1", "flannel-ipip": "flannel.ipip"}
CONFIGURATION = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": NAMESPACE, "name": CONFIG_MAP}}
IPIP = "k8snet-fault"
SILENT = "k8snet_fault"
TAKEN_OUT = "# taken out: "


def _tunnel(lab: FaultyLab) -> str:
    return FLANNEL_DEVICES.get(lab.network, TUNNEL)


def _range(node: FaultyNode) -> str:
    """Return the half of a node's pod range that its first pods are in: a route to it goes before that to the whole, which stays."""
    return node.pod_cidr.replace("/24", "/25")


def _hop(node: FaultyNode) -> str:
    """Return the address of a node's vxlan device."""
    return node.pod_cidr.split("/")[0]


def _no_route(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["ip", "route", "delete", peer_of(lab, node).pod_cidr])


def _route(lab: FaultyLab, node: FaultyNode) -> None:
    peer = peer_of(lab, node)
    lab.run(node.name, ["ip", "route", "replace", peer.pod_cidr, "via", _hop(peer), "dev", _tunnel(lab), "onlink"])


def _no_forwarding(lab: FaultyLab, node: FaultyNode) -> None:
    peer = peer_of(lab, node)
    lab.run(node.name, ["bridge", "fdb", "delete", _hardware_address(lab, node, peer), "dev", _tunnel(lab), "dst", peer.address])


def _forwarding(lab: FaultyLab, node: FaultyNode) -> None:
    peer = peer_of(lab, node)
    lab.run(node.name, ["bridge", "fdb", "append", _hardware_address(lab, node, peer), "dev", _tunnel(lab), "dst", peer.address])


def _hardware_address(lab: FaultyLab, node: FaultyNode, peer: FaultyNode) -> str:
    said = lab.run(node.name, ["ip", "neighbour", "show", _hop(peer), "dev", _tunnel(lab)]).stdout
    return said.split("lladdr ")[1].split()[0]


def _tunnel_mtu(mtu_bytes: int | None, lab: FaultyLab, node: FaultyNode) -> None:
    wanted = NETWORKS[lab.network].pod_mtu if mtu_bytes is None else mtu_bytes
    lab.run(node.name, ["ip", "link", "set", _tunnel(lab), "mtu", str(wanted)])


def _subnet_mtu(mtu_bytes: int | None, lab: FaultyLab, node: FaultyNode) -> None:
    wanted = NETWORKS[lab.network].pod_mtu if mtu_bytes is None else mtu_bytes
    lab.run(node.name, ["sed", "-i", f"s/^FLANNEL_MTU=.*/FLANNEL_MTU={wanted}/", SUBNET_FILE])


def _ipip_route(lab: FaultyLab, node: FaultyNode) -> None:
    """Send what goes to the first half of one peer's range through a tunnel that works: the peer unpacks it by its own."""
    peer = peer_of(lab, node)
    for here, there in ((node, peer), (peer, node)):
        lab.run(here.name, ["modprobe", "ipip"])
        lab.run(here.name, ["ip", "link", "add", IPIP, "type", "ipip", "local", here.address, "remote", there.address])
        lab.run(here.name, ["ip", "link", "set", IPIP, "up"])
    lab.run(node.name, ["ip", "route", "replace", _range(peer), "dev", IPIP])


def _no_ipip_route(lab: FaultyLab, node: FaultyNode) -> None:
    peer = peer_of(lab, node)
    lab.run(node.name, ["ip", "route", "delete", _range(peer)])
    for here in (node, peer):
        lab.run(here.name, ["ip", "link", "delete", IPIP])


def _direct_route(lab: FaultyLab, node: FaultyNode) -> None:
    peer = peer_of(lab, node)
    lab.run(node.name, ["ip", "route", "replace", _range(peer), "via", peer.address, "dev", UPLINK])


def _no_direct_route(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["ip", "route", "delete", _range(peer_of(lab, node))])


def _backend(kind: str | None, lab: FaultyLab, node: FaultyNode) -> None:
    """Change what flannel's ConfigMap says, as an operator would who forgets that flanneld has to be restarted."""
    del node
    config_map = dict(lab.read_object(CONFIGURATION))
    network = json.loads(config_map["data"]["net-conf.json"])
    network["Backend"]["Type"] = lab.network.removeprefix("flannel-") if kind is None else kind
    lab.apply_object({**CONFIGURATION, "data": {**config_map["data"], "net-conf.json": json.dumps(network, indent=2)}})


def _bird(lab: FaultyLab, node: FaultyNode, configuration: str) -> None:
    lab.run(node.name, ["tee", BIRD_CONFIGURATION], stdin=configuration)
    lab.run(node.name, ["birdc", "configure"])


def _filtered(lab: FaultyLab, node: FaultyNode) -> None:
    """Keep out what one peer tells; the session stays."""
    text = lab.run(node.name, ["cat", BIRD_CONFIGURATION]).stdout
    head, protocol, rest = text.partition(f"protocol bgp {bird_protocol(peer_of(lab, node).name)} {{")
    _bird(lab, node, head + protocol + rest.replace("import all;", "import none;", 1))


def _unfiltered(lab: FaultyLab, node: FaultyNode) -> None:
    text = lab.run(node.name, ["cat", BIRD_CONFIGURATION]).stdout
    _bird(lab, node, text.replace("import none; export where", "import all; export where"))


def _silent_peer(lab: FaultyLab, node: FaultyNode) -> None:
    """Configure a session with an address of the nodes' network that nobody has."""
    text = lab.run(node.name, ["cat", BIRD_CONFIGURATION]).stdout
    local = re.search(r"local (\S+ as \d+);", text)
    assert local is not None, "the lab writes it so"
    nobody = f"{node.address.rpartition('.')[0]}.250 as {local[1].split()[-1]}"
    _bird(lab, node, f"{text}protocol bgp {SILENT} {{ local {local[1]}; neighbor {nobody}; direct; ipv4; }}\n")


def _no_silent_peer(lab: FaultyLab, node: FaultyNode) -> None:
    text = lab.run(node.name, ["cat", BIRD_CONFIGURATION]).stdout
    _bird(lab, node, "".join(line for line in text.splitlines(keepends=True) if SILENT not in line))


def _no_session(lab: FaultyLab, node: FaultyNode) -> None:
    """Take the session with one peer out of the configuration, as a generator of it does that was not told of that node."""
    text = lab.run(node.name, ["cat", BIRD_CONFIGURATION]).stdout
    head, protocol, rest = text.partition(f"protocol bgp {bird_protocol(peer_of(lab, node).name)} {{")
    session, end, tail = rest.partition("\n}\n")
    taken = "".join(f"{TAKEN_OUT}{line}\n" for line in f"{protocol}{session}{end}".splitlines())
    _bird(lab, node, head + taken + tail)


def _session(lab: FaultyLab, node: FaultyNode) -> None:
    text = lab.run(node.name, ["cat", BIRD_CONFIGURATION]).stdout
    _bird(lab, node, text.replace(TAKEN_OUT, ""))


FAULTS = (
    Fault(
        "vxlan-route-missing",
        area="encapsulation",
        summary="the route to one peer's pod range into the vxlan device is gone; the default route takes its place",
        turns=(Turns("NET-ENCAP-001"),),
        apply=_no_route,
        revert=_route,
        networks=VXLAN,
    ),
    Fault(
        "vxlan-forwarding-missing",
        area="encapsulation",
        summary="the vxlan device has no forwarding entry for one peer any more: what is sent there is lost, though the route is right",
        turns=(Turns("NET-ENCAP-002"),),
        apply=_no_forwarding,
        revert=_forwarding,
        networks=VXLAN,
    ),
    Fault(
        "tunnel-mtu-1500",
        area="mtu",
        summary="the MTU of flannel's ipip device is 1500, as large as the uplink's",
        turns=(Turns("NET-MTU-003"),),
        apply=lambda lab, node: _tunnel_mtu(MTU, lab, node),
        revert=lambda lab, node: _tunnel_mtu(None, lab, node),
        networks=("flannel-ipip",),  # a vxlan device on the uplink takes no MTU that does not fit
    ),
    Fault(
        "subnet-env-mtu-1500",
        area="mtu",
        summary="/run/flannel/subnet.env gives new pods an MTU of 1500, more than the tunnel carries",
        turns=(Turns("NET-MTU-001"),),
        apply=lambda lab, node: _subnet_mtu(MTU, lab, node),
        revert=lambda lab, node: _subnet_mtu(None, lab, node),
        networks=tuple(FLANNEL_DEVICES),
    ),
    Fault(
        "ipip-route",
        area="encapsulation",
        summary="a route leads a part of one peer's pod range into a (working) ipip device, where flannel claims host-gw",
        turns=(Turns("NET-ENCAP-001"),),
        apply=_ipip_route,
        revert=_no_ipip_route,
        networks=("flannel-host-gw",),
    ),
    Fault(
        "direct-route",
        area="encapsulation",
        summary="a route leads a part of one peer's pod range out of the uplink, where flannel claims ipip",
        turns=(Turns("NET-ENCAP-001"),),
        apply=_direct_route,
        revert=_no_direct_route,
        networks=("flannel-ipip",),
    ),
    Fault(
        "flannel-backend-changed",
        area="encapsulation",
        summary="flannel's ConfigMap says host-gw, and flanneld has not been restarted: it still encapsulates in ipip, on every node",
        turns=(Turns("NET-ENCAP-001", subject=EVERY_NODE),),
        apply=lambda lab, node: _backend("host-gw", lab, node),
        revert=lambda lab, node: _backend(None, lab, node),
        networks=("flannel-ipip",),
    ),
    Fault(
        "bgp-import-filter",
        area="encapsulation",
        summary="BIRD keeps out the routes of one peer: the session is up, and only the default route leads to that peer's pods",
        turns=(Turns("NET-ENCAP-001"),),
        apply=_filtered,
        revert=_unfiltered,
        networks=("bgp",),
    ),
    Fault(
        "bgp-peer-silent",
        area="encapsulation",
        summary="BIRD is configured to a peer that does not answer",
        turns=(Turns("NET-ENCAP-003"),),
        apply=_silent_peer,
        revert=_no_silent_peer,
        networks=("bgp",),
    ),
    Fault(
        "bgp-session-missing",
        area="encapsulation",
        summary="BIRD is not configured to speak to one node of the mesh: that one waits, and neither has a route to the other's pods",
        turns=(
            Turns("NET-ENCAP-001"),
            Turns("NET-ENCAP-003"),
            Turns("NET-ENCAP-001", subject=PEER_NODE),
            Turns("NET-ENCAP-003", subject=PEER_NODE),
        ),
        apply=_no_session,
        revert=_session,
        networks=("bgp",),
    ),
)
