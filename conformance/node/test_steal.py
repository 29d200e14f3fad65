from __future__ import annotations

import pytest

from pytest_k8snet.judge import node


@pytest.mark.k8snet_check(id="NET-NODE-001", level="read", title="the hypervisor leaves nodes their processors")
def test_steal(k8snet_node, expect, verdict):
    """The hypervisor took no more of the processors' time than is allowed.

    Why
        A machine that has to wait for its processors answers late and drops packets in bursts; inside it nothing looks wrong
        but this counter. Burstable machines that have used up their credits, and hosts that are oversold, show it.
    How it is measured
        The first line of /proc/stat, read with the facts and again by the run's last checks; nobody waits in between.
    Expected
        Less than node.steal of the profile (0.2) of all processors' time between the two. From a tenth of that on it is told.
        Inconclusive when it is more and the run took less than 5 s. Bare metal has none.
    Fix
        Another machine type, credits, a host that is not oversold.
    References
        linux Documentation/filesystems/proc (steal: involuntary wait).
    """
    verdict(node.steal(k8snet_node.late_facts, k8snet_node.grown, expect.node))
