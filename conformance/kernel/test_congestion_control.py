from __future__ import annotations

import pytest

from pytest_k8snet.judge import kernel


@pytest.mark.k8snet_check(id="NET-KERNEL-004", level="read", title="new TCP connections use the wanted congestion control")
def test_congestion_control(node, expect, verdict):
    """A fresh TCP socket uses the wanted congestion control, on the node and in a new pod.

    Why
        A module that is not loaded, or a pod older than the setting, silently leaves cubic in place.
    How it is measured
        getsockopt TCP_CONGESTION of a new socket, in the node's network namespace and in the probe pod. Pods copy the
        node's value when their namespace is made.
    Expected
        kernel.congestion_control of the profile; skipped without one, with advice as in NET-KERNEL-001. bbr in pods of
        kernels before 5.18, where they cannot pace, is advice.
    Fix
        Load tcp_bbr at boot (/etc/modules-load.d), set net.ipv4.tcp_congestion_control, restart the pods.
    References
        cilium Documentation/network/kubernetes/bandwidth-manager.rst (BBR for pods needs Linux 5.18).
    """
    verdict(kernel.congestion_control(node.facts, expect.kernel))
