"""The cluster's own objects say of it exactly what the settings are."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from pytest_k8snet.cluster.claims.ingress import CONFIG_MAPS, config_map_of, controllers
from pytest_k8snet.cluster.claims.objects import Objects
from pytest_k8snet.cluster.claims.reading import read_claims, recognise_cni
from pytest_k8snet.cluster.inventory import kube_proxies
from pytest_k8snet.cluster.nginx_keys import KEYS
from pytest_k8snet.expect.profile import load_profiles
from pytest_k8snet.lab import kube_router
from pytest_k8snet.lab.addresses import AddressPlan
from pytest_k8snet.lab.client import path
from pytest_k8snet.lab.faults.service_proxy import CONFIG_MAP, DAEMON_SET
from pytest_k8snet.lab.objects import KUBE_PROXY_ELSEWHERE, manifests
from pytest_k8snet.lab.settings import LabSettings, NetworkKind, ProxyMode
from tests.unit.lab.samples import IMAGES

NATIVE = {"encapsulation": "none", "mtu.pod": 1500, "mtu.uplink": 1500}
VXLAN = {"encapsulation": "vxlan", "mtu.pod": 1450, "mtu.uplink": 1500, "mtu.tunnel": 1450}
CILIUM = {"proxy.mode": "none", "cilium.devices": "eth0", "policy.enforced": True}
IPVS = {"proxy.mode": "ipvs", "proxy.scheduler": "rr", "proxy.strict_arp": True}


def objects(settings: LabSettings) -> list[Mapping[str, Any]]:
    return list(manifests(settings, AddressPlan.of(settings), IMAGES))


def one(found: list[Mapping[str, Any]], kind: str, name: str) -> Mapping[str, Any]:
    (only,) = (item for item in found if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return only


@pytest.mark.parametrize(
    ("proxy_mode", "network", "claims"),
    [
        ("ipvs", "native", NATIVE | IPVS),
        ("ipvs", "vxlan", VXLAN | IPVS),
        ("iptables", "vxlan", VXLAN | {"proxy.mode": "iptables"}),
        ("none", "native", NATIVE),
        ("ipvs", "bgp", NATIVE | IPVS | {"bgp": "mesh"}),
        ("ipvs", "flannel-vxlan", {"encapsulation": "vxlan"} | IPVS),
        ("iptables", "flannel-host-gw", {"encapsulation": "none", "proxy.mode": "iptables"}),
        ("none", "flannel-ipip", {"encapsulation": "ipip"}),
        ("none", "cilium", CILIUM | {"encapsulation": "none", "mtu.pod": 1500, "cilium.routing": "native"}),
        ("none", "cilium-vxlan", CILIUM | {"encapsulation": "vxlan", "mtu.pod": 1450, "cilium.routing": "tunnel vxlan"}),
    ],
)
def test_claims_are_the_settings(proxy_mode: ProxyMode, network: NetworkKind, claims: dict[str, Any]) -> None:
    found = objects(LabSettings(proxy_mode=proxy_mode, network=network))
    maps = {(item["metadata"]["namespace"], item["metadata"]["name"]): item["data"] for item in found if item["kind"] == "ConfigMap"}
    daemonsets = [copy.deepcopy(dict(item)) for item in found if item["kind"] == "DaemonSet"]
    for item in daemonsets:
        item["status"] = {"desiredNumberScheduled": 3, "numberReady": 3}
    read = read_claims(
        Objects(config_maps=maps, daemonsets=daemonsets, proxies=kube_proxies(daemonsets, [])), recognise_cni(daemonsets, [], maps)
    )
    assert {key: claim.value for key, claim in read.claims.items()} == claims
    assert read.mistakes == []


@pytest.mark.parametrize(
    ("proxy_mode", "network"), [("ipvs", "native"), ("iptables", "flannel-vxlan"), ("none", "bgp"), ("none", "cilium")]
)
def test_every_object_is_named_once_and_stands_on_what_was_made_before(proxy_mode: ProxyMode, network: NetworkKind) -> None:
    found = objects(LabSettings(proxy_mode=proxy_mode, network=network))
    paths = [path(item) for item in found]
    assert len(set(paths)) == len(paths)
    made: set[tuple[str, str]] = set()
    for item in found:
        if item["kind"] in {"DaemonSet", "Deployment"}:
            pod = item["spec"]["template"]["spec"]
            assert ("ServiceAccount", pod["serviceAccountName"]) in made
            for volume in pod["volumes"]:
                assert "configMap" not in volume or ("ConfigMap", volume["configMap"]["name"]) in made
            assert item["spec"]["selector"]["matchLabels"].items() <= item["spec"]["template"]["metadata"]["labels"].items()
            assert all(container["image"] in IMAGES.values() for container in (*pod.get("initContainers", ()), *pod["containers"]))
        made.add((item["kind"], item["metadata"]["name"]))


def test_nodes_have_their_ranges_before_their_kubelets_come() -> None:
    found = objects(LabSettings(nodes=2))
    assert [item["kind"] for item in found[:2]] == ["Node", "Node"]
    assert [item["spec"]["podCIDR"] for item in found[:2]] == ["10.200.1.0/24", "10.200.2.0/24"]


def test_kube_proxy_asks_at_an_address_of_its_own() -> None:
    found = objects(LabSettings())
    assert "https://10.199.0.2:6443" in one(found, "ConfigMap", "kube-proxy")["data"]["kubeconfig.conf"]
    pod = one(found, "DaemonSet", "kube-proxy")["spec"]["template"]["spec"]
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": KUBE_PROXY_ELSEWHERE, "operator": "DoesNotExist"}]
    for known, kind in ((DAEMON_SET, "DaemonSet"), (CONFIG_MAP, "ConfigMap")):
        assert path(known) == path(one(found, kind, "kube-proxy")), "faults change the objects that labs have"


@pytest.mark.parametrize(("nodes", "replicas"), [(1, 1), (2, 2), (3, 3), (5, 3)])
def test_cluster_dns_by_services(nodes: int, replicas: int) -> None:
    found = objects(LabSettings(nodes=nodes))
    deployment = one(found, "Deployment", "coredns")["spec"]
    assert deployment["replicas"] == replicas
    pod = deployment["template"]["spec"]
    assert "hostNetwork" not in pod
    assert "env" not in pod["containers"][0]
    service = one(found, "Service", "kube-dns")["spec"]
    assert service["clusterIP"] == "10.96.0.10"
    assert service["selector"].items() <= deployment["template"]["metadata"]["labels"].items()


def test_cluster_dns_without_a_service_path() -> None:
    found = objects(LabSettings(proxy_mode="none"))
    deployment = one(found, "Deployment", "coredns")["spec"]
    assert deployment["replicas"] == 1
    pod = deployment["template"]["spec"]
    assert pod["hostNetwork"] is True
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": "node-1"}, "pods are told to ask this node"
    assert pod["containers"][0]["env"] == [
        {"name": "KUBERNETES_SERVICE_HOST", "value": "10.199.0.1"},
        {"name": "KUBERNETES_SERVICE_PORT", "value": "6443"},
    ]
    assert not [item for item in found if "kube-proxy" in item["metadata"]["name"]]


def test_roles_are_made_before_they_are_given() -> None:
    kinds = [(item["kind"], item["metadata"]["name"]) for item in objects(LabSettings())]
    assert ("ClusterRole", "system:coredns") in kinds
    assert any(pair == (("ClusterRole", "system:coredns"), ("ClusterRoleBinding", "system:coredns")) for pair in pairwise(kinds))


def test_flannel_is_told_its_backend_and_asks_no_service() -> None:
    found = objects(LabSettings(network="flannel-ipip", pod_cidr="10.32.0.0/16"))
    data = one(found, "ConfigMap", "kube-flannel-cfg")["data"]
    assert json.loads(data["net-conf.json"]) == {"Network": "10.32.0.0/16", "EnableNFTables": False, "Backend": {"Type": "ipip"}}
    direct = objects(LabSettings(network="flannel-vxlan", direct_routing=True))
    told = json.loads(one(direct, "ConfigMap", "kube-flannel-cfg")["data"]["net-conf.json"])
    assert told["Backend"] == {"Type": "vxlan", "DirectRouting": True}
    assert [plugin["type"] for plugin in json.loads(data["cni-conf.json"])["plugins"]] == ["flannel", "tuning", "portmap"]
    pod = one(found, "DaemonSet", "kube-flannel-ds")["spec"]["template"]["spec"]
    environment = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert environment["KUBERNETES_SERVICE_HOST"] == "10.199.0.1"
    assert not [item for item in found if item["metadata"]["name"] == "k8snet-lab-network"], "flannel's own objects are the claim"
    assert not [item for item in objects(LabSettings()) if "flannel" in item["metadata"]["name"]]


def test_policies_are_enforced_when_it_is_asked_for() -> None:
    found = objects(LabSettings(policy="kube-router"))
    pod = one(found, "DaemonSet", "kube-router")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (container["image"], pod["hostNetwork"]) == (IMAGES["kube-router"], True)
    assert {"--run-firewall=true", "--run-router=false", "--run-service-proxy=false", "--enable-cni=false"} < {*container["args"]}
    assert "--service-cluster-ip-range=10.96.0.0/16" in container["args"], "what goes to Services is no pod's own"
    environment = {item["name"]: item.get("value") for item in container["env"]}
    assert environment["KUBERNETES_SERVICE_HOST"] == AddressPlan.of(LabSettings()).api_address
    (rules,) = (item["rules"] for item in found if item["kind"] == "ClusterRole" and item["metadata"]["name"] == "kube-router")
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": kube_router.ELSEWHERE, "operator": "DoesNotExist"}]
    daemonset = {**copy.deepcopy(dict(one(found, "DaemonSet", "kube-router"))), "status": {"desiredNumberScheduled": 3}}
    claims = read_claims(Objects(daemonsets=[daemonset]), None).claims
    assert claims["policy.enforced"].value is True
    assert not [item for item in objects(LabSettings()) if "kube-router" in item["metadata"]["name"]]


def test_cilium_has_services_and_asks_none() -> None:
    found = objects(LabSettings(network="cilium", proxy_mode="none", pod_cidr="10.32.0.0/16"))
    data = one(found, "ConfigMap", "cilium-config")["data"]
    assert data["routing-mode"] == "native"
    assert data["ipv4-native-routing-cidr"] == "10.32.0.0/16"
    template = json.loads(one(found, "ConfigMap", "cni-configuration")["data"]["cni-config"])
    assert [plugin["type"] for plugin in template["plugins"]] == ["cilium-cni", "tuning"]
    for kind, name in (("DaemonSet", "cilium"), ("Deployment", "cilium-operator")):
        pod = one(found, kind, name)["spec"]["template"]["spec"]
        assert {"name": "KUBERNETES_SERVICE_HOST", "value": "10.199.0.1"} in pod["containers"][0]["env"], "nobody serves Services yet"
        folders = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert pod["containers"][0]["args"] == [f"--config-dir={folders['cilium-config']}"]
        assert {volume["name"] for volume in pod["volumes"]} == folders.keys()
    assert "hostNetwork" not in one(found, "Deployment", "coredns")["spec"]["template"]["spec"], "CoreDNS has its Service"
    tunnel = one(objects(LabSettings(network="cilium-vxlan", proxy_mode="none")), "ConfigMap", "cilium-config")["data"]
    assert (tunnel["routing-mode"], tunnel["tunnel-protocol"]) == ("tunnel", "vxlan")
    assert "auto-direct-node-routes" not in tunnel


def test_an_ingress_is_there_when_it_is_asked_for() -> None:
    found = objects(LabSettings(ingress="nginx", nodes=2))
    deployment = one(found, "Deployment", "ingress")["spec"]["template"]["spec"]
    (container,) = deployment["containers"]
    assert container["image"] == IMAGES["ingress"]
    assert deployment["nodeSelector"] == {"kubernetes.io/hostname": "node-2"}
    environment = {item["name"]: item["value"] for item in container["env"]}
    assert environment["KUBERNETES_SERVICE_HOST"] == AddressPlan.of(LabSettings()).api_address
    ingress_class = one(found, "IngressClass", environment["INGRESS_CLASS"])
    assert path(ingress_class) == "/apis/networking.k8s.io/v1/ingressclasses/nginx"
    (rules,) = (item["rules"] for item in found if item["kind"] == "ClusterRole" and item["metadata"]["name"] == "ingress")
    gateway = one(found, "Gateway", "nginx")
    assert environment["GATEWAY"] == f"{gateway['metadata']['namespace']}/{gateway['metadata']['name']}"
    assert path(gateway) == "/apis/gateway.networking.k8s.io/v1/namespaces/ingress/gateways/nginx"
    assert {path(item).rpartition("/")[2] for item in found if item["kind"] == "CustomResourceDefinition"} == {
        "gateways.gateway.networking.k8s.io",
        "httproutes.gateway.networking.k8s.io",
    }
    assert {verb for rule in rules for verb in rule["verbs"]} == {"list", "watch"}
    (program,) = one(found, "ConfigMap", "ingress-program")["data"].items()
    assert container["command"][-1] == f"/etc/ingress/{program[0]}"
    assert "def configuration(" in program[1]
    (claimed,) = controllers([one(found, "Deployment", "ingress")])
    namespace, name = config_map_of(claimed) or ("", "")
    assert name in CONFIG_MAPS, "the least rights that are printed let it be read"
    settings = next(item["data"] for item in found if path(item).endswith(f"/{namespace}/configmaps/{name}"))
    assert settings.keys() <= KEYS
    (lab,) = (route for route in [*load_profiles(["lab-ingress"]).model.ingress.routes] if route.tls)
    assert (lab.ingress_class, lab.service) == ("nginx", "ingress/ingress")
    (route,) = (route for route in load_profiles(["lab-ingress"]).model.ingress.routes if route.gateway)
    assert route.gateway == environment["GATEWAY"]
    assert route.listener in [listener["name"] for listener in gateway["spec"]["listeners"]]
    assert str(lab.hsts_max_age) == settings["hsts-max-age"]
    assert not [item for item in objects(LabSettings()) if "ingress" in item["metadata"]["name"]]


def test_objects_say_both_families() -> None:
    found = objects(LabSettings(nodes=1, ip_family="dual"))
    assert one(found, "Node", "node-1")["spec"] == {"podCIDR": "10.200.1.0/24", "podCIDRs": ["10.200.1.0/24", "fd00:10:200:1::/64"]}
    dns = one(found, "Service", "kube-dns")["spec"]
    assert (dns["clusterIPs"], dns["ipFamilyPolicy"]) == (["10.96.0.10", "fd00:10:96::a"], "RequireDualStack")
    configuration = json.loads(one(found, "ConfigMap", "kube-proxy")["data"]["config.conf"])
    assert configuration["clusterCIDR"] == "10.200.0.0/16,fd00:10:200::/48"
    assert configuration["bindAddress"] == "0.0.0.0"  # noqa: S104 - as kubeadm writes it


def test_objects_of_ipv6_alone() -> None:
    found = objects(LabSettings(nodes=1, ip_family="ipv6"))
    assert one(found, "Service", "kube-dns")["spec"]["ipFamilyPolicy"] == "SingleStack"
    data = one(found, "ConfigMap", "kube-proxy")["data"]
    assert json.loads(data["config.conf"])["bindAddress"] == "::"
    assert json.loads(data["kubeconfig.conf"])["clusters"][0]["cluster"]["server"] == "https://[fd00:10:199::2]:6443"
