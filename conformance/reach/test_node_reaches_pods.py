from __future__ import annotations

import pytest

from pytest_k8snet.judge import reach
from pytest_k8snet.record.reach import ReachRecord


@pytest.mark.k8snet_check(id="NET-REACH-002", level="probe", title="nodes reach pods")
def test_node_reaches_pods(node, verdict):
    """The node itself reaches the pods of all nodes, its own too, over TCP and over UDP.

    Why
        The kubelet probes the pods of its node; the API server calls webhooks and aggregated APIs in pods from the network of its
        own node; in iptables and ipvs mode a NodePort is answered from there.
    How it is measured
        From the node's own network namespace the small server in every probe pod is asked, as for NET-REACH-001.
    Expected
        An answer from the right pod to each; built in.
    Blind spots
        From the node's main routing table: a VRF, or a daemon that binds to another of its addresses, may go another
        way.
    Fix
        `ip route get` the named address on the named node. Where pods reach the same pod and the node does not, look at the
        source address that the node takes (`src` of the route) and at the way back from the pod to it.
    References
        Kubernetes documentation, The Kubernetes network model: agents on a node can communicate with all pods on that node.
    """
    verdict(reach.node_reaches_pods(ReachRecord.from_document(node.document("reach"))))
