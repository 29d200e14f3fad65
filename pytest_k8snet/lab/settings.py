"""What a lab is asked to be, and whether that is possible."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, Literal, get_args

from pytest_k8snet.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping

ProxyMode = Literal["ipvs", "iptables", "nftables", "none"]
NodeKernelKind = Literal["uml", "qemu"]
NodeKernelChoice = Literal["auto", "uml", "qemu"]
IngressKind = Literal["none", "nginx"]
PolicyKind = Literal["none", "kube-router"]
IpFamily = Literal["ipv4", "ipv6", "dual"]
NetworkKind = Literal["native", "vxlan", "flannel-vxlan", "flannel-host-gw", "flannel-ipip", "bgp", "cilium", "cilium-vxlan"]

PROXY_MODES: tuple[ProxyMode, ...] = get_args(ProxyMode)
NETWORK_KINDS: tuple[NetworkKind, ...] = get_args(NetworkKind)
INGRESS_KINDS: tuple[IngressKind, ...] = get_args(IngressKind)
POLICY_KINDS: tuple[PolicyKind, ...] = get_args(PolicyKind)
IP_FAMILIES: tuple[IpFamily, ...] = get_args(IpFamily)
NODE_KERNEL_CHOICES: tuple[NodeKernelChoice, ...] = get_args(NodeKernelChoice)

NOT_ON_UML: tuple[ProxyMode, ...] = ("nftables",)
"""Proxy modes that User-Mode Linux cannot run: it has no nf_tables for IPv4 and IPv6."""

CILIUM: tuple[NetworkKind, ...] = ("cilium", "cilium-vxlan")
"""Networks that serve Services themselves, without a kube-proxy, by programs that User-Mode Linux cannot load (no perf events)."""

ONE_SUBNET: tuple[NetworkKind, ...] = ("flannel-host-gw", "bgp", "cilium")
"""Networks whose nodes are each other's next hop."""
DIRECT_ROUTING: tuple[NetworkKind, ...] = ("flannel-vxlan", "flannel-ipip")
"""Networks that may encapsulate only what a router is to carry."""

SERVICE_CIDR = IPv4Network("10.96.0.0/16")
POD_PREFIX_LENGTH = 24
# Unique local addresses (RFC 4193), written so that they read like the IPv4 ones.
NODE_SUBNETS_6 = (IPv6Network("fd00:10:199::/64"), IPv6Network("fd00:10:199:1::/64"))
POD_CIDR_6 = IPv6Network("fd00:10:200::/48")
SERVICE_CIDR_6 = IPv6Network("fd00:10:96::/112")  # the API server takes none larger than a /108
POD_PREFIX_LENGTH_6 = 64
FIRST_NODE_HOST = 11
MAX_NODES = 50

# "This network", loopback, link-local and reserved addresses: private to Python, but no host on a wire may have one.
_NOBODYS = tuple(map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "240.0.0.0/4")))

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_LINE_RATE = re.compile(r"[1-9][0-9]*(\.[0-9]+)?[kmg]bit")


