from __future__ import annotations

import pytest

from pytest_k8snet.judge import absence


@pytest.mark.k8snet_check(id="NET-ABSENCE-006", level="read", title="Cilium's agent says that it replaces kube-proxy")
def test_replacement(cluster, node, expect, verdict):
    """The agent of every node runs with kube-proxy replacement on, by its own word and not by its ConfigMap's.

    Why
        An agent reads its configuration once, at its start: a ConfigMap that was changed later, or a CiliumNodeConfig for some
        nodes, leaves it running with something else, without a word. A node whose agent replaces nothing serves no
        NodePort, and nothing at all to the node's own processes.
    How it is measured
        `GET /v1/healthz` of the agent's API on the node (HTTP over the UNIX socket /run/cilium/cilium.sock), its part
        `kube-proxy-replacement`.
    Expected
        Mode True (Strict until 1.13), where the cluster's network is Cilium's and the wanted mode is none; skipped elsewhere.
        Partial, of releases until 1.13, is inconclusive.
    Fix
        Compare `cilium-dbg status` on the node with the ConfigMap cilium-config and with CiliumNodeConfigs, then restart
        the node's agent.
    References
        cilium Documentation/network/kubernetes/kubeproxy-free.rst; cilium api/v1/openapi.yaml (KubeProxyReplacement).
    """
    verdict(absence.replacement(node.facts, expect.proxy, cluster.cni))
