from __future__ import annotations

import pytest

from pytest_k8snet.judge import proxy


@pytest.mark.k8snet_check(id="NET-PROXY-007", level="read", title="kube-proxy runs what its configuration says")
def test_configuration_in_force(node, cluster, verdict):
    """What the cluster's configuration says of kube-proxy is what runs on the node, whatever a profile wants.

    Why
        kube-proxy reads its configuration once. A ConfigMap that was edited without a restart of the pods, or a node with
        flags of its own, changes its behaviour the day something restarts it: a reboot, an upgrade, an eviction.
    How it is measured
        `GET http://127.0.0.1:10249/proxyMode` and `/configz` in the node's network namespace, beside the cluster's claims:
        ConfigMap, flags, k3s' arguments (docs/claims.md).
    Expected
        The same mode, and in ipvs mode the same scheduler and strictARP; an error when kube-proxy does not tell them. A mode
        that is not written is advice: kube-proxy's default changes in Kubernetes 1.40. Skipped where the cluster claims
        nothing, or that there is no kube-proxy.
    Fix
        `kubectl -n kube-system rollout restart daemonset kube-proxy`, or take away what the node has of its own. First see
        that the configuration is the one you want.
    References
        kubernetes cmd/kube-proxy/app/server.go (/configz); KEP-5343 (nftables becomes the default).
    """
    verdict(proxy.configuration_in_force(node.facts, cluster.claims))
