from __future__ import annotations

import pytest

from pytest_k8snet.judge import conntrack


@pytest.mark.k8snet_check(id="NET-CONNTRACK-002", level="read", title="the connection table loses nothing during the run")
def test_conntrack_losses(node, expect, verdict):
    """The connection table was not full during the run, and lost no more packets than the profile allows.

    Why
        What a full table drops, and the packet that loses the race when two of a new connection come at once (a resolver's
        A and AAAA, the notorious 5 seconds), is seen by nobody but the kernel.
    How it is measured
        /proc/net/stat/nf_conntrack, all processors together, read with the facts and again by the run's last checks;
        `table full` in the kernel's log (/dev/kmsg, by shell dmesg), told apart by its records' times.
    Expected
        No early_drop, no new message of a full table, nor drops within seconds of one (the kernel says it ten times in five
        seconds at most). insert_failed and drop grow by no more than conntrack.losses of the
        profile; without it they are told. Messages from before the run are a remark with their age. What could not be read is
        told.
    Fix
        As for NET-CONNTRACK-001. For insert_failed: NodeLocal DNSCache, `single-request-reopen` in resolv.conf, a kernel of
        5.1 or later.
    References
        linux net/netfilter/nf_conntrack_standalone.c (columns), net/netfilter/nf_conntrack_core.c (early_drop);
        lambda.lt/blog/2018/racy_conntrack.html.
    """
    verdict(conntrack.losses(node.late_facts, node.grown, expect.conntrack))
