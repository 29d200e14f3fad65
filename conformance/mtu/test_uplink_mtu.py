from __future__ import annotations

import pytest

from pytest_k8snet.judge import mtu


@pytest.mark.k8snet_check(id="NET-MTU-002", level="read", title="the uplink has exactly the MTU it is meant to have")
def test_uplink_mtu(node, expect, verdict):
    """The device that holds the node's InternalIP has the MTU that the profile wants or the CNI claims.

    Why
        One node at 1400 among nodes at 1500 drops what its peers send at full size, silently where ICMP is filtered. One at
        9000 sends what the switch drops.
    How it is measured
        `ip -j link` of the device that holds the InternalIP, in the node's network namespace.
    Expected
        mtu.uplink of the profile; else the underlay MTU that the CNI claims; skipped when there is neither.
    Fix
        The node's network configuration (netplan, NetworkManager, systemd-networkd), or the DHCP server's option 26.
    References
        AWS, Google Cloud and Azure document 9001, 1460 and 1500 as defaults of their networks.
    """
    verdict(mtu.uplink_mtu(node.facts, expect.mtu))
