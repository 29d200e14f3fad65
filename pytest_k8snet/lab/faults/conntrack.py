"""Faults of the connection table, all real: entries are made by datagrams into a device that swallows them."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_k8snet.lab.faults import background
from pytest_k8snet.lab.faults.kernel import Action
from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.plugins import give_pods
from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.lab.node_files import POD_SYSCTLS

DEVICE = "k8snet-fill"
NETWORK = "192.0.2.0/24"  # of documentation: nobody's
TIMEOUT = "net.netfilter.nf_conntrack_udp_timeout"
USUAL_TIMEOUT_S = 30
LONG_TIMEOUT_S = 100  # longer than a run of the suite
SHARE = 0.94
PRESSER = "presser"

FILL = """
import socket, sys
base = "/proc/sys/net/netfilter/nf_conntrack_"
read = lambda name: int(open(base + name).read())
missing = int(read("max") * float(sys.argv[1])) - read("count")
while missing > 0:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in range(1, min(missing, 60000) + 1):
            sender.sendto(b"", ("192.0.2.1", port))
    missing -= 60000
"""

PRESS = """
# Makes the table too small for a moment, twice a second, and sends datagrams that find no room in it.
import os, socket, time
limit = os.open("/proc/sys/net/netfilter/nf_conntrack_max", os.O_RDWR)
before = os.pread(limit, 32, 0)
while True:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        os.pwrite(limit, b"1", 0)
        try:
            for port in range(1, 20):
                try:
                    sender.sendto(b"", ("192.0.2.1", port))
                except OSError:
                    pass
        finally:
            os.pwrite(limit, before, 0)
    time.sleep(0.5)
"""


def _device(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["ip", "link", "add", DEVICE, "type", "dummy"])
    lab.run(node.name, ["ip", "link", "set", DEVICE, "up"])
    lab.run(node.name, ["ip", "route", "add", NETWORK, "dev", DEVICE])


def _no_device(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["ip", "link", "delete", DEVICE])


def _fill(lab: FaultyLab, node: FaultyNode) -> None:
    _device(lab, node)
    lab.run(node.name, ["sysctl", "-q", "-w", f"{TIMEOUT}={LONG_TIMEOUT_S}"])
    lab.run(node.name, ["python3", "-", str(SHARE)], stdin=FILL)


def _empty(lab: FaultyLab, node: FaultyNode) -> None:
    """Let the entries run out: there is no way to take them back one by one."""
    _no_device(lab, node)
    lab.run(node.name, ["sysctl", "-q", "-w", f"{TIMEOUT}={USUAL_TIMEOUT_S}"])

    def has_room() -> bool:
        read = lab.run(node.name, ["sysctl", "-n", "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"])
        count, limit = map(int, read.stdout.split())
        return count < limit / 2

    wait_until(has_room, "the connection table to empty", timeout_s=2 * LONG_TIMEOUT_S, interval_s=2.0)


def _press(lab: FaultyLab, node: FaultyNode) -> None:
    _device(lab, node)
    background.start(lab, node, PRESSER, PRESS)


def _relieve(lab: FaultyLab, node: FaultyNode) -> None:
    background.stop(lab, node, PRESSER)
    lab.run(node.name, ["sysctl", "-q", "--system"])
    _no_device(lab, node)


def _pods_with(sysctls: Mapping[str, str]) -> Action:
    return lambda lab, node: give_pods(lab, node, sysctls)


FEW_PORTS = {"net.ipv4.ip_local_port_range": "50000 50399", "net.ipv4.tcp_tw_reuse": "0"}
NO_TIMESTAMPS = {**POD_SYSCTLS, "net.ipv4.tcp_timestamps": "0"}
SEEN = "seen with --k8snet-conntrack-burst=600"

FAULTS = (
    Fault(
        "conntrack-table-nearly-full",
        area="conntrack",
        summary="94 % of the connection table are in use, by datagrams that nobody answers",
        turns=(Turns("NET-CONNTRACK-001"),),
        apply=_fill,
        revert=_empty,
    ),
    Fault(
        "conntrack-table-full",
        area="conntrack",
        summary="twice a second the connection table has no room for a moment, and datagrams are dropped",
        turns=(Turns("NET-CONNTRACK-002"),),
        apply=_press,
        revert=_relieve,
    ),
    Fault(
        "pod-ports-few",
        area="conntrack",
        summary=f"new pods of the node have 400 source ports, each of which waits for a minute before it is used again ({SEEN})",
        turns=(Turns("NET-KERNEL-002"), Turns("NET-CONNTRACK-004")),
        apply=_pods_with(FEW_PORTS),
        revert=_pods_with(POD_SYSCTLS),
        proxy_modes=("ipvs",),
        networks=("native",),
    ),
    Fault(
        "pod-timestamps-off",
        area="conntrack",
        summary=f"new pods of the node send no TCP timestamps: their tcp_tw_reuse, which is 1, has no effect ({SEEN})",
        turns=(Turns("NET-CONNTRACK-004"),),
        apply=_pods_with(NO_TIMESTAMPS),
        revert=_pods_with(POD_SYSCTLS),
        proxy_modes=("ipvs",),
        networks=("native",),
    ),
)
