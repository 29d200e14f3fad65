from __future__ import annotations

import pytest

from pytest_k8snet.judge import ingress
from pytest_k8snet.record.ingress import IngressRecord


@pytest.mark.k8snet_check(id="NET-INGRESS-005", level="probe", title="the ingress uses connections to pods again")
def test_kept_to_pods(measure, expect, verdict):
    """The requests of one client reach the pod over few connections: the ingress keeps those it has opened.

    Why
        Without that each request costs the pod's side a handshake, a port of the controller and an entry of the connection
        table for a minute or two. Under load that is what runs out first.
    How it is measured
        200 requests over one connection through the ingress to a pod of the run's own, which counts the connections that they
        came over. As a control the same requests go straight to that pod, which must count one.
    Expected
        At least requests_per_connection of the route (20), on average. Inconclusive when the control counts otherwise, and when
        the ingress closed the client's own connections so often that it may be many processes that answered. Skipped without
        ingress.routes.
    Blind spots
        One client at a time: with many, the connections that the ingress keeps to a pod may not suffice.
    Fix
        ingress-nginx: upstream-keepalive-connections (not 0) and upstream-keepalive-requests. nginx: keepalive in the upstream,
        proxy_http_version 1.1 and proxy_set_header Connection "". HAProxy: http-reuse. Also look for backends that close.
    References
        nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive.
    """
    record = IngressRecord.from_document(measure("ingress", "cluster"))
    verdict(ingress.kept_to_pods(record, expect.common.ingress))
