from __future__ import annotations

import pytest

from pytest_k8snet.judge import dns


@pytest.mark.k8snet_check(id="NET-DNS-003", level="read", title="pods ask the cluster's DNS, or the node's cache of it")
def test_resolver(node, cluster, verdict):
    """Pods that were there before ask the cluster's DNS Service, or NodeLocal DNSCache, where they use the cluster's names.

    Why
        A kubelet with another clusterDNS gives every new pod of its node a resolver that is not there: only that node's pods
        fail, and only those made since. Long search lists multiply questions for names outside.
    How it is measured
        /etc/resolv.conf in the file systems of running pods, read from the node (20 pods a node at most), beside the addresses
        of the Service with label k8s-app=kube-dns.
    Expected
        That, NodeLocal DNSCache, AKS' LocalDNS (169.254.10.11) or, on GKE, Cloud DNS (169.254.169.254), in pods whose search list
        has the cluster's domains. One more beside it, as a pod's own dnsConfig may name, is advice; others alone are a fault. What
        ndots and the search list cost is advice where neither autopath nor NodeLocal DNSCache spares it. How many pods were not
        looked into is told. Skipped where no such pod was.
    Fix
        clusterDNS in the kubelet's configuration on the node, then restart the pods. For the search list: a dot at the end of
        names, or dnsConfig options ndots:2.
    References
        kubernetes cluster/addons/dns/nodelocaldns; resolv.conf(5).
    """
    verdict(dns.resolver(node.facts, cluster))
