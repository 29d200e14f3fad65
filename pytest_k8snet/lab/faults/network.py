"""Faults of routes, packet sizes and speed."""

from __future__ import annotations

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.faults import background
from pytest_k8snet.lab.faults.model import EVERY_NODE, INTO_NODE, PEER_NODE, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.plugins import give_pods, read_plugins, write_plugins
from pytest_k8snet.lab.networks import NETWORKS
from pytest_k8snet.lab.node_files import POD_SYSCTLS, UPLINK

WITH_BRIDGE = tuple(kind for kind, network in NETWORKS.items() if network.interfaces_by in ("bridge", "flannel"))
BRIDGE = "cni0"
ORIGINAL_MTU = "k8snetOriginalMtu"  # kept in the CNI configuration, which ignores keys it does not know
TUNNEL = "k8snet-fault"
TUNNEL_NETWORK = "169.254.199"
KILLER = "killer"

HALF_THE_LINE_RATE = ("tbf", "rate", "25mbit", "burst", "64kb", "latency", "20ms")  # too short a queue to be waited in
# A little narrower than the wire, so that the queue is here, and long enough for a quarter of a second.
LONG_QUEUE = ("tbf", "rate", "46500kbit", "burst", "64kb", "limit", "2mb")
CUBIC = {**POD_SYSCTLS, "net.ipv4.tcp_congestion_control": "cubic"}  # bbr leaves queues empty


def _pod_mtu(mtu_bytes: int | None, lab: FaultyLab, node: FaultyNode) -> None:
    """Set the bridge plugin's MTU (or take it away), as an operator's template would: pods made later have it."""
    configuration = read_plugins(lab, node)
    bridge = next(plugin for plugin in configuration["plugins"] if plugin["type"] == "bridge")
    if mtu_bytes is None:
        bridge["mtu"] = configuration.pop(ORIGINAL_MTU, bridge["mtu"])
    else:
        configuration.setdefault(ORIGINAL_MTU, bridge["mtu"])
        bridge["mtu"] = mtu_bytes
    write_plugins(lab, node, configuration)


def _uplink_mtu(mtu_bytes: int, lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["ip", "link", "set", UPLINK, "mtu", str(mtu_bytes)])


def peer_of(lab: FaultyLab, node: FaultyNode) -> FaultyNode:
    """Return the next node, in a ring."""
    names = [other.name for other in lab.nodes]
    return lab.nodes[(names.index(node.name) + 1) % len(names)]


def _vxlan_route(lab: FaultyLab, node: FaultyNode) -> None:
    """Send the traffic to one peer's pods through a vxlan device that works: nothing is lost, but it is encapsulated."""
    peer = peer_of(lab, node)
    for here, there, host in ((node, peer, 1), (peer, node, 2)):
        lab.run(
            here.name,
            ["ip", "link", "add", TUNNEL, "type", "vxlan", "id", "199", "remote", there.address, "dstport", "8472", "dev", UPLINK],
        )
        lab.run(here.name, ["ip", "address", "add", f"{TUNNEL_NETWORK}.{host}/30", "dev", TUNNEL])
        lab.run(here.name, ["ip", "link", "set", TUNNEL, "up"])
    lab.run(node.name, ["ip", "route", "replace", peer.pod_cidr, "via", f"{TUNNEL_NETWORK}.2", "dev", TUNNEL, "src", node.address])


def _native_route(lab: FaultyLab, node: FaultyNode) -> None:
    peer = peer_of(lab, node)
    lab.run(node.name, ["ip", "route", "replace", peer.pod_cidr, "via", peer.address, "dev", UPLINK])
    for here in (node, peer):
        lab.run(here.name, ["ip", "link", "delete", TUNNEL])


def have_bridge(lab: FaultyLab, node: FaultyNode) -> None:
    """Make the bridge of the node's pods when no pod has made it yet."""
    try:
        lab.run(node.name, ["ip", "link", "show", BRIDGE])
    except LabError:
        lab.run(node.name, ["ip", "link", "add", BRIDGE, "type", "bridge"])


