"""What objects of kube-proxy and of CNIs claim: each in the shape in which its own sources and installers write it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.claims import aws, calico, cilium, kube_proxy, policy
from pytest_k8snet.cluster.claims.objects import Found, Objects
from pytest_k8snet.cluster.claims.reading import all_config_maps, read_claims, recognise_cni, wanted_config_maps, wanted_resources
from pytest_k8snet.cluster.inventory import kube_proxies, read_cluster
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.errors import ClusterError
from pytest_k8snet.expect.resolve import resolve
from tests.unit.cluster.samples import custom, daemonset
from tests.unit.fakeapi import FakeApiServer, status

SCHEDULED = [{"name": "kube-proxy", "namespace": "kube-system", "desired": 3, "pods": []}]
NOBODY = [{"name": "kube-proxy", "namespace": "kube-system", "desired": 0, "pods": []}]
FLANNEL = ("kube-flannel", "kube-flannel-cfg")
CILIUM = ("kube-system", "cilium-config")


def proxy(**objects: Any) -> Found:
    found = Found()
    kube_proxy.read(Objects(**{"proxies": SCHEDULED, **objects}), found)
    return found


def kubeadm(text: str) -> dict[tuple[str, str], dict[str, str]]:
    return {kube_proxy.KUBEADM: {"config.conf": text, "kubeconfig.conf": "x"}}


def network(cni: str, **objects: Any) -> Found:
    return read_claims(Objects(**objects), cni)


def values(found: Found) -> dict[str, Any]:
    """Return all claims but who enforces NetworkPolicies, which test_claims_policy.py looks at."""
    return {key: claim.value for key, claim in found.claims.items() if key != policy.KEY}


def sources(found: Found) -> dict[str, str]:
    return {key: claim.source for key, claim in found.claims.items() if key != policy.KEY}


# ---- kube-proxy


def test_ipvs_of_kubeadm() -> None:
    found = proxy(config_maps=kubeadm("kind: KubeProxyConfiguration\nmode: ipvs\nipvs:\n  scheduler: lc\n  strictARP: true\n"))
    assert values(found) == {"proxy.mode": "ipvs", "proxy.scheduler": "lc", "proxy.strict_arp": True}
    assert sources(found)["proxy.scheduler"] == "ConfigMap kube-system/kube-proxy config.conf ipvs.scheduler"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('mode: ""', {"proxy.mode": "iptables", "proxy.mode_defaulted": True}),
        ("kind: x", {"proxy.mode": "iptables", "proxy.mode_defaulted": True}),
        ("mode: nftables", {"proxy.mode": "nftables"}),
        ("mode: iptables\nipvs: {scheduler: lc, strictARP: true}", {"proxy.mode": "iptables"}),
        ("mode: ipvs", {"proxy.mode": "ipvs", "proxy.scheduler": "rr"}),
        ("mode: ipvs\nipvs: {scheduler: '', strictARP: false}", {"proxy.mode": "ipvs", "proxy.scheduler": "rr", "proxy.strict_arp": False}),
    ],
)
def test_defaults(text: str, wanted: dict[str, Any]) -> None:
    assert values(proxy(config_maps=kubeadm(text))) == wanted


@pytest.mark.parametrize(
    ("key", "entry", "source"),
    [
        (("kube-system", "kube-proxy-config"), "config", "ConfigMap kube-system/kube-proxy-config config mode"),
        (
            ("openshift-kube-proxy", "proxy-config"),
            "kube-proxy-config.yaml",
            "ConfigMap openshift-kube-proxy/proxy-config kube-proxy-config.yaml mode",
        ),
    ],
    ids=["eks", "openshift"],
)
def test_config_maps_of_distributions(key: tuple[str, str], entry: str, source: str) -> None:
    maps = {key: {entry: "mode: ipvs\nipvs: {scheduler: rr}\n"}, kube_proxy.KUBEADM: {"kubeconfig": "x"}}
    found = proxy(config_maps=maps)
    assert (values(found), sources(found)["proxy.mode"]) == ({"proxy.mode": "ipvs", "proxy.scheduler": "rr"}, source)


def test_kube_proxy_of_openshift_is_known_and_asked_for() -> None:
    item = daemonset("openshift-kube-proxy", namespace="openshift-kube-proxy", app="kube-proxy", component="network")
    assert [found["desired"] for found in kube_proxies([item], [])] == [3]
    assert kube_proxy.OPENSHIFT in wanted_config_maps([item])


def mounting(config_map: str, file: str = "config.conf", name: str = "kube-proxy", **more: Any) -> dict[str, Any]:
    """Return a DaemonSet as Talos has it, with its configuration in a ConfigMap whose name has a hash."""
    item = daemonset(name, args=["/usr/local/bin/kube-proxy", f"--config=/var/lib/kube-proxy/{file}", "--hostname-override=$(NODE_NAME)"])
    spec = item["spec"]["template"]["spec"]
    spec["containers"][0]["volumeMounts"] = [
        {"mountPath": "/etc/kubernetes", "name": "kubeconfig"},
        {"mountPath": "/var/lib/kube-proxy", "name": "config"},
    ]
    spec["volumes"] = [
        {"hostPath": {"path": "/lib/modules"}, "name": "lib-modules"},
        {"configMap": {"name": "kubeconfig-in-cluster"}, "name": "kubeconfig"},
        {"configMap": {"name": config_map, **more}, "name": "config"},
    ]
    return item


TALOS = ("kube-system", "kube-proxy-config-abc123")


@pytest.mark.parametrize(
    ("more", "entry"),
    [({}, "config.conf"), ({"items": [{"key": "proxy.yaml", "path": "config.conf"}]}, "proxy.yaml")],
    ids=["talos", "items"],
)
def test_config_map_of_which_the_daemonset_alone_knows_the_name(more: dict[str, Any], entry: str) -> None:
    item = mounting(TALOS[1], **more)
    wanted = wanted_config_maps([item])
    assert TALOS in wanted
    assert ("kube-system", "kubeconfig-in-cluster") not in wanted
    found = proxy(daemonsets=[item], config_maps={TALOS: {entry: "mode: nftables"}, kube_proxy.KUBEADM: {"config.conf": "mode: ipvs"}})
    assert (values(found), sources(found)) == (
        {"proxy.mode": "nftables"},
        {"proxy.mode": f"ConfigMap kube-system/kube-proxy-config-abc123 {entry} mode"},
    )


def test_config_map_of_the_daemonset_that_may_not_be_read() -> None:
    unreadable = {"ConfigMap kube-system/kube-proxy-config-abc123": "HTTP 403"}
    found = proxy(daemonsets=[mounting(TALOS[1])], unreadable=unreadable)
    assert (values(found), sources(found)) == (
        {"proxy.mode": None},
        {"proxy.mode": "ConfigMap kube-system/kube-proxy-config-abc123: not readable: HTTP 403"},
    )
    assert values(proxy(daemonsets=[mounting(TALOS[1])])) == {}


def test_daemonsets_of_pools_with_configurations_of_their_own() -> None:
    """So Gardener has them."""
    names = ("kube-proxy-a", "kube-proxy-b")
    pools = [{**SCHEDULED[0], "name": name} for name in names]
    daemonsets = [mounting(f"kube-proxy-config-{number}", name=name) for number, name in enumerate(names)]
    keys = [("kube-system", f"kube-proxy-config-{number}") for number in range(2)]

    def read(*modes: str) -> Found:
        maps = {key: {"config.conf": f"mode: {mode}"} for key, mode in zip(keys, modes, strict=True)}
        return proxy(proxies=pools, daemonsets=daemonsets, config_maps=maps)

    assert values(read("iptables", "iptables")) == {"proxy.mode": "iptables"}
    told = (
        "DaemonSets of kube-proxy have different modes: iptables in ConfigMap kube-system/kube-proxy-config-0 config.conf mode; "
        "ipvs in ConfigMap kube-system/kube-proxy-config-1 config.conf mode"
    )
    differing = read("iptables", "ipvs")
    assert (values(differing), sources(differing)) == ({"proxy.mode": None}, {"proxy.mode": told})
    assert read("ipvs", "userspace").mistakes == [
        (
            "ConfigMap kube-system/kube-proxy-config-1 config.conf mode is userspace, which is no value of it; "
            "valid: iptables, ipvs, nftables"
        )
    ]


def test_config_map_that_outlived_kube_proxy() -> None:
    assert values(proxy(config_maps=kubeadm("mode: ipvs"), proxies=[])) == {}


def test_daemonset_that_wants_no_pods() -> None:
    found = proxy(config_maps=kubeadm("mode: ipvs"), proxies=NOBODY)
    assert (values(found), sources(found)) == ({"proxy.mode": "none"}, {"proxy.mode": "DaemonSet kube-system/kube-proxy wants 0 pods"})


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["kube-proxy", "--proxy-mode=ipvs"], {"proxy.mode": "ipvs", "proxy.scheduler": "rr"}),
        (
            ["kube-proxy", "--proxy-mode", "ipvs", "--ipvs-scheduler=lc", "--ipvs-strict-arp"],
            {"proxy.mode": "ipvs", "proxy.scheduler": "lc", "proxy.strict_arp": True},
        ),
        # AKS names no mode: its API server's defaults are kube-proxy's.
        (
            ["kube-proxy", "--conntrack-max-per-core=0", "--metrics-bind-address=0.0.0.0:10249", "--v=3"],
            {"proxy.mode": "iptables", "proxy.mode_defaulted": True},
        ),
        # GKE's static pods have a shell before it.
        (["/bin/sh", "-c", "exec kube-proxy --proxy-mode=nftables --v=2 1>>/var/log/kube-proxy.log 2>&1"], {"proxy.mode": "nftables"}),
        (["kube-proxy", "--proxy-mode=ipvs", "--config=/x"], {}),
    ],
    ids=["mode", "ipvs", "aks", "shell", "configuration-wins"],
)
def test_flags_count_only_without_configuration(args: list[str], wanted: dict[str, Any]) -> None:
    assert values(proxy(daemonsets=[daemonset("kube-proxy", args=args)])) == wanted


# Of k0s: pkg/component/controller/kubeproxy.go, in which the parts of the cluster's own configuration stand as JSON.
K0S = """apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
clientConnection:
  acceptContentTypes: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
