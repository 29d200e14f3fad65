from __future__ import annotations

import pytest

from pytest_k8snet.judge import reach
from pytest_k8snet.record.reach import ReachRecord


@pytest.mark.k8snet_check(id="NET-REACH-003", level="probe", title="pods reach their own node")
def test_pod_reaches_own_node(node, verdict):
    """The pod on this node gets an answer from the node it runs on, whatever answer that is.

    Why
        NodeLocal DNSCache, agents for metrics and traces, and whatever else listens on the node's address serve the pods beside
        them. A firewall on the node that knows the other nodes but not the pods keeps them from it.
    How it is measured
        The probe pod asks the kubelet's port and a small server on the node's InternalIP, TCP and UDP; where pod and node
        have addresses of both families, on both.
    Expected
        At least one answer by each; a refused connection is one. Built in; a node that is to be closed to its pods takes a waiver.
    Blind spots
        Two ports: what a firewall of the node closes beside them is not seen.
    Fix
        Let the pods' range in where the node's firewall (nft list ruleset, iptables -S INPUT) drops it.
    References
        Kubernetes documentation, Using NodeLocal DNSCache in Kubernetes Clusters.
    """
    verdict(reach.pod_reaches_own_node(ReachRecord.from_document(node.document("reach"))))
