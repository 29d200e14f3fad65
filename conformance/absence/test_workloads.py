from __future__ import annotations

import pytest

from pytest_k8snet.judge import absence


@pytest.mark.k8snet_check(id="NET-ABSENCE-002", level="read", title="no DaemonSet and no static pod brings kube-proxy")
def test_workloads(cluster, expect, verdict):
    """No workload of the cluster brings kube-proxy to a node.

    Why
        A DaemonSet that comes back with the next upgrade (kubeadm, add-on managers) starts kube-proxy again beside its
        replacement.
    How it is measured
        DaemonSets and pods of kube-proxy by name and label, static pods included, from the API.
    Expected
        None, where proxy.mode of the profile or the cluster's claim is none; skipped elsewhere. A DaemonSet that wants no
        pod is absence: Calico documents a node selector that matches nothing.
    Fix
        `kubectl -n kube-system delete daemonset kube-proxy` and its ConfigMap; kubeadm: --skip-phases=addon/kube-proxy.
    References
        cilium Documentation/network/kubernetes/kubeproxy-free.rst; Calico's documentation of the eBPF data plane.
    """
    verdict(absence.workloads(cluster, expect.common.proxy))
