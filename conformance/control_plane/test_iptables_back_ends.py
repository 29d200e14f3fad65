from __future__ import annotations

import pytest

from pytest_k8snet.judge import control_plane


@pytest.mark.k8snet_check(id="NET-CONTROL-006", level="read", title="Kubernetes' rules are in one iptables back end")
def test_iptables_back_ends(node, verdict):
    """Chains of Kubernetes that packets reach are in one of the two iptables back ends, not in both.

    Why
        legacy and nft are two tables in the kernel, and packets go through both. Where kube-proxy's image uses the one and the
        kubelet or the CNI the other, rules are applied twice, or what one accepts the other drops, and `iptables -L` shows half.
    How it is measured
        `iptables-legacy-save` and `iptables-nft-save -t nat` in the node's network namespace, each only where its tables exist.
    Expected
        KUBE chains that a packet can reach in at most one. Tables in both, Kubernetes' in one, are a remark.
    Fix
        Let all use the back end that the kubelet's chain KUBE-IPTABLES-HINT is in (update-alternatives; the images' iptables
        wrapper), then restart the node, which drops the other's rules.
    References
        KEP-3178 (KUBE-IPTABLES-HINT); kubernetes-sigs/iptables-wrappers.
    """
    verdict(control_plane.iptables_back_ends(node.facts))
