"""Faults of a node's tuning."""

from __future__ import annotations

from collections.abc import Callable

from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.node_files import UPLINK

Action = Callable[[FaultyLab, FaultyNode], None]


def _sysctl(assignment: str) -> Action:
    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, ["sysctl", "-q", "-w", assignment])

    return act


def _as_tuned(lab: FaultyLab, node: FaultyNode) -> None:
    """Apply the node's own sysctl.d again."""
    lab.run(node.name, ["sysctl", "-q", "--system"])


def _qdisc(kind: str) -> Action:
    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, ["tc", "qdisc", "replace", "dev", UPLINK, "root", kind])

    return act


FAULTS = (
    Fault(
        "sysctl-reset",
        area="kernel",
        summary="net.ipv4.tcp_tw_reuse of the host is back at 0",
        turns=(Turns("NET-KERNEL-001"),),
        apply=_sysctl("net.ipv4.tcp_tw_reuse=0"),
        revert=_as_tuned,
    ),
    Fault(
        "conntrack-max-lowered",
        area="kernel",
        summary="nf_conntrack_max is 16384",
        turns=(Turns("NET-KERNEL-005"),),
        apply=_sysctl("net.netfilter.nf_conntrack_max=16384"),
        revert=_as_tuned,
    ),
    Fault(
        "qdisc-replaced",
        area="kernel",
        summary="the uplink's queueing discipline is pfifo, whatever default_qdisc says",
        turns=(Turns("NET-KERNEL-003"),),
        apply=_qdisc("pfifo"),
        revert=_qdisc("fq"),
    ),
    Fault(
        "congestion-control-cubic",
        area="kernel",
        summary="new connections of the host use cubic",
        turns=(Turns("NET-KERNEL-004"),),
        apply=_sysctl("net.ipv4.tcp_congestion_control=cubic"),
        revert=_as_tuned,
    ),
)