clusterCIDR: 10.244.0.0/16
featureGates:
mode: "ipvs"
conntrack:
  maxPerCore: 0
  min: null
iptables: {"masqueradeAll":false,"syncPeriod":"0s","minSyncPeriod":"0s"}
ipvs: {"excludeCIDRs":null,"minSyncPeriod":"0s","scheduler":"lc","syncPeriod":"0s","strictARP":true}
nftables: {"syncPeriod":"0s","minSyncPeriod":"0s"}
kind: KubeProxyConfiguration
metricsBindAddress: 0.0.0.0:10249
nodePortAddresses: null
"""


def test_configuration_of_k0s() -> None:
    """With --config flags of the DaemonSet do not count."""
    flags = ["/usr/local/bin/kube-proxy", "--config=/var/lib/kube-proxy/config.conf", "--hostname-override=$(NODE_NAME)"]
    item = daemonset("kube-proxy", args=flags, image="quay.io/k0sproject/kube-proxy:v1.36.1")
    found = proxy(config_maps=kubeadm(K0S), daemonsets=[item], proxies=kube_proxies([item], []))
    assert values(found) == {"proxy.mode": "ipvs", "proxy.scheduler": "lc", "proxy.strict_arp": True}


def static_pod(node: str, *args: str) -> dict[str, Any]:
    metadata = {"name": f"kube-proxy-{node}", "namespace": "kube-system", "annotations": {"kubernetes.io/config.mirror": "x"}}
    container = {"image": "rancher/hardened-kubernetes:v1.36.1", "command": ["kube-proxy"], "args": list(args)}
    return {"metadata": metadata, "spec": {"nodeName": node, "containers": [container]}, "status": {"phase": "Running"}}


def test_static_pods_of_rke2() -> None:
    flags = ("--conntrack-max-per-core=0", "--healthz-bind-address=127.0.0.1", "--proxy-mode=ipvs", "--ipvs-strict-arp=true")
    pods = [static_pod(node, *flags) for node in ("node-1", "node-2")]
    found = proxy(pods=pods, proxies=kube_proxies([], pods))
    assert values(found) == {"proxy.mode": "ipvs", "proxy.scheduler": "rr", "proxy.strict_arp": True}
    assert sources(found)["proxy.mode"] == "static pod kube-system/kube-proxy-node-1 --proxy-mode"


def test_static_pods_that_differ_claim_nothing_for_all() -> None:
    pods = [static_pod("node-1", "--proxy-mode=ipvs"), static_pod("node-2")]
    found = proxy(pods=pods, proxies=kube_proxies([], pods))
    told = "no mode in static pod kube-system/kube-proxy-node-2; ipvs in static pod kube-system/kube-proxy-node-1"
    assert found.mistakes == [f"kube-proxy's flags differ: {told}"]
    assert (found.claims["proxy.mode"].value, found.claims["proxy.mode"].source) == (None, f"flags differ: {told}")


def k3s_node(name: str, *args: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {"k3s.io/node-args": json.dumps(args)}}}


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (("server", "--kube-proxy-arg", "proxy-mode=ipvs"), {"proxy.mode": "ipvs", "proxy.scheduler": "rr"}),
        (
            ("server", "--kube-proxy-arg=proxy-mode=ipvs", "--kube-proxy-arg=ipvs-scheduler=lc"),
            {"proxy.mode": "ipvs", "proxy.scheduler": "lc"},
        ),
        (("server", "--disable", "traefik"), {"proxy.mode": "iptables", "proxy.mode_defaulted": True}),
        (("server", "--disable-kube-proxy"), {"proxy.mode": "none"}),
        (("agent",), {"proxy.mode": "iptables", "proxy.mode_defaulted": True}),
    ],
    ids=["two-words", "one-word", "default", "off", "agent"],
)
def test_arguments_of_k3s(args: tuple[str, ...], wanted: dict[str, Any]) -> None:
    assert values(proxy(proxies=[], nodes=[k3s_node("node-1", *args)])) == wanted


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "[]"])
def test_arguments_of_k3s_that_are_none(text: str) -> None:
    nodes = [{"metadata": {"name": "node-1", "annotations": {"k3s.io/node-args": text}}}]
    assert values(proxy(proxies=[], nodes=nodes)) == {}


def test_a_mode_that_there_is_not() -> None:
    found = proxy(config_maps=kubeadm("mode: IPVS"))
    source = "ConfigMap kube-system/kube-proxy config.conf mode"
    assert found.mistakes == [f"{source} is IPVS, which is no value of it; valid: iptables, ipvs, nftables"]
    assert values(found) == {"proxy.mode": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [b", "not YAML (line 1)"),
        ("mode: ipvs\ntoken: [planted", "not YAML (line 2)"),
        ("mode: \0planted", "not YAML"),
        ("[" * 100_000, "not YAML"),
        ("mode: 2001-99-99", "not YAML"),
        ("planted", "not a KubeProxyConfiguration"),
    ],
    ids=["open", "syntax", "nul", "deep", "date", "text"],
)
def test_configuration_is_not_quoted(text: str, message: str) -> None:
    with pytest.raises(ClusterError) as caught:
        proxy(config_maps=kubeadm(text))
    assert str(caught.value) == f"ConfigMap kube-system/kube-proxy config.conf: {message}"


# ---- which CNI


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["x", "kube-flannel-ds"], "flannel"),
        (["calico-node"], "calico"),
        (["canal"], "flannel"),
        (["rke2-canal"], "flannel"),
        (["calico-node", "aws-node"], "aws-vpc-cni"),
        (["cilium"], "cilium"),
        (["anetd"], "cilium"),
        (["antrea-agent"], "antrea"),
        (["kube-router"], "kube-router"),
        (["ovnkube-node"], "ovn-kubernetes"),
        (["weave-net"], "weave"),
        (["x"], None),
        ([], None),
    ],
)
def test_cni_by_its_daemonset(names: list[str], wanted: str | None) -> None:
    assert recognise_cni([daemonset(name) for name in names]) == wanted


def test_cni_whose_daemonset_wants_no_pods_is_none() -> None:
    assert recognise_cni([daemonset("aws-node", desired=0), daemonset("cilium")]) == "cilium"


def test_cni_without_a_daemonset() -> None:
    """In k3s Flannel is no pod; a CNI that nodes run by themselves has its ConfigMap at most."""
    noted = {"metadata": {"name": "node-1", "annotations": {"flannel.alpha.coreos.com/backend-type": "vxlan"}}}
    assert recognise_cni([], [noted]) == "flannel"
    assert recognise_cni([], [], [FLANNEL]) == "flannel"
    assert recognise_cni([], [], [CILIUM]) == "cilium"
    assert recognise_cni([], [{"metadata": {"name": "node-1"}}], [kube_proxy.KUBEADM]) is None


def test_unknown_cni_claims_nothing_and_kube_proxy_all_the_same() -> None:
    assert values(network("", config_maps=kubeadm("mode: nftables"), proxies=SCHEDULED)) == {"proxy.mode": "nftables"}
    assert values(read_claims(Objects(config_maps={CILIUM: {"routing-mode": "tunnel"}}), None)) == {}


# ---- the lab, Flannel


def test_network_of_the_lab() -> None:
    text = '{"encapsulation": "vxlan", "mtu": {"pod": 1450, "uplink": 1500, "tunnel": 1450}, "pod_cidr": "10.244.0.0/16"}'
    maps = {("kube-system", "k8snet-lab-network"): {"network.json": text}}
    assert recognise_cni([daemonset("cilium")], [], maps) == "k8snet-lab"
    assert values(network("k8snet-lab", config_maps=maps)) == {
        "encapsulation": "vxlan",
        "mtu.pod": 1450,
        "mtu.uplink": 1500,
        "mtu.tunnel": 1450,
    }


def flannel(backend: str, key: tuple[str, str] = FLANNEL) -> Found:
    return network("flannel", config_maps={key: {"net-conf.json": f'{{"Network": "10.244.0.0/16", "Backend": {backend}}}'}})


@pytest.mark.parametrize(
    ("backend", "wanted"),
    [
        ('{"Type": "vxlan"}', {"encapsulation": "vxlan"}),
        ('{"Type": "vxlan", "MTU": 1500}', {"encapsulation": "vxlan", "mtu.pod": 1450, "mtu.tunnel": 1450}),
        (
            '{"Type": "vxlan", "DirectRouting": true, "MTU": 1400}',
            {"encapsulation.cross_subnet": "vxlan", "mtu.pod": 1350, "mtu.tunnel": 1350},
        ),
        ('{"Type": "ipip", "DirectRouting": true}', {"encapsulation.cross_subnet": "ipip"}),
        ('{"Type": "ipip"}', {"encapsulation": "ipip"}),
        ('{"Type": "host-gw", "MTU": 1400}', {"encapsulation": "none"}),
        ('{"Type": "wireguard"}', {"encapsulation": "wireguard"}),
        ('{"Type": "udp"}', {"encapsulation": "tun"}),
        ('{"Type": "alloc"}', {}),
    ],
)
def test_flannel(backend: str, wanted: dict[str, Any]) -> None:
    assert values(flannel(backend)) == wanted


def test_flannel_of_canal() -> None:
    found = flannel('{"Type": "vxlan"}', ("kube-system", "canal-config"))
    assert sources(found) == {"encapsulation": "ConfigMap kube-system/canal-config net-conf.json Backend.Type"}


@pytest.mark.parametrize("backend", ["", ', "MTU": 9000'])
def test_pods_of_canal_have_an_mtu_of_their_own(backend: str) -> None:
    data = {"net-conf.json": f'{{"Backend": {{"Type": "vxlan"{backend}}}}}', "veth_mtu": "1450"}
    found = network("flannel", config_maps={("kube-system", "rke2-canal-config"): data})
    assert (values(found)["mtu.pod"], sources(found)["mtu.pod"]) == (1450, "ConfigMap kube-system/rke2-canal-config veth_mtu")
    assert values(found).get("mtu.tunnel") == (8950 if backend else None)
    assert "mtu.pod" not in values(network("flannel", config_maps={("kube-system", "canal-config"): {"veth_mtu": "0"}}))


def test_backend_of_flannel_that_there_is_not() -> None:
    found = flannel('{"Type": "hostgw"}')
    assert found.mistakes == [
        (
            "ConfigMap kube-flannel/kube-flannel-cfg net-conf.json Backend.Type is hostgw, which is no value of it; "
            "valid: vxlan, host-gw, wireguard, udp, ipip, ipsec, alloc, tencent-vpc, extension"
        )
    ]
    assert values(found) == {}


def noted(**backends: str) -> list[dict[str, Any]]:
    key = "flannel.alpha.coreos.com/backend-type"
    return [{"metadata": {"name": name.replace("_", "-"), "annotations": {key: backend}}} for name, backend in backends.items()]


def test_flannel_inside_k3s() -> None:
    found = network("flannel", nodes=noted(node_1="vxlan", node_2="vxlan"))
    assert sources(found) == {"encapsulation": "Node node-1 flannel.alpha.coreos.com/backend-type"}
    assert values(found) == {"encapsulation": "vxlan"}


def test_nodes_with_different_backends_of_flannel() -> None:
    found = network("flannel", nodes=noted(node_1="vxlan", node_2="host-gw"))
    told = "host-gw on node-2; vxlan on node-1"
    assert found.mistakes == [f"nodes run different backends of flannel (flannel.alpha.coreos.com/backend-type): {told}"]
    assert values(found) == {"encapsulation": None}


@pytest.mark.parametrize("mtu", ["auto", -1, 1.5, True, [1500]])
def test_mtu_that_is_none(mtu: Any) -> None:
    with pytest.raises(ClusterError, match=r"ConfigMap kube-flannel/kube-flannel-cfg net-conf.json Backend.MTU: not a number of bytes"):
        flannel(json.dumps({"Type": "vxlan", "MTU": mtu}))


@pytest.mark.parametrize("backend", ["vxlan", [], {}, None, 1])
def test_backend_that_is_none(backend: Any) -> None:
    assert values(flannel(json.dumps(backend))) == {}


# ---- Calico


def calico_of(**objects: Any) -> Found:
    return network("calico", **{"daemonsets": [daemonset("calico-node", namespace="calico-system")], **objects})


def pools(*found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {"IPPool": list(found)}


@pytest.mark.parametrize(
    ("spec", "wanted", "key"),
    [
        ({"ipipMode": "Always", "vxlanMode": "Never"}, {"encapsulation": "ipip"}, "spec.ipipMode"),
        ({"ipipMode": "CrossSubnet"}, {"encapsulation.cross_subnet": "ipip"}, "spec.ipipMode"),
        ({"vxlanMode": "Always"}, {"encapsulation": "vxlan"}, "spec.vxlanMode"),
        ({"ipipMode": "Never", "vxlanMode": "CrossSubnet"}, {"encapsulation.cross_subnet": "vxlan"}, "spec.vxlanMode"),
        ({"ipipMode": "Never", "vxlanMode": "Never"}, {"encapsulation": "none"}, "spec.ipipMode and spec.vxlanMode"),
        ({}, {"encapsulation": "none"}, "spec.ipipMode and spec.vxlanMode"),
    ],
)
def test_pools_of_calico(spec: dict[str, Any], wanted: dict[str, Any], key: str) -> None:
    found = calico_of(custom=pools(custom("default-ipv4-ippool", cidr="10.244.0.0/16", **spec)))
    assert values(found) == wanted
    assert [*sources(found).values()] == [f"IPPool default-ipv4-ippool {key}"]
    assert found.mistakes == []


def test_pools_that_no_pod_has_an_address_of_do_not_count() -> None:
    found = calico_of(
        custom=pools(
            custom("a", vxlanMode="Always"),
            custom("disabled", ipipMode="Always", disabled=True),
            custom("load-balancers", allowedUses=["LoadBalancer"]),
        )
    )
    assert values(found) == {"encapsulation": "vxlan"}


def test_pools_that_differ_claim_nothing() -> None:
    found = calico_of(custom=pools(custom("a", vxlanMode="Always"), custom("b")))
    assert values(found) == {"encapsulation": None}
    assert sources(found)["encapsulation"] == (
        "pools differ: none Never (IPPool b spec.ipipMode and spec.vxlanMode); vxlan Always (IPPool a spec.vxlanMode)"
    )


@pytest.mark.parametrize(
    ("encapsulation", "wanted"),
    [
        ("IPIP", {"encapsulation": "ipip"}),
        ("IPIPCrossSubnet", {"encapsulation.cross_subnet": "ipip"}),
        ("VXLAN", {"encapsulation": "vxlan"}),
        ("VXLANCrossSubnet", {"encapsulation.cross_subnet": "vxlan"}),
        ("None", {"encapsulation": "none"}),
        (None, {"encapsulation": "ipip"}),
    ],
)
def test_installation_of_calicos_operator(encapsulation: str | None, wanted: dict[str, Any]) -> None:
    pool = {"cidr": "192.168.0.0/16", **({} if encapsulation is None else {"encapsulation": encapsulation})}
    found = calico_of(custom={"Installation": [custom("default", calicoNetwork={"bgp": "Enabled", "mtu": 8950, "ipPools": [pool]})]})
    assert values(found) == {**wanted, "mtu.pod": 8950, "bgp": "mesh"}
    assert sources(found)["bgp"] == "Installation default spec.calicoNetwork.bgp"
    assert found.mistakes == []


def test_pools_win_over_the_installation_that_made_them() -> None:
    installation = custom("default", calicoNetwork={"ipPools": [{"encapsulation": "IPIP"}]})
    assert values(calico_of(custom={"Installation": [installation], **pools(custom("p", vxlanMode="Always"))})) == {
        "encapsulation": "vxlan"
    }


def test_the_word_of_the_other_api_is_told_and_taken_for_what_it_means() -> None:
    found = calico_of(custom={"Installation": [custom("default", calicoNetwork={"ipPools": [{"encapsulation": "Never"}]})]})
    assert values(found) == {"encapsulation": "none"}
    assert found.mistakes == [
        (
            "Installation default spec.calicoNetwork.ipPools[0].encapsulation is Never, which is no value of it (Never is IPPool's word; "
            "taken for None); valid: IPIP, IPIPCrossSubnet, VXLAN, VXLANCrossSubnet, None"
        )
    ]
    found = calico_of(custom=pools(custom("p", ipipMode="None", vxlanMode="None")))
    assert values(found) == {"encapsulation": "none"}
    assert found.mistakes == [
        f"IPPool p spec.{kind}Mode is None, which is no value of it (taken for Never); valid: Always, CrossSubnet, Never"
        for kind in ("ipip", "vxlan")
    ]


def test_values_of_calico_that_mean_nothing() -> None:
    wrong = custom("default", calicoNetwork={"bgp": "On", "ipPools": [{"encapsulation": "GRE"}]})
    found = calico_of(custom={"Installation": [wrong]}, daemonsets=[])
    assert values(found) == {}
    assert found.mistakes == [
        (
            "Installation default spec.calicoNetwork.ipPools[0].encapsulation is GRE, which is no value of it; "
            "valid: IPIP, IPIPCrossSubnet, VXLAN, VXLANCrossSubnet, None"
        ),
        "Installation default spec.calicoNetwork.bgp is On, which is no value of it; valid: Enabled, Disabled",
    ]


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({"CALICO_IPV4POOL_IPIP": "Always", "CALICO_IPV4POOL_VXLAN": "Never"}, {"encapsulation": "ipip"}),
        ({"CALICO_IPV4POOL_IPIP": "CrossSubnet"}, {"encapsulation.cross_subnet": "ipip"}),
        ({"CALICO_IPV4POOL_IPIP": "off", "CALICO_IPV4POOL_VXLAN": "always"}, {"encapsulation": "vxlan"}),
        ({"CALICO_IPV4POOL_IPIP": "Never"}, {"encapsulation": "none"}),
        ({}, {"encapsulation": "none"}),
    ],
)
def test_environment_of_a_manifest_install(env: dict[str, str], wanted: dict[str, Any]) -> None:
    assert values(calico_of(daemonsets=[daemonset("calico-node", env=env)])) == wanted


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"CALICO_IPV4POOL_IPIP": "Off", "ETCD_ENDPOINTS": "x"}, "ETCD_ENDPOINTS: IPPools are in an etcd that is not read"),
        ({"CALICO_IPV4POOL_IPIP": "Always", "NO_DEFAULT_POOLS": "true"}, "NO_DEFAULT_POOLS: no IPPool is known"),
    ],
)
def test_environment_that_makes_no_pool_that_is_known(env: dict[str, str], why: str) -> None:
    """So kubespray installs Calico with an etcd of its own: the pool is VXLAN's, and IPIP is off."""
    node = daemonset("calico-node", env=env)
    for entry in node["spec"]["template"]["spec"]["containers"][0]["env"]:
        if entry["name"] == "ETCD_ENDPOINTS":
            entry["valueFrom"] = {"configMapKeyRef": {"name": "calico-config", "key": "etcd_endpoints"}}
            del entry["value"]
    found = calico_of(daemonsets=[node])
    assert (values(found), sources(found)) == ({"encapsulation": None}, {"encapsulation": f"DaemonSet kube-system/calico-node {why}"})
    ipip = calico_of(daemonsets=[daemonset("calico-node", env={"CALICO_IPV4POOL_IPIP": "Always", "ETCD_ENDPOINTS": "x"})])
    assert values(ipip) == {"encapsulation": "ipip"}
    assert values(calico_of(daemonsets=[node], custom=pools(custom("default-pool", vxlanMode="Always")))) == {"encapsulation": "vxlan"}


