from __future__ import annotations

from typing import Any

from pytest_k8snet.cluster.claims.objects import Objects
from pytest_k8snet.cluster.claims.ranges import read_ranges
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.cluster.ranges import Range, networks
from tests.unit.cluster.samples import custom


def static_pod(name: str, *command: str, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "kube-system", "labels": {"tier": "control-plane", **labels}},
        "spec": {"containers": [{"command": [*command]}]},
    }


def test_ranges_of_kubeadm() -> None:
    pods = [
        static_pod("kube-apiserver-a", "kube-apiserver", "--service-cluster-ip-range=10.96.0.0/12,fd00:10::/108"),
        static_pod(
            "kube-controller-manager-a",
            "kube-controller-manager",
            "--cluster-cidr=10.244.0.0/16",
            "--service-cluster-ip-range=10.96.0.0/12,fd00:10::/108",
        ),
        static_pod("kube-proxy-a", "kube-proxy", "--cluster-cidr=10.0.0.0/8", tier="node"),
    ]
    assert read_ranges(Objects(pods=pods)) == (
        Range("services", "10.96.0.0/12", "pod kube-system/kube-apiserver-a --service-cluster-ip-range"),
        Range("services", "fd00:10::/108", "pod kube-system/kube-apiserver-a --service-cluster-ip-range"),
        Range("pods", "10.244.0.0/16", "pod kube-system/kube-controller-manager-a --cluster-cidr"),
    )


def test_ranges_of_k3s_and_rke2() -> None:
    def node(name: str, annotation: str, given: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "annotations": {annotation: given}}}

    nodes = [
        node("s1", "k3s.io/node-args", '["server", "--cluster-cidr", "10.42.0.0/16,fd00:42::/56", "--service-cidr=10.43.0.0/16"]'),
        node("s2", "rke2.io/node-args", '["server", "--cluster-cidr", "10.44.0.0/16", "--cluster-cidr", "no range"]'),
        node("a1", "k3s.io/node-args", '["agent"]'),
        node("a2", "k3s.io/node-args", "no JSON"),
        {"metadata": {"name": "a3"}},
    ]
    assert read_ranges(Objects(nodes=nodes)) == (
        Range("pods", "10.42.0.0/16", "Node s1 k3s.io/node-args --cluster-cidr"),
        Range("pods", "fd00:42::/56", "Node s1 k3s.io/node-args --cluster-cidr"),
        Range("services", "10.43.0.0/16", "Node s1 k3s.io/node-args --service-cidr"),
        Range("pods", "10.44.0.0/16", "Node s2 rke2.io/node-args --cluster-cidr"),
    )


def test_ranges_of_objects_of_their_own() -> None:
    objects = Objects(
        custom={
            "ServiceCIDR": [custom("kubernetes", cidrs=["10.96.0.0/12", "no range"])],
            "IPPool": [
                custom("a", cidr="10.244.0.0/16"),
                custom("off", cidr="10.1.0.0/16", disabled=True),
                custom("lb", cidr="10.2.0.0/16", allowedUses=["LoadBalancer"]),
            ],
        },
        config_maps={
            ("kube-flannel", "kube-flannel-cfg"): {"net-conf.json": '{"Network": "10.245.0.0/16", "IPv6Network": "fd00::/56"}'},
            ("kube-system", "canal-config"): {"net-conf.json": "no JSON"},
            ("kube-system", "cilium-config"): {"cluster-pool-ipv4-cidr": "10.0.0.0/13 10.8.0.0/13"},
        },
    )
    assert [(item.use, item.cidr, item.source) for item in read_ranges(objects)] == [
        ("services", "10.96.0.0/12", "ServiceCIDR kubernetes"),
        ("pods", "10.245.0.0/16", "ConfigMap kube-flannel/kube-flannel-cfg net-conf.json Network"),
        ("pods", "fd00::/56", "ConfigMap kube-flannel/kube-flannel-cfg net-conf.json IPv6Network"),
        ("pods", "10.244.0.0/16", "IPPool a spec.cidr"),
        ("pods", "10.0.0.0/13", "ConfigMap kube-system/cilium-config cluster-pool-ipv4-cidr"),
        ("pods", "10.8.0.0/13", "ConfigMap kube-system/cilium-config cluster-pool-ipv4-cidr"),
    ]


def test_records() -> None:
    cluster = Cluster("v1", (), {}, (), None, ranges=(Range("pods", "10.244.0.0/16", "x"),))
    assert Cluster.from_json(cluster.to_json()) == cluster
    assert Cluster.from_json(Cluster("v1", (), {}, (), None).to_json()).ranges is None
    assert [str(network) for network in networks(["10.1.2.3/24", "x"])] == ["10.1.2.0/24"]