@dataclass(frozen=True, slots=True)
class LabSettings:
    """Everything `k8snet lab up` can be told."""

    name: str = "lab"
    nodes: int = 3
    proxy_mode: ProxyMode = "ipvs"
    network: NetworkKind = "native"
    line_rate: str | None = None
    """Speed of the wire to each node as `tc` writes it; None for what the machine gives."""
    pod_cidr: str = "10.200.0.0/16"
    node_subnet: str = "10.199.0.0/24"
    subnets: int = 1
    """Of how many segments the nodes' network is; a router joins them."""
    direct_routing: bool = False
    """Flannel encapsulates only what goes to nodes of another segment."""
    node_kernel: NodeKernelChoice = "auto"
    ingress: IngressKind = "none"
    policy: PolicyKind = "none"
    """What enforces NetworkPolicies."""
    ip_family: IpFamily = "ipv4"
    """Of which address families nodes, pods and Services have addresses."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not 1 <= self.nodes <= MAX_NODES:
            raise LabError(f"--nodes {self.nodes}: a lab has 1 to {MAX_NODES} nodes")
        if self.line_rate is not None and not _LINE_RATE.fullmatch(self.line_rate):
            raise LabError(f"--line-rate {self.line_rate}: not a speed; write it as 50mbit, 1gbit or 500kbit")
        nodes, pods = _network("--node-subnet", self.node_subnet), _network("--pod-cidr", self.pod_cidr)
        for option, network in (("--node-subnet", nodes), ("--pod-cidr", pods)):
            if network.overlaps(SERVICE_CIDR):
                raise LabError(f"{option} {network} overlaps the range of Services, {SERVICE_CIDR}; choose another one")
        if nodes.overlaps(pods):
            raise LabError(f"--node-subnet {nodes} and --pod-cidr {pods} overlap; choose ranges that do not")
        self._check_subnets(nodes, pods)
        self._check_cilium()
        self._check_family()
        if self.ingress != "none" and not self.has_services:
            raise LabError(f"--ingress {self.ingress}: with --proxy-mode none nothing leads to its Service; choose another --proxy-mode")
        if self.node_kernel == "uml" and self.proxy_mode in NOT_ON_UML:
            raise LabError(
                f"--node-kernel uml: User-Mode Linux lacks what --proxy-mode {self.proxy_mode} needs (nf_tables for IPv4 and IPv6); "
                "use --node-kernel qemu or auto"
            )
        if nodes.num_addresses < FIRST_NODE_HOST + self.nodes + 1:
            raise LabError(f"--node-subnet {nodes} is too small for {self.nodes} nodes: it has {nodes.num_addresses} addresses, use a /24")
        if pods.prefixlen > POD_PREFIX_LENGTH or 2 ** (POD_PREFIX_LENGTH - pods.prefixlen) <= self.nodes:
            raise LabError(f"--pod-cidr {pods} is too small for {self.nodes} nodes: each gets a /{POD_PREFIX_LENGTH} of it, use a /16")

    def _check_subnets(self, nodes: IPv4Network, pods: IPv4Network) -> None:
        if self.subnets not in (1, 2):
            raise LabError(f"--subnets {self.subnets}: the nodes are in 1 or 2 segments")
        if self.direct_routing and self.network not in DIRECT_ROUTING:
            raise LabError(f"--direct-routing: --network {self.network} has no such choice; {' and '.join(DIRECT_ROUTING)} have")
        if self.subnets == 1:
            return
        if self.network in ONE_SUBNET:
            raise LabError(f"--subnets 2: --network {self.network} needs nodes that reach each other without a router; use --subnets 1")
        if self.nodes < 2:
            raise LabError("--subnets 2: a lab of one node has one segment; use --nodes 2 or more")
        second = second_subnet(nodes)
        if second.overlaps(SERVICE_CIDR) or second.overlaps(pods) or not second.is_private:
            raise LabError(
                f"--node-subnet {nodes}: the second segment would be {second}, which is no range of its own; choose another --node-subnet"
            )

    def _check_cilium(self) -> None:
        if self.network not in CILIUM:
            return
        if self.proxy_mode != "none":
            raise LabError(
                f"--proxy-mode {self.proxy_mode}: --network {self.network} takes the place of kube-proxy; leave --proxy-mode out"
            )
        if self.node_kernel == "uml":
            raise LabError(
                f"--node-kernel uml: User-Mode Linux lacks what --network {self.network} needs (BPF with perf events); "
                "use --node-kernel qemu or auto"
            )

    def _check_family(self) -> None:
        if self.ip_family == "ipv4":
            return
        option = f"--ip-family {self.ip_family}"
        if self.network != "native":
            raise LabError(f"{option}: --network {self.network} is of IPv4 alone in a lab; use --network native")
        for given, value in (("--ingress", self.ingress), ("--policy", self.policy)):
            if value != "none":
                raise LabError(f"{option}: {given} {value} is of IPv4 alone in a lab; leave {given} out")

    @property
    def families(self) -> tuple[int, ...]:
        """The address families, 4 and 6; the first one is the cluster's own."""
        return {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}[self.ip_family]

    @property
    def has_services(self) -> bool:
        """Whether somebody leads from a Service's address to its pods."""
        return self.proxy_mode != "none" or self.network in CILIUM

    @property
    def kernel(self) -> NodeKernelKind:
        """The kind of kernel that the nodes run on: User-Mode Linux wherever it can do what is asked for."""
        if self.node_kernel != "auto":
            return self.node_kernel
        return "qemu" if self.proxy_mode in NOT_ON_UML or self.network in CILIUM else "uml"

    def to_json(self) -> dict[str, Any]:
        """Give the settings as JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> LabSettings:
        """Read what `to_json` gave."""
        return LabSettings(**values)


def proxy_mode_for(network: NetworkKind) -> ProxyMode:
    """Give the proxy mode of a lab that was told none."""
    return "none" if network in CILIUM else "ipvs"


def second_subnet(first: IPv4Network) -> IPv4Network:
    """Give the range of the second segment: the one after the first, as large."""
    return IPv4Network((int(first.network_address) + first.num_addresses, first.prefixlen))


def check_name(name: str) -> None:
    """Raise a LabError when a lab cannot be called this."""
    if not _NAME.fullmatch(name):
        raise LabError(f"--name {name!r}: a lab's name has 1 to 32 of a-z, 0-9 and -, and neither starts nor ends with -")


def _network(option: str, text: str) -> IPv4Network:
    try:
        network = IPv4Network(text)
    except ValueError as error:
        raise LabError(f"{option} {text}: {error}; write an IPv4 range as 10.199.0.0/24") from error
    if not network.is_private or any(network.overlaps(other) for other in _NOBODYS):
        raise LabError(f"{option} {network}: use a private range, such as one of 10.0.0.0/8")
    return network
