"""Faults of addresses of load balancers: what a speaker that announces them, as MetalLB's, does when there are two of it, or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.network import peer_of
from pytest_k8snet.lab.node_files import UPLINK

TWICE, NOBODY = ("k8snet-fault-twice", 250), ("k8snet-fault-nobody", 251)  # Services, and the last number of their addresses


def _address(node: FaultyNode, last: int) -> str:
    return f"{node.address.rpartition('.')[0]}.{last}"


def _service(lab: FaultyLab, name: str, address: str) -> dict[str, Any]:
    """Return a Service of the type LoadBalancer that leads to CoreDNS, with the status that a controller would give it."""
    dns = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "kube-system", "name": "kube-dns"}}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "kube-system", "name": name},
        "spec": {
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": False,
            "selector": lab.read_object(dns)["spec"]["selector"],
            "ports": [{"name": "dns", "protocol": "TCP", "port": 53, "targetPort": 53}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}},
    }


def _announce(lab: FaultyLab, node: FaultyNode, service: tuple[str, int], owners: Sequence[FaultyNode]) -> None:
    address = _address(node, service[1])
    for owner in owners:
        lab.run(owner.name, ["ip", "addr", "add", f"{address}/32", "dev", UPLINK])
    manifest = _service(lab, service[0], address)
    lab.apply_object(manifest)
    lab.set_status(manifest)


def _withdraw(lab: FaultyLab, node: FaultyNode, service: tuple[str, int], owners: Sequence[FaultyNode]) -> None:
    address = _address(node, service[1])
    lab.delete_object(_service(lab, service[0], address))
    for owner in owners:
        lab.run(owner.name, ["ip", "addr", "del", f"{address}/32", "dev", UPLINK])


def _both(lab: FaultyLab, node: FaultyNode) -> Sequence[FaultyNode]:
    return (node, peer_of(lab, node))


FAULTS = (
    Fault(
        "load-balancer-address-twice",
        area="reach",
        summary="the node and the next one both have the address of a Service of type LoadBalancer on their uplinks, and answer for it",
        turns=(Turns("NET-REACH-006", subject="cluster"),),
        apply=lambda lab, node: _announce(lab, node, TWICE, _both(lab, node)),
        revert=lambda lab, node: _withdraw(lab, node, TWICE, _both(lab, node)),
        proxy_modes=("ipvs",),
        networks=("native",),
    ),
    Fault(
        "load-balancer-address-unowned",
        area="reach",
        summary="a Service of type LoadBalancer has an address in the nodes' subnet, and nobody answers for it",
        turns=(Turns("NET-REACH-006", subject="cluster"),),
        apply=lambda lab, node: _announce(lab, node, NOBODY, ()),
        revert=lambda lab, node: _withdraw(lab, node, NOBODY, ()),
        proxy_modes=("ipvs",),
        networks=("native",),
    ),
)
