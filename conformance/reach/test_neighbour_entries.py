from __future__ import annotations

import pytest

from pytest_k8snet.judge import reach


@pytest.mark.k8snet_check(id="NET-REACH-007", level="read", title="neighbour entries that were set lead to the nodes they are for")
def test_neighbour_entries(cluster, documents, verdict):
    """No permanent entry of a node's neighbour table has a hardware address for another node that is none of that node's.

    Why
        What was set by hand, by a provisioning script or by a CNI is never asked for again. After the other node has a new network
        device, or was made anew, everything that is sent to it from there vanishes: no error, no answer, and from other nodes it works.
    How it is measured
        The neighbour table of every node's uplink (`ip -j neigh show dev eth0`), IPv4 and IPv6, against the hardware addresses of all
        devices of the node that has the address (`ip -j link`).
    Expected
        A device of that node. Entries that the kernel learned mend themselves, and those to which no route leads are not used: neither is
        a fault. What a gateway's, VRRP's, or one hardware address for several nodes explains is a remark: somebody leads packets another
        way.
    Fix
        `ip neigh del ADDRESS dev eth0`, or replace it by the address that `ip link` on the other node shows; then what set it:
        /etc/ethers, systemd-networkd's [Neighbor], netplan, a CNI's neighbour discovery.
    References
        ip-neighbour(8); arp(7); linux include/uapi/linux/neighbour.h (NUD_PERMANENT); systemd.network(5) ([Neighbor]).
    """
    verdict(reach.neighbour_entries(documents("facts"), cluster))
