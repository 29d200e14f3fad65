from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access import probes as probes_module
from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.probe_ingresses import ProbeIngress
from pytest_k8snet.access.probe_policies import CHOSEN, SELECTED, PolicyPod
from pytest_k8snet.access.probe_services import GROUP, SERVED, SPREAD, STICKY, GroupService, ProbeService
from pytest_k8snet.access.probes import (
    Probe,
    ProbeSettings,
    RunningProbes,
    lead_ingress,
    make_frontends,
    make_policy,
    newest_event,
    planned_objects,
    pod_name,
    pod_state,
    regroup,
    remove_policy,
    start_probes,
)
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.ingress import Route
from pytest_k8snet.cluster.model import Cluster, Node
from pytest_k8snet.cluster.ownership import EXPIRES, MANAGED_BY, MANAGER, RUN_ID
from pytest_k8snet.errors import ClusterError, ConfigurationError, ProbeError
from tests.unit.fakeapi import FakeApiServer, status

NAMESPACE = "/api/v1/namespaces/k8snet-r1"
PODS = f"{NAMESPACE}/pods"
INGRESSES = "/apis/networking.k8s.io/v1"
PLAIN = Route(name="plain", ingress_class="nginx", service="ingress/ingress", port=80, header_bytes=12288)
ROUTES = (
    PLAIN,
    replace(PLAIN, name="tls", port=443, tls=True, annotations={"example.org/size": "32k"}),
    replace(PLAIN, name="gate", ingress_class=None, gateway="infra/edge", listener="http", domain="apps.test"),
)
HTTP_ROUTES = "/apis/gateway.networking.k8s.io/v1"


def node(name: str, *, ready: bool = True, os: str = "linux") -> Node:
    return Node(name, "10.0.0.1", ("10.244.0.0/24",), ready, None if ready else "KubeletNotReady: cni", True, False, "all", os)


def cluster(*nodes: Node) -> Cluster:
    return Cluster("v1.37.2", nodes, {}, (), None)


MADE = "2026-06-01T09:00:00Z"


