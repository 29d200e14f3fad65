from __future__ import annotations

import pytest

from pytest_k8snet.judge import control_plane
from pytest_k8snet.record.api import ApiRecord


@pytest.mark.k8snet_check(id="NET-CONTROL-008", level="probe", title="nodes and their pods reach the API server")
def test_api_reached(node, cluster, verdict):
    """The node and a pod on it reach the API server by the Service kubernetes, and by each address behind that.

    Why
        Controllers, operators and the CNI's agents go by the Service; where it leads to an API server that one network cannot
        reach, a share of their connections hangs.
    How it is measured
        From the host network and from the probe pod: a TCP connection and a TLS hello, without a handshake, to the ClusterIP
        of default/kubernetes and to the ready addresses in its EndpointSlices; up to three tries of five seconds each.
    Expected
        An answer from each, be it an alert. The ClusterIP is left out where no Service address leads anywhere (no kube-proxy and
        nothing in its place); without probe pods the host network alone is judged.
    Blind spots
        The TLS hello ends there: an API server that answers it and then refuses everybody passes. Each way is seen once
        a run. A load balancer before the API servers that no EndpointSlice names is not asked.
    Fix
        Firewalls and security groups between the node (for pods: the pod range, or the node that masquerades it) and the API
        server's port; the API server's --advertise-address; policies for pods' egress.
    References
        kubernetes pkg/controlplane/controller/kubernetesservice; RFC 8446.
    """
    verdict(control_plane.api_reached(ApiRecord.from_document(node.document("api")), node.facts, cluster))
