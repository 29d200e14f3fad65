from __future__ import annotations

import pytest

from pytest_k8snet.judge import service
from pytest_k8snet.record.service import ServiceRecord


@pytest.mark.k8snet_check(
    id="NET-SERVICE-001", level="probe", title="nodes and their pods reach an endpoint on another node by its ClusterIP"
)
def test_cluster_ip(node, cluster, verdict):
    """The node and a pod on it reach a pod of another node by the ClusterIP of a Service.

    Why
        A kube-proxy that is stuck, or packets that lose their checksum or their source address on the way, show only where the
        endpoint is far away: an endpoint nearby is reached whatever is wrong.
    How it is measured
        The run makes a NodePort Service for the probe pod of each of up to 16 nodes. The host network and
        the probe pod of the node connect three times to the ClusterIP of one whose only endpoint is on another node. The endpoint
        tells who it is. A Service with addresses of both families (ipFamilyPolicy PreferDualStack) is asked at both, where nodes
        and pods have both, too. What fails is asked again for 35 s: every proxy must have seen the Service then.
    Expected
        Every connection is answered by that endpoint. Skipped on a cluster of one node, and where no Service address leads
        anywhere (no kube-proxy and nothing in its place).
    Blind spots
        The Services are the run's own and new, over TCP: entries that are wrong for others are found by NET-PROXY-006
        and -009 and NET-ABSENCE-007, which compare tables.
    Fix
        kube-proxy (or what stands for it) on the named node: its log, NET-PROXY-006 and NET-PROXY-008. If only the host or only
        the pod fails: masquerading, rp_filter, checksum offload of the tunnel device (`ethtool -K flannel.1 tx off`).
    References
        kubernetes pkg/proxy; flannel-io/flannel issue 1279 (checksums of encapsulated packets).
    """
    verdict(service.cluster_ip(ServiceRecord.from_document(node.document("service")), node.facts, cluster))
