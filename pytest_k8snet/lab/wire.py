"""The lab's wire: a bridge for each segment, and one tap per node whose speed is limited on the way into the node.

The lab's namespace is the gateway of each segment. It is a router only where there are two of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_k8snet.lab.addresses import AddressPlan
    from pytest_k8snet.lab.namespace import Namespace

BRIDGE = "br-lab"
BRIDGES = (BRIDGE, "br-lab-2")

# What a switch with a small buffer has: enough for full speed, and little delay when it is full.
_SHAPE = ("burst", "64kb", "latency", "50ms")


def lay(namespace: Namespace, plan: AddressPlan, line_rate: str | None) -> None:
    """Make bridge and taps; every node's frames enter it by its tap at `line_rate`, so that every path has that speed."""
    namespace.run(["ip", "-batch", "-"], stdin="\n".join(link_commands(plan)))
    if len(plan.gateways) > 1:
        namespace.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])
    if line_rate is not None:
        namespace.run(["tc", "-batch", "-"], stdin="\n".join(shaping_commands(plan, line_rate)))


def link_commands(plan: AddressPlan) -> Iterator[str]:
    """Give what `ip -batch` is to do."""
    for bridge, gateway in zip(BRIDGES, plan.gateways, strict=False):
        yield f"link add {bridge} type bridge forward_delay 0"
        yield f"address add {gateway}/{plan.node_prefix_length} dev {bridge}"
        yield f"link set {bridge} up"
    yield f"address add {plan.proxy_api_address}/{plan.node_prefix_length} dev {BRIDGE}"
    for node in plan.nodes:
        yield f"tuntap add dev {node.tap} mode tap"
        yield f"link set {node.tap} master {BRIDGES[node.segment]} up"
        # The API server reaches pods (webhooks, aggregated APIs) as the nodes do.
        yield f"route add {node.pod_cidr} via {node.address}"


def shaping_commands(plan: AddressPlan, line_rate: str) -> Iterator[str]:
    """Give what `tc -batch` is to do."""
    for node in plan.nodes:
        yield f"qdisc replace dev {node.tap} root tbf rate {line_rate} {' '.join(_SHAPE)}"
