from __future__ import annotations

import pytest

from pytest_k8snet.judge import kernel


@pytest.mark.k8snet_check(id="NET-KERNEL-001", level="read", title="nodes have the wanted sysctls")
def test_host_sysctls(node, expect, verdict):
    """The node's own network namespace has the sysctls that the profile wants.

    Why
        Forwarding, port ranges and reuse of the node's own connections go by these values; kubelet, ingress controllers and
        every pod on the host network live in this namespace.
    How it is measured
        /proc/sys in the node's network namespace.
    Expected
        kernel.sysctl.host of the profile, with =, >=, <= or covers (ports that must be in a list). Skipped without one:
        tuning is then nobody's expectation, and what the profile tuned-node would want is advice where no profile speaks of
        the kernel at all. The connection table, forwarding and kernel.congestion_control have checks of their own, and so has
        what the next boot does (NET-KERNEL-007).
    Fix
        /etc/sysctl.d/*.conf and `sysctl --system`, or the machine configuration of the distribution.
    References
        linux Documentation/networking/ip-sysctl; kubernetes#139276 and amazon-eks-ami#1307 (why a wide port range needs
        reserved ports).
    """
    verdict(kernel.host_sysctls(node.facts, expect.kernel))