class Cell:
    """A namespace of the fake API server, whose pods get the status a test gives them."""

    def __init__(self, server: FakeApiServer, name: str = "k8snet-r1") -> None:
        path = f"/api/v1/namespaces/{name}"
        self.server = server
        self.pods: dict[str, dict[str, Any]] = {}
        self.statuses: dict[str, dict[str, Any]] = {}
        self.refuse: dict[str, tuple[int, Any]] = {}
        self.injected: dict[str, str] = {}  # containers that a webhook adds, by pod
        server.routes["POST", "/apis/scheduling.k8s.io/v1/priorityclasses"] = lambda path, query, body: (201, body)
        server.routes["DELETE", "/apis/scheduling.k8s.io/v1/priorityclasses/k8snet-r1"] = (200, {})
        server.routes["POST", "/api/v1/namespaces"] = lambda path, query, body: (201, body)
        server.routes["GET", path] = server.routes["DELETE", path] = (200, {})
        server.routes["GET", f"{path}/serviceaccounts/default"] = (200, {})
        server.routes["POST", f"{path}/pods"] = self._create
        server.routes["GET", f"{path}/pods"] = self._list
        server.routes["DELETE", f"{path}/pods"] = (200, {})
        server.routes["POST", f"{path}/services"] = self._create_service
        for name in ("probe-1", "probe-2", "probe-3", "probe-spread", "probe-sticky", "ingress"):
            server.routes["DELETE", f"{path}/services/{name}"] = (200, {})
        server.routes["POST", path.replace("/api/v1", INGRESSES) + "/ingresses"] = self._create_ingress
        for number in (1, 2):
            server.routes["DELETE", path.replace("/api/v1", INGRESSES) + f"/ingresses/ingress-{number}"] = (200, {})
        server.routes["POST", path.replace("/api/v1", HTTP_ROUTES) + "/httproutes"] = self._create_ingress
        server.routes["DELETE", path.replace("/api/v1", HTTP_ROUTES) + "/httproutes/ingress-3"] = (200, {})
        policies = path.replace("/api/v1", INGRESSES) + "/networkpolicies"
        server.routes["POST", policies] = self._create_ingress
        server.routes["DELETE", f"{policies}/policy"] = (200, {})
        server.items(f"{path}/events")

    def _create(self, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        name = body["metadata"]["name"]
        if name in self.refuse:
            return self.refuse[name]
        self.pods[name] = body
        more = [{"name": self.injected[name]}] if name in self.injected else []
        return 201, {**body, "spec": {**body["spec"], "containers": [*body["spec"]["containers"], *more]}}

    def _create_service(self, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if body["metadata"]["name"] in self.refuse:
            return self.refuse[body["metadata"]["name"]]
        ports = [{**port, "nodePort": 30001} for port in body["spec"]["ports"]]
        return 201, {
            **body,
            "spec": {**body["spec"], "clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1", "fd00:10:96::1:1"], "ports": ports},
        }

    def _create_ingress(self, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        return self.refuse.get(body["metadata"]["name"], (201, body))

    def _list(self, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        items = []
        for index, (name, pod) in enumerate(sorted(self.pods.items())):
            items.append(
                {
                    **pod,
                    "metadata": {**pod["metadata"], "uid": f"uid-{name}", "creationTimestamp": MADE},
                    "status": self.statuses.get(name) or running(index),
                }
            )
        return 200, {"items": items, "metadata": {}}


def test_a_pod_whose_name_another_run_has(server: FakeApiServer, api: Api) -> None:
    cell = Cell(server, "team")
    cell.refuse["host-node-1"] = status(409, "AlreadyExists", 'pods "host-node-1" already exists')
    probes = start_probes(api, cluster(node("node-1")), ProbeSettings(run_id="r1", namespace="team")).wait(Deadline.after(5))
    assert probes["node-1"].error == (
        "node-1: pod team/host-node-1 was refused: POST /api/v1/namespaces/team/pods: HTTP 409: "
        'pods "host-node-1" already exists. Another run is using the namespace, or one was killed there: '
        "k8snet cleanup --namespace team --older-than 1h (or --all, when none is going on) removes what it left"
    )


def running(index: int) -> dict[str, Any]:
    return {"phase": "Running", "podIP": f"10.244.0.{index}", "containerStatuses": [{"state": {"running": {"startedAt": "x"}}}]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes_module, "_POLL_S", 0.01)
    monkeypatch.setattr(probes_module, "_GRACE_S", 0.05)
    monkeypatch.setattr(probes_module, "_NODES_S", 0.1)


def start(api: Api, *nodes: Node, **settings: Any) -> RunningProbes:
    return start_probes(api, cluster(*nodes), ProbeSettings(run_id="r1", **settings))


def test_two_pods_a_node(server: FakeApiServer, api: Api) -> None:
    cell = Cell(server)
    settings = {"image_pull_secret": "regcred", "labels": {"team": "net"}}
    running_probes = start(api, node("node-1"), node("node-2"), **settings)
    found = running_probes.wait(Deadline.after(5))
    assert found["node-2"] == Probe("node-2", "k8snet-r1", "host-node-2", "probe-node-2", "10.244.0.3", pod_ips=("10.244.0.3",))
    assert Probe.from_json(found["node-1"].to_json()) == found["node-1"]
    host, pod = cell.pods["host-node-1"], cell.pods["probe-node-1"]
    for item in (host, pod):
        labels, annotations, spec = item["metadata"]["labels"], item["metadata"]["annotations"], item["spec"]
        assert labels["app.kubernetes.io/managed-by"] == "pytest-k8snet"
        assert (labels["k8snet/run-id"], labels["team"]) == ("r1", "net")
        assert labels["sidecar.istio.io/inject"] == "false"
        assert annotations["linkerd.io/inject"] == "disabled"
        assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "true"
        assert spec["tolerations"] == [{"operator": "Exists"}]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["terminationGracePeriodSeconds"] == 0
        assert spec["activeDeadlineSeconds"] == 3600
        assert spec["priorityClassName"] == "k8snet-r1"
        assert spec["imagePullSecrets"] == [{"name": "regcred"}]
        terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert terms == [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}]
    assert (host["spec"]["hostNetwork"], host["spec"]["hostPID"]) == (True, True)
    assert host["spec"]["containers"][0]["securityContext"] == {"privileged": True}
    assert (pod["spec"]["hostNetwork"], pod["spec"]["hostPID"]) == (False, False)
    unprivileged = pod["spec"]["containers"][0]["securityContext"]
    assert unprivileged["capabilities"] == {"drop": ["ALL"]}
    assert unprivileged["runAsNonRoot"] is True
    assert unprivileged["seccompProfile"] == {"type": "RuntimeDefault"}
    namespace = next(body for method, path, _, body in server.requests if (method, path) == ("POST", "/api/v1/namespaces"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    running_probes.delete()
    running_probes.delete()
    assert server.asked("DELETE") == [NAMESPACE, "/apis/scheduling.k8s.io/v1/priorityclasses/k8snet-r1"]


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([], "node-1: the node has gone from the cluster"),
        (
            [
                {
                    "metadata": {"name": "node-1"},
                    "status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "silent"}]},
                }
            ],
            "node-1: the node is NotReady: NodeStatusUnknown: silent",
        ),
    ],
    ids=["gone", "not-ready"],
)
def test_node_that_goes_away_while_its_pods_start(server: FakeApiServer, api: Api, nodes: list[Any], words: str) -> None:
    cell = Cell(server)
    cell.statuses = {"host-node-1": {"phase": "Pending"}, "probe-node-1": {"phase": "Pending"}}
    server.items("/api/v1/nodes", *nodes)
    found = start(api, node("node-1"), node("node-2")).wait(Deadline.after(30))
    assert (found["node-1"].error, found["node-2"].error) == (words, None)


@pytest.mark.parametrize("namespace", [None, "net"])
def test_services_lead_to_the_probe_pods_and_go_with_them(server: FakeApiServer, api: Api, namespace: str | None) -> None:
    place = namespace or "k8snet-r1"
    cell = Cell(server, place)
    probes = start(api, node("node-1"), node("node-2"), namespace=namespace)
    made = probes.make_services(["node-1", "node-2"])
    addresses = ("10.96.1.1", "fd00:10:96::1:1")
    assert made == [ProbeService(f"probe-{number}", place, f"node-{number}", "10.96.1.1", 30001, addresses) for number in (1, 2)]
    assert [ProbeService.from_json(json.loads(json.dumps(service.to_json()))) for service in made] == made
    body = next(body for method, path, _, body in server.requests if method == "POST" and path.endswith("/services"))
    assert body["spec"] == {
        "type": "NodePort",
        "ipFamilyPolicy": "PreferDualStack",
        "selector": {SERVED: "probe-node-1"},
        "ports": [{"name": "probe", "protocol": "TCP", "port": 80, "targetPort": 8717}],
    }
    assert body["metadata"]["labels"] == {MANAGED_BY: MANAGER, RUN_ID: "r1"}
    assert cell.pods["probe-node-1"]["metadata"]["labels"][SERVED] == "probe-node-1"
    assert SERVED not in cell.pods["host-node-1"]["metadata"]["labels"]
    probes.delete()
    services = [path for path in server.asked("DELETE") if "/services/" in path]
    # A namespace of the run's own takes them with it.
    assert services == ([] if namespace is None else [f"/api/v1/namespaces/net/services/probe-{number}" for number in (1, 2)])
    assert probes.make_services(["node-1"]) == [], "not after the end"


@pytest.mark.parametrize("namespace", [None, "net"])
def test_services_lead_to_several_probe_pods_of_this_run(server: FakeApiServer, api: Api, namespace: str | None) -> None:
    place = namespace or "k8snet-r1"
    cell = Cell(server, place)
    gone = replace(node("node-0"), ready=False)
    probes = start(api, gone, *(node(f"node-{number}") for number in range(1, 9)), namespace=namespace)
    made = probes.make_groups()
    names = ("node-1", "node-3", "node-5", "node-7")
    assert made == [GroupService(name, place, names, "10.96.1.1") for name in (SPREAD, STICKY)]
    assert [GroupService.from_json(json.loads(json.dumps(item.to_json()))) for item in made] == made
    bodies = [body["spec"] for method, path, _, body in server.requests if method == "POST" and path.endswith("/services")]
    assert bodies == [
        {
            "selector": {GROUP: "r1"},
            "sessionAffinity": affinity,
            "ports": [{"name": "probe", "protocol": "TCP", "port": 80, "targetPort": port}],
        }
        for affinity, port in (("None", 8718), ("ClientIP", 8719))
    ]
    labelled = {name for name, pod in cell.pods.items() if pod["metadata"]["labels"].get(GROUP) == "r1"}
    assert labelled == {f"probe-{name}" for name in names}
    probes.delete()
    services = [path for path in server.asked("DELETE") if "/services/" in path]
    assert services == ([] if namespace is None else [f"/api/v1/namespaces/net/services/{name}" for name in (SPREAD, STICKY)])
    assert probes.make_groups() == [], "not after the end"


@pytest.mark.parametrize("namespace", [None, "net"])
def test_services_of_many_ports_go_with_the_run(server: FakeApiServer, api: Api, namespace: str | None) -> None:
    place = namespace or "k8snet-r1"
    Cell(server, place)
    path = f"/api/v1/namespaces/{place}/services"
    probes = RunningProbes(api, ProbeSettings(run_id="r1", namespace=namespace, frontends=150), [node("node-1")])
    probes.create()
    probe = Probe("node-1", place, "host-node-1", "probe-node-1", "10.244.1.5")
    assert [make_frontends(api, probe, "r1", number, ports) for number, ports in ((1, 100), (2, 50))] == ["10.96.1.1"] * 2
    bodies = [body for method, asked, _, body in server.requests if (method, asked) == ("POST", path)]
    assert [body["metadata"]["name"] for body in bodies] == ["scale-1", "scale-2"]
    assert [len(body["spec"]["ports"]) for body in bodies] == [100, 50]
    assert bodies[1]["spec"]["ports"][-1] == {"name": "p50", "protocol": "TCP", "port": 50, "targetPort": 8720}
    assert (bodies[0]["spec"]["selector"], bodies[0]["metadata"]["labels"]) == (
        {SERVED: "probe-node-1"},
        {MANAGED_BY: MANAGER, RUN_ID: "r1"},
    )
    server.items(path, *bodies)
    for body in bodies:
        server.routes["DELETE", f"{path}/{body['metadata']['name']}"] = (200, {})
    probes.delete()
    deleted = [asked for asked in server.asked("DELETE") if "/services/" in asked]
    assert deleted == ([] if namespace is None else [f"{path}/scale-1", f"{path}/scale-2"])


def test_a_pod_leaves_a_group_and_comes_back(server: FakeApiServer, api: Api) -> None:
    path = "/api/v1/namespaces/k8snet-r1/pods/probe-node-1"
    server.routes["PATCH", path] = (200, {})
    probe = Probe("node-1", "k8snet-r1", "host-node-1", "probe-node-1", "10.244.1.5")
    regroup(api, probe, "r1", member=False)
    regroup(api, probe, "r1", member=True)
    bodies = [body for method, asked, _, body in server.requests if (method, asked) == ("PATCH", path)]
    assert bodies == [{"metadata": {"labels": {GROUP: value}}} for value in (None, "r1")]
    assert server.content_types["PATCH"] == {"application/merge-patch+json"}


def test_a_service_that_is_refused(server: FakeApiServer, api: Api) -> None:
    cell = Cell(server)
    cell.refuse["probe-2"] = status(403, "Forbidden", "exceeded quota: services, requested: services.nodeports=1")
    probes = start(api, node("node-1"), node("node-2"))
    with pytest.raises(ProbeError, match=r"Service k8snet-r1/probe-2 could not be made: .*exceeded quota: services, requested"):
        probes.make_services(["node-1", "node-2"])


@pytest.mark.parametrize("namespace", [None, "net"])
def test_ingresses_lead_to_a_probe_pod_and_go_with_it(server: FakeApiServer, api: Api, namespace: str | None) -> None:
    place = namespace or "k8snet-r1"
    Cell(server, place)
    probes = start(api, node("node-1"), node("node-2"), namespace=namespace)
    made = probes.make_ingresses("node-2", ROUTES)
    assert made == [
        ProbeIngress(f"ingress-{number}", place, route.name, f"ingress-{number}-r1.{route.domain}", "node-2")
        for number, route in enumerate(ROUTES, 1)
    ]
    assert [ProbeIngress.from_json(item.to_json()) for item in made] == made
    kinds = ("Service", "Ingress", "HTTPRoute")
    service, plain, tls, gate = (body for method, _, _, body in server.requests if method == "POST" and body["kind"] in kinds)
    assert service["spec"] == {
        "selector": {SERVED: "probe-node-2"},
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8721}],
    }
    backend = {"service": {"name": "ingress", "port": {"number": 80}}}
    assert plain["spec"] == {
        "ingressClassName": "nginx",
        "rules": [
            {
                "host": "ingress-1-r1.k8snet.invalid",
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
            }
        ],
    }
    assert tls["spec"]["tls"] == [{"hosts": ["ingress-2-r1.k8snet.invalid"]}]
    assert gate["spec"] == {
        "parentRefs": [{"namespace": "infra", "name": "edge", "sectionName": "http"}],
        "hostnames": ["ingress-3-r1.apps.test"],
        "rules": [
            {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [{"name": "ingress", "port": 80}]},
        ],
    }
    for body in (service, plain, tls, gate):
        assert body["metadata"]["labels"] == {MANAGED_BY: MANAGER, RUN_ID: "r1"}
    assert set(plain["metadata"]["annotations"]) == {EXPIRES}
    assert tls["metadata"]["annotations"]["example.org/size"] == "32k"
    probes.delete()
    gone = [path.rpartition("/")[2] for path in server.asked("DELETE") if re.search("/(services|ingresses|httproutes)/", path)]
    assert gone == ([] if namespace is None else ["ingress", "ingress-1", "ingress-2", "ingress-3"])
    assert probes.make_ingresses("node-1", ROUTES) == [], "not after the end"


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        (
            "ingress",
            "exceeded quota: services",
            "Service k8snet-r1/ingress could not be made: .*exceeded quota: services; ResourceQuota k8snet-r1/services has no room",
        ),
        (
            "ingress-2",
            'ingresses.networking.k8s.io is forbidden: User "k8snet" cannot create resource "ingresses"',
            "Ingress k8snet-r1/ingress-2 could not be made: .*; `k8snet manifests rbac --ingress` prints a role that has this right$",
        ),
        (
            "ingress-3",
            'httproutes.gateway.networking.k8s.io is forbidden: User "k8snet" cannot create resource "httproutes"',
            "HTTPRoute k8snet-r1/ingress-3 could not be made: .*; `k8snet manifests rbac --ingress` prints a role that has this right$",
        ),
        (
            "ingress-1",
            'admission webhook "validate.nginx.ingress.kubernetes.io" denied the request',
            "Ingress k8snet-r1/ingress-1 could not be made: .*; the admission webhook validate.nginx.ingress.kubernetes.io refuses it",
        ),
    ],
)
def test_an_ingress_that_is_refused(server: FakeApiServer, api: Api, name: str, reason: str, words: str) -> None:
    cell = Cell(server)
    cell.refuse[name] = status(403, "Forbidden", reason)
    probes = start(api, node("node-1"))
    with pytest.raises(ProbeError, match=words):
        probes.make_ingresses("node-1", ROUTES)


