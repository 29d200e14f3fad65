from __future__ import annotations

import pytest

from pytest_k8snet.judge import service
from pytest_k8snet.record.balance import BalanceRecord


@pytest.mark.k8snet_check(id="NET-SERVICE-007", level="probe", title="sessionAffinity keeps a client with one endpoint")
def test_affinity(node, cluster, verdict):
    """All connections of a pod to a Service with sessionAffinity ClientIP are answered by the same endpoint.

    Why
        Applications that keep sessions in memory rely on it. Where a proxy does not know it, or loses it, users are logged out at
        random, and from some nodes only.
    How it is measured
        The run makes a second Service for the same up to 4 probe pods, with sessionAffinity ClientIP. The node's probe pod
        connects once, and when that is answered 23 times more; the endpoint tells who it is. A random choice between two gives
        the same one so often once in 8 million times.
    Expected
        One endpoint answers all. Inconclusive when fewer than two are answered; skipped where the Service has one endpoint, and
        where no Service address leads anywhere.
    Blind spots
        Seconds, not hours: the timeout is compared by NET-PROXY-006, and not waited for. Clients that share one address
        outside are one client.
        Of two address families the first one alone is measured.
    Fix
        ipvs: the virtual server has to be persistent (`ipvsadm -Ln`, flag -p). iptables: xt_recent in the kernel. Cilium:
        session-affinity. NET-PROXY-006 compares the tables.
    References
        kubernetes "Virtual IPs and Service Proxies", session affinity. Connections that begin at the same moment are not judged,
        nor is the end of the affinity (three hours).
    """
    verdict(service.affinity(BalanceRecord.from_document(node.document("balance")), node.facts, cluster))
