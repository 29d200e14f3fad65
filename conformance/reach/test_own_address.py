from __future__ import annotations

import pytest

from pytest_k8snet.judge import reach
from pytest_k8snet.record.duplicates import DuplicatesRecord


@pytest.mark.k8snet_check(id="NET-REACH-008", level="probe", title="no other machine has the node's address")
def test_own_address(node, verdict):
    """Nobody but the node answers ARP for its own address.

    Why
        Two machines have one address after a virtual machine was cloned, where a range of DHCP overlaps static addresses, or where a
        macvlan pod or a Service's externalIPs took it. Others then talk to whichever answered first: connections break and hang for
        minutes, from some nodes and not from others, and that changes with every entry that is forgotten.
    How it is measured
        Every node (256 at most) sends three ARP probes (RFC 5227: without a sender, so that nobody's table changes) for its own address.
        A node does not hear itself: any answer is another's. As a control it asks for up to three other nodes of its subnet as well:
        everybody, where its kernel has no entry for the address, else the one machine that it knows there, as an answer of a second
        one would get into the table. What is strange is asked for again 3 s later, and that counts.
    Expected
        No answer from a device that is not the node's. What a gateway, VRRP or proxy ARP (one hardware address for several nodes) explains
        is a remark. Skipped where no other node is in the subnet or IPv4 has no ARP (clouds with addresses of their own, InfiniBand), and
        where not even other nodes' addresses are answered for.
    Blind spots
        A machine that answers for several nodes is taken for proxy ARP; one on the node itself (a macvlan pod's) is heard only by nodes
        whose kernels have no entry for the address. A switch that answers ARP in others' stead hides a second machine. IPv6 is not asked.
    Fix
        `arping -D -I eth0 -c 3 ADDRESS` on the node; the hardware address's first half tells the maker, the switch's table the port.
        Reserve nodes' addresses in DHCP and IPAM; strictARP: true for kube-proxy's ipvs mode where it is another node (NET-PROXY-005).
    References
        RFC 5227 (IPv4 Address Conflict Detection); RFC 826; arping(8).
    """
    verdict(reach.own_address(DuplicatesRecord.from_document(node.document("duplicates"))))
