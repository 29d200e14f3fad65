from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_k8snet.access.fake import COREFILE, healthy_dns
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.dns import Dns, NodeLocal, ServerBlock, parse_corefile, read_dns
from pytest_k8snet.cluster.inventory import read_cluster
from pytest_k8snet.cluster.model import Cluster
from tests.unit.cluster.samples import daemonset
from tests.unit.fakeapi import FakeApiServer, status

KUBEADM = """.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
    }
    loop # finds loops
    reload
    loadbalance
}
"""


def test_corefile_of_kubeadm() -> None:
    (block,) = parse_corefile(KUBEADM)
    assert block.zones == (".:53",)
    assert block.is_root
    assert {name for name, words in block.plugins.items() if not words} == {
        *("errors", "health", "ready", "prometheus", "loop", "reload", "loadbalance")
    }
    assert block.plugins["forward"] == (".", "/etc/resolv.conf")
    assert block.options["kubernetes"] == ("pods insecure", "fallthrough", "ttl")


def test_corefile_of_several_blocks_and_what_is_not_kept() -> None:
    text = """
# comment
(snippet) {
    errors
}
example.org, example.com {
    route53 example.org.:Z1 {
        aws_access_key planted-key planted-secret
    }
    etcd planted
}
dns://.:1053 { # all
    import snippet
    cache
}
"""
    named, root = parse_corefile(text)
    assert (named.zones, named.is_root, root.is_root) == (("example.org", "example.com"), False, True)
    assert "planted" not in json.dumps(Dns(corefile="x", blocks=(named, root)).to_json())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (". {\n cache\n", "line 2: a brace does not close"),
        (". {\n cache\n}\n}\n", "line 4: a brace that opens nothing"),
        (". {\n cache {\n}\n", "line 3: a brace does not close"),
    ],
)
def test_corefile_that_is_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(parse_corefile(text))
    dns = read_dns([], [], [], {("kube-system", "coredns"): {"Corefile": text}}, {})
    assert (dns.corefile, dns.blocks, dns.damaged) == ("ConfigMap kube-system/coredns Corefile", (), message)


@pytest.mark.parametrize(
    ("zone", "root"), [(".", True), (".:53", True), (":53", True), ("dns://.:53", True), ("tls://.:853", False), ("a.", False)]
)
def test_root_zone(zone: str, root: bool) -> None:
    assert ServerBlock((zone,), {}, {}).is_root is root


def pod(name: str, node: str | None, *, ready: bool = True, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}, **metadata},
        "spec": {"nodeName": node},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def test_objects() -> None:
    service = {
        "metadata": {"namespace": "kube-system", "name": "kube-dns"},
        "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00::a"]},
    }
    local = daemonset("node-local-dns")
    local["spec"]["template"]["spec"]["containers"][0]["args"] = ["-localip", "169.254.20.10,10.96.0.10", "-conf", "/etc/Corefile"]
    pods = [
        pod("b", "node-2", ready=False),
        pod("a", "node-1"),
        pod("gone", "node-1", deletionTimestamp="x"),
        {**pod("evicted", "node-1", ready=False), "status": {"phase": "Failed", "reason": "Evicted"}},
        {"metadata": {"name": "other"}},
    ]
    dns = read_dns([service], pods, [local], {("kube-system", "rke2-coredns-rke2-coredns"): {"Corefile": COREFILE}}, {})
    assert (dns.service, dns.addresses) == ("kube-system/kube-dns", ("10.96.0.10", "fd00::a"))
    assert [(server.name, server.node, server.ready) for server in dns.servers] == [("a", "node-1", True), ("b", "node-2", False)]
    assert dns.node_local == NodeLocal("kube-system/node-local-dns", 3, 3, ("169.254.20.10", "10.96.0.10"))
    assert dns.corefile == "ConfigMap kube-system/rke2-coredns-rke2-coredns Corefile"
    assert Dns.from_json(json.loads(json.dumps(dns.to_json()))) == dns


def test_a_cache_that_makes_no_device_has_no_address_of_the_node() -> None:
    """As in Cilium's examples/kubernetes-local-redirect/node-local-dns.yaml."""
    local = daemonset("node-local-dns")
    args = ["-localip", "169.254.20.10,10.96.0.10", "-conf", "/etc/Corefile", "-skipteardown=true", "-setupinterface=false"]
    local["spec"]["template"]["spec"]["containers"][0]["args"] = args
    dns = read_dns([], [], [local], {}, {})
    assert dns.node_local is not None
    assert not dns.node_local.makes_device
    told = json.loads(json.dumps(dns.to_json()))
    assert Dns.from_json(told) == dns
    del told["node_local"]["makes_device"]  # of an earlier version's record
    assert (earlier := Dns.from_json(told).node_local) is not None
    assert earlier.makes_device


def test_headless_or_no_service_has_no_address() -> None:
    headless = {"metadata": {"namespace": "kube-system", "name": "kube-dns"}, "spec": {"clusterIP": "None"}}
    assert read_dns([headless], [], [], {}, {}).addresses == ()
    assert read_dns([], [], [], {}, {}) == Dns()


def test_what_may_not_be_read_is_told(server: FakeApiServer, api: Api) -> None:
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
    for path in ("/api/v1/nodes", "/api/v1/namespaces/kube-system/pods", "/apis/apps/v1/daemonsets"):
        server.items(path)
    refused = status(403, "Forbidden", "User cannot get it")
    server.routes["GET", "/api/v1/namespaces/kube-system/configmaps/coredns"] = refused
    server.routes["GET", "/api/v1/services"] = refused
    dns = read_cluster(api).dns
    assert dns is not None
    assert set(dns.unreadable) == {"ConfigMap kube-system/coredns", "Services with label k8s-app=kube-dns"}


def test_the_cluster_s_record_keeps_it() -> None:
    cluster = Cluster("v1.37.2", (), {}, (), None, mistakes=(), dns=healthy_dns(["node-1"]))
    assert Cluster.from_json(json.loads(json.dumps(cluster.to_json()))) == cluster
