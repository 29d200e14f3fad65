from __future__ import annotations

import pytest

from pytest_k8snet.cluster.ranges import of_services
from pytest_k8snet.judge import absence


@pytest.mark.k8snet_check(id="NET-ABSENCE-005", level="read", title="nothing of ipvs mode is left")
def test_ipvs(node, cluster, expect, verdict):
    """Ipvs mode has left no virtual server and no device kube-ipvs0.

    Why
        kube-ipvs0 makes every Service address local to the node: with nobody to update the table behind it, the addresses
        are black holes.
    How it is measured
        `/proc/net/ip_vs` when it exists (looking loads no module), and the node's devices.
    Expected
        Neither, where the wanted mode is none; skipped elsewhere. Virtual servers of kube-router (device kube-dummy-if) are
        its own, and so are those of which none is within the Services' ranges: keepalived and kube-vip have some.
    Fix
        `kube-proxy --cleanup` on the node; or `ipvsadm --clear` and `ip link delete kube-ipvs0`.
    References
        kubernetes pkg/proxy/ipvs/proxier.go (DefaultDummyDevice), pkg/proxy/ipvs/backend.go (Cleanup).
    """
    verdict(absence.ipvs_leftovers(node.facts, expect.proxy, of_services(cluster.ranges or ())))
