"""What the agent reads of the kubelet: command lines and files as kubeadm, EKS, AKS and OpenShift have them."""

from __future__ import annotations

import pytest

from pytest_k8snet.agent import agent
from pytest_k8snet.agent.agent import is_kubelet, kubelet_flags, kubelet_keys, resolv_path

KUBEADM = """apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
clusterDNS:
- 10.96.0.10
clusterDomain: cluster.local
# resolvConf: /etc/other
resolvConf: "/run/systemd/resolve/resolv.conf"
staticPodURLHeader:
  Authorization:
  - Bearer secret
"""
KEPT = 'clusterDNS:\n- 10.96.0.10\nclusterDomain: cluster.local\nresolvConf: "/run/systemd/resolve/resolv.conf"\n'


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (KUBEADM, KEPT),
        ("---\nkind: KubeletConfiguration\nclusterDNS: [10.0.0.10]\n", "clusterDNS: [10.0.0.10]\n"),
        ("clusterDNS:\n  - 10.0.0.10\n  # two\n  - 10.0.0.11\nmaxPods: 3\n", "clusterDNS:\n  - 10.0.0.10\n  - 10.0.0.11\n"),
        ('{"kind": "KubeletConfiguration", "clusterDNS": ["10.100.0.10"], "maxPods": 58}', 'clusterDNS: ["10.100.0.10"]\n'),
        ("", ""),
        (None, None),
    ],
)
def test_only_named_keys_are_kept(text: str | None, want: str | None) -> None:
    assert kubelet_keys(text) == want


def test_command_lines() -> None:
    assert is_kubelet(["/usr/bin/kubelet", "--config=/x"])
    assert is_kubelet(["/hyperkube", "kubelet"])
    assert not is_kubelet(["/usr/bin/kubelet-watcher"])
    assert not is_kubelet(["sh", "-c", "kubelet"])
    assert not is_kubelet([""])
    given = kubelet_flags(
        ["kubelet", "--config", "/a.yaml", "--cluster-dns=10.0.0.10", "--token=secret", "-config-dir=/etc/x", "--resolv-conf="]
    )
    assert given == {"--config": "/a.yaml", "--cluster-dns": "10.0.0.10", "--config-dir": "/etc/x", "--resolv-conf": ""}


def test_whose_resolver_pods_get() -> None:
    file = {"path": "/a", "text": KEPT}
    assert resolv_path({}, []) == "/etc/resolv.conf"
    assert resolv_path({}, [file]) == "/run/systemd/resolve/resolv.conf"
    assert resolv_path({}, [file, {"path": "/b", "text": "resolvConf: /other # here\n"}]) == "/other"
    assert resolv_path({"resolvConf": "/flag"}, [file]) == "/flag"
    assert resolv_path({"resolvConf": ""}, [file]) is None
    assert resolv_path({}, [{"path": "/b", "text": 'resolvConf: ""\n'}]) is None
    assert resolv_path({}, [{"path": "/b", "text": None}]) == "/etc/resolv.conf"


def test_a_kubelet_in_a_pod_is_not_the_node_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster within a pod has some, and anybody may call a program so."""
    pod = "0::/kubepods.slice/kubepods-pod01234567_89ab_cdef_0123_456789abcdef.slice/cri-1.scope\n"
    texts = {
        "/proc/9/cmdline": "kubelet\0--config=/etc/shadow\0",
        "/proc/9/cgroup": pod,
        "/proc/30/cmdline": "/usr/bin/kubelet\0--config=/x\0",
        "/proc/30/cgroup": "0::/system.slice/kubelet.service\n",
    }
    monkeypatch.setattr(agent, "processes", lambda: ["30", "9"])
    monkeypatch.setattr(agent, "read_or_none", texts.get)
    monkeypatch.setattr(agent, "kubelet_of", lambda pid, flags: {"pid": pid, "flags": flags})
    assert agent.kubelet() == {"pid": "30", "flags": {"--config": "/x"}}
    texts["/proc/30/cgroup"] = "0::/podruntime/kubelet\n"  # of Talos
    assert agent.kubelet() == {"pid": "30", "flags": {"--config": "/x"}}
    texts["/proc/30/cgroup"] = pod
    assert agent.kubelet() is None
