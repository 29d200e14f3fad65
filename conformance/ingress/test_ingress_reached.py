from __future__ import annotations

import pytest

from pytest_k8snet.judge import ingress
from pytest_k8snet.record.ingress import IngressRecord


@pytest.mark.k8snet_check(id="NET-INGRESS-004", level="probe", title="requests through the ingress are answered by the pods behind it")
def test_ingress_reached(measure, expect, verdict):
    """Requests through each way into the cluster that the profile names are answered by the pod behind it, every one.

    Why
        A controller that no longer follows the cluster's objects serves what it knew: old names work, and new ones do not.
    How it is measured
        The run makes a Service for one of its probe pods and an Ingress of the class that the profile names, or an HTTPRoute of
        the Gateway, for a name of its own. Another probe pod asks for that name until the pod answers, for served_within_s of
        the route at most (60), then 200 times over one connection. The same requests are sent straight to the pod.
    Expected
        Every request is answered by that pod. That answers are so slow that not all could be sent is told. Inconclusive when
        not even those straight to it are. Skipped without ingress.routes in the profile.
    Blind spots
        The client is a pod: name servers, firewalls and load balancers outside are on the way only where the route's
        address leads through them.
    Fix
        404: the controller does not take it (class, rights to read, its log); a Gateway has to let routes of the run's namespace
        in (allowedRoutes; --k8snet-namespace names one), and its listener the name (domain of the route). 502, 503, 504: it
        takes it and does not reach the pod (policies, its own node's network). 301, 308: it sends clients to TLS; give the
        route tls: true. 302, 401: it asks who is there; the route's annotations may switch that off. Closed without an answer:
        it may want PROXY protocol; give the route the load balancer's address.
    References
        kubernetes networking.k8s.io/v1 Ingress; gateway-api.sigs.k8s.io HTTPRoute.
    """
    record = IngressRecord.from_document(measure("ingress", "cluster"))
    verdict(ingress.reached(record, expect.common.ingress))
