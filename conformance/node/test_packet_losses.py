from __future__ import annotations

import pytest

from pytest_k8snet.judge import node


@pytest.mark.k8snet_check(id="NET-NODE-002", level="read", title="nodes lose no packets in their devices and queues")
def test_packet_losses(k8snet_node, expect, verdict):
    """Network devices and the processors' queues lost no more packets during the run than is allowed.

    Why
        What a ring or a queue has no room for is gone before anything that filters or counts connections sees it: a slower
        network with no other sign.
    How it is measured
        /proc/net/softnet_stat (all processors together) and /proc/net/dev of the hardware and of the uplink, read with the
        facts and again by the run's last checks.
    Expected
        Errors and drops of a device in one direction, and drops of the queues, are no more than node.losses of the profile
        (0.01) of what was carried, or fewer than 10, or fewer than 5 a second: frames of protocols that the kernel has no use
        for count as dropped. What is lost below that is told, and so is time_squeeze in as many packets.
    Fix
        `ethtool -S` for where; larger rings (`ethtool -G`), net.core.netdev_max_backlog, net.core.netdev_budget; RPS or more
        queues; for errors the cable and the transceiver.
    References
        linux net/core/net-procfs.c (softnet_stat), Documentation/networking/statistics.
    """
    verdict(node.packet_losses(k8snet_node.late_facts, k8snet_node.grown, expect.node))
