from __future__ import annotations

import pytest

from pytest_k8snet.judge import absence


@pytest.mark.k8snet_check(id="NET-ABSENCE-003", level="read", title="no iptables chains of kube-proxy are in force")
def test_iptables_chains(node, expect, verdict):
    """No packet can reach a chain that kube-proxy made, in either iptables back end.

    Why
        kube-proxy cleans up nothing when it is removed. Its last rules keep sending Service traffic to the endpoints of
        that day.
    How it is measured
        KUBE- chains of table nat in the back ends legacy and nft, and which of them jumps lead to from a base chain. No
        module is loaded by looking.
    Expected
        No reachable chain of kube-proxy, where the wanted mode is none; skipped elsewhere. Unreferenced chains are a
        remark. kubelet's own (KUBE-FIREWALL, KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT, KUBE-MARK-*, KUBE-POSTROUTING) are
        nobody's leftovers.
    Fix
        Run `kube-proxy --cleanup` on the node, or restart the node.
    References
        KEP-3178 (chains of kubelet); cilium Documentation/network/kubernetes/kubeproxy-free.rst.
    """
    verdict(absence.iptables_chains(node.facts, expect.proxy))
