from __future__ import annotations

import pytest

from pytest_k8snet.judge import kernel


@pytest.mark.k8snet_check(id="NET-KERNEL-003", level="read", title="the uplink has the wanted queueing discipline in force")
def test_qdisc(node, expect, verdict):
    """The uplink's leaf queues really use the wanted queueing discipline.

    Why
        net.core.default_qdisc counts only when a device is made: set later it changes nothing, and the sysctl looks right
        all the same.
    How it is measured
        `tc -j qdisc show` in the node's network namespace: the leaves below mq, or the root; for a
        bond, bridge or VLAN those of the hardware below it.
    Expected
        kernel.qdisc of the profile; skipped without one, with advice as in NET-KERNEL-001.
    Fix
        `tc qdisc replace dev <uplink> root fq` (below mq: each leaf), and set default_qdisc before the device is made
        (initramfs or boot).
    References
        linux Documentation/admin-guide/sysctl/net.rst (default_qdisc).
    """
    verdict(kernel.qdisc(node.facts, expect.kernel))
