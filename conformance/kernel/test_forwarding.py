from __future__ import annotations

import pytest

from pytest_k8snet.judge import kernel


@pytest.mark.k8snet_check(id="NET-KERNEL-006", level="read", title="nodes forward packets")
def test_forwarding(node, expect, verdict):
    """The node forwards packets of every address family that its pods use.

    Why
        Without it no packet leaves a pod for another node. A hardening script or a restarted network service that resets it
        takes the node's pods off the network while the node stays Ready.
    How it is measured
        net.ipv4.ip_forward, the uplink's own forwarding and net.ipv6.conf.all.forwarding in the node's network namespace.
    Expected
        1 for every family of the node's pod ranges (that of its InternalIP when it has none), and for the uplink's own
        setting unless Cilium forwards past it; true on every healthy cluster, so built in. Under OVN-Kubernetes the uplink and
        ovn-k8s-mp0 have to forward and no other device: OpenShift has ip_forward 0 unless ipForwarding is Global. Also what the
        profile says of the other family.
    Fix
        `net.ipv4.ip_forward = 1` (and `net.ipv6.conf.all.forwarding = 1`) in /etc/sysctl.d.
    References
        kubernetes documentation, container runtimes: network configuration; OVN-Kubernetes docs/getting-started/configuration.md,
        Disable Forwarding Config.
    """
    verdict(kernel.forwarding(node.facts, expect.kernel, kernel.pod_families(node.node)))
