from __future__ import annotations

import pytest

from pytest_k8snet.judge import ingress
from pytest_k8snet.record.ingress import IngressRecord


@pytest.mark.k8snet_check(id="NET-INGRESS-006", level="probe", title="the ingress keeps clients' connections")
def test_kept_for_clients(measure, expect, verdict):
    """A client's connection to the ingress carries 200 requests without being closed.

    Why
        Each new connection costs the client a handshake, over TLS two and processor time on both sides; the load balancer in
        front closes with it, and answers 502 to what it had sent already.
    How it is measured
        200 requests of one client, one after the other, over one connection for as long as it is kept; how many requests each
        connection carried. What was closed is taken again, up to three times, and the best take counts: controllers close
        connections when they are configured anew. As a control the same requests go straight to the pod.
    Expected
        One connection. Inconclusive when the control was closed as well. Skipped without ingress.routes.
    Blind spots
        HTTP/1.1 without pauses: how long an idle connection is kept is not waited for, neither by the ingress nor by
        what stands before it.
    Fix
        ingress-nginx: keep-alive-requests, keep-alive. nginx: keepalive_requests (100 before 1.19.10), keepalive_timeout.
    References
        nginx.org/en/docs/http/ngx_http_core_module.html#keepalive_requests.
    """
    record = IngressRecord.from_document(measure("ingress", "cluster"))
    verdict(ingress.kept_for_clients(record, expect.common.ingress))
