from __future__ import annotations

import pytest

from pytest_k8snet.judge import control_plane


@pytest.mark.k8snet_check(id="NET-CONTROL-004", level="read", title="the neighbour tables have room for nodes and pods")
def test_neighbour_room(node, cluster, verdict):
    """The kernel may know as many neighbours as the cluster gives the node.

    Why
        The kernel's default is 1024 of each address family, for all network namespaces together. In a larger cluster entries
        are thrown out while they are in use: connections fail at random, and the kernel log says "neighbour: arp_cache:
        neighbor table overflow!".
    How it is measured
        net.ipv4.neigh.default.gc_thresh3 and /proc/net/stat/arp_cache in the node's network namespace, and those of IPv6
        (ndisc_cache) where nodes or pods have it; nodes of the cluster that its routes say are on the same link; pods of the
        node.
    Expected
        gc_thresh3 is more than those nodes and pods together. Entries that are permanent, as overlays make them for other nodes, do not
        count since Linux 5.0: that there are more entries than gc_thresh3 is a fault only when the table was full since the node
        started; otherwise either is a remark. So it is where the limit of one of two address families was not read,
        or the node's pods were not counted.
    Fix
        net.ipv4.neigh.default.gc_thresh1, 2 and 3 (and those of net.ipv6) in sysctl.d, for example 8192, 12288 and 16384.
    References
        arp(7); linux Documentation/networking/ip-sysctl (neigh/default/gc_thresh3); linux 58956317c8de.
    """
    verdict(control_plane.neighbour_room(node.facts, cluster))
