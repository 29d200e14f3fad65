from __future__ import annotations

import pytest

from pytest_k8snet.judge import throughput
from pytest_k8snet.record.throughput import ThroughputRecord


@pytest.mark.k8snet_check(id="NET-THROUGHPUT-002", level="load", title="nodes reach each other at the speed of the line")
def test_host_against_line(pair, expect, verdict):
    """The host path between two nodes carries nearly the payload that the line can carry.

    Why
        A link that negotiated 1 Gbit/s instead of 10, a bond with one dead member, a shaped virtual NIC: nothing in
        Kubernetes shows it.
    How it is measured
        The best host take of NET-THROUGHPUT-001, against the TCP payload that full frames carry at the line rate.
    Expected
        throughput.line_share of the profile (0.85) of that payload. The line rate is throughput.line_rate of the profile;
        else the NIC's speed on bare metal: below a bond that of its slowest device, as all packets between two nodes go by
        one of them, and below a bridge that of its NIC. Virtual NICs report fiction: without a profile the check is skipped
        there, with that reason. Inconclusive when somebody else's traffic was on the wire, when a node had no processor to spare (as for
        NET-THROUGHPUT-001), and when iperf3 itself used up a core: what limits is not the line then.
    Blind spots
        The line rate is believed as the profile, or the NIC, gives it. Eight streams may not fill a line that takes more
        (--k8snet-streams).
        Of two address families the first one alone is measured.
    Fix
        `ethtool <uplink>` on both nodes, the switch port, limits of the machine type; drops in `ip -s link`.
    References
        linux Documentation/ABI/testing/sysfs-class-net (speed).
    """
    record = ThroughputRecord.from_document(pair.document("throughput"))
    line = throughput.line_of(pair.source.facts, pair.target.facts, expect.throughput)
    verdict(throughput.host_against_line(record, expect.throughput, line, lambda: pair.others("throughput")))
