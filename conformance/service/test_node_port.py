from __future__ import annotations

import pytest

from pytest_k8snet.judge import service
from pytest_k8snet.record.service import ServiceRecord


@pytest.mark.k8snet_check(id="NET-SERVICE-002", level="probe", title="NodePorts of every node answer pods there and on another node")
def test_node_port(node, cluster, documents, verdict):
    """The node's NodePorts answer, its own pods and those of another node, with an endpoint that is elsewhere.

    Why
        Load balancers send to NodePorts of any node. A firewall, or a node whose proxy is behind, breaks a share of the
        requests.
    How it is measured
        The run makes a NodePort Service for the probe pod of each of up to 16 nodes. The probe pod
        of the node, and that of another node, connect three times to the node's InternalIP and a NodePort whose only endpoint
        is on another node than the client, of three nodes on one that is neither. The endpoint
        tells who it is. Where nodes, pods and Services have both address families, so has what is asked. What fails is
        asked again for 35 s: every proxy must have seen the Service then.
    Expected
        Every connection is answered by that endpoint. Failures of a pod that reached no Service at all say nothing of this
        node and are told only, and so is that no pod of another node has asked. Skipped as NET-SERVICE-001.
    Blind spots
        Clients are pods of the cluster: what is between those outside and the node is not on the way.
        externalTrafficPolicy Local is not tried; NET-PROXY-006 compares what it asks for.
    Fix
        Let the nodes' firewalls pass the NodePort range (30000-32767) between nodes; kube-proxy's nodePortAddresses has to cover
        the InternalIP; else as NET-SERVICE-001.
    References
        kubernetes KubeProxyConfiguration nodePortAddresses.
    """
    record = ServiceRecord.from_document(node.document("service"))
    others = [documents("service")[name] for name in [record.asked_by] if name is not None and name in documents("service")]
    other = next((ServiceRecord.from_document(document) for document in others if not document.failed), None)
    verdict(service.node_port(record, other, node.facts, cluster))
