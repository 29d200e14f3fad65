from __future__ import annotations

import pytest

from pytest_k8snet.judge import node


@pytest.mark.k8snet_check(id="NET-NODE-004", level="read", title="equal machines have equal uplinks")
def test_uplinks_agree(cluster, documents, verdict):
    """The uplinks of equal machines run at the same speed, full duplex, and with the same MTU; the odd one out is named.

    Why
        A port that has negotiated 1 Gbit/s where all others have 10 makes one node slow, and every Service that has an
        endpoint there slow now and then. On one link a node of another MTU drops what its peers send at full size, or sends what
        they drop: small packets pass, large ones hang.
    How it is measured
        /sys/class/net/UPLINK/speed and duplex; `ip -j link` for the MTU.
    Expected
        One speed within each group of equal nodes (pool label, operating system, kernel, machine type, number of processors, of
        the control plane or not) and never half duplex; one MTU among those of a pool, operating system, kernel and machine
        type that are in one subnet. Of virtual machines only the MTU is compared: what their devices say of speed is fiction.
        Machines that tell no speed beside others that do are named, and those that tell a speed and no duplex. Which MTU is
        wanted NET-MTU-002 judges, where a profile or the CNI says it. Skipped where nothing can be compared.
    Fix
        Cable, transceiver, `ethtool` on the node and the port of the switch. For the MTU the node's network configuration
        (netplan, NetworkManager, systemd-networkd), or the DHCP server's option 26.
    References
        linux Documentation/ABI/testing/sysfs-class-net (speed, duplex).
    """
    verdict(node.uplinks_agree(documents("facts"), cluster))