def test_the_service_behind_ingresses_is_led_to_another_pod(server: FakeApiServer, api: Api) -> None:
    Cell(server)
    server.routes["PATCH", f"{NAMESPACE}/services/ingress"] = lambda path, query, body: (200, body)
    lead_ingress(api, Probe("node-2", "k8snet-r1", "host-node-2", "probe-node-2", "10.244.2.5"))
    asked = [body for method, _, _, body in server.requests if method == "PATCH"]
    assert asked == [{"spec": {"selector": {SERVED: "probe-node-2"}}}], "and no other is selected any more"


def tcp(port: int) -> dict[str, Any]:
    return {"protocol": "TCP", "port": port}


def udp(port: int) -> dict[str, Any]:
    return {"protocol": "UDP", "port": port}


@pytest.mark.parametrize("namespace", [None, "net"])
def test_a_network_policy_selects_pods_that_are_made_for_it(server: FakeApiServer, api: Api, namespace: str | None) -> None:
    place = namespace or "k8snet-r1"
    cell = Cell(server, place)
    probes = start(api, *(node(f"node-{number}") for number in (1, 2, 3)), namespace=namespace)
    made = probes.make_policy_pods(["node-1", "node-2", "node-3"], Deadline.after(5))
    assert [(pod.node, pod.namespace, pod.name, pod.chosen, pod.error) for pod in made] == [
        (f"node-{number}", place, f"policy-node-{number}", number != 2, None) for number in (1, 2, 3)
    ]
    assert all(pod.address for pod in made)
    assert [PolicyPod.from_json(json.loads(json.dumps(pod.to_json()))) for pod in made] == made
    make_policy(api, place, "r1")
    (policy,) = (body for _, path, _, body in server.requests if path.endswith("/networkpolicies"))
    assert policy["spec"] == {
        "podSelector": {"matchLabels": {SELECTED: "r1"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"ports": [tcp(8722), udp(8722), tcp(8726)]},
            {"from": [{"podSelector": {"matchLabels": {CHOSEN: "r1"}}}], "ports": [tcp(8724)]},
            {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place}}}], "ports": [tcp(8725)]},
            {
                "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "k8snet-nobody"}}}],
                "ports": [tcp(8723), udp(8723)],
            },
        ],
        "egress": [
            {"ports": [tcp(8722), udp(8722)]},
            {"to": [{"podSelector": {"matchLabels": {CHOSEN: "r1"}}}], "ports": [tcp(8724)]},
        ],
    }
    assert policy["metadata"]["labels"] == {MANAGED_BY: MANAGER, RUN_ID: "r1"}
    assert EXPIRES in policy["metadata"]["annotations"]
    selected = {name for name, pod in cell.pods.items() if pod["metadata"]["labels"].get(SELECTED) == "r1"}
    assert selected == {f"policy-node-{number}" for number in (1, 2, 3)}, "nothing that other checks use"
    chosen = {name for name, pod in cell.pods.items() if pod["metadata"]["labels"].get(CHOSEN) == "r1"}
    assert chosen == {"probe-node-1", "probe-node-3"}
    remove_policy(api, place)
    removed = f"{INGRESSES}/namespaces/{place}/networkpolicies/policy"
    probes.delete()
    # What a killed worker has left goes with the namespace, or by its name.
    assert server.asked("DELETE").count(removed) == (1 if namespace is None else 2)
    assert probes.make_policy_pods(["node-1"], Deadline.after(5)) == [], "not after the end"


