from __future__ import annotations

import pytest

from pytest_k8snet.judge import control_plane
from pytest_k8snet.record.relayed import RelayedRecord


@pytest.mark.k8snet_check(id="NET-CONTROL-009", level="probe", title="the API server reaches the kubelet and the pods of every node")
def test_reached_by_api(node, expect, verdict):
    """The API server itself connects to the node's kubelet, and to a pod on the node by the pod's address, as it does to a webhook.

    Why
        Logs, exec, metrics and port-forward are connections of the API server to the kubelet. Webhooks, aggregated APIs and
        conversion are its connections to pods: where they end in a firewall, or the host of the API server has no route to pods,
        creating objects takes ten seconds, or fails.
    How it is measured
        The API server is asked for a line of the log of the node's probe pod, which it gets from the kubelet (port 10250), and by
        the pod's subresource proxy to send an HTTP request to port 9443 of that pod, where the run answers meanwhile. Up to three
        tries. The pod tells whether a request came, and from which address. No right on nodes is used.
    Expected
        An answer of both. Where the API server reaches pods of other nodes, it is to reach this one's; where it reaches none, that
        is a failure if control_plane.reaches_pods of the profile says so or nodes of the control plane are nodes of the
        cluster, and advice elsewhere: control planes of some providers are outside of the pod network. With
        control_plane.reaches_pods: false pods are not judged. Skipped without rights (pods/log, pods/proxy) and
        where there are no probe pods.
    Blind spots
        Each API server has ways of its own, and a load balancer before several chooses which is asked. A webhook is reached by its
        Service: kube-proxy beside the API server, which then chooses the pod, is not in this way. By one address family only.
        Where exec to the node's pods does not work the pod's part cannot be asked.
    Fix
        Firewalls and security groups from the API servers to port 10250 of nodes, and to the pods' range and ports; routes to
        pods on the API servers' hosts; konnectivity (--egress-selector-config-file) where the words of the error name an agent
        or a tunnel: its agents run on the nodes. Webhooks of hostNetwork pods need no way into the pod network.
    References
        kubernetes.io/docs/concepts/architecture/control-plane-node-communication; kubernetes pkg/registry/core/pod/rest (log,
        proxy).
    """
    verdict(control_plane.reached_by_api(RelayedRecord.from_document(node.document("relayed")), expect.control_plane))
