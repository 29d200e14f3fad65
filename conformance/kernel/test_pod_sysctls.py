from __future__ import annotations

import pytest

from pytest_k8snet.judge import kernel


@pytest.mark.k8snet_check(id="NET-KERNEL-002", level="read", title="pods have the wanted sysctls")
def test_pod_sysctls(node, expect, verdict):
    """A new pod's network namespace has the sysctls that the profile wants there.

    Why
        Most values of sysctl.d never reach pods: a new network namespace starts with the kernel's defaults for somaxconn,
        tcp_tw_reuse, ip_local_port_range and most others. Tuning that stops at the node tunes no workload.
    How it is measured
        /proc/sys inside the probe pod.
    Expected
        kernel.sysctl.pod of the profile; skipped without one, with advice as in NET-KERNEL-001. Pods that were there before
        are NET-PODS-001's.
    Fix
        The CNI's tuning plugin (`{"type": "tuning", "sysctl": {...}}` in the conflist), or securityContext.sysctls of the
        workload.
    References
        kubernetes pkg/kubelet/sysctl/safe_sysctls.go; CNI plugin tuning.
    """
    verdict(kernel.pod_sysctls(node.facts, expect.kernel))
