from __future__ import annotations

import pytest

from pytest_k8snet.judge import proxy


@pytest.mark.k8snet_check(id="NET-PROXY-001", level="read", title="kube-proxy runs in the mode it is meant to run in")
def test_mode(node, cluster, expect, verdict):
    """kube-proxy on every node says at run time that it runs in the wanted mode.

    Why
        A ConfigMap is a claim: kube-proxy reads it once at its start, flags of the DaemonSet may override it, and a node
        that was left out of a rollout still runs in the old mode. Chains of iptables mode that stay in force under another
        mode send traffic to dead endpoints.
    How it is measured
        `GET http://127.0.0.1:10249/proxyMode` (and `[::1]`, and the node's InternalIP, where metricsBindAddress may have
        it) in the node's network namespace; where nobody listens there, the port of metricsBindAddress in the file or among
        the flags that kube-proxy runs with (OpenShift: 29102); KUBE-SVC and KUBE-SEP chains
        of both iptables back ends, and which of them a packet can reach.
    Expected
        proxy.mode of the profile; else the mode that the kube-proxy ConfigMap claims, where kube-proxy is scheduled (an
        empty mode is iptables). Unreferenced chains of another mode are a remark, reachable ones a failure,
        and chains that cannot be read an error.
    Fix
        Set mode in ConfigMap kube-system/kube-proxy, key config.conf, then `kubectl -n kube-system rollout restart
        daemonset kube-proxy`. Left-over chains: run `kube-proxy --cleanup` on the node, or restart the node.
    References
        kubernetes cmd/kube-proxy/app/server.go (/proxyMode); KEP-5495 (ipvs is deprecated since 1.35); KEP-3866 (nftables).
    """
    verdict(proxy.mode_in_force(node.facts, expect.proxy, cluster.version))
