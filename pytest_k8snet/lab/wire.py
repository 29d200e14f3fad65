"""The lab's wire: a bridge for each segment, and one tap per node whose speed is limited on the way into the node.

The lab's namespace is the gateway of each segment. It is a router only where there are two of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_k8snet.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_k8snet.lab.addresses import AddressPlan
    from pytest_k8snet.lab.namespace import Namespace

BRIDGE = "br-lab"
BRIDGES = (BRIDGE, "br-lab-2")

_FORWARDING = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}

# What a switch with a small buffer has: enough for full speed, and little delay when it is full.
_SHAPE = ("burst", "64kb", "latency", "50ms")


def lay(namespace: Namespace, plan: AddressPlan, line_rate: str | None) -> None:
    """Make bridge and taps; every node's frames enter it by its tap at `line_rate`, so that every path has that speed."""
    if 6 in plan.families and not _has_ipv6(namespace):
        raise LabError("--ip-family: this machine's kernel has no IPv6 (booted with ipv6.disable=1?); use --ip-family ipv4")
    namespace.run(["ip", "-batch", "-"], stdin="\n".join(link_commands(plan)))
    if len(plan.gateways) > 1:
        for family in plan.families:
            namespace.run(["sh", "-c", f"echo 1 >/proc/sys/net/{_FORWARDING[family]}"])
    if line_rate is not None:
        namespace.run(["tc", "-batch", "-"], stdin="\n".join(shaping_commands(plan, line_rate)))


def link_commands(plan: AddressPlan) -> Iterator[str]:
    """Give what `ip -batch` is to do."""
    for bridge, gateways in zip(BRIDGES, plan.gateways, strict=False):
        yield f"link add {bridge} type bridge forward_delay 0"
        for gateway, length in zip(gateways, plan.node_prefix_lengths, strict=True):
            yield f"address add {with_length(gateway, length)} dev {bridge}"
        yield f"link set {bridge} up"
    yield f"address add {with_length(plan.proxy_api_address, plan.node_prefix_length)} dev {BRIDGE}"
    for node in plan.nodes:
        yield f"tuntap add dev {node.tap} mode tap"
        yield f"link set {node.tap} master {BRIDGES[node.segment]} up"
        # The API server reaches pods (webhooks, aggregated APIs) as the nodes do.
        for pods, address in zip(node.pod_cidrs, node.addresses, strict=True):
            yield f"route add {pods} via {address}"


def with_length(address: str, length: int) -> str:
    """Give an address of a prefix for `ip address add`; one of IPv6 serves at once, as nobody else can have it."""
    return f"{address}/{length}" + (" nodad" if ":" in address else "")


def _has_ipv6(namespace: Namespace) -> bool:
    """Whether the kernel has IPv6; a new namespace's interfaces get it, whatever the machine's own have."""
    switch = "/proc/sys/net/ipv6/conf"
    script = f"[ -e {switch}/all ] || exit 0; for of in all default; do echo 0 >{switch}/$of/disable_ipv6; done; echo yes"
    return bool(namespace.run(["sh", "-c", script]))


def shaping_commands(plan: AddressPlan, line_rate: str) -> Iterator[str]:
    """Give what `tc -batch` is to do."""
    for node in plan.nodes:
        yield f"qdisc replace dev {node.tap} root tbf rate {line_rate} {' '.join(_SHAPE)}"
