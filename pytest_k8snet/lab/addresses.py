"""Which address everything in a lab has: derived from the settings alone, so that it is the same at every start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from pytest_k8snet.lab.settings import FIRST_NODE_HOST, POD_PREFIX_LENGTH, SERVICE_CIDR, LabSettings, second_subnet

API_PORT = 6443
SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """What one node is called and how it is reached."""

    name: str
    address: str
    pod_cidr: str
    segment: int
    """0, or 1 for a node beyond the router."""
    gateway: str
    """The router's address in its segment."""
    mac: str
    tap: str
    tunnel_address: str
    """Address of the vxlan device, when there is one."""
    tunnel_mac: str


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """The addresses of a lab."""

    api_address: str
    """The bridge: API server for kubelets and everything else."""
    proxy_api_address: str
    """A second address of the bridge, used by kube-proxy alone: one node's kube-proxy can be cut off without its kubelet."""
    node_prefix_length: int
    gateways: tuple[str, ...]
    """The router's address in each segment; the first one is the API server's, too."""
    service_cidr: str
    api_service_address: str
    dns_service_address: str
    nodes: tuple[NodeAddress, ...]

    def node(self, name: str) -> NodeAddress:
        """Give the node of this name."""
        return next(node for node in self.nodes if node.name == name)

    @staticmethod
    def of(settings: LabSettings) -> AddressPlan:
        """Derive the plan."""
        subnet = IPv4Network(settings.node_subnet)
        segments = (subnet, second_subnet(subnet))[: settings.subnets]
        ranges = IPv4Network(settings.pod_cidr).subnets(new_prefix=POD_PREFIX_LENGTH)
        next(ranges)  # node-1 has .1.0, node-2 has .2.0: easier to read
        numbers = range(1, settings.nodes + 1)
        # node-1, node-3, ... are in the first one: more nodes move none.
        nodes = tuple(_node(number, (number + 1) % 2 if len(segments) > 1 else 0, segments, next(ranges)) for number in numbers)
        return AddressPlan(
            api_address=str(subnet[1]),
            proxy_api_address=str(subnet[2]),
            node_prefix_length=subnet.prefixlen,
            gateways=tuple(str(segment[1]) for segment in segments),
            service_cidr=str(SERVICE_CIDR),
            api_service_address=str(SERVICE_CIDR[1]),
            dns_service_address=str(SERVICE_CIDR[10]),
            nodes=nodes,
        )


def _node(number: int, segment: int, segments: Sequence[IPv4Network], pods: IPv4Network) -> NodeAddress:
    subnet = segments[segment]
    return NodeAddress(
        name=f"node-{number}",
        address=str(subnet[FIRST_NODE_HOST - 1 + number]),
        pod_cidr=str(pods),
        segment=segment,
        gateway=str(subnet[1]),
        mac=f"02:6b:38:00:00:{number:02x}",
        tap=f"tap-node-{number}",
        tunnel_address=str(pods[0]),
        tunnel_mac=f"02:6b:38:01:00:{number:02x}",
    )
