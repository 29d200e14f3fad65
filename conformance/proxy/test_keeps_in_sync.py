from __future__ import annotations

import pytest

from pytest_k8snet.judge import proxy


@pytest.mark.k8snet_check(id="NET-PROXY-008", level="read", title="kube-proxy runs and its syncs succeed")
def test_keeps_in_sync(node, cluster, expect, verdict):
    """kube-proxy's container runs, and no change waits for a sync that does not succeed.

    Why
        A kube-proxy whose syncs fail (a lock on iptables that nobody gives back, an nft too old, no memory) still answers
        with its mode, and the node keeps sending connections to endpoints that are gone.
    How it is measured
        Restarts and state of kube-proxy's pod from the API; `GET http://127.0.0.1:10249/metrics` in the node's network
        namespace: when a sync was last asked for, when one last succeeded, failures since the start. The status of
        `GET http://127.0.0.1:10256/livez` there: kube-proxy's own word for changes that wait, however many come after them.
    Expected
        The container runs, and no sync has been waited for longer than two sync periods (of 30 s by default). Restarts, and
        failures that a later sync made good, are remarks. A kube-proxy that tells nothing of its syncs is an error. Skipped
        where no kube-proxy is wanted.
    Fix
        Look at kube-proxy's log on the node (`kubectl -n kube-system logs POD --previous` after a restart).
    References
        kubernetes pkg/proxy/metrics/metrics.go, pkg/proxy/healthcheck/proxy_health.go.
    """
    verdict(proxy.keeps_in_sync(node.facts, cluster, expect.proxy))
