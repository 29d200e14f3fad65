from __future__ import annotations

import pytest

from pytest_k8snet.judge import proxy


@pytest.mark.k8snet_check(id="NET-PROXY-002", level="read", title="equal nodes run kube-proxy in the same mode")
def test_nodes_agree(cluster, documents, expect, verdict):
    """Nodes that are equal run kube-proxy in the same mode; the odd one out is named.

    Why
        A cluster that is half ipvs and half iptables has Services that behave differently from node to node: session
        affinity, timeouts, what answers a ping. It shows as a fault that comes and goes with scheduling.
    How it is measured
        `GET http://127.0.0.1:10249/proxyMode` in the network namespace of every node.
    Expected
        One mode within each group of equal nodes (pool label, operating system, kernel, machine type). Which mode that
        should be is judged by NET-PROXY-001.
    Fix
        Look at the named node: a DaemonSet or flags of its own, a pod older than the ConfigMap, a kernel module that is
        missing.
    References
        kubernetes cmd/kube-proxy/app/server.go (/proxyMode).
    """
    verdict(proxy.nodes_agree(documents("facts"), cluster, expect.common.proxy))
