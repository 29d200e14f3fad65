from __future__ import annotations

import pytest

from pytest_k8snet.judge import conntrack


@pytest.mark.k8snet_check(id="NET-CONNTRACK-001", level="read", title="the connection table has room")
def test_conntrack_headroom(node, expect, verdict):
    """The connection table is not about to be full.

    Why
        A full table drops every new connection without an answer: Services, DNS and the node's own daemons fail by and by,
        on this node alone, and nothing but a line in the kernel's log says why.
    How it is measured
        nf_conntrack_count, nf_conntrack_max and nf_conntrack_buckets in the node's network namespace. Each connection takes
        one entry, entries of the node's pods included, as their packets pass the node.
    Expected
        Less than conntrack.full of the profile (0.9) in use; from conntrack.nearly_full (0.7) on it is told. More than 4
        entries for each bucket of the hash when the table is full are advice. Skipped where nothing is tracked.
    Fix
        Find out what opens so many connections (`conntrack -L | awk '{print $3, $4}' | sort | uniq -c`, UDP without answers,
        scans); shorter timeouts; a larger table: conntrack.maxPerCore and conntrack.min of kube-proxy, or sysctl.d.
    References
        linux Documentation/networking/nf_conntrack-sysctl.
    """
    verdict(conntrack.headroom(node.facts, expect.conntrack))