def _throttle_pods(lab: FaultyLab, node: FaultyNode) -> None:
    """Limit what enters the node's pods."""
    have_bridge(lab, node)
    lab.run(node.name, ["tc", "qdisc", "replace", "dev", BRIDGE, "root", *HALF_THE_LINE_RATE])


def _unthrottle_pods(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["tc", "qdisc", "delete", "dev", BRIDGE, "root"])


def _queue_pods(lab: FaultyLab, node: FaultyNode) -> None:
    """Let what enters the node's pods wait in a long queue, which pods fill."""
    have_bridge(lab, node)
    lab.run(node.name, ["tc", "qdisc", "replace", "dev", BRIDGE, "root", *LONG_QUEUE])
    for every in lab.nodes:
        give_pods(lab, every, CUBIC)


def _unqueue_pods(lab: FaultyLab, node: FaultyNode) -> None:
    _unthrottle_pods(lab, node)
    for every in lab.nodes:
        give_pods(lab, every, POD_SYSCTLS)


KILL_SERVERS = """
# Ends every iperf3 server that is two seconds old: in the middle of its test.
import os, signal, sys, time
first_seen = {}
while True:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\\0")
        except OSError:
            continue
        if os.path.basename(words[0]) == b"iperf3" and (b"-s" in words or b"--server" in words):
            if time.monotonic() - first_seen.setdefault(pid, time.monotonic()) > 2:
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except OSError:
                    pass
    time.sleep(0.2)
"""


def _kill_servers(lab: FaultyLab, node: FaultyNode) -> None:
    background.start(lab, node, KILLER, KILL_SERVERS)


def _spare_servers(lab: FaultyLab, node: FaultyNode) -> None:
    background.stop(lab, node, KILLER)


FAULTS = (
    Fault(
        "vxlan-route",
        area="encapsulation",
        summary="the route to one peer's pod range leads into a (working) vxlan device",
        turns=(Turns("NET-ENCAP-001"), Turns("NET-ENCAP-004"), Turns("NET-MTU-006", subject=PEER_NODE)),
        apply=_vxlan_route,
        revert=_native_route,
        networks=("native",),
    ),
    Fault(
        "pod-mtu-1450",
        area="mtu",
        summary="the node's CNI configuration gives pods an MTU of 1450 on a flat network",
        turns=(Turns("NET-MTU-001"),),
        apply=lambda lab, node: _pod_mtu(1450, lab, node),
        revert=lambda lab, node: _pod_mtu(None, lab, node),
        networks=("native",),
    ),
    Fault(
        "uplink-mtu-1400",
        area="mtu",
        summary="the uplink's MTU is 1400",
        turns=(Turns("NET-MTU-002"), Turns("NET-NODE-004", subject="cluster")),
        apply=lambda lab, node: _uplink_mtu(1400, lab, node),
        revert=lambda lab, node: _uplink_mtu(1500, lab, node),
    ),
    Fault(
        "pod-path-throttled",
        area="throughput",
        summary="traffic into the node's pods is limited to half the line rate; its host path is not",
        turns=(Turns("NET-THROUGHPUT-001", subject=INTO_NODE), Turns("NET-THROUGHPUT-003", subject=INTO_NODE)),
        apply=_throttle_pods,
        revert=_unthrottle_pods,
        networks=WITH_BRIDGE,
    ),
    Fault(
        "pods-queued",
        area="throughput",
        summary="what enters the node's pods waits in a queue of two megabytes, which pods fill, as every node's use cubic",
        turns=(Turns("NET-THROUGHPUT-004", subject=INTO_NODE), Turns("NET-KERNEL-004", subject=EVERY_NODE)),
        apply=_queue_pods,
        revert=_unqueue_pods,
        networks=("native", "vxlan"),
    ),
    Fault(
        "iperf3-server-killed",
        area="throughput",
        summary="iperf3 servers on the node are killed in the middle of every take (the last seen with --k8snet-udp)",
        turns=tuple(Turns(f"NET-THROUGHPUT-00{n}", subject=INTO_NODE, verdict="error") for n in (1, 2, 3, 4, 5)),
        apply=_kill_servers,
        revert=_spare_servers,
    ),
)