def test_pods_for_a_network_policy_that_do_not_run(server: FakeApiServer, api: Api) -> None:
    cell = Cell(server)
    cell.refuse["policy-node-1"] = status(403, "Forbidden", "exceeded quota: pods")
    cell.statuses["policy-node-2"] = waiting("ImagePullBackOff", "no such image")
    cell.statuses["policy-node-3"] = {"phase": "Pending"}
    gone = replace(node("node-4"), ready=False)
    probes = start(api, *(node(f"node-{number}") for number in (1, 2, 3)), gone)
    made = probes.make_policy_pods(["node-1", "node-2", "node-3", "node-4"], Deadline.after(0.1))
    errors = {pod.node: pod.error or "" for pod in made}
    assert set(errors) == {"node-1", "node-2", "node-3"}, "of a node that has no probe pods nothing is made"
    assert "pod k8snet-r1/policy-node-1 could not be made: " in errors["node-1"]
    assert "exceeded quota" in errors["node-1"]
    assert errors["node-2"] == "node-2: pod k8snet-r1/policy-node-2: ImagePullBackOff: no such image"
    assert errors["node-3"] == "node-3: pod k8snet-r1/policy-node-3: does not run yet: its status says no reason"


@pytest.mark.parametrize("code", [403, 500])
def test_who_may_not_remove_policies_has_made_none(server: FakeApiServer, api: Api, code: int) -> None:
    Cell(server, "net")
    probes = start(api, node("node-1"), namespace="net")
    probes.make_policy_pods(["node-1"], Deadline.after(5))
    server.routes["DELETE", f"{INGRESSES}/namespaces/net/networkpolicies/policy"] = status(code, "Failure", "not so")
    if code == 403:
        probes.delete()
    else:
        with pytest.raises(ClusterError, match="not so"):
            probes.delete()