def test_environment_that_means_nothing() -> None:
    found = calico_of(daemonsets=[daemonset("calico-node", env={"CALICO_IPV4POOL_IPIP": "On"})])
    assert found.mistakes == [
        "DaemonSet kube-system/calico-node CALICO_IPV4POOL_IPIP is On, which is no value of it; valid: Always, CrossSubnet, Never"
    ]


@pytest.mark.parametrize(
    ("backend", "mesh", "wanted"),
    [("bird", None, "mesh"), ("bird", True, "mesh"), ("bird", False, "peers"), ("vxlan", None, "none")],
)
def test_bgp_of_a_manifest_install(backend: str, mesh: bool | None, wanted: str) -> None:
    bgp = [] if mesh is None else [custom("default", nodeToNodeMeshEnabled=mesh)]
    maps = {("kube-system", "calico-config"): {"calico_backend": backend, "veth_mtu": "0"}}
    found = calico_of(config_maps=maps, custom={"BGPConfiguration": bgp, **pools(custom("p"))})
    assert values(found) == {"encapsulation": "none", "bgp": wanted}


def test_backend_and_mtu_of_a_manifest_install() -> None:
    maps = {("kube-system", "calico-config"): {"calico_backend": "birds", "veth_mtu": "1440"}}
    found = calico_of(config_maps=maps, custom=pools(custom("p")))
    assert found.mistakes == [
        "ConfigMap kube-system/calico-config calico_backend is birds, which is no value of it; valid: bird, vxlan, none"
    ]
    assert values(found)["mtu.pod"] == 1440
    maps = {("kube-system", "calico-config"): {"veth_mtu": "auto"}}
    with pytest.raises(ClusterError, match="ConfigMap kube-system/calico-config veth_mtu: not a number of bytes"):
        calico_of(config_maps=maps)


