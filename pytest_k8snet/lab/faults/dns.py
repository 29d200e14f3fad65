"""Faults of CoreDNS: what it is told, and pods of it that nobody finds ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_k8snet.lab.faults.model import ANY_KUBE_PROXY, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.polling import wait_until

COREFILE: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "coredns"}}
DEPLOYMENT: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "kube-system", "name": "coredns"}}
SERVICE: dict[str, Any] = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "kube-system", "name": "kube-dns"}}
READY_PORT = "8181"


def _forwarding(there: bool) -> Callable[[FaultyLab, FaultyNode], None]:
    """Return what lets CoreDNS forward to its own Service what it does not know, or not."""

    def act(lab: FaultyLab, node: FaultyNode) -> None:
        del node
        line = f"    forward . {lab.read_object(SERVICE)['spec']['clusterIP']}\n"
        text = lab.read_object(COREFILE)["data"]["Corefile"].replace(line, "")
        lab.apply_object({**COREFILE, "data": {"Corefile": text.replace("    cache 30\n", f"{line}    cache 30\n") if there else text}})

    return act


def _probes(action: str, ready: bool) -> Callable[[FaultyLab, FaultyNode], None]:
    """Return what lets the node's firewall drop what its kubelet asks CoreDNS, or not, until a pod of it is not ready, or all are."""

    def act(lab: FaultyLab, node: FaultyNode) -> None:
        rule = ["OUTPUT", "-d", node.pod_cidr, "-p", "tcp", "--dport", READY_PORT, "-j", "DROP"]
        lab.run(node.name, ["iptables-legacy", "-w", action, *rule])
        wait_until(lambda: _all_ready(lab) == ready, f"CoreDNS on {node.name} to be {'ready again' if ready else 'not ready'}")

    return act


def _all_ready(lab: FaultyLab) -> bool:
    status = lab.read_object(DEPLOYMENT).get("status") or {}
    return bool(status.get("readyReplicas", 0) == status.get("replicas", 0))


FAULTS = (
    Fault(
        "corefile-loop",
        area="dns",
        summary="the Corefile forwards what CoreDNS does not know to CoreDNS' own Service",
        turns=(Turns("NET-DNS-002", subject="cluster"),),
        apply=_forwarding(there=True),
        revert=_forwarding(there=False),
        proxy_modes=ANY_KUBE_PROXY,
    ),
    Fault(
        "coredns-unready",
        area="dns",
        summary="the node's firewall drops its kubelet's readiness probes: its pod of CoreDNS serves nobody",
        turns=(Turns("NET-DNS-001", subject="cluster"),),
        apply=_probes("-I", ready=False),
        revert=_probes("-D", ready=True),
        proxy_modes=("ipvs", "iptables"),
    ),
)