@pytest.mark.parametrize("namespace", [None, "net"])
def test_what_is_planned_is_what_is_made(server: FakeApiServer, api: Api, namespace: str | None) -> None:
    Cell(server, namespace or "k8snet-r1")
    probes = start(api, node("node-1"), node("node-2"), namespace=namespace)
    probes.make_services(["node-1", "node-2"])
    probes.make_groups()
    probes.make_ingresses("node-1", ROUTES)
    probes.make_policy_pods(["node-1", "node-2"], Deadline.after(5))
    make_policy(api, probes.namespace, "r1")
    probes.delete()
    made: dict[tuple[str, str, str | None], list[Any]] = {}
    for body in (body for method, _, _, body in server.requests if method == "POST"):
        metadata = body["metadata"]
        name = re.sub("node-[12]", "<node>", metadata["name"])
        name = re.sub("-[123]$", "-<number>", name) if body["kind"] in ("Service", "Ingress", "HTTPRoute") else name
        made.setdefault((body["kind"], name, metadata.get("namespace")), []).append(body)
    planned = planned_objects(ProbeSettings(run_id="r1", namespace=namespace), 2, services=True, routes=ROUTES, policies=True)
    assert {(item.kind, item.name, item.namespace): item.number for item in planned} == {key: len(bodies) for key, bodies in made.items()}
    for item in planned:
        if item.kind == "Pod":
            for body in made[item.kind, item.name, item.namespace]:
                spec = body["spec"]
                assert spec["hostNetwork"] is spec["hostPID"] is ("hostNetwork and hostPID" in item.what)
                assert spec["containers"][0]["securityContext"].get("privileged", False) is item.what.startswith("privileged")


