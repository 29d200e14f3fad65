"""Faults of a node's tuning."""

from __future__ import annotations

from collections.abc import Callable

from pytest_k8snet.lab.faults.model import ANY_NETWORK, ANY_PROXY_MODE, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.plugins import read_plugins, write_plugins
from pytest_k8snet.lab.node_files import UPLINK
from pytest_k8snet.lab.settings import CILIUM

TUNING = "k8snetOriginalTuning"
LATER_FILE = "/etc/sysctl.d/99-k8snet-fault.conf"

_FORWARDING = f"net.ipv4.conf.{UPLINK}.forwarding"

Action = Callable[[FaultyLab, FaultyNode], None]


def sysctl(*assignments: str) -> Action:
    """Return what gives sysctls of the node other values until it starts again."""

    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, ["sysctl", "-q", "-w", *assignments])

    return act


def _as_tuned(lab: FaultyLab, node: FaultyNode) -> None:
    """Apply the node's own sysctl.d again."""
    lab.run(node.name, ["sysctl", "-q", "--system"])


def _file(path: str, text: str) -> Action:
    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, ["tee", path], stdin=text)

    return act


def _without(path: str) -> Action:
    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, ["rm", "-f", path])

    return act


def _module(*command: str) -> Action:
    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, command)

    return act


def _qdisc(kind: str) -> Action:
    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, ["tc", "qdisc", "replace", "dev", UPLINK, "root", kind])

    return act


def _without_tuning(lab: FaultyLab, node: FaultyNode) -> None:
    """Take the plugin out of the chain, and keep it under a key that nobody knows."""
    configuration = read_plugins(lab, node)
    configuration[TUNING] = [plugin for plugin in configuration["plugins"] if plugin["type"] == "tuning"]
    configuration["plugins"] = [plugin for plugin in configuration["plugins"] if plugin["type"] != "tuning"]
    write_plugins(lab, node, configuration)


def _with_tuning(lab: FaultyLab, node: FaultyNode) -> None:
    configuration = read_plugins(lab, node)
    configuration["plugins"] += configuration.pop(TUNING, [])
    write_plugins(lab, node, configuration)


FAULTS = (
    Fault(
        "pods-without-tuning",
        area="kernel",
        summary="the node's CNI configuration has lost its tuning plugin: new pods have the kernel's own values",
        turns=(Turns("NET-KERNEL-002"),),
        apply=_without_tuning,
        revert=_with_tuning,
        networks=("native", "vxlan"),
    ),
    Fault(
        "sysctl-reset",
        area="kernel",
        summary="net.ipv4.tcp_tw_reuse of the host is back at 0",
        turns=(Turns("NET-KERNEL-001"),),
        apply=sysctl("net.ipv4.tcp_tw_reuse=0"),
        revert=_as_tuned,
    ),
    Fault(
        "conntrack-max-lowered",
        area="kernel",
        summary="nf_conntrack_max is 16384",
        turns=(Turns("NET-KERNEL-005"), Turns("NET-CONNTRACK-003")),
        apply=sysctl("net.netfilter.nf_conntrack_max=16384"),
        revert=_as_tuned,
        proxy_modes=tuple(mode for mode in ANY_PROXY_MODE if mode != "none"),
    ),
    Fault(
        "uplink-forwarding-off",
        area="kernel",
        summary="the uplink forwards nothing that comes in by it, as a hardening run leaves it; ip_forward is 1, and so no CNI plugin "
        "mends it",
        turns=(Turns("NET-KERNEL-006"),),
        apply=sysctl(f"{_FORWARDING}=0"),
        revert=sysctl(f"{_FORWARDING}=1"),
        networks=tuple(network for network in ANY_NETWORK if network not in CILIUM),  # whose programs do not ask
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
        apply=sysctl("net.ipv4.tcp_congestion_control=cubic"),
        revert=_as_tuned,
    ),
    Fault(
        "sysctl-not-persisted",
        area="kernel",
        summary="a file of sysctl.d gives net.ipv4.tcp_tw_reuse another value at the next boot; the value in force is right",
        turns=(Turns("NET-KERNEL-007"),),
        apply=_file(LATER_FILE, "net.ipv4.tcp_tw_reuse = 2\n"),
        revert=_without(LATER_FILE),
    ),
    Fault(
        "module-unloaded",
        area="kernel",
        summary="the module br_netfilter is unloaded",
        turns=(Turns("NET-KERNEL-008"),),
        apply=_module("rmmod", "br_netfilter"),  # not modprobe -r, which unloads what it needs as well: the bridge and its devices
        revert=_module("modprobe", "br_netfilter"),
    ),
)
