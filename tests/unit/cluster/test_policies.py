"""Which policies block the run's own packets: objects as users write them, of Kubernetes, Cilium and Calico."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.policies.model import FLOWS, FROM_NODES, FROM_OTHERS, FROM_PODS, INGRESS, TO_DNS, TO_OTHERS, TO_PODS
from pytest_k8snet.cluster.policies.reading import RESOURCES, Policies, read_policies
from pytest_k8snet.cluster.policies.selectors import SelectorError, matches
from tests.unit.fakeapi import FakeApiServer, status

LABELS = {"app.kubernetes.io/managed-by": "pytest-k8snet", "sidecar.istio.io/inject": "false"}
OURS = {"podSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "pytest-k8snet"}}}
DNS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
PORT_53 = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]


def network_policy(name: str = "default-deny", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": {"podSelector": {}, **spec}}


def told(namespace_labels: dict[str, str] | None = None, /, **objects: list[dict[str, Any]]) -> dict[str, str]:
    """Return flow to how it is blocked, and by whom."""
    found = Policies(namespace_labels or {}, {kind.replace("_", " "): items for kind, items in objects.items()}).blocked("shop", LABELS)
    return {item.flow: f"{'blocked' if item.sure else 'may be'} by {', '.join(item.by)}" for item in found}


BY = "blocked by NetworkPolicy shop/default-deny"
MAY = BY.replace("blocked", "may be", 1)
DENY = network_policy(policyTypes=["Ingress", "Egress"])
NETWORK_POLICIES: dict[str, tuple[list[dict[str, Any]], dict[str, str]]] = {
    "none": ([], {}),
    "default-deny": ([DENY], dict.fromkeys(FLOWS, BY)),
    "ingress alone is the default type": ([network_policy()], dict.fromkeys(INGRESS, BY)),
    "egress makes it a type": ([network_policy(egress=[])], dict.fromkeys(FLOWS, BY)),
    "of other pods": ([network_policy(podSelector={"matchLabels": {"app": "web"}})], {}),
    "an empty rule admits all": ([network_policy(ingress=[{}])], {}),
    "within the namespace": (
        [network_policy(ingress=[{"from": [{"podSelector": {}}]}])],
        {FROM_NODES: BY, FROM_OTHERS: BY},
    ),
    "all namespaces": ([network_policy(ingress=[{"from": [{"namespaceSelector": {}}]}])], {FROM_NODES: BY}),
    "another namespace": (
        [network_policy(ingress=[{"from": [{"namespaceSelector": {"matchLabels": {"team": "edge"}}}]}])],
        {FROM_PODS: BY, FROM_NODES: BY, FROM_OTHERS: MAY},
    ),
    "some ports": ([network_policy(ingress=[{"ports": [{"port": 8717}]}])], dict.fromkeys(INGRESS, MAY)),
    "some addresses": ([network_policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}])], dict.fromkeys(INGRESS, MAY)),
    "DNS is let out": (
        [network_policy(policyTypes=["Egress"], egress=[{"to": [DNS], "ports": PORT_53}])],
        {TO_PODS: BY, TO_OTHERS: MAY},
    ),
    "DNS over UDP alone": (
        [network_policy(policyTypes=["Egress"], egress=[{"to": [DNS], "ports": PORT_53[:1]}])],
        {TO_PODS: BY, TO_DNS: MAY, TO_OTHERS: MAY},
    ),
    "the internet": (
        [network_policy(policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}])],
        {TO_PODS: MAY, TO_DNS: MAY},
    ),
    "opened by another": (
        [DENY, network_policy("k8snet", policyTypes=["Ingress", "Egress"], ingress=[{"from": [OURS]}], egress=[{}])],
        dict.fromkeys((FROM_NODES, FROM_OTHERS), f"{BY}, NetworkPolicy shop/k8snet"),
    ),
}


@pytest.mark.parametrize(("items", "want"), NETWORK_POLICIES.values(), ids=NETWORK_POLICIES)
def test_network_policies(items: list[dict[str, Any]], want: dict[str, str]) -> None:
    assert told(NetworkPolicy=items) == want


def admin(name: str, subject: dict[str, Any], **rules: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"priority": 10, "subject": subject, **rules}}


EVERYONE: dict[str, Any] = {"namespaces": {}}
TENANTS = {"namespaces": {"matchLabels": {"tenant": "true"}}}


def test_admin_network_policies() -> None:
    deny = {"action": "Deny", "from": [{"namespaces": {}}]}
    by = "AdminNetworkPolicy isolate"
    denied = {FROM_PODS: f"blocked by {by}", FROM_OTHERS: f"blocked by {by}"}
    assert told(AdminNetworkPolicy=[admin("isolate", EVERYONE, ingress=[deny])]) == denied
    assert told(AdminNetworkPolicy=[admin("isolate", TENANTS, ingress=[deny])]) == {}
    assert told({"tenant": "true"}, AdminNetworkPolicy=[admin("isolate", TENANTS, ingress=[deny])]) == denied
    within = {"action": "Allow", "from": [{"pods": {"namespaceSelector": {}, **OURS}}]}
    allowed_first = told(AdminNetworkPolicy=[admin("isolate", EVERYONE, ingress=[within, deny])])
    assert allowed_first == {FROM_OTHERS: f"may be by {by}"}
    left_to_others = told(AdminNetworkPolicy=[admin("isolate", EVERYONE, ingress=[{"action": "Pass", "from": [{"namespaces": {}}]}, deny])])
    assert left_to_others == {}
    pods = {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}}
    assert told(AdminNetworkPolicy=[admin("isolate", pods, ingress=[deny])]) == {}
    out = {"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]}
    assert told(ClusterNetworkPolicy=[admin("out", EVERYONE, egress=[out])])[TO_OTHERS] == "blocked by ClusterNetworkPolicy out"
    some = {"action": "Deny", "to": [{"nodes": {}}], "ports": [{"portNumber": {"port": 6443}}]}
    assert told(BaselineAdminNetworkPolicy=[admin("b", EVERYONE, egress=[some])]) == {TO_OTHERS: "may be by BaselineAdminNetworkPolicy b"}


def cilium(name: str, selector: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": {"endpointSelector": selector or {}, **spec}}


def of_cluster(*items: dict[str, Any]) -> dict[str, str]:
    return told(CiliumClusterwideNetworkPolicy=[*items])


def test_cilium() -> None:
    by = "blocked by CiliumClusterwideNetworkPolicy deny"
    assert of_cluster(cilium("deny", ingress=[])) == dict.fromkeys(INGRESS, by)
    assert of_cluster(cilium("deny", ingress=[{"fromEntities": ["cluster"]}])) == {}
    assert of_cluster(cilium("deny", ingress=[{"fromEndpoints": [{}]}])) == {
        FROM_NODES: by,
        FROM_OTHERS: by.replace("blocked", "may be", 1),
    }
    assert of_cluster(cilium("deny", {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "other"}}, ingress=[])) == {}
    assert of_cluster(cilium("deny", {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "shop"}}, ingress=[])) != {}
    not_system = {"matchExpressions": [{"key": "io.kubernetes.pod.namespace", "operator": "NotIn", "values": ["kube-system"]}]}
    assert set(of_cluster(cilium("deny", not_system, egress=[]))) == {TO_PODS, TO_DNS, TO_OTHERS}
    assert of_cluster(cilium("deny", ingress=[], enableDefaultDeny={"ingress": False})) == {}
    denied = of_cluster(cilium("deny", ingressDeny=[{"fromEntities": ["remote-node"]}], enableDefaultDeny={"ingress": False}))
    assert denied == {FROM_NODES: by}
    dns = {"toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s:k8s-app": "kube-dns"}}]}
    ports = {"toPorts": [{"ports": [{"port": "53", "protocol": "ANY"}]}]}
    assert set(of_cluster(cilium("deny", egress=[{**dns, **ports}]))) == {TO_PODS, TO_OTHERS}
    assert of_cluster(cilium("deny", egress=[{"toFQDNs": [{"matchName": "example.org"}]}])) == {
        TO_PODS: by,
        TO_DNS: by.replace("blocked", "may be", 1),
        TO_OTHERS: by.replace("blocked", "may be", 1),
    }
    assert of_cluster(cilium("icmp", ingress=[{"icmps": [{"fields": []}]}]))[FROM_PODS].startswith("blocked")
    elsewhere = {**cilium("deny", ingress=[]), "metadata": {"name": "deny", "namespace": "other"}}
    assert told(CiliumNetworkPolicy=[elsewhere]) == {}
    own = {"metadata": {"name": "deny", "namespace": "shop"}, "specs": [{"endpointSelector": {}, "ingress": []}]}
    assert told(CiliumNetworkPolicy=[own])[FROM_PODS] == "blocked by CiliumNetworkPolicy shop/deny"
    of_nodes = {"metadata": {"name": "hosts"}, "spec": {"nodeSelector": {}, "ingress": []}}
    assert told(CiliumClusterwideNetworkPolicy=[of_nodes]) == {}
    always = {"metadata": {"name": "kube-system/cilium-config"}, "data": {"enable-policy": "always"}}
    closed = "blocked by ConfigMap kube-system/cilium-config (enable-policy: always)"
    assert told(ConfigMap=[always]) == dict.fromkeys(FLOWS, closed)
    opened = told(ConfigMap=[always], CiliumNetworkPolicy=[cilium("open", ingress=[{"fromEntities": ["all"]}])])
    assert opened == dict.fromkeys((TO_PODS, TO_DNS, TO_OTHERS), closed)
    assert told(ConfigMap=[{**always, "data": {"enable-policy": "default"}}]) == {}
    # Rules that admit add up, of whichever kind they are.
    assert told(NetworkPolicy=[network_policy()], CiliumNetworkPolicy=[cilium("open", ingress=[{"fromEntities": ["all"]}])]) == {}


def calico(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": spec}


NOT_SYSTEM = 'has(projectcalico.org/name) && projectcalico.org/name not in {"kube-system", "calico-system"}'


def test_calico() -> None:
    by = "blocked by GlobalNetworkPolicy default-deny"
    may = by.replace("blocked", "may be", 1)
    assert told(GlobalNetworkPolicy=[calico("default-deny", selector="all()", types=["Ingress", "Egress"])]) == dict.fromkeys(FLOWS, by)
    dns = {"action": "Allow", "protocol": "UDP", "destination": {"selector": 'k8s-app == "kube-dns"', "ports": [53]}}
    documented = calico("default-deny", namespaceSelector=NOT_SYSTEM, types=["Ingress", "Egress"], egress=[dns])
    assert told(GlobalNetworkPolicy=[documented]) == {**dict.fromkeys((*INGRESS, TO_PODS), by), TO_OTHERS: may}
    assert told(GlobalNetworkPolicy=[calico("default-deny", namespaceSelector='projectcalico.org/name == "other"')]) == {}
    allowed = [{"action": "Log"}, {"action": "Allow"}]
    assert told(GlobalNetworkPolicy=[calico("default-deny", ingress=allowed)]) == {}
    assert told(GlobalNetworkPolicy=[calico("default-deny", ingress=[{"action": "Deny"}])]) == dict.fromkeys(INGRESS, by)
    some = [{"action": "Allow", "source": {"nets": ["10.0.0.0/8"]}}]
    assert told(GlobalNetworkPolicy=[calico("default-deny", ingress=some)]) == dict.fromkeys(INGRESS, may)
    assert told(GlobalNetworkPolicy=[calico("default-deny", ingress=[{"action": "Pass"}])]) == dict.fromkeys(INGRESS, may)
    unknown = calico("default-deny", selector="role ~= 'x'")
    assert told(GlobalNetworkPolicy=[unknown]) == dict.fromkeys(INGRESS, may), "what is not understood may select the probe pods"
    assert told(GlobalNetworkPolicy=[calico("hosts", selector="global()")]) == {}
    assert told(Calico_NetworkPolicy=[calico("deny")]) == dict.fromkeys(INGRESS, "blocked by Calico NetworkPolicy shop/deny")
    assert told(Calico_NetworkPolicy=[calico("knp.default.default-deny")]) == {}, "a copy of Kubernetes' own"


@pytest.mark.parametrize(
    ("selector", "want"),
    [
        ("", True),
        ("all()", True),
        ("!all()", False),
        ("has(app)", True),
        ("!has(app)", False),
        ("app == 'web'", True),
        ('app != "web"', False),
        ("tier != 'x'", True),
        ("app in {'db', 'web'}", True),
        ("app not in { 'db' }", True),
        ("app not  in {'web'}", False),
        ("app contains 'e'", True),
        ("app starts with 'w' && app ends with 'b'", True),
        ("tier contains 'x'", False),
        ("has(tier) || (app == 'web' && !has(x/y.z-1))", True),
        ("has(tier) || app == 'db' && all()", False),
    ],
)
def test_selectors_of_calico(selector: str, want: bool) -> None:
    assert matches(selector, {"app": "web"}) is want


@pytest.mark.parametrize("selector", ["app", "app ==", "app == web", "(all()", "all() all()", "app in 'x'", "app in {'x'", "?", "&& all()"])
def test_what_is_no_selector(selector: str) -> None:
    with pytest.raises(SelectorError):
        matches(selector, {"app": "web"})


def test_they_are_read(server: FakeApiServer, api: Api) -> None:
    server.items("/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies", DENY)
    server.routes["GET", "/api/v1/namespaces/shop"] = (200, {"metadata": {"name": "shop", "labels": {"tenant": "true"}}})
    server.items("/apis/crd.projectcalico.org/v1/globalnetworkpolicies", calico("default-deny", selector="all()"))
    config = {"metadata": {"name": "cilium-config"}, "data": {"enable-policy": "default"}}
    server.routes["GET", "/api/v1/namespaces/kube-system/configmaps/cilium-config"] = (200, config)
    forbidden = status(403, "Forbidden", 'User "me" cannot list resource "ciliumnetworkpolicies"')
    server.routes["GET", "/apis/cilium.io/v2/ciliumnetworkpolicies"] = forbidden
    found = read_policies(api, "shop")
    assert found.namespace_labels == {"tenant": "true"}
    assert {kind: len(items) for kind, items in found.objects.items()} == {"NetworkPolicy": 1, "GlobalNetworkPolicy": 1, "ConfigMap": 1}
    assert set(found.unreadable) == {"CiliumNetworkPolicy"}
    assert found.blocked("shop", LABELS)[0].by == ("NetworkPolicy shop/default-deny", "GlobalNetworkPolicy default-deny")


def test_what_may_not_be_read_is_told(server: FakeApiServer, api: Api) -> None:
    refused = status(403, "Forbidden", "no")
    server.routes["GET", "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies"] = refused
    server.routes["GET", "/api/v1/namespaces/shop"] = refused
    found = read_policies(api, "shop")
    assert set(found.unreadable) == {"NetworkPolicy", "Namespace"}
    assert found.blocked("shop", LABELS) == []
    assert {resource.kind for resource in RESOURCES} >= {"AdminNetworkPolicy", "CiliumClusterwideNetworkPolicy", "GlobalNetworkPolicy"}
