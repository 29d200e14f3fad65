from __future__ import annotations

import pytest

from pytest_k8snet.judge import ingress


@pytest.mark.k8snet_check(id="NET-INGRESS-010", level="read", title="nginx runs with what the ConfigMap of ingress-nginx says")
def test_running(node, cluster, verdict):
    """The nginx.conf of ingress-nginx' pods on this node has the values of connections and buffers that their ConfigMap has.

    Why
        The controller drops a value that it cannot read ("75s" where a number is wanted), and goes on with the file it has when nginx
        refuses the new one, for a snippet of somebody else's Ingress as well: the ConfigMap then says what is not so, for months.
    How it is measured
        Master processes of nginx in the node's pods, and of the file each runs with, up to the first server, the directives
        keepalive_timeout, keepalive_requests, large_client_header_buffers, worker_connections, and those of upstream_balancer. Nothing
        else of the file is kept. Beside them the ConfigMap that the controller's flag --configmap names.
    Expected
        The same values. Keys that the ConfigMap does not have are not judged, nor what a location has, which may be an Ingress' own.
        Skipped on nodes without such a pod.
    Fix
        The controller's log: it says which value or which Ingress it refuses. Then see whether --configmap names the ConfigMap that
        was changed.
    References
        kubernetes/ingress-nginx rootfs/etc/nginx/template/nginx.tmpl; NGINX Configuration, ConfigMap.
    """
    verdict(ingress.running(node.facts, cluster))