CASES = {
    "image": (
        waiting("ImagePullBackOff", 'Back-off pulling image "x"'),
        [("Failed", 'Failed to pull image "x": not found'), ("Failed", "Error: ImagePullBackOff")],
        'ImagePullBackOff: Back-off pulling image "x": Failed: Failed to pull image "x": not found',
    ),
    "never-pull": (waiting("ErrImageNeverPull", "image is not present"), [], "ErrImageNeverPull: image is not present"),
    "unschedulable": (
        {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}],
        },
        [],
        "Unschedulable: 0/2 nodes",
    ),
    "sandbox": (
        {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]},
        [("FailedCreatePodSandBox", "plugin type=calico failed: no IPs available")],
        "FailedCreatePodSandBox: plugin type=calico failed: no IPs available; the addresses .* are used up .*",
    ),
    "out-of-pods": (
        {"phase": "Failed", "reason": "OutOfpods", "message": "Node has 110 pods"},
        [],
        "OutOfpods: Node has 110 pods; the node is full: .*",
    ),
    "ended": (
        {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"reason": "Error", "exitCode": 127}}}]},
        [],
        r"Error \(exit status 127\): no message",
    ),
}


@pytest.mark.parametrize(("pod_status", "events", "words"), CASES.values(), ids=CASES)
def test_pod_that_does_not_start(
    server: FakeApiServer, api: Api, pod_status: dict[str, Any], events: list[tuple[str, str]], words: str
) -> None:
    cell = Cell(server)
    cell.statuses["probe-node-1"] = pod_status
    server.items(
        f"{NAMESPACE}/events",
        *(
            {
                "type": "Warning",
                "reason": reason,
                "message": message,
                "lastTimestamp": f"2026-11-24T00:00:0{index}Z",
                "involvedObject": {"name": "probe-node-1", "uid": "uid-probe-node-1"},
            }
            for index, (reason, message) in enumerate(events)
        ),
    )
    found = start(api, node("node-1"), node("node-2")).wait(Deadline.after(5))
    assert found["node-2"].error is None
    with pytest.raises(ProbeError, match=f"^node-1: pod k8snet-r1/probe-node-1: {words}$"):
        raise ProbeError(found["node-1"].error)