def test_felix() -> None:
    felix = [custom("default", vxlanMTU=1410, bpfEnabled=True), custom("node.node-1", wireguardEnabled=True)]
    found = calico_of(custom={"FelixConfiguration": felix, **pools(custom("p", vxlanMode="CrossSubnet"))})
    assert values(found) == {"encapsulation.cross_subnet": "vxlan", "mtu.tunnel": 1410, "proxy.mode": "none"}
    assert sources(found)["proxy.mode"] == "FelixConfiguration default spec.bpfEnabled"
    beside = calico_of(custom={"FelixConfiguration": felix, **pools(custom("p"))}, proxies=SCHEDULED, config_maps=kubeadm("mode: iptables"))
    assert values(beside)["proxy.mode"] == "iptables", "Felix supports a kube-proxy beside itself"


def test_felix_that_may_not_be_read() -> None:
    hidden = {"FelixConfiguration": "HTTP 403"}
    found = calico_of(unreadable=hidden, custom=pools(custom("p")))
    assert (values(found)["proxy.replaced"], sources(found)["proxy.replaced"]) == (None, "FelixConfiguration: not readable: HTTP 403")
    beside = calico_of(unreadable=hidden, custom=pools(custom("p")), proxies=SCHEDULED, config_maps=kubeadm("mode: iptables"))
    assert "proxy.replaced" not in values(beside), "kube-proxy's own configuration counts"
    hidden = {"ConfigMap elsewhere/cilium-config": "HTTP 403", "ConfigMap elsewhere/coredns": "HTTP 403"}
    assert sources(network("cilium", unreadable=hidden))["proxy.replaced"] == "ConfigMap elsewhere/cilium-config: not readable: HTTP 403"


