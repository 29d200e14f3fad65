from __future__ import annotations

import pytest

from pytest_k8snet.judge import throughput
from pytest_k8snet.record.throughput import ThroughputRecord


@pytest.mark.k8snet_check(id="NET-THROUGHPUT-004", level="load", title="answers between pods stay quick while TCP fills the path")
def test_answers_under_load(pair, expect, verdict):
    """While TCP fills the path between two pods, others' little requests are answered about as fast as between the nodes.

    Why
        A queue that is too long (bufferbloat) shows no loss and full throughput, and every request behind it waits: a bandwidth limit on
        pods, an encrypting or virtual device with a long queue, a shaper without fair queueing.
    How it is measured
        Beside each take of NET-THROUGHPUT-001 16 bytes go there and back over a connection of their own every 10 ms, between nodes
        and between pods; the seconds that iperf3 leaves out are not counted here either. The best take of a path counts, by its p50;
        where that of the pods is 30 ms more, both paths are taken again, up to seven takes.
    Expected
        The p50 of the pod path at most latency.pod_to_host (2) times that of the host path or latency.loaded_slack_ms (50) more, whichever
        is more, and at most latency.loaded_p50_ms of the profile. Inconclusive when it depends on which of the host takes is right. An
        error when the answers between pods end before the take does, every time: nobody knows how long the rest would have taken. Where
        no answers between nodes come (a firewall), the profile's limit alone counts. A queue of the uplink that hosts fill as well is found
        by that limit alone.
    Blind spots
        The load goes one way: what happens to answers when both ways are full is not tried. A queue that nodes fill as
        well is seen only where the profile gives latency.loaded_p50_ms.
        Of two address families the first one alone is measured.
    Fix
        `tc -s qdisc` on both nodes and on the pods' devices: fq or fq_codel in place of pfifo and of a tbf with a long queue
        (kubernetes.io/ingress-bandwidth and egress-bandwidth make one); NET-KERNEL-003.
    References
        RFC 7567; tc-fq_codel(8); tc-tbf(8) latency; CNI bandwidth plugin.
    """
    verdict(throughput.under_load(ThroughputRecord.from_document(pair.document("throughput")), expect.latency))
