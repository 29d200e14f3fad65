from __future__ import annotations

import pytest

from pytest_k8snet.judge import absence


@pytest.mark.k8snet_check(id="NET-ABSENCE-001", level="read", title="no kube-proxy runs on the node")
def test_process(node, expect, verdict):
    """No process of kube-proxy runs, and nothing answers as kube-proxy on port 10249.

    Why
        Cilium's replacement and a kube-proxy that was left running work side by side without a word: whichever comes first
        serves, and rules of both are in force.
    How it is measured
        Command lines of all processes of the node; `GET http://127.0.0.1:10249/proxyMode`, which also finds the kube-proxy
        inside k3s, and inside MicroK8s' kubelite.
    Expected
        Neither, where proxy.mode of the profile or the cluster's claim is none; skipped elsewhere. Port 10256 proves
        nothing, Cilium and Calico serve it as well.
    Fix
        Delete the DaemonSet or static pod (k3s, RKE2: --disable-kube-proxy), stop the process, then clean up with
        `kube-proxy --cleanup`.
    References
        cilium Documentation/network/kubernetes/kubeproxy-free.rst; k3s-io/k3s#3618.
    """
    verdict(absence.processes(node.facts, expect.proxy))
