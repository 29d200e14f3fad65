from __future__ import annotations

import pytest

from pytest_k8snet.judge import dns


@pytest.mark.k8snet_check(id="NET-DNS-002", level="read", title="the Corefile answers the cluster's names and does what it says")
def test_corefile(cluster, verdict):
    """The Corefile can be read by CoreDNS, answers the cluster's names, forwards to nobody that asks back, and does what it says.

    Why
        CoreDNS keeps its old configuration when a new one is broken, and stays down after its next restart. Forwarding to
        itself takes DNS down with the first name it does not know. autopath without verified pods does nothing.
    How it is measured
        ConfigMap kube-system/coredns (RKE2: rke2-coredns-rke2-coredns), key Corefile: zones, plugins and the arguments of
        some. It is not recorded as a whole: it may hold credentials.
    Expected
        Braces close; a server block with the plugin kubernetes; forward does not name the cluster's own DNS Service; autopath
        stands beside `pods verified`. No cache, ready or loop is advice, no forward a remark, and neither is it known whether
        the plugin kubernetes is in what a block imports.
    Fix
        `kubectl -n kube-system edit configmap coredns`; the plugin reload takes it within two minutes.
    References
        coredns.io/plugins: autopath, cache, forward, kubernetes, loop, ready.
    """
    verdict(dns.corefile(cluster))