def test_wireguard_of_calico_is_what_packets_are_in() -> None:
    felix = [custom("default", wireguardEnabled=True, wireguardMTU=1440)]
    found = calico_of(custom={"FelixConfiguration": felix, **pools(custom("p", vxlanMode="CrossSubnet"))})
    assert values(found) == {"encapsulation": "wireguard", "mtu.tunnel": 1440}


def test_pools_that_may_not_be_read() -> None:
    found = calico_of(unreadable={"IPPool": "HTTP 403"}, daemonsets=[])
    assert (values(found), sources(found)) == ({"encapsulation": None}, {"encapsulation": "IPPool: not readable: HTTP 403"})
    maps = {("kube-system", "calico-config"): {"calico_backend": "bird"}}
    found = calico_of(config_maps=maps, unreadable={"BGPConfiguration": "HTTP 403"})
    assert sources(found)["bgp"] == "BGPConfiguration: not readable: HTTP 403"


# ---- Cilium


def cilium_of(settings: dict[str, str], *overrides: dict[str, Any]) -> Found:
    data = {key.replace("_", "-"): value for key, value in settings.items()}
    return network("cilium", config_maps={CILIUM: data}, custom={"CiliumNodeConfig": [*overrides]}, proxies=[])


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"routing_mode": "native", "tunnel_protocol": "vxlan"}, {"encapsulation": "none"}),
        ({"routing_mode": "tunnel", "tunnel_protocol": "geneve"}, {"encapsulation": "geneve"}),
        ({"routing_mode": "tunnel"}, {"encapsulation": "vxlan"}),
        ({"routing_mode": "hybrid", "tunnel_protocol": "vxlan"}, {"encapsulation.cross_subnet": "vxlan"}),
        ({"tunnel": "disabled"}, {"encapsulation": "none"}),
        ({"tunnel": "geneve"}, {"encapsulation": "geneve"}),
        ({"routing_mode": "native", "mtu": "9000"}, {"encapsulation": "none", "mtu.pod": 9000}),
        ({"routing_mode": "tunnel", "mtu": "1500"}, {"encapsulation": "vxlan", "mtu.pod": 1450}),
        ({"routing_mode": "native", "mtu": "9000", "enable_ipv4_egress_gateway": "true"}, {"encapsulation": "none", "mtu.pod": 8950}),
        ({"routing_mode": "native", "mtu": "9000", "enable_egress_gateway": "false"}, {"encapsulation": "none", "mtu.pod": 9000}),
        ({"tunnel": "vxlan", "mtu": "9000", "enable_ipv4_egress_gateway": "true"}, {"encapsulation": "vxlan", "mtu.pod": 8950}),
        ({"routing_mode": "native", "devices": "eth0  eth1"}, {"encapsulation": "none", "cilium.devices": "eth0 eth1"}),
        ({"routing_mode": "native", "enable_bgp_control_plane": "true"}, {"encapsulation": "none", "bgp": "peers"}),
        ({"routing_mode": "native", "enable_bgp_control_plane": "false"}, {"encapsulation": "none"}),
        ({"routing_mode": "native", "enable_wireguard": "true", "mtu": "1500"}, {"encrypted": "wireguard"}),
        ({"routing_mode": "native", "enable_ipsec": "true"}, {"encrypted": "ipsec"}),
        ({"routing_mode": "native", "enable_ipsec": "false"}, {"encapsulation": "none"}),
        ({"routing_mode": "tunnel", "enable_wireguard": "true", "mtu": "1500"}, {"encrypted": "wireguard"}),
        ({"tunnel": "vxlan", "enable_ipsec": "true"}, {"encrypted": "ipsec"}),
        ({"routing_mode": "native", "enable_ztunnel": "true"}, {}),
        ({"routing_mode": "tunnel", "enable_ztunnel": "true"}, {"encapsulation": "vxlan"}),
        ({}, {}),
    ],
)
def test_cilium(settings: dict[str, str], wanted: dict[str, Any]) -> None:
    found = cilium_of(settings)
    assert ({key: value for key, value in values(found).items() if key != "cilium.routing"}, found.mistakes) == (wanted, [])


