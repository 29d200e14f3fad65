from __future__ import annotations

import pytest

from pytest_k8snet.judge import ingress
from pytest_k8snet.record.ingress import IngressRecord


@pytest.mark.k8snet_check(id="NET-INGRESS-007", level="probe", title="large headers pass the ingress both ways")
def test_large_headers(measure, expect, verdict):
    """A header of 12 KiB passes the ingress in a request and in an answer.

    Why
        Cookies and tokens grow, first those of the users with the most roles: they alone get 400 for what they send, or 502 for
        what the application answers, and nobody else can see it.
    How it is measured
        One request with a header of that length, and one that the pod of the run's own answers with such a header. As a control
        the same go straight to the pod.
    Expected
        Both are answered by the pod, and it got the whole header: header_bytes of the route (12288). Inconclusive when the
        control does not pass. Skipped without ingress.routes.
    Blind spots
        One header of that length, over HTTP/1.1: many short ones together, and the limits of HTTP/2, are not tried.
    Fix
        ingress-nginx: large-client-header-buffers (4 8k by default) for requests, proxy-buffer-size (4k by default) for
        answers. nginx: large_client_header_buffers, proxy_buffer_size with proxy_busy_buffers_size. Envoy:
        max_request_headers_kb. HAProxy: tune.bufsize.
    References
        kubernetes/ingress-nginx docs/user-guide/nginx-configuration/configmap.md.
    """
    record = IngressRecord.from_document(measure("ingress", "cluster"))
    verdict(ingress.headers(record, expect.common.ingress))
