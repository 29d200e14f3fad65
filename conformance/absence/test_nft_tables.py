from __future__ import annotations

import pytest

from pytest_k8snet.judge import absence


@pytest.mark.k8snet_check(id="NET-ABSENCE-004", level="read", title="no nftables table of kube-proxy is left")
def test_nft_tables(node, expect, verdict):
    """Nftables mode has left no table called kube-proxy.

    Why
        The tables stay in force when kube-proxy is removed, like chains of iptables mode.
    How it is measured
        `nft list tables` in the node's network namespace. A kernel without nf_tables has none.
    Expected
        Neither `ip kube-proxy` nor `ip6 kube-proxy`, where the wanted mode is none; skipped elsewhere. When nft cannot
        tell, the check is inconclusive: versions of nft that differ from kube-proxy's misread each other's rules.
    Fix
        `nft delete table ip kube-proxy; nft delete table ip6 kube-proxy`, or `kube-proxy --cleanup`.
    References
        KEP-3866; KEP-5343 (section on stability of nft).
    """
    verdict(absence.nft_tables(node.facts, expect.proxy))
