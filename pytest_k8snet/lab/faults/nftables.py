"""Faults of nftables mode: what another mode left behind, and what kube-proxy misses only with its next full sync, an hour away."""

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

#: One element of the map of frontends, as nft prints it: that of CoreDNS' metrics, which no check asks.
_LOSE = """
element=$(nft list map ip kube-proxy service-ips | grep -o '[0-9.]* \\. tcp \\. 9153 : goto [^ ,]*' | head -n 1)
[ -n "$element" ]
echo "add element ip kube-proxy service-ips { $element }" >/run/k8snet-lost.nft
nft delete element ip kube-proxy service-ips "{ ${element% : *} }"
"""
_FIND = """
[ ! -e /run/k8snet-lost.nft ] || nft -f /run/k8snet-lost.nft
rm -f /run/k8snet-lost.nft
"""

#: What kubelets before 1.28 made, by whichever iptables their node had: empty here, and packets pass it. An iptables that is "nft" shows
#: none of what "legacy" holds.
_BOTH = """
for back_end in nft legacy; do
    iptables-$back_end -w -t nat -N KUBE-POSTROUTING
    iptables-$back_end -w -t nat -A POSTROUTING -j KUBE-POSTROUTING
done
"""
_NEITHER = """
for back_end in nft legacy; do
    iptables-$back_end -w -t nat -D POSTROUTING -j KUBE-POSTROUTING
    iptables-$back_end -w -t nat -X KUBE-POSTROUTING
done
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
    Fault(
        "nft-service-lost",
        area="proxy",
        summary="a Service port is gone from kube-proxy's nftables table, as when a firewall manager removes what it does not know",
        turns=(Turns("NET-PROXY-009"),),
        apply=_run(_LOSE),
        revert=_run(_FIND),
        proxy_modes=("nftables",),
    ),
    Fault(
        "iptables-both-back-ends",
        area="control_plane",
        summary="a kubelet's chain is in force in both iptables back ends, as on a node that was given another iptables without a restart",
        turns=(Turns("NET-CONTROL-006"),),
        apply=_run(_BOTH),
        revert=_run(_NEITHER),
        proxy_modes=("nftables",),
    ),
)
