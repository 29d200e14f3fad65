from __future__ import annotations

import pytest

from pytest_k8snet.judge import ingress
from pytest_k8snet.record.ingress import IngressRecord


@pytest.mark.k8snet_check(id="NET-INGRESS-009", level="probe", title="no request fails while a pod behind the ingress takes over")
def test_rolling_restart(measure, expect, verdict):
    """Requests through the ingress are answered all the while, although the pod behind it is replaced by another.

    Why
        Every rollout does that. A controller that learns late of the new endpoints, or that does not try another one when a
        connection is refused, answers with 502, 503 or 504 then, on each deploy, and hardly anybody finds out why.
    How it is measured
        One pod sends 20 requests a second through each route. After two seconds the run leads its own Service to another pod,
        as a rollout does when the new pod is ready and the old one is told to end. The old pod goes on to answer for drain_s of
        the route (10 s), which is what a preStop hook gives it, and then it ends: its connections are closed, and new ones are
        refused. Three seconds later the requests stop. As a control requests go straight to the old pod before, and the new
        one counts those that it gets. It takes the right to patch Services.
    Expected
        No request fails from the change on. One that finds its kept connection closed is sent again over a new one, as clients do.
        Inconclusive when the new pod got no request although none failed. Skipped without ingress.routes, with one probe pod
        alone, and without the right.
    Blind spots
        No container is started or ended: how your own workloads become ready, and what they do at SIGTERM, is not
        tried. Requests are short; streams that outlive drain_s end in any case.
    Fix
        Let the controller watch EndpointSlices, and reload quickly enough: look at its log and its processor. Let it try the next
        endpoint (ingress-nginx: proxy-next-upstream, not off; HAProxy: option redispatch; Envoy: retry_on connect-failure).
        Where it cannot be faster (load balancers that lead to pods themselves) give pods a longer preStop, and drain_s what
        they have.
    References
        kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-flow. The old pod's address stays in use, so that
        connections are refused and not lost; that it is terminating the EndpointSlice does not say: it has left it.
    """
    record = IngressRecord.from_document(measure("ingress", "cluster"))
    verdict(ingress.restarted(record, expect.common.ingress))
