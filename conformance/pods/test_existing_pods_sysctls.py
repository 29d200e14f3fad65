from __future__ import annotations

import pytest

from pytest_k8snet.judge import pods


@pytest.mark.k8snet_check(id="NET-PODS-001", level="read", title="pods that were there before have the wanted sysctls")
def test_existing_pods_sysctls(node, expect, verdict):
    """Pods that ran before this test have the sysctls that the profile wants in pods, too.

    Why
        A pod keeps what its network namespace was made with: tuning that came later reaches only pods that are made
        afterwards, and what fresh probe pods show is then true of nothing that carries traffic.
    How it is measured
        /proc/sys inside the network namespaces of running pods, from the node and only reading. Up to 20 pods a node are
        looked at, in the order of their names; the message says how many of how many.
    Expected
        kernel.sysctl.pod of the profile in each of them; skipped without one, with advice as in NET-KERNEL-001.
    Fix
        Restart the named pods; where their own securityContext.sysctls say otherwise, change or waive that.
    References
        linux Documentation/admin-guide/sysctl/net (devconf_inherit_init_net); kubernetes documentation, sysctl-cluster.
    """
    verdict(pods.sysctls(node.facts, expect.kernel))
