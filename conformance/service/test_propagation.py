from __future__ import annotations

import pytest

from pytest_k8snet.judge import service
from pytest_k8snet.record.balance import BalanceRecord


@pytest.mark.k8snet_check(id="NET-SERVICE-006", level="probe", title="every node notices when an endpoint leaves or comes")
def test_propagation(node, cluster, expect, verdict):
    """An endpoint that leaves a Service is soon used no more, one that comes is soon used, and connections that are open are kept.

    Why
        A node whose proxy lags or is stuck sends a share of its requests to pods that are gone: errors after every deployment,
        from some nodes only, until somebody restarts kube-proxy.
    How it is measured
        The run takes the label that its Service selects from one of the up to 4 probe pods, which runs on, and gives it back: the
        API server, the EndpointSlice controller and every proxy have to notice. Meanwhile every node's probe pod connects again
        and again, 8 times for each endpoint; the endpoint tells who it is. An endpoint is gone when three rounds have missed it.
        All times are by the clock of the run. A connection to it that was opened before it left is used after that.
    Expected
        Neither takes longer than service.propagation_s of the profile (30 s). The connection is kept, where kube-proxy serves.
        Inconclusive where the node never used that endpoint. Skipped where the Service has one endpoint, and where the run may not
        patch pods.
    Blind spots
        A label that is taken away, not a container that ends: what your pods do at SIGTERM is not seen. One change at a
        time: on an API server that has hundreds to tell, each takes longer.
        Of two address families the first one alone is measured.
    Fix
        Both on all nodes: kube-controller-manager (EndpointSlice controller), the API server's load. On one: kube-proxy there, its log,
        its way to the API server, minSyncPeriod, NET-PROXY-008. Connections: `net.ipv4.vs.expire_nodest_conn`.
    References
        kubernetes pkg/controller/endpointslice; pkg/proxy/ipvs graceful_termination.go. Times are those of TCP; what comes back in
        less than a round (about a second) is seen as at once.
    """
    verdict(service.propagation(BalanceRecord.from_document(node.document("balance")), node.facts, expect.service, cluster))