def test_pods_of_cilium_have_room_for_the_tunnel_to_an_egress_gateway() -> None:
    found = cilium_of({"routing_mode": "native", "mtu": "9000", "enable_egress_gateway": "true"})
    assert sources(found)["mtu.pod"] == "ConfigMap kube-system/cilium-config mtu less 50 bytes of enable-egress-gateway's tunnel"


@pytest.mark.parametrize(
    ("settings", "flags", "wanted"),
    [
        ({"routing_mode": "native", "tunnel_protocol": "vxlan"}, [], "native"),
        ({"routing_mode": "native", "enable_wireguard": "true"}, [], "native"),
        ({"routing_mode": "tunnel", "tunnel_protocol": "geneve"}, [], "tunnel geneve"),
        ({"routing_mode": "tunnel"}, ["--config-dir=/tmp/cilium/config-map"], "tunnel vxlan"),
        ({"routing_mode": "hybrid"}, [], "hybrid vxlan"),
        ({"tunnel": "disabled"}, [], "native"),
        ({"tunnel": "geneve"}, [], "tunnel geneve"),
        ({}, [], None),
        ({"routing_mode": "on"}, [], None),
        ({"routing_mode": "native"}, ["--routing-mode=tunnel"], None),
        ({"routing_mode": "tunnel"}, ["--tunnel-protocol", "geneve"], None),
    ],
)
def test_how_ciliums_agent_would_route(settings: dict[str, str], flags: list[str], wanted: str | None) -> None:
    maps = {CILIUM: {key.replace("_", "-"): value for key, value in settings.items()}}
    found = network("cilium", config_maps=maps, daemonsets=[daemonset("cilium", args=flags)], proxies=[])
    assert values(found).get("cilium.routing") == wanted


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({"routing_mode": "Native"}, "routing-mode is Native, which is no value of it; valid: native, tunnel, hybrid"),
        ({"routing_mode": "tunnel", "tunnel_protocol": "ipip"}, "tunnel-protocol is ipip, which is no value of it; valid: vxlan, geneve"),
        ({"tunnel": "off"}, "tunnel is off, which is no value of it; valid: vxlan, geneve, disabled"),
        ({"kube_proxy_replacement": "yes"}, "kube-proxy-replacement is yes, which is no value of it; valid: true, false"),
    ],
)
def test_values_that_cilium_does_not_know(settings: dict[str, str], mistake: str) -> None:
    found = cilium_of(settings)
    assert (found.mistakes, values(found)) == ([f"ConfigMap kube-system/cilium-config {mistake}"], {})


@pytest.mark.parametrize(
    ("value", "wanted"), [("true", "none"), ("strict", "none"), ("false", "ipvs"), ("partial", "ipvs"), ("disabled", "ipvs")]
)
def test_cilium_that_replaces_kube_proxy_has_the_word(value: str, wanted: str) -> None:
    """Also where a kube-proxy is scheduled beside it: that one is what should not be there."""
    maps = {CILIUM: {"kube-proxy-replacement": value}, **kubeadm("mode: ipvs")}
    assert values(network("cilium", config_maps=maps, proxies=SCHEDULED)).get("proxy.mode") == wanted
    assert set(values(network("cilium", config_maps=maps, proxies=[]))) == ({"proxy.mode"} if wanted == "none" else set())


def test_ranges_that_cilium_gave_to_nodes() -> None:
    nodes = [custom("node-1", ipam={"podCIDRs": ["10.0.1.0/24", "fd00:1::/112"]}), custom("node-2", ipam={"pool": {}}), custom("node-3")]
    assert cilium.pod_cidrs(Objects(custom={"CiliumNode": nodes})) == {"node-1": ("10.0.1.0/24", "fd00:1::/112")}


def test_what_cilium_has_otherwise_on_some_nodes() -> None:
    override = custom("big", defaults={"mtu": "9000"}, nodeSelector={"matchLabels": {"pool": "big"}})
    found = cilium_of({"routing_mode": "native"}, override)
    claim = found.claims["cilium.node_config.big"]
    assert (claim.value, claim.source) == ("mtu", "CiliumNodeConfig big for nodes with pool=big")


def test_claims_of_single_nodes() -> None:
    nodes = [
        {"metadata": {"name": name, "labels": {"pool": pool}}} for name, pool in (("node-1", "big"), ("node-2", "small"), ("node-3", "far"))
    ]
    overrides = [
        custom("b-far", defaults={"routing-mode": "tunnel", "tunnel-protocol": "geneve"}, nodeSelector={"matchLabels": {"pool": "far"}}),
        custom(
            "a-big", defaults={"mtu": "9000"}, nodeSelector={"matchExpressions": [{"key": "pool", "operator": "In", "values": ["big"]}]}
        ),
        custom("c-same", defaults={"routing-mode": "native"}, nodeSelector={"matchLabels": {"pool": "small"}}),
        custom("d-far", defaults={"enable-wireguard": "true"}, nodeSelector={"matchLabels": {"pool": "none"}}),
    ]
    objects = Objects(nodes=nodes, config_maps={CILIUM: {"routing-mode": "native", "mtu": "1500"}}, custom={"CiliumNodeConfig": overrides})
    found = cilium.node_claims(objects)
    assert {name: {key: claim.value for key, claim in claims.items()} for name, claims in found.items()} == {
        "node-1": {"mtu.pod": 9000},
        "node-3": {"encapsulation": "geneve", "mtu.pod": 1450, "cilium.routing": "tunnel geneve"},
    }
    assert found["node-1"]["mtu.pod"].source == "CiliumNodeConfig a-big over ConfigMap kube-system/cilium-config mtu"
    encrypted = custom("e", defaults={"enable-wireguard": "true"}, nodeSelector={"matchLabels": {"pool": "big"}})
    objects = Objects(nodes=nodes, config_maps=objects.config_maps, custom={"CiliumNodeConfig": [encrypted]})
    assert {key: (claim.value, claim.source) for key, claim in cilium.node_claims(objects)["node-1"].items()} == {
        "encapsulation": (None, "CiliumNodeConfig e"),
        "encrypted": ("wireguard", "CiliumNodeConfig e over ConfigMap kube-system/cilium-config enable-wireguard"),
        "mtu.pod": (None, "CiliumNodeConfig e"),
    }
    assert cilium.node_claims(Objects(nodes=nodes)) == {}


# ---- the others


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ([], {"encapsulation.cross_subnet": "ipip"}),
        (["--run-router=true", "--enable-overlay=false"], {"encapsulation": "none"}),
        (["--overlay-type=full"], {"encapsulation": "ipip"}),
        (["--overlay-type=full", "--overlay-encap=fou"], {"encapsulation": "fou"}),
        (["--overlay-encap=fou"], {"encapsulation.cross_subnet": "fou"}),
    ],
)
def test_kube_router(args: list[str], wanted: dict[str, Any]) -> None:
    found = network("kube-router", daemonsets=[daemonset("kube-router", args=args)])
    assert (values(found), found.mistakes) == (wanted, [])


