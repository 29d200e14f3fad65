"""The networks that pods of a lab may have: what each asks of kernel, nodes and cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_k8snet.lab.settings import NetworkKind

MTU = 1500
"""Of every uplink, in bytes."""

OVERHEAD = {"none": 0, "vxlan": 50, "ipip": 20}
"""What an encapsulation over IPv4 takes of it: VXLAN 20 IP, 8 UDP, 8 VXLAN, 14 Ethernet; IPIP another IP header."""


# That of VXLAN it loads itself.
_MODULES_OF_CILIUM = (
    "cls_bpf",
    "iptable_filter",
    "iptable_mangle",
    "iptable_nat",
    "iptable_raw",
    "nf_socket_ipv4",
    "nf_tproxy_ipv4",
    "sch_ingress",
    "xt_CT",
    "xt_TPROXY",
    "xt_mark",
    "xt_socket",
)


@dataclass(frozen=True, slots=True)
class Network:
    """One network."""

    encapsulation: Literal["none", "vxlan", "ipip"] = "none"
    routes_by: Literal["lab", "flannel", "bird", "cilium"] = "lab"
    """Who tells nodes the way to each other's pods: the lab itself when a node starts, flanneld, BIRD, or Cilium's agent."""
    flannel_backend: str | None = None
    interfaces_by: Literal["bridge", "ptp", "flannel", "cilium-cni"] = "bridge"
    """The CNI plugin that makes pods' interfaces; flannel's has a bridge made as flanneld says."""

    @property
    def pod_mtu(self) -> int:
        """Give the MTU of pods, in bytes: what the encapsulation leaves of the uplink's."""
        return MTU - OVERHEAD[self.encapsulation]

    @property
    def modules(self) -> tuple[str, ...]:
        """Give the kernel modules it needs."""
        if self.routes_by == "cilium":
            return _MODULES_OF_CILIUM
        return () if self.encapsulation == "none" else (self.encapsulation,)


NETWORKS: Mapping[NetworkKind, Network] = {
    "native": Network(),
    "vxlan": Network("vxlan"),
    "flannel-vxlan": Network("vxlan", "flannel", "vxlan", "flannel"),
    "flannel-host-gw": Network("none", "flannel", "host-gw", "flannel"),
    "flannel-ipip": Network("ipip", "flannel", "ipip", "flannel"),
    "bgp": Network("none", "bird", None, "ptp"),
    "cilium": Network("none", "cilium", None, "cilium-cni"),
    "cilium-vxlan": Network("vxlan", "cilium", None, "cilium-cni"),
}
