"""The lab's wire: one bridge, and one tap per node whose speed is limited on the way into the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_k8snet.lab.addresses import AddressPlan
    from pytest_k8snet.lab.namespace import Namespace

BRIDGE = "br-lab"

# What a switch with a small buffer has: enough for full speed, and little delay when it is full.
_SHAPE = ("burst", "64kb", "latency", "50ms")


def lay(namespace: Namespace, plan: AddressPlan, line_rate: str | None) -> None:
    """Make bridge and taps; every node's frames enter it by its tap at `line_rate`, so that every path has that speed."""
    namespace.run(["ip", "-batch", "-"], stdin="\n".join(link_commands(plan)))
    if line_rate is not None:
        namespace.run(["tc", "-batch", "-"], stdin="\n".join(shaping_commands(plan, line_rate)))


def link_commands(plan: AddressPlan) -> Iterator[str]:
    """Give what `ip -batch` is to do."""
    yield f"link add {BRIDGE} type bridge forward_delay 0"
    yield f"address add {plan.api_address}/{plan.node_prefix_length} dev {BRIDGE}"
    yield f"address add {plan.proxy_api_address}/{plan.node_prefix_length} dev {BRIDGE}"
    yield f"link set {BRIDGE} up"
    for node in plan.nodes:
        yield f"tuntap add dev {node.tap} mode tap"
        yield f"link set {node.tap} master {BRIDGE} up"
        # The API server reaches pods (webhooks, aggregated APIs) as the nodes do.
        yield f"route add {node.pod_cidr} via {node.address}"


def shaping_commands(plan: AddressPlan, line_rate: str) -> Iterator[str]:
    """Give what `tc -batch` is to do."""
    for node in plan.nodes:
        yield f"qdisc replace dev {node.tap} root tbf rate {line_rate} {' '.join(_SHAPE)}"