@pytest.mark.parametrize(
    ("argument", "mistake"),
    [
        ("--overlay-type=all", "--overlay-type is all, which is no value of it; valid: subnet, full"),
        ("--overlay-encap=gre", "--overlay-encap is gre, which is no value of it; valid: ipip, fou"),
    ],
)
def test_values_that_kube_router_does_not_know(argument: str, mistake: str) -> None:
    found = network("kube-router", daemonsets=[daemonset("kube-router", args=[argument])])
    assert (found.mistakes, values(found)) == ([f"DaemonSet kube-system/kube-router {mistake}"], {})


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ("", {"encapsulation": "geneve"}),
        ("# all commented out\n", {"encapsulation": "geneve"}),
        ("trafficEncapMode: noEncap\n", {"encapsulation": "none"}),
        ("trafficEncapMode: hybrid\ntunnelType: vxlan\n", {"encapsulation.cross_subnet": "vxlan"}),
        ("trafficEncapMode: networkPolicyOnly\n", {}),
        ("trafficEncryptionMode: wireGuard\n", {"encrypted": "wireguard"}),
        ("trafficEncryptionMode: ipsec\ntunnelType: gre\n", {"encrypted": "ipsec"}),
        ("trafficEncryptionMode: wireGuard\ntrafficEncapMode: noEncap\n", {"encapsulation": "none"}),
        ("trafficEncryptionMode: None\n", {"encapsulation": "geneve"}),
        (
            "tunnelType: gre\ndefaultMTU: 1400\nantreaProxy: {proxyAll: true}\n",
            {"encapsulation": "gre", "mtu.pod": 1400, "proxy.mode": "none"},
        ),
    ],
)
def test_antrea(settings: str, wanted: dict[str, Any]) -> None:
    found = network("antrea", config_maps={("kube-system", "antrea-config"): {"antrea-agent.conf": settings}})
    assert (values(found), found.mistakes) == (wanted, [])


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ("trafficEncapMode: full\n", "trafficEncapMode is full, which is no value of it; valid: encap, noEncap, hybrid, networkPolicyOnly"),
        ("tunnelType: ipip\n", "tunnelType is ipip, which is no value of it; valid: geneve, vxlan, gre, stt"),
    ],
)
def test_values_that_antrea_does_not_know(settings: str, mistake: str) -> None:
    found = network("antrea", config_maps={("kube-system", "antrea-config"): {"antrea-agent.conf": settings}})
    assert (found.mistakes, values(found)) == ([f"ConfigMap kube-system/antrea-config antrea-agent.conf {mistake}"], {})


def test_an_encryption_that_antrea_does_not_know() -> None:
    found = network("antrea", config_maps={("kube-system", "antrea-config"): {"antrea-agent.conf": "trafficEncryptionMode: tls\n"}})
    source = "ConfigMap kube-system/antrea-config antrea-agent.conf trafficEncryptionMode"
    assert found.mistakes == [f"{source} is tls, which is no value of it; valid: none, ipSec, wireGuard"]


def test_aws() -> None:
    found = network("aws-vpc-cni", daemonsets=[daemonset("aws-node", env={"AWS_VPC_ENI_MTU": "9001"})])
    assert values(found) == {"encapsulation": "none", "mtu.uplink": 9001, "mtu.pod": 9001}
    found = network("aws-vpc-cni", daemonsets=[daemonset("aws-node", env={"AWS_VPC_ENI_MTU": "9001", "POD_MTU": "1500"})])
    assert (values(found)["mtu.pod"], sources(found)["mtu.pod"]) == (1500, "DaemonSet kube-system/aws-node POD_MTU")


def test_nodes_of_eks_that_the_vpc_cni_keeps_away_from(server: FakeApiServer, api: Api) -> None:
    """EKS User Guide, Configure CNI for hybrid nodes: its DaemonSet has an anti-affinity for them, and Cilium runs there."""
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.33.5-eks-113cf36"})
    kinds = {"node-1": None, "node-2": "hybrid", "node-3": "auto", "node-4": "ec2"}
    label = "eks.amazonaws.com/compute-type"
    server.items("/api/v1/nodes", *[{"metadata": {"name": name, "labels": {label: kind} if kind else {}}} for name, kind in kinds.items()])
    server.items("/api/v1/namespaces/kube-system/pods")
    server.items("/apis/apps/v1/daemonsets", daemonset("aws-node", env={"AWS_VPC_ENI_MTU": "9001"}), daemonset("cilium", desired=1))
    cluster = read_cluster(api)
    assert cluster.cni == "aws-vpc-cni"
    assert {node.name: cluster.cni_of(node.name) for node in cluster.nodes} == {
        "node-1": "aws-vpc-cni",
        "node-2": None,
        "node-3": None,
        "node-4": "aws-vpc-cni",
    }
    wanted = resolve(None, cluster)
    mtus = {node.name: wanted.node(node.name).mtu.uplink for node in cluster.nodes}
    assert {name: mtu and mtu.value for name, mtu in mtus.items()} == {"node-1": 9001, "node-2": None, "node-3": None, "node-4": 9001}
    assert wanted.node("node-2").encapsulation.kind is None
    assert wanted.node("node-2").mtu.pod is None
    own = cluster.claim_of("node-2", "mtu.uplink")
    assert own is not None
    assert own.source == f"Node node-2 has label {label}=hybrid: DaemonSet aws-node does not run there"
    assert Cluster.from_json(cluster.to_json()).cni_of("node-2") is None


@pytest.mark.parametrize(("desired", "common", "hybrid"), [(1, "ipvs", "none"), (3, "none", "none")], ids=["there-alone", "chained"])
def test_cilium_of_hybrid_nodes_says_nothing_of_kube_proxy_elsewhere(desired: int, common: str, hybrid: str) -> None:
    kinds = {"node-1": "ec2", "node-2": "hybrid", "node-3": "auto"}
    label = "eks.amazonaws.com/compute-type"
    objects = Objects(
        nodes=[{"metadata": {"name": name, "labels": {label: kind}}} for name, kind in kinds.items()],
        daemonsets=[daemonset("aws-node"), daemonset("cilium", desired=desired), daemonset("kube-proxy", desired=1)],
        proxies=SCHEDULED,
        config_maps={CILIUM: {"kube-proxy-replacement": "true", "routing-mode": "tunnel"}, kube_proxy.EKS: {"config": "mode: ipvs"}},
    )
    claims = read_claims(objects, "aws-vpc-cni").claims
    assert claims["proxy.mode"].value == common
    own = {name: {**claims, **found}["proxy.mode"].value for name, found in aws.node_claims(objects).items()}
    assert own == {"node-2": hybrid, "node-3": common}
    enforced = {name: {**claims, **found}[policy.KEY].value for name, found in aws.node_claims(objects).items()}
    assert (claims[policy.KEY].value, enforced["node-2"]) == ((False, None) if common == "ipvs" else (True, True))


#: What Cilium of AKS and of GKE has in its ConfigMap, as far as claims are read from it: azure-container-networking, test/integration/
#: manifests/cilium; GKE's as clusters show it.
CLOUDS = {
    "aks": {"routing-mode": "native", "ipam": "delegated-plugin", "kube-proxy-replacement": "true", "enable-bgp-control-plane": "false"},
    "aks-1.13": {"tunnel": "disabled", "ipam": "delegated-plugin", "kube-proxy-replacement": "strict", "enable-local-node-route": "false"},
    "gke": {"tunnel": "disabled", "ipam": "kubernetes", "kube-proxy-replacement": "strict", "cni-chaining-mode": "generic-veth"},
}


@pytest.mark.parametrize(("settings", "name"), [(CLOUDS["aks"], "cilium"), (CLOUDS["aks-1.13"], "cilium"), (CLOUDS["gke"], "anetd")])
def test_cilium_of_clouds(settings: dict[str, str], name: str) -> None:
    daemonsets = [daemonset(name), daemonset("kube-proxy", desired=0)]
    assert recognise_cni(daemonsets) == "cilium"
    found = network("cilium", config_maps={CILIUM: settings}, daemonsets=daemonsets, proxies=kube_proxies(daemonsets, []))
    assert (values(found), found.mistakes) == ({"encapsulation": "none", "cilium.routing": "native", "proxy.mode": "none"}, [])
    assert sources(found)["proxy.mode"] == "ConfigMap kube-system/cilium-config kube-proxy-replacement"


