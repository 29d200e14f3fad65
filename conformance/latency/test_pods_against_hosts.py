from __future__ import annotations

import pytest

from pytest_k8snet.judge import latency
from pytest_k8snet.record.latency import LatencyRecord


@pytest.mark.k8snet_check(id="NET-LATENCY-001", level="probe", title="pods answer pods as fast as their nodes answer each other")
def test_pods_against_hosts(node, expect, verdict):
    """Round trips between pods of different nodes take hardly longer than those between the nodes themselves.

    Why
        What lies between is the CNI's doing: a detour over another node or zone, a queue in front of pods, a path through user
        space, encryption on a weak processor. Every request pays for it, at each hop.
    How it is measured
        200 answers of 16 bytes over one open TCP connection: between the nodes, between their probe pods, between the nodes
        again, in one go. Where the paths are far apart both are taken again, up to seven takes: the best take of a path counts.
        p50, p90, p99 and jitter of every take are in the evidence, and those of 50 ICMP echoes by either path, where the kernel
        lets them be sent (net.ipv4.ping_group_range, CAP_NET_RAW): a second opinion, which tells whether packets are late, or
        what is above IP.
    Expected
        p50 and p99 of the pod path at most latency.pod_to_host (2) times those of the host path, or latency.slack_ms (1) more for
        p50 and latency.slack_p99_ms (20) more for p99, whichever is more. Inconclusive when the host takes are so far apart that
        it depends on which of them is right. Where the host path's own p99 is uneven, p50 stands for both. Paths between
        pods on which no connection opens are told, and judged by NET-REACH-001; where none opens between nodes (a firewall),
        pods that take no longer than what they may take more pass. ICMP is not judged: where it is not allowed, or not
        answered, that is told.
    Blind spots
        Small answers over a connection that is open: what its beginning costs is not in them, and stalls rarer than one
        in a hundred are chance. What makes nodes and pods slow alike passes.
        Of two address families the first one alone is measured.
    Fix
        `tc -s qdisc` on both nodes and on the pods' devices, bandwidth annotations, NET-ENCAP-001 for the way packets take,
        NET-NODE-001 and NET-NODE-006 for processors that are busy.
    References
        tc(8); kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/network-plugins (traffic shaping).
    """
    verdict(latency.pods_against_hosts(LatencyRecord.from_document(node.document("latency")), expect.latency))
