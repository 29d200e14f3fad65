from __future__ import annotations

import pytest

from pytest_k8snet.judge import throughput
from pytest_k8snet.record.udp import UdpRecord


@pytest.mark.k8snet_check(id="NET-THROUGHPUT-005", level="load", title="pods lose no more UDP at a given rate than their nodes do")
def test_udp(pair, expect, verdict):
    """UDP at the rate that is asked for crosses between two pods with no more loss than between their nodes.

    Why
        Voice, video, games, QUIC and VXLAN of others do not send again what is lost, or slow down for it. A queue that is too short, a
        policer or a receiver without a processor loses of it what TCP hides.
    How it is measured
        Only when asked for: `--k8snet-udp=10mbit`. iperf3 -u at that rate for 3 s between nodes, pods and nodes again, pair after
        pair of those under load; pods and nodes up to twice more where the pods lost more. The best take of each path counts. What
        came and found no room in the receiver's socket, as iperf3 read it too late (UDP's RcvbufErrors), is told, and not lost.
    Expected
        No more than throughput.udp_loss (0.001) of the packets, and two, are lost beyond what the nodes lose; the jitter
        (RFC 3550) is at most throughput.udp_jitter_ms of the profile, and told without it. Inconclusive when the sender did not get
        to the rate, when the nodes themselves lose more than that (a lower rate helps then), when it depends on which of the nodes'
        takes is right, and when nothing came any more of the last twentieth of a take or more.
    Blind spots
        One flow of large datagrams for three seconds: small ones at the same rate are many more packets, and may be
        lost where these are not. While the receiver's socket overflows, as much that is lost on the way is taken for that: the
        kernel counts for the whole network namespace, and from a second before iperf3 does.
        Of two address families the first one alone is measured.
    Fix
        `tc -s qdisc` and drops of the devices on the way (NET-NODE-001, NET-LOSS-001), bandwidth limits of pods. What is read too
        late: net.core.rmem_default of the receiver, a CPU limit of who receives.
    References
        iperf3(1); RFC 3550 section 6.4.1 (interarrival jitter).
    """
    verdict(throughput.udp(UdpRecord.from_document(pair.document("udp")), expect.throughput))
