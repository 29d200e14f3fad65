from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.claims.ingress import config_map_of, controllers, read_ingress
from pytest_k8snet.cluster.ingress import Ingress, NginxController
from pytest_k8snet.cluster.inventory import read_cluster
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.cluster.nginx_keys import JUDGED, KEYS, MEANT
from tests.unit.fakeapi import FakeApiServer, status

FLAG = "--configmap=$(POD_NAMESPACE)/ingress-nginx-controller"


def workload(*args: str, name: str = "ingress-nginx-controller", label: str = "ingress-nginx") -> dict[str, Any]:
    container = {"image": "registry.k8s.io/ingress-nginx/controller:v1.15.1", "args": ["/nginx-ingress-controller", *args]}
    metadata = {"name": name, "namespace": "ingress-nginx", "labels": {"app.kubernetes.io/name": label}}
    return {"metadata": metadata, "spec": {"template": {"spec": {"containers": [container]}}}}


def test_controllers_by_label_and_flags() -> None:
    backend = workload(name="default-backend")
    backend["spec"]["template"]["spec"]["containers"][0]["args"] = ["/server"]
    assert controllers([workload(FLAG), workload(label="other"), backend]) == [workload(FLAG)]


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ((FLAG,), ("ingress-nginx", "ingress-nginx-controller")),
        (("--configmap", "kube-system/mine"), ("kube-system", "mine")),
        (("--configmap=mine",), ("ingress-nginx", "mine")),
        ((), None),
    ],
)
def test_config_map_of_a_controller(args: tuple[str, ...], wanted: tuple[str, str] | None) -> None:
    assert config_map_of(workload(*args)) == wanted


def test_objects() -> None:
    data = {"proxy-buffers": "8 16k", "keep-alive": "75", "http-snippet": "planted", "ssl-session-ticket-key": "planted"}
    classes = {"IngressClass": [{"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}}]}
    gateways = {"GatewayClass": [{"metadata": {"name": "cilium"}, "spec": {"controllerName": "io.cilium/gateway-controller"}}]}
    maps = {("ingress-nginx", "ingress-nginx-controller"): data}
    found = read_ingress([workload(FLAG), workload()], maps, classes | gateways, {"GatewayClass": "HTTP 403", "ConfigMap x/y": "HTTP 403"})
    assert found.nginx == (
        NginxController(
            "ingress-nginx/ingress-nginx-controller",
            "registry.k8s.io/ingress-nginx/controller:v1.15.1",
            "ingress-nginx/ingress-nginx-controller",
            ("http-snippet", "keep-alive", "proxy-buffers", "ssl-session-ticket-key"),
            {"keep-alive": "75"},
        ),
        NginxController("ingress-nginx/ingress-nginx-controller", "registry.k8s.io/ingress-nginx/controller:v1.15.1", None, None, {}),
    )
    assert (found.classes, found.gateways) == ({"nginx": "k8s.io/ingress-nginx"}, {"cilium": "io.cilium/gateway-controller"})
    assert found.unreadable == {"GatewayClass": "HTTP 403"}
    cluster = Cluster("v1", (), {}, (), None, ingress=found)
    text = json.dumps(cluster.to_json())
    assert "planted" not in text
    assert Cluster.from_json(json.loads(text)) == cluster


def test_objects_of_an_api_server(server: FakeApiServer, api: Api) -> None:
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
    for path in ("/api/v1/nodes", "/api/v1/namespaces/kube-system/pods", "/apis/apps/v1/daemonsets"):
        server.items(path)
    server.items("/apis/apps/v1/deployments", workload(FLAG))
    server.routes["GET", "/api/v1/namespaces/ingress-nginx/configmaps/ingress-nginx-controller"] = (200, {"data": {"hsts": "false"}})
    found = read_cluster(api).ingress
    assert found is not None
    assert [item.values for item in found.nginx] == [{"hsts": "false"}]
    assert next(query for _, path, query, _ in server.requests if path == "/apis/apps/v1/deployments")["labelSelector"] == (
        "app.kubernetes.io/name in (ingress-nginx,rke2-ingress-nginx)"
    )
    server.routes["GET", "/apis/apps/v1/deployments"] = status(403, "Forbidden", "User cannot list")
    found = read_cluster(api).ingress
    assert found is not None
    assert [*found.unreadable] == ["Deployments with label app.kubernetes.io/name=ingress-nginx"]


def test_a_flag_of_a_tenant_reads_no_secret(server: FakeApiServer, api: Api) -> None:
    """Who may make a Deployment chooses the ConfigMap's name, and a run may be an administrator's."""
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
    for path in ("/api/v1/nodes", "/api/v1/namespaces/kube-system/pods", "/apis/apps/v1/daemonsets"):
        server.items(path)
    server.items("/apis/apps/v1/deployments", workload("--configmap=kube-system/secrets/planted?x/y"))
    elsewhere = "/api/v1/namespaces/kube-system/secrets/planted"
    server.routes["GET", elsewhere] = (200, {"kind": "Secret", "data": {"hsts": "planted"}})
    found = read_cluster(api).ingress
    assert elsewhere not in {path for _, path, _, _ in server.requests}
    assert found is not None
    assert "planted" not in json.dumps([item.values for item in found.nginx])
    (why,) = found.unreadable.values()
    assert "not sent, for it has parts that are no names of objects" in why


def test_keys() -> None:
    assert "proxy-buffers" not in KEYS
    assert {*JUDGED, *MEANT.values()} <= KEYS
    assert not {*MEANT} & KEYS
    assert Ingress().to_json() == {"nginx": [], "classes": {}, "gateways": {}, "unreadable": {}}
