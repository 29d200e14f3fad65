from __future__ import annotations

import pytest

from pytest_k8snet.judge import throughput
from pytest_k8snet.record.throughput import ThroughputRecord


@pytest.mark.k8snet_check(id="NET-THROUGHPUT-001", level="load", title="pods reach each other as fast as their nodes do")
def test_pod_against_host(pair, expect, verdict):
    """The pod path carries nearly what the host path between the same two nodes carries at the same time.

    Why
        What lies between is the CNI's doing: encapsulation, a wrong MTU, a bandwidth limit, a path through user space,
        missing offloads.
    How it is measured
        iperf3 over TCP, host path, pod path, host path again in one go; received rate counts. By one stream, or by 4 or 8 where
        the host path of the first pair carries 10 % more by them, or by --k8snet-streams. Where the two
        paths are more than 10 % apart, pod and host are taken again, up to seven takes: the best take of a path counts. Bytes
        on both uplinks are read around each take, to see traffic that is not ours. Retransmits are recorded.
    Expected
        throughput.pod_to_host of the profile; else 0.9 without encapsulation and 0.8 with; less than that is advice where pods'
        traffic is encrypted, as what that costs is no fault of the network. Inconclusive when the host
        takes (those of nodes with processors to spare) differ by more than 15 % and that decides, when more than 10 % of the
        bytes were somebody else's and that could, when a node's processors were more than 85 % busy, or the hypervisor took
        more than 10 % of their time, during the best pod take of a slow path, and when the host path is far below a known line
        rate. A take that went wrong is an error, never a number.
        A weak pair says what it has in common with the other weak ones: a node that they lead into, out of or both, or nothing.
    Blind spots
        How many streams are needed is found out on one pair, and more than 8 are not tried; nothing is seen of other hours.
        A pod path that is slow because it costs so much of a small node's processors is inconclusive, not red: what else keeps
        them busy cannot be told from it. What slows nodes and pods alike is NET-THROUGHPUT-002's. Pairs that are not chosen
        (--k8snet-load-pairs) are not measured.
        Of two address families the first one alone is measured.
    Fix
        Look at NET-MTU-001 and NET-ENCAP-001 first; then at bandwidth annotations and tc on the pods' devices, offloads
        (ethtool -k), and the CPU of both nodes during the take.
    References
        iperf3 RELNOTES 3.14 (exit status 0 with an error in the JSON).
    """
    record = ThroughputRecord.from_document(pair.document("throughput"))
    line = throughput.line_of(pair.source.facts, pair.target.facts, expect.throughput)
    verdict(throughput.pod_against_host(record, expect.throughput, line, lambda: pair.others("throughput")))