def test_ovn() -> None:
    operator = custom("cluster", defaultNetwork={"ovnKubernetesConfig": {"mtu": 8901}})
    objects = {"daemonsets": [daemonset("ovnkube-node", namespace="openshift-ovn-kubernetes")]}
    found = network("ovn-kubernetes", **objects, custom={"Network (operator.openshift.io)": [operator]})
    assert values(found) == {"encapsulation": "geneve", "mtu.pod": 8901, "proxy.mode": "none"}
    assert sources(found)["proxy.mode"] == "DaemonSet openshift-ovn-kubernetes/ovnkube-node (OVN serves Services)"
    status_ = {"metadata": {"name": "cluster"}, "status": {"clusterNetworkMTU": 1400}}
    with_proxy = custom("cluster", deployKubeProxy=True)
    both = {"Network (operator.openshift.io)": [with_proxy], "Network (config.openshift.io)": [status_]}
    assert values(network("ovn-kubernetes", **objects, custom=both)) == {"encapsulation": "geneve", "mtu.pod": 1400}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"ipsecConfig": {"mode": "Full"}}, None),
        ({"ipsecConfig": {}}, None),  # before 4.15
        ({"ipsecConfig": {"mode": "External"}}, "geneve"),
        ({"ipsecConfig": {"mode": "Disabled"}}, "geneve"),
        ({"transport": "NoOverlay", "noOverlayConfig": {"routing": "Managed"}}, "none"),
        ({"defaultNetworkTransport": "NoOverlay", "defaultNetworkNoOverlayOptions": {"routing": "Managed"}}, "none"),
        ({"defaultNetworkTransport": "Geneve"}, "geneve"),
    ],
)
def test_what_openshift_tells_ovn(settings: dict[str, Any], wanted: str | None) -> None:
    operator = custom("cluster", defaultNetwork={"ovnKubernetesConfig": settings})
    objects = {"daemonsets": [daemonset("ovnkube-node", namespace="openshift-ovn-kubernetes")]}
    found = network("ovn-kubernetes", **objects, custom={"Network (operator.openshift.io)": [operator]})
    assert values(found).get("encapsulation") == wanted
    assert values(found).get("encrypted") == (None if wanted else "ipsec")


def test_weave() -> None:
    found = network("weave", daemonsets=[daemonset("weave-net", env={"WEAVE_MTU": "8912"})])
    assert values(found) == {"encapsulation": None, "mtu.pod": 8912}


# ---- reading them


def test_objects_are_read_that_the_cluster_has(server: FakeApiServer, api: Api) -> None:
    """Of two groups that serve a kind the one that has objects counts; what may not be read is told, and what there is not is nothing."""
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
    for path in ("/api/v1/nodes", "/api/v1/namespaces/kube-system/pods"):
        server.items(path)
    server.items("/apis/apps/v1/daemonsets", daemonset("calico-node", namespace="calico-system"))
    server.items("/apis/projectcalico.org/v3/ippools")
    server.items("/apis/crd.projectcalico.org/v1/ippools", custom("old", vxlanMode="Always"))
    forbidden = status(403, "Forbidden", 'User "x" cannot list resource "installations" in API group "operator.tigera.io"')
    server.routes["GET", "/apis/operator.tigera.io/v1/installations"] = forbidden
    server.routes["GET", "/api/v1/namespaces/calico-system/configmaps/calico-config"] = status(403, "Forbidden", "User cannot get")
    cluster = read_cluster(api)
    assert (cluster.cni, cluster.claims["encapsulation"].value) == ("calico", "vxlan")
    assert {kind: reason.split(". ")[0] for kind, reason in cluster.unreadable.items()} == {
        "ConfigMap calico-system/calico-config": "GET /api/v1/namespaces/calico-system/configmaps/calico-config: HTTP 403: User cannot get",
        "Installation": (
            'GET /apis/operator.tigera.io/v1/installations: HTTP 403: User "x" cannot list resource "installations" in API group '
            '"operator.tigera.io"'
        ),
    }


def raw(name: str, address: str, **annotations: str) -> dict[str, Any]:
    named = {f"projectcalico.org/{key}": value for key, value in annotations.items()}
    return {
        "metadata": {"name": name, "annotations": named},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


def test_addresses_of_a_mesh_of_calico(server: FakeApiServer, api: Api) -> None:
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
    both = {"IPv4Address": "10.0.0.1/24", "IPv6Address": "fd00:0::1/64"}
    nodes = [
        raw("node-1", "192.0.2.1", **both),
        raw("node-2", "192.0.2.2", IPv4Address="10.0.0.2/24", RouteReflectorClusterID="224.0.0.1"),
        raw("node-3", "192.0.2.3"),
    ]
    server.items("/api/v1/nodes", *nodes)
    server.items("/api/v1/namespaces/kube-system/pods")
    server.items("/apis/apps/v1/daemonsets", daemonset("calico-node", namespace="calico-system"))
    cluster = read_cluster(api)
    assert {node.name: (node.bgp_addresses, node.route_reflector) for node in cluster.nodes} == {
        "node-1": (("10.0.0.1", "fd00::1"), False),
        "node-2": (("10.0.0.2",), True),
        "node-3": ((), False),
    }
    assert Cluster.from_json(cluster.to_json()).nodes == cluster.nodes
    server.items("/apis/apps/v1/daemonsets", daemonset("kube-flannel-ds"))
    assert {node.bgp_addresses for node in read_cluster(api).nodes} == {()}, "Calico's notes are left over"


@pytest.mark.parametrize(("bgp", "wanted"), [({"bgp": "mesh"}, ("192.0.2.1",)), ({}, ())])
def test_addresses_of_the_labs_mesh(server: FakeApiServer, api: Api, bgp: dict[str, str], wanted: tuple[str, ...]) -> None:
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
    server.items("/api/v1/nodes", raw("node-1", "192.0.2.1"))
    for path in ("/api/v1/namespaces/kube-system/pods", "/apis/apps/v1/daemonsets"):
        server.items(path)
    text = json.dumps({"encapsulation": "none", **bgp})
    server.routes["GET", "/api/v1/namespaces/kube-system/configmaps/k8snet-lab-network"] = (200, {"data": {"network.json": text}})
    (node,) = read_cluster(api).nodes
    assert node.bgp_addresses == wanted


def test_a_config_map_that_every_cluster_is_asked_for_has_to_be_readable(server: FakeApiServer, api: Api) -> None:
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
    for path in ("/api/v1/nodes", "/api/v1/namespaces/kube-system/pods", "/apis/apps/v1/daemonsets"):
        server.items(path)
    server.routes["GET", "/api/v1/namespaces/kube-system/configmaps/kube-proxy"] = status(403, "Forbidden", "User cannot get it")
    with pytest.raises(ClusterError, match="configmaps/kube-proxy: HTTP 403: User cannot get it"):
        read_cluster(api)


def test_every_claim_that_is_looked_for_may_be_read() -> None:
    names = ("calico-node", "cilium", "kube-flannel-ds", "antrea-agent", "ovnkube-node")
    everything = [daemonset(name, namespace="elsewhere") for name in names]
    assert {name for namespace, name in wanted_config_maps(everything) if namespace == "elsewhere"} < {*all_config_maps()}
    assert {resource.kind for resource in wanted_resources(everything)} >= {calico.IP_POOL.kind, cilium.NODE.kind}
    assert wanted_resources([daemonset("kube-flannel-ds")]) == []
