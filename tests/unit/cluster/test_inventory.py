"""What of nodes, and of kube-proxy's pods, is taken from the API server's objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.inventory import is_kube_proxy, kube_proxies, read_cluster, read_node, running_pod_ips
from pytest_k8snet.cluster.model import Cluster, Node
from tests.unit.cluster.samples import daemonset
from tests.unit.fakeapi import FakeApiServer


def test_kube_proxies() -> None:
    owner = {"kind": "DaemonSet", "name": "kube-proxy"}
    pods: list[dict[str, Any]] = [
        {"metadata": {"name": "kube-proxy-abc", "namespace": "kube-system", "ownerReferences": [owner]},
         "spec": {"nodeName": "node-1"}, "status": {"phase": "Running"}},
        {"metadata": {"name": "kube-proxy-node-2", "namespace": "kube-system", "annotations": {"kubernetes.io/config.mirror": "x"}},
         "spec": {"nodeName": "node-2"}, "status": {"phase": "Running"}},
        {"metadata": {"name": "coredns-1", "namespace": "kube-system"}, "spec": {"nodeName": "node-2"}},
    ]  # fmt: skip
    sets = [
        daemonset("kube-proxy", desired=1),
        daemonset("other-name", desired=0, image="reg.example:5000/k8s/kube-proxy:v1@sha256:0"),
        daemonset("kube-prox"),
    ]
    found = kube_proxies(sets, pods)
    assert [(item["name"], item["desired"], len(item["pods"])) for item in found] == [
        ("(static pods)", 1, 1),
        ("kube-proxy", 1, 1),
        ("other-name", 0, 0),
    ]
    calm = {"restarts": 0, "waiting": None, "last_end": None}
    assert found[0]["pods"] == [{"name": "kube-proxy-node-2", "node": "node-2", "static": True, **calm}]
    assert found[1]["node_selector"] == {"kubernetes.io/os": "linux"}


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ({"k8s-app": "kube-proxy"}, True),
        ({"component": "kube-proxy", "tier": "node"}, True),
        ({"k8s-app": "pushprox-kube-proxy-client", "component": "kube-proxy"}, False),
        ({}, False),
    ],
)
def test_kube_proxy_by_its_labels(labels: dict[str, str], wanted: bool) -> None:
    assert is_kube_proxy({"name": "x", "labels": labels}, []) is wanted


def affinity(*terms: list[dict[str, Any]]) -> dict[str, Any]:
    wanted = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": wanted}}}


ON_WINDOWS = {"key": "kubernetes.io/os", "operator": "In", "values": ["windows"]}


@pytest.mark.parametrize(
    ("spec", "left_out"),
    [
        ({"nodeSelector": {"kubernetes.io/os": "windows"}}, True),
        ({"nodeSelector": None, "os": {"name": "windows"}}, True),
        ({"nodeSelector": {}, **affinity([{"key": "pool", "operator": "Exists"}, ON_WINDOWS])}, True),
        ({"nodeSelector": {}, **affinity([ON_WINDOWS], [{"key": "pool", "operator": "Exists"}])}, False),
        ({"nodeSelector": {"kubernetes.io/os": "linux"}}, False),
        ({"nodeSelector": {}}, False),
    ],
    ids=["selector", "os", "affinity", "affinity-or-another", "linux", "any"],
)
def test_kube_proxy_of_windows_nodes_is_none_of_linux_nodes(spec: dict[str, Any], left_out: bool) -> None:
    """sig-windows-tools brings one by a DaemonSet of its own; a pod's affinity is its node's name alone."""
    item = daemonset("kube-proxy-windows", desired=1)
    item["spec"]["template"]["spec"].update(spec)
    owner = {"kind": "DaemonSet", "name": "kube-proxy-windows"}
    metadata = {"name": "kube-proxy-windows-x", "namespace": "kube-system", "ownerReferences": [owner]}
    pod = {"metadata": metadata, "spec": {"nodeName": "win"}}
    assert [len(found["pods"]) for found in kube_proxies([item], [pod])] == ([] if left_out else [1])


NOT_READY = {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "cni"}


def raw_node(**parts: Any) -> dict[str, Any]:
    labels = {"topology.kubernetes.io/zone": "a", "eks.amazonaws.com/nodegroup": "blue"}
    return {
        "metadata": {"name": "node-1", "labels": labels, **parts.get("metadata", {})},
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00::/64"], **parts.get("spec", {})},
        "status": {
            "addresses": [{"type": "Hostname", "address": "node-1"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"osImage": "Debian 12", "kernelVersion": "6.1.0", "architecture": "amd64", "operatingSystem": "linux"},
            **parts.get("status", {}),
        },
    }  # fmt: skip


def test_node() -> None:
    node = read_node(raw_node())
    assert (node.internal_ip, node.pod_cidrs, node.ready, node.zone) == ("10.0.0.1", ("10.244.0.0/24", "fd00::/64"), True, "a")
    assert node.group == "blue, Debian 12, 6.1.0, amd64"
    assert node.internal_ips == ("10.0.0.1",)
    cluster = Cluster("v1.37.2", (node,), {}, (), None)
    assert Cluster.from_json(cluster.to_json()) == cluster


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"status": {"conditions": [NOT_READY]}}, "KubeletNotReady: cni"),
        ({"status": {"conditions": []}}, "has reported no condition Ready"),
        ({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]}}, "is being removed (taint ToBeDeletedByClusterAutoscaler)"),
        ({"metadata": {"deletionTimestamp": "x"}}, "is being deleted"),
    ],
    ids=["not-ready", "silent", "scaled-down", "deleted"],
)  # fmt: skip
def test_node_that_is_not_ready(parts: dict[str, Any], reason: str) -> None:
    node = read_node(raw_node(**parts))
    assert (node.ready, node.not_ready_reason) == (False, reason)


@pytest.mark.parametrize(
    ("addresses", "wanted"),
    [
        (["10.0.0.1", "10.1.0.1", "fd00::1"], ("10.0.0.1", "fd00::1")),
        (["fd00::1", "10.0.0.1"], ("fd00::1", "10.0.0.1")),
        ([], ()),
    ],
)
def test_internal_addresses_of_both_families(addresses: list[str], wanted: tuple[str, ...]) -> None:
    node = read_node(raw_node(status={"addresses": [{"type": "InternalIP", "address": address} for address in addresses]}))
    assert (node.internal_ips, node.internal_ip) == (wanted, wanted[0] if wanted else None)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"metadata": {"labels": {"type": "virtual-kubelet"}}}, "is a virtual kubelet (label type=virtual-kubelet)"),
        ({"metadata": {"labels": {"type": "big"}}}, None),
        (
            {"spec": {"taints": [{"key": "virtual-kubelet.io/provider", "value": "azure"}]}},
            "is a virtual kubelet (taint virtual-kubelet.io/provider)",
        ),
        (
            {"metadata": {"labels": {"eks.amazonaws.com/compute-type": "fargate"}}},
            "is EKS Fargate (label eks.amazonaws.com/compute-type=fargate)",
        ),
        ({"metadata": {"labels": {"eks.amazonaws.com/compute-type": "ec2"}}}, None),
        ({"status": {"nodeInfo": {"operatingSystem": "windows"}}}, "runs windows; only Linux nodes are measured"),
        (
            {"metadata": {"labels": {"kubernetes.io/os": "illumos"}}, "status": {"nodeInfo": {}}},
            "runs illumos; only Linux nodes are measured",
        ),
        ({}, None),
    ],
    ids=["virtual-kubelet", "other-type", "taint", "fargate", "ec2", "windows", "other-os", "machine"],
)
def test_nodes_that_are_never_measured(parts: dict[str, Any], reason: str | None) -> None:
    item = raw_node(**parts)
    item["metadata"]["name"] = "node-1"
    node = read_node(item)
    assert node.excluded == reason
    assert Node.from_json(node.to_json()).excluded == reason


def test_name_that_is_half_a_character() -> None:
    assert read_node(raw_node(metadata={"name": "a\udc80"})).name == "a\\udc80"


def test_node_that_a_list_tells_twice(server: FakeApiServer, api: Api) -> None:
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
    for path in ("/apis/apps/v1/daemonsets", "/api/v1/namespaces/kube-system/pods"):
        server.items(path)
    first, second = (raw_node(metadata={"name": name}) for name in ("node-2", "node-1"))
    server.items("/api/v1/nodes", first, second, first)
    assert [node.name for node in read_cluster(api).nodes] == ["node-1", "node-2"]


def test_cordoned_node() -> None:
    node = read_node(raw_node(spec={"unschedulable": True}))
    assert (node.ready, node.schedulable) == (True, False)


def test_addresses_that_ssh_may_go_to() -> None:
    addresses = [
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "ExternalIP", "address": "203.0.113.1"},
        {"type": "ExternalIP", "address": "2001:db8::1"},
        {"type": "Hostname", "address": "n1.example.com"},
    ]
    node = read_node(raw_node(status={"addresses": addresses}))
    assert (node.internal_ip, node.external_ip, node.hostname) == ("10.0.0.1", "203.0.113.1", "n1.example.com")
    bare = read_node(raw_node(status={"addresses": []}))
    assert (bare.internal_ip, bare.external_ip, bare.hostname) == (None, None, None)
    known = ("external_ip", "hostname", "pod_ip", "pod_ips", "virtual")
    old = {key: value for key, value in node.to_json().items() if key not in known}
    assert Node.from_json(old) == replace(node, external_ip=None, hostname=None), "records of earlier versions are read"
    assert Node.from_json(node.to_json()) == node


def test_pods_that_have_an_address_of_their_own() -> None:
    def pod(node: str | None, ip: str | None, *, phase: str = "Running", host: bool = False) -> dict[str, Any]:
        return {"spec": {"nodeName": node, "hostNetwork": host}, "status": {"podIP": ip, "phase": phase}}

    pods = [
        pod("node-1", "10.0.0.1", host=True),
        pod("node-1", "10.244.1.5"),
        pod("node-1", "10.244.1.6"),
        pod("node-2", "10.244.2.5", phase="Succeeded"),
        pod("node-2", None),
        pod(None, "10.244.3.5"),
        {"spec": {"nodeName": "node-3"}},
    ]
    both = pod("node-4", "10.244.4.5")
    both["status"]["podIPs"] = [{"ip": "10.244.4.5"}, {"ip": "fd00::5"}]
    assert running_pod_ips([*pods, both]) == {"node-1": ("10.244.1.5",), "node-4": ("10.244.4.5", "fd00::5")}
