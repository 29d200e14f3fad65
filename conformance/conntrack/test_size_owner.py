from __future__ import annotations

import pytest

from pytest_k8snet.judge import conntrack


@pytest.mark.k8snet_check(id="NET-CONNTRACK-003", level="read", title="the size of the connection table outlasts kube-proxy's next start")
def test_conntrack_size_owner(node, cluster, expect, verdict):
    """nf_conntrack_max is no smaller than kube-proxy made it, and is still what the profile wants when kube-proxy starts again.

    Why
        kube-proxy computes nf_conntrack_max from its configuration when it starts and overrides sysctl.d: a value set by hand
        or by a tuning daemon holds until the next upgrade.
    How it is measured
        conntrack.maxPerCore and conntrack.min of kube-proxy's /configz, the number of processors in /proc/stat,
        nf_conntrack_max.
    Expected
        max(maxPerCore x processors, min) at least; from Kubernetes 1.36 on 1,048,576 where the product is more. Up to 1.36
        kube-proxy sets exactly that at its start, from 1.37 on it only raises: the profile's net.netfilter.nf_conntrack_max
        has to hold afterwards as well. Skipped where kube-proxy leaves it alone (maxPerCore 0: k3s, RKE2, kind) or is not
        there; the reason then tells whose the value is.
    Fix
        conntrack.maxPerCore and conntrack.min in kube-proxy's configuration, or both 0 and sysctl.d.
    References
        kubernetes pkg/proxy/conntrack/sysctls.go (getConntrackMax, SetMax).
    """
    verdict(conntrack.size_owner(node.facts, expect.kernel, cluster.version))
