"""What the agent reads of the kubelet: command lines and files as kubeadm, EKS, AKS and OpenShift have them."""

from __future__ import annotations

import pytest

from pytest_k8snet.agent import agent
from pytest_k8snet.agent.agent import (
    Failed,
    is_kubelet,
    is_kubelite,
    kubelet_flags,
    kubelet_keys,
    kubelite_arguments,
    kubelite_file,
    resolv_path,
)

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


# MicroK8s: microk8s-resources/default-args/kubelet with what its add-on dns and its configure hook add.
MICROK8S = """--kubeconfig=${SNAP_DATA}/credentials/kubelet.config
--root-dir=${SNAP_COMMON}/var/lib/kubelet
# --cluster-dns=192.0.2.1
--feature-gates=DevicePlugins=true
--eviction-hard="memory.available<100Mi,nodefs.available<1Gi,imagefs.available<1Gi"
--container-runtime-endpoint=${SNAP_COMMON}/run/containerd.sock

  --cluster-domain=cluster.local --cluster-dns='10.152.183.10'
--resolv-conf "/run/systemd/resolve/resolv.conf"
--config=$SNAP_DATA/args/kubelet_config
--cert-dir=${ELSEWHERE}/certs
"""
KUBELITE = [
    "/snap/microk8s/8612/kubelite",
    "--proxy-args-file=/var/snap/microk8s/8612/args/kube-proxy",
    "--kubelet-args-file=/var/snap/microk8s/8612/args/kubelet",
    "--start-control-plane=true",
]


def test_the_kubelet_of_microk8s_is_told_by_a_file() -> None:
    assert is_kubelite(KUBELITE)
    assert not is_kubelet(KUBELITE)
    assert not is_kubelite(["grep", "kubelite"])
    path = kubelite_file(KUBELITE)
    assert path == "/var/snap/microk8s/8612/args/kubelet"
    assert kubelite_file(["kubelite", "--kubelet-args-file", "/x"]) == "/x"
    assert kubelite_file(["kubelite"]) == "/var/snap/microk8s/current/args/kubelet"
    words = kubelite_arguments(path, MICROK8S)
    assert words[:3] == [
        "kubelet",
        "--kubeconfig=/var/snap/microk8s/8612/credentials/kubelet.config",
        "--root-dir=/var/snap/microk8s/common/var/lib/kubelet",
    ]
    assert words[-1] == "--cert-dir=${ELSEWHERE}/certs"
    assert kubelet_flags(words) == {
        "--cluster-domain": "cluster.local",
        "--cluster-dns": "10.152.183.10",
        "--resolv-conf": "/run/systemd/resolve/resolv.conf",
        "--config": "/var/snap/microk8s/8612/args/kubelet_config",
    }
    with pytest.raises(Failed, match="/x: MicroK8s' arguments of the kubelet could not be read"):
        kubelite_arguments("/x", None)


def test_kubelite_is_a_kubelet_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "/proc/30/cmdline": "\0".join([*KUBELITE, ""]),
        "/proc/30/cgroup": "0::/system.slice/snap.microk8s.daemon-kubelite.service\n",
        "/proc/30/root/var/snap/microk8s/8612/args/kubelet": "--cluster-dns=10.152.183.10\n",
    }
    monkeypatch.setattr(agent, "processes", lambda: ["30"])
    monkeypatch.setattr(agent, "read_or_none", texts.get)
    monkeypatch.setattr(agent, "kubelet_of", lambda pid, flags: {"pid": pid, "flags": flags})
    assert agent.kubelet() == {"pid": "30", "flags": {"--cluster-dns": "10.152.183.10"}}
    del texts["/proc/30/root/var/snap/microk8s/8612/args/kubelet"]
    with pytest.raises(Failed, match="args/kubelet: MicroK8s' arguments of the kubelet could not be read"):
        agent.kubelet()


def test_the_kubelet_of_k0s() -> None:
    """By pkg/component/worker/kubelet.go and pkg/supervisor of k0s: a program and a file in its data folder."""
    arguments = [
        "/var/lib/k0s/bin/kubelet",
        "--config=/var/lib/k0s/kubelet-config.yaml",
        "--container-runtime-endpoint=unix:///run/k0s/containerd.sock",
        "--kubeconfig=/var/lib/k0s/kubelet.conf",
        "--root-dir=/var/lib/k0s/kubelet",
        "",
    ]
    assert is_kubelet(arguments)
    assert kubelet_flags(arguments) == {"--config": "/var/lib/k0s/kubelet-config.yaml"}


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
