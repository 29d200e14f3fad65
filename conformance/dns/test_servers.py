from __future__ import annotations

import pytest

from pytest_k8snet.judge import dns


@pytest.mark.k8snet_check(id="NET-DNS-001", level="read", title="CoreDNS is ready, more than once and on more than one node")
def test_dns_servers(cluster, expect, verdict):
    """The pods of CoreDNS are ready, there are enough of them, and not all are on one node.

    Why
        With one server, or all on one node, a drain or a reboot stops name resolution of the whole cluster; a server that is not
        ready leaves its share of the questions to the others.
    How it is measured
        Pods of kube-system with label k8s-app=kube-dns and the DaemonSet of NodeLocal DNSCache, from the API.
    Expected
        Every pod is ready. As many as dns.replicas of the profile, on more than one node; without it fewer than two, or all on
        one node, is advice. NodeLocal DNSCache, where it is installed, is ready on every node it wants. Pods that have ended
        (evicted) do not count; what is missing on nodes that are not Ready is a remark. Skipped where kube-system has no
        CoreDNS.
    Fix
        Scale the Deployment coredns and give it a topology spread constraint or anti-affinity over kubernetes.io/hostname.
    References
        coredns/deployment kubernetes/Scaling_CoreDNS.md; kubernetes cluster/addons/dns/nodelocaldns.
    """
    verdict(dns.servers(cluster, expect.common.dns))
