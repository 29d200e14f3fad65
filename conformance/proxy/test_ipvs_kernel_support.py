from __future__ import annotations

import pytest

from pytest_k8snet.judge import proxy


@pytest.mark.k8snet_check(id="NET-PROXY-004", level="read", title="the kernel serves IPVS as kube-proxy set it up")
def test_ipvs_kernel_support(node, expect, verdict):
    """The kernel serves IPVS, and what kube-proxy set up for it at its start is still there.

    Why
        kube-proxy sets net.ipv4.vs.* once at its start and never looks again: a later reset by sysctl.d or a tuning agent
        breaks masquerading (vs.conntrack) or sends traffic to removed endpoints (vs.expire_nodest_conn), and nothing heals
        it.
    How it is measured
        `/proc/net/ip_vs`, device kube-ipvs0, and the sysctls in the node's network namespace. Lists of modules are no
        evidence: ip_vs may be built in.
    Expected
        The table is there and readable, kube-ipvs0 is there, net.ipv4.vs.conntrack, expire_nodest_conn and
        expire_quiescent_template are 1. Skipped where the mode is not ipvs.
    Fix
        Load ip_vs and its schedulers at boot (/etc/modules-load.d), remove what resets the sysctls, restart kube-proxy on
        the node.
    References
        kubernetes pkg/proxy/ipvs/backend.go (PrivilegedInit); kubernetes#114669.
    """
    verdict(proxy.kernel_support(node.facts, expect.proxy))
