from __future__ import annotations

import pytest

from pytest_k8snet.judge import kernel


@pytest.mark.k8snet_check(id="NET-KERNEL-005", level="read", title="the connection table is as large as wanted")
def test_conntrack(node, expect, verdict):
    """The connection table holds as many connections as the profile wants.

    Why
        When it is full, new connections are dropped without an answer. kube-proxy sets the size at its start and overrides
        sysctl.d.
    How it is measured
        nf_conntrack_max, nf_conntrack_buckets and nf_conntrack_count in the node's network namespace.
    Expected
        net.netfilter.nf_conntrack_* below kernel.sysctl.host of the profile; skipped without one (with advice as in
        NET-KERNEL-001), and where connection tracking is not in use.
    Fix
        conntrack.maxPerCore and conntrack.min in kube-proxy's configuration (0: leave it to sysctl.d), or sysctl.d.
    References
        kubernetes pkg/proxy/conntrack/sysctls.go (SetMax, the cap of 1,048,576 since 1.36).
    """
    verdict(kernel.conntrack(node.facts, expect.kernel))
