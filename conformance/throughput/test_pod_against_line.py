from __future__ import annotations

import pytest

from pytest_k8snet.judge import throughput
from pytest_k8snet.record.throughput import ThroughputRecord


@pytest.mark.k8snet_check(id="NET-THROUGHPUT-003", level="load", title="pods reach each other at the speed of the line")
def test_pod_against_line(pair, expect, verdict):
    """The pod path between two nodes carries nearly the payload that the line can carry.

    Why
        It is the figure that workloads see.
    How it is measured
        The best pod take of NET-THROUGHPUT-001, against the TCP payload that full frames carry at the line rate, encapsulation
        included.
    Expected
        As NET-THROUGHPUT-002, for pods; advice where their traffic is encrypted and no profile gives throughput.line_share.
        When the host path does not reach its share either, the check is inconclusive: that is no finding about pods, and
        NET-THROUGHPUT-002 fails.
    Blind spots
        As NET-THROUGHPUT-001 and -002: a number of streams that one pair needs, and a line rate that is believed.
        Of two address families the first one alone is measured.
    Fix
        As NET-THROUGHPUT-001.
    References
        linux Documentation/ABI/testing/sysfs-class-net (speed).
    """
    record = ThroughputRecord.from_document(pair.document("throughput"))
    line = throughput.line_of(pair.source.facts, pair.target.facts, expect.throughput)
    verdict(throughput.pod_against_line(record, expect.throughput, line, lambda: pair.others("throughput")))
