from __future__ import annotations

import pytest

from pytest_k8snet.judge import service
from pytest_k8snet.record.throughput import ThroughputRecord


@pytest.mark.k8snet_check(id="NET-SERVICE-010", level="load", title="pods reach pods through a Service as fast as directly")
def test_service_throughput(pair, cluster, expect, verdict):
    """TCP from a pod by the ClusterIP of a Service to a pod of another node carries nearly what it does by the pod's own address.

    Why
        Workloads talk through Services. What rewrites their packets on the way, or a mesh or a firewall that looks at Services' ports
        alone, may cost what no test between pods shows.
    How it is measured
        Behind the takes of NET-THROUGHPUT-001 one more from the same pod to the same pod, by the ClusterIP of a Service of the run
        whose only endpoint it is. Where it carries less than 90 % of the best direct take, it is repeated, up to three takes; the
        best one counts.
    Expected
        throughput.service_to_pod of the profile (0.85) of the best direct take. Inconclusive when the direct takes differ so much
        that it depends on which is right, and when a node had no processor to spare. Skipped where no Service leads
        anywhere; where no connection opens at all, NET-SERVICE-001 judges that.
    Blind spots
        One endpoint and one port: what choosing among thousands costs is NET-SERVICE-008's. NodePorts and load balancers are
        not measured. Services lead to the pods of 16 nodes at most: pairs into others are skipped.
        Of two address families the first one alone is measured.
    Fix
        What else looks at packets for Services on the named node: `iptables-save -c`, `nft list ruleset`, a mesh's redirection; the
        mode of kube-proxy (NET-PROXY-001); offloads, as packets that are rewritten in software may lose them.
    References
        kubernetes pkg/proxy; iperf3 RELNOTES.
    """
    record = ThroughputRecord.from_document(pair.document("throughput"))
    verdict(service.throughput(record, pair.source.facts, cluster, expect.throughput, lambda: pair.others("throughput")))
