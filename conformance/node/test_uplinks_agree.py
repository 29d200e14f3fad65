from __future__ import annotations

import pytest

from pytest_k8snet.judge import node


@pytest.mark.k8snet_check(id="NET-NODE-004", level="read", title="equal machines have equally fast uplinks")
def test_uplinks_agree(cluster, documents, verdict):
    """The uplinks of equal machines run at the same speed, and full duplex; the odd one out is named.

    Why
        A port that has negotiated 1 Gbit/s where all others have 10 makes one node slow, and every Service that has an
        endpoint there slow now and then.
    How it is measured
        /sys/class/net/UPLINK/speed and duplex.
    Expected
        One speed within each group of equal nodes (pool label, operating system, kernel, machine type) and never half duplex.
        Virtual machines are left out: what their devices say is fiction. Skipped where no node tells one that is believed.
    Fix
        Cable, transceiver, `ethtool` on the node and the port of the switch.
    References
        linux Documentation/ABI/testing/sysfs-class-net (speed, duplex).
    """
    verdict(node.uplinks_agree(documents("facts"), cluster))
