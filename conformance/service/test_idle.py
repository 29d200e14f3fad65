from __future__ import annotations

import pytest

from pytest_k8snet.judge import service
from pytest_k8snet.record.idle import IdleRecord


@pytest.mark.k8snet_check(id="NET-SERVICE-009", level="probe", title="connections through Services that nobody uses live on")
def test_idle(node, cluster, verdict):
    """A connection through a Service that nobody uses for a while is still there when it is needed.

    Why
        The data path keeps a memory of every connection and forgets those that nobody uses: IPVS after 15 minutes, while Linux asks
        the other side of an idle connection for the first time after two hours. Pools of connections to databases and brokers then
        hold dead ones, and the first request in the morning fails or hangs.
    How it is measured
        Only when asked for: `--k8snet-idle=960`, in seconds, which the run takes longer. Every node's pod opens two connections with
        keep-alive to a pod on another node through a Service. One is used every 5 s, which shows that the way is fine; the other one
        not at all, and then once.
    Expected
        Both are alive. When the one that is used ends as well, nothing is proved (inconclusive). Where IPVS would forget the
        connection before the kernel asks for the first time, that is advice when the time asked for was shorter. Skipped where it is
        not asked for, and where no Service address leads anywhere.
    Blind spots
        The time that was asked for, and no longer. From pod to pod: firewalls and NAT outside the cluster are not on
        the way.
        Of two address families the first one alone is measured.
    Fix
        Let pods ask earlier (net.ipv4.tcp_keepalive_time=600, keep-alive of clients and servers), or IPVS remember longer.
    References
        ipvsadm(8) --set; tcp(7) tcp_keepalive_time; kube-proxy's configuration ipvs.tcpTimeout.
    """
    verdict(service.idle(IdleRecord.from_document(node.document("idle")), node.facts, cluster))