def test_deadline_names_the_last_event(server: FakeApiServer, api: Api) -> None:
    cell = Cell(server)
    cell.statuses["host-node-1"] = waiting("ContainerCreating")
    found = start(api, node("node-1")).wait(Deadline.after(0.2))
    assert found["node-1"].error == (
        "node-1: pod k8snet-r1/host-node-1: not running after 0.2 s: no event says why; is the node's kubelet alive?"
    )


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            'pods "probe-node-1" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=10, limited: pods=10',
            "ResourceQuota k8snet-r1/compute has no room for what the run makes: raise it",
        ),
        (
            'admission webhook "validate.kyverno.svc-fail" denied the request: hostNetwork is not allowed',
            "the admission webhook validate.kyverno.svc-fail refuses it: except the namespace from its policy",
        ),
        (
            'pods "probe-node-1" is forbidden: violates PodSecurity "baseline:latest": privileged',
            "label namespace k8snet-r1 pod-security.kubernetes.io/enforce=privileged",
        ),
        (
            'pods "probe-node-1" is forbidden: minimum memory usage per Container is 64Mi, but request is 32Mi',
            "LimitRange k8snet-r1/at-least takes no pods as small as the probe pods, or no pods without limits: change it",
        ),
    ],
    ids=["quota", "webhook", "pod-security", "limit-range"],
)
def test_pod_that_is_refused(server: FakeApiServer, api: Api, message: str, told: str) -> None:
    cell = Cell(server)
    server.items(f"{NAMESPACE}/limitranges", {"metadata": {"name": "at-least"}})
    cell.refuse["probe-node-1"] = status(403, "Forbidden", message)
    found = start(api, node("node-1"), node("node-2")).wait(Deadline.after(5))
    assert found["node-1"].error == (
        f"node-1: pod k8snet-r1/probe-node-1 was refused: POST /api/v1/namespaces/k8snet-r1/pods: HTTP 403: {message}; "
        f"{told}, or let the run use another namespace (--k8snet-namespace)"
    )
    assert found["node-2"].error is None


def test_pod_that_a_mesh_takes_in(server: FakeApiServer, api: Api) -> None:
    cell = Cell(server)
    cell.injected = {"probe-node-1": "istio-proxy"}
    found = start(api, node("node-1"), node("node-2")).wait(Deadline.after(5))
    assert found["node-1"].error is not None
    assert found["node-1"].error.startswith("node-1: pod k8snet-r1/probe-node-1: Istio has put istio-proxy into it, though labels")
    assert found["node-2"].error is None


def test_nodes_that_are_not_tried(server: FakeApiServer, api: Api) -> None:
    cell = Cell(server)
    found = start(api, node("node-1", ready=False), node("win-1", os="windows"), node("node-2")).wait(Deadline.after(5))
    assert found["node-1"].error == "node-1: the node is NotReady: KubeletNotReady: cni"
    assert found["win-1"].error == "win-1: runs windows; only Linux nodes are measured"
    assert sorted(cell.pods) == ["host-node-2", "probe-node-2"]


