from __future__ import annotations

import pytest

from pytest_k8snet.judge import node


@pytest.mark.k8snet_check(id="NET-NODE-003", level="read", title="the clock of nodes is synchronised")
def test_clock(k8snet_node, expect, verdict):
    """The kernel takes its clock for synchronised.

    Why
        Certificates that are not valid yet, leases that run out early, logs and captures that cannot be laid beside each
        other.
    How it is measured
        adjtimex without a change: the flags STA_UNSYNC and STA_CLOCKERR. By shell only with busybox or adjtimex on the node.
    Expected
        Not unsynchronised, with node.clock: synchronised of the profile; else it is advice and the check is skipped: chrony
        without rtcsync keeps the time and leaves the flag as it is.
    Fix
        chrony (with rtcsync), systemd-timesyncd or the cloud's own service; an NTP server that can be reached.
    References
        adjtimex(2).
    """
    verdict(node.clock(k8snet_node.facts, expect.node))
