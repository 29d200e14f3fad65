"""Which address everything in a lab has: derived from the settings alone, so that it is the same at every start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from pytest_k8snet.lab.settings import (
    FIRST_NODE_HOST,
    NODE_SUBNETS_6,
    POD_CIDR_6,
    POD_PREFIX_LENGTH,
    POD_PREFIX_LENGTH_6,
    SERVICE_CIDR,
    SERVICE_CIDR_6,
    LabSettings,
    second_subnet,
)

API_PORT = 6443
SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class NamedNode:
    """What a node is called, and its addresses and pod ranges: one of each address family, in the order of `AddressPlan.families`."""

    name: str
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]

    @property
    def address(self) -> str:
        """Its first address: what everybody calls it by who needs but one."""
        return self.addresses[0]

    @property
    def pod_cidr(self) -> str:
        """The pod range of the first family."""
        return self.pod_cidrs[0]


@dataclass(frozen=True, slots=True)
class NodeAddress(NamedNode):
    """How one node is reached."""

    segment: int
    """0, or 1 for a node beyond the router."""
    gateways: tuple[str, ...]
    """The router's addresses in its segment."""
    mac: str
    tap: str
    tunnel_address: str
    """Address of the vxlan device, when there is one."""
    tunnel_mac: str


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """The addresses of a lab."""

    families: tuple[int, ...]
    """4, 6 or both; the first one is what Services have that do not ask for more."""
    api_address: str
    """The bridge: API server for kubelets and everything else, of the first family."""
    proxy_api_address: str
    """A second address of the bridge, used by kube-proxy alone: one node's kube-proxy can be cut off without its kubelet."""
    node_prefix_lengths: tuple[int, ...]
    """By family."""
    gateways: tuple[tuple[str, ...], ...]
    """The router's addresses in each segment, by family; the first one is the API server's, too."""
    pod_cidrs: tuple[str, ...]
    service_cidrs: tuple[str, ...]
    api_service_address: str
    dns_service_addresses: tuple[str, ...]
    nodes: tuple[NodeAddress, ...]

    @property
    def node_prefix_length(self) -> int:
        """Of the first family."""
        return self.node_prefix_lengths[0]

    @property
    def dns_service_address(self) -> str:
        """Of the first family."""
        return self.dns_service_addresses[0]

    def node(self, name: str) -> NodeAddress:
        """Give the node of this name."""
        return next(node for node in self.nodes if node.name == name)

    @staticmethod
    def of(settings: LabSettings) -> AddressPlan:
        """Derive the plan."""
        families = tuple(_family(number, settings) for number in settings.families)
        numbers = range(1, settings.nodes + 1)
        # node-1, node-3, ... are in the first segment: more nodes move none.
        nodes = tuple(_node(number, (number + 1) % 2 if settings.subnets > 1 else 0, families) for number in numbers)
        first = families[0]
        return AddressPlan(
            families=settings.families,
            api_address=str(first.segments[0][1]),
            proxy_api_address=str(first.segments[0][2]),
            node_prefix_lengths=tuple(family.segments[0].prefixlen for family in families),
            gateways=tuple(tuple(str(family.segments[number][1]) for family in families) for number in range(settings.subnets)),
            pod_cidrs=tuple(str(family.pods) for family in families),
            service_cidrs=tuple(str(family.services) for family in families),
            api_service_address=str(first.services[1]),
            dns_service_addresses=tuple(str(family.services[10]) for family in families),
            nodes=nodes,
        )


def host_and_port(address: str, port: int) -> str:
    """Write an address with a port, as URLs do."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class _Family:
    """The ranges of one address family."""

    segments: Sequence[IPv4Network | IPv6Network]
    pods: IPv4Network | IPv6Network
    services: IPv4Network | IPv6Network
    pod_prefix_length: int

    def pods_of(self, number: int) -> IPv4Network | IPv6Network:
        """Give the pod range of a node: node-1 has .1.0, node-2 has .2.0, which is easier to read."""
        size = self.pods.max_prefixlen - self.pod_prefix_length
        return type(self.pods)((int(self.pods.network_address) + (number << size), self.pod_prefix_length))


def _family(number: int, settings: LabSettings) -> _Family:
    if number == 6:
        return _Family(NODE_SUBNETS_6[: settings.subnets], POD_CIDR_6, SERVICE_CIDR_6, POD_PREFIX_LENGTH_6)
    subnet = IPv4Network(settings.node_subnet)
    segments = (subnet, second_subnet(subnet))[: settings.subnets]
    return _Family(segments, IPv4Network(settings.pod_cidr), SERVICE_CIDR, POD_PREFIX_LENGTH)


def _node(number: int, segment: int, families: Sequence[_Family]) -> NodeAddress:
    pods = tuple(family.pods_of(number) for family in families)
    return NodeAddress(
        name=f"node-{number}",
        addresses=tuple(str(family.segments[segment][_host(number, family)]) for family in families),
        pod_cidrs=tuple(map(str, pods)),
        segment=segment,
        gateways=tuple(str(family.segments[segment][1]) for family in families),
        mac=f"02:6b:38:00:00:{number:02x}",
        tap=f"tap-node-{number}",
        tunnel_address=str(pods[0][0]),
        tunnel_mac=f"02:6b:38:01:00:{number:02x}",
    )


def _host(number: int, family: _Family) -> int:
    """Give the number of a node's address in its segment: in IPv6 its digits read as in IPv4."""
    host = FIRST_NODE_HOST - 1 + number
    return int(str(host), 16) if family.segments[0].version == 6 else host