def test_without_the_right_to_make_a_priority_class(server: FakeApiServer, api: Api) -> None:
    cell = Cell(server)
    server.routes["POST", "/apis/scheduling.k8s.io/v1/priorityclasses"] = status(403, "Forbidden", "cannot create resource")
    probes = start(api, node("node-1"))
    assert "priorityClassName" not in cell.pods["host-node-1"]["spec"]
    probes.delete()
    assert server.asked("DELETE") == [NAMESPACE]


def test_without_the_right_to_make_a_namespace(server: FakeApiServer, api: Api) -> None:
    Cell(server)
    server.routes["POST", "/api/v1/namespaces"] = status(
        403, "Forbidden", 'namespaces is forbidden: User "me" cannot create resource "namespaces"'
    )
    with pytest.raises(ProbeError, match=r"probe pods: POST /api/v1/namespaces: HTTP 403: .* needs the verb create on namespaces"):
        start(api, node("node-1"))
    assert server.asked("DELETE") == ["/apis/scheduling.k8s.io/v1/priorityclasses/k8snet-r1"]


def test_namespace_that_exists_is_kept(server: FakeApiServer, api: Api) -> None:
    Cell(server)
    server.routes["GET", "/api/v1/namespaces/team"] = (200, {})
    server.routes["POST", "/api/v1/namespaces/team/pods"] = (201, {})
    server.routes["DELETE", "/api/v1/namespaces/team/pods"] = (200, {})
    start(api, node("node-1"), namespace="team").delete()
    assert "/api/v1/namespaces/team" not in server.asked("DELETE")
    query = next(query for method, path, query, _ in server.requests if (method, path) == ("DELETE", "/api/v1/namespaces/team/pods"))
    assert query["labelSelector"] == "app.kubernetes.io/managed-by=pytest-k8snet,k8snet/run-id=r1"


def test_namespace_that_does_not_exist(server: FakeApiServer, api: Api) -> None:
    Cell(server)
    with pytest.raises(ConfigurationError, match="namespace nowhere: the cluster has none of that name"):
        start(api, node("node-1"), namespace="nowhere")


def test_pod_names_fit() -> None:
    assert pod_name("host", "node-1") == "host-node-1"
    long = pod_name("probe", "ip-10-0-0-1.eu-central-1.compute.internal.some.very.long.domain.example.com")
    assert len(long) <= 63
    assert long != pod_name("probe", "ip-10-0-0-1.eu-central-1.compute.internal.some.very.long.domain.example.org")


@pytest.mark.parametrize(
    "name",
    [
        *("a" * 253, "x" * 57, "x" * 58, "x" * 59, "A", "a", "a b", "a\nb", "ä", "\udc80", "", "-a", "a-", "a..b", "a.b", "a:b"),
        *("../../x", "a;rm -rf", "%s", "{}"),
    ],
)
@pytest.mark.parametrize("role", ["host", "probe"])
def test_pod_names_are_allowed(role: str, name: str) -> None:
    made = pod_name(role, name)
    assert len(made) <= 63
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", made)
    assert made.startswith(role)


def test_pod_names_of_two_nodes_differ() -> None:
    names = ["a" * 253, "a" * 252, "A", "a", "a b", "a-b", "a_b", "a.b", "../a", "", "-", "ä", "ö"]
    assert len({pod_name("host", name) for name in names}) == len(names)


def test_state_of_a_pod_that_is_gone() -> None:
    assert pod_state(None).error == "is gone; something deleted it"


def test_events_of_an_earlier_pod_do_not_count() -> None:
    event = {"type": "Warning", "reason": "Failed", "message": "x", "involvedObject": {"name": "p", "uid": "old"}}
    assert newest_event([event], "p", "new") is None


def test_a_namespace_that_is_there_already_is_not_deleted(server: FakeApiServer, api: Api) -> None:
    Cell(server)
    server.routes["POST", "/api/v1/namespaces"] = status(409, "AlreadyExists", 'namespaces "k8snet-r1" already exists')
    with pytest.raises(ProbeError, match="already exists"):
        start(api, node("node-1"))
    assert NAMESPACE not in server.asked("DELETE")


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_a_namespace_that_refuses_privileged_pods_is_told_before_anything_is_made(server: FakeApiServer, api: Api, level: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": level}
    server.routes["GET", "/api/v1/namespaces/team"] = (200, {"metadata": {"name": "team", "labels": labels}})
    with pytest.raises(ConfigurationError) as caught:
        start(api, node("node-1"), namespace="team")
    assert str(caught.value) == (
        f"namespace team: it enforces the Pod Security level {level}, which refuses the host pods: they are privileged. "
        "Label it pod-security.kubernetes.io/enforce=privileged, or name none"
    )
    assert server.asked("POST") == []
