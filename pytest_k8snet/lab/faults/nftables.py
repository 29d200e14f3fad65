"""Faults of nftables mode: what another mode left behind."""

from __future__ import annotations

from typing import Any

from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns

_LEFT = """
iptables-nft -w -t nat -N KUBE-SERVICES
iptables-nft -w -t nat -N KUBE-SVC-K8SNETLABFAULT00
iptables-nft -w -t nat -A KUBE-SERVICES -d 192.0.2.1/32 -p tcp --dport 80 -j KUBE-SVC-K8SNETLABFAULT00
iptables-nft -w -t nat -A PREROUTING -j KUBE-SERVICES
"""
_TIDY = """
iptables-nft -w -t nat -D PREROUTING -j KUBE-SERVICES
iptables-nft -w -t nat -F KUBE-SERVICES
iptables-nft -w -t nat -X KUBE-SERVICES
iptables-nft -w -t nat -X KUBE-SVC-K8SNETLABFAULT00
"""


def _run(script: str) -> Any:
    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, ["sh", "-ec", script])

    return act


FAULTS = (
    Fault(
        "nft-iptables-left-over",
        area="proxy",
        summary="chains of iptables mode are left over, and packets reach them",
        turns=(Turns("NET-PROXY-001"),),
        apply=_run(_LEFT),
        revert=_run(_TIDY),
        proxy_modes=("nftables",),
    ),
)
