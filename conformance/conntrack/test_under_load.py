from __future__ import annotations

import pytest

from pytest_k8snet.judge import conntrack
from pytest_k8snet.record.burst import BurstRecord


@pytest.mark.k8snet_check(id="NET-CONNTRACK-004", level="probe", title="the connection table bears a burst of short connections")
def test_burst(node, expect, verdict):
    """Many short connections from a pod to a pod of another node are all opened, and the connection table loses nothing meanwhile.

    Why
        Every connection stays in the table for two minutes after its end, and keeps its source port for one. What opens a new one
        for each request fills the first and runs out of the second: then connections fail, of others as well.
    How it is measured
        Only when asked for: `--k8snet-conntrack-burst=2000`. Every node's pod opens so many TCP connections to the pod of the
        next node and closes them at once, 32 at a time, within 60 s. Meanwhile the node's entries are counted, and its counters and the
        kernel's log are read before and after. Not sent where it would take more than half of the free entries of either node's
        table, each connection twice, unless `--k8snet-conntrack-burst-anyway` is given. Then the pod is left with 16 source ports (its
        ip_local_port_range is changed for some seconds): it holds connections until none is left, closes them, and opens them again
        2.5 s later.
    Expected
        No connection fails; source ports are within the pod's ip_local_port_range. No `table full`, no early_drop; insert_failed
        and drop grow by no more than conntrack.losses of the profile, without it by no more than was lost before the burst in as much time
        and two packets, or one of a thousand connections. Where the pod's tcp_tw_reuse is 1, all ports can be used again. Inconclusive
        where the entries do not grow by half of the connections at least: the node does not track them then.
    Blind spots
        One pod of each node connects to one of the next node, by TCP: what other pods, UDP and connections that stay
        open fill the table with at other times is not tried. The 16 ports are the probe pod's own.
        Of two address families the first one alone is measured.
    Fix
        Larger: nf_conntrack_max and its hash (NET-CONNTRACK-003), ip_local_port_range. Sooner used again: tcp_tw_reuse with
        tcp_timestamps, nf_conntrack_tcp_timeout_time_wait. Fewer: connections that are kept (NET-INGRESS-005).
    References
        tcp(7), linux Documentation/networking/ip-sysctl.rst (tcp_tw_reuse, ip_local_port_range) and nf_conntrack-sysctl.rst.
    """
    verdict(conntrack.burst(BurstRecord.from_document(node.document("burst")), node.facts.activity, expect.conntrack))
