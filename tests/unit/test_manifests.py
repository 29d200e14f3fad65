"""What ``k8snet manifests`` prints, and that it is what a run asks the API server for: no more, no less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from pytest_k8snet.access.base import Deadline, run
from pytest_k8snet.access.pod import PodAccess
from pytest_k8snet.access.probes import (
    PRIORITY_CLASSES,
    ProbeSettings,
    lead_ingress,
    make_policy,
    regroup,
    relay_to_kubelet,
    relay_to_pod,
    remove_policy,
    start_probes,
)
from pytest_k8snet.cleanup import find, remove
from pytest_k8snet.cli import main
from pytest_k8snet.cluster.api import Api, permission
from pytest_k8snet.cluster.api_error import ApiError
from pytest_k8snet.cluster.claims.reading import CNIS
from pytest_k8snet.cluster.inventory import read_cluster
from pytest_k8snet.cluster.lease import ApiLeases, LoadLease, Timing
from pytest_k8snet.cluster.policies.reading import read_policies
from tests.unit.access.test_probes import HTTP_ROUTES, INGRESSES, ROUTES, Cell, cluster, node, waiting
from tests.unit.cluster.samples import daemonset
from tests.unit.cluster.test_lease import wait_for
from tests.unit.fakeapi import FakeApiServer, LeaseCell, status

WAYS = ("ingresses.networking.k8s.io", "httproutes.gateway.networking.k8s.io")
Granted = tuple[str, str, str | None]  # verb, resource, namespace


def printed(*arguments: str) -> str:
    ran = CliRunner().invoke(main, ["manifests", "rbac", *arguments])
    assert ran.exit_code == 0, ran.output
    return ran.output


def objects(text: str) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(text) if item is not None]


def granted(text: str) -> Iterator[Granted]:
    for item in objects(text):
        for rule in item.get("rules", ()):
            for resource in rule["resources"]:
                group = rule["apiGroups"][0]
                for verb in rule["verbs"]:
                    yield verb, f"{resource}.{group}" if group else resource, item["metadata"].get("namespace")


def test_what_is_printed() -> None:
    text = printed("--level", "load")
    assert [(item["kind"], item["metadata"].get("namespace")) for item in objects(text)][:4] == [
        ("Namespace", None),
        ("ServiceAccount", "k8snet"),
        ("ClusterRole", None),
        ("ClusterRoleBinding", None),
    ]
    assert "#   k8snet manifests rbac --level load | kubectl apply -f -\n" in text
    assert "#   kubectl create token k8snet --namespace k8snet " in text
    assert "the right to become root on every node" in text
    assert max(len(line) for line in text.splitlines()) <= 140


def test_with_a_namespace_nothing_but_reading_is_cluster_wide() -> None:
    items = objects(printed("--level", "read", "--namespace", "net"))
    assert [(item["kind"], item["metadata"].get("namespace")) for item in items] == [
        ("ServiceAccount", "net"),
        ("ClusterRole", None),
        ("ClusterRoleBinding", None),
        ("Role", "kube-system"),
        ("RoleBinding", "kube-system"),
        ("Role", "net"),
        ("RoleBinding", "net"),
    ]
    (role,) = (item for item in items if item["kind"] == "ClusterRole")
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"list", "get"}
    for binding in items:
        if binding["kind"].endswith("Binding"):
            assert binding["roleRef"] == {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": binding["kind"].removesuffix("Binding"),
                "name": "k8snet",
            }
            assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "k8snet", "namespace": "net"}]


def test_ingresses_are_made_with_rights_that_are_asked_for() -> None:
    text = printed("--level", "probe", "--ingress")
    assert set(granted(text)) - set(granted(printed("--level", "probe"))) == {
        *((verb, resource, None) for verb in ("create", "list") for resource in WAYS),
        ("patch", "services", None),
    }
    assert "# What a run needs with --k8snet-level=probe, --k8snet-access=pod, ingress.routes in the profile:\n" in text
    assert "#   k8snet manifests rbac --level probe --ingress | kubectl apply -f -\n" in text
    assert set(granted(printed("--level", "read", "--ingress"))) == set(granted(printed("--level", "read")))
    in_one = set(granted(printed("--level", "probe", "--ingress", "--namespace", "net")))
    assert in_one - set(granted(printed("--level", "probe", "--namespace", "net"))) == {
        *((verb, resource, "net") for verb in ("create", "delete", "list") for resource in WAYS),
        ("patch", "services", "net"),
    }


def test_ssh_takes_no_right_but_reading() -> None:
    text = printed("--level", "load", "--access", "ssh")
    assert {verb for verb, _, _ in granted(text)} == {"list", "get"}
    assert "root" not in text


@pytest.mark.parametrize("name", ["123", "null", "on"])
def test_a_namespace_whose_name_is_a_word_of_yaml(name: str) -> None:
    items = objects(printed("--level", "read", "--namespace", name))
    assert [item["metadata"]["namespace"] for item in items if item["kind"] == "ServiceAccount"] == [name]
    assert [item["rules"][0]["resourceNames"] for item in items if item["metadata"].get("namespace") == name and "rules" in item] == [
        [name]
    ]


@pytest.mark.parametrize("name", ["", "Net", "a/b", "x\ny", "-a", "a" * 64])
def test_no_name_of_a_namespace(name: str) -> None:
    for command in (["rbac", "--level", "read"], ["job", "--shards", "2", "--image", "i"]):
        ran = CliRunner().invoke(main, ["manifests", *command, "--namespace", name])
        assert ran.exit_code == 2
        assert "is no name of a namespace" in ran.output


@pytest.mark.parametrize("image", ["", "a b", "Probe:1"])
def test_no_image(image: str) -> None:
    ran = CliRunner().invoke(main, ["manifests", "job", "--shards", "2", "--image", image])
    assert ran.exit_code == 2
    assert "want the reference of an image, such as registry.example.com/k8snet:1" in " ".join(ran.output.split())


@pytest.mark.parametrize("level", ["read", "probe", "load"])
@pytest.mark.parametrize("namespace", [None, "net"])
def test_the_rights_are_those_that_a_run_uses(server: FakeApiServer, api: Api, namespace: str | None, level: str) -> None:
    """Every request needs a right that is given, and every right that is given is needed by a request."""
    cell = Cell(server, namespace or "k8snet-r1")
    tried: set[Granted] = set()
    if namespace is not None:  # it is cluster-wide, and a run that may not make one goes without
        server.routes["POST", PRIORITY_CLASSES] = status(403, "Forbidden", 'User "k8snet" cannot create resource "priorityclasses"')
        tried.add(("create", "priorityclasses.scheduling.k8s.io", None))
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.2"})
    server.items("/apis/apps/v1/daemonsets", *(daemonset(cni.DAEMONSETS[0], namespace="elsewhere") for cni in CNIS))
    for path in ("/api/v1/nodes", "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices", "/api/v1/namespaces/kube-system/pods"):
        server.items(path)
    read_cluster(api)
    api.services()
    api.endpoint_slices()
    cell.statuses["host-node-2"] = waiting("ImagePullBackOff")  # whose events say more
    cell.refuse["probe-node-3"] = status(403, "Forbidden", "minimum memory usage per Container is 64Mi")
    probes = start_probes(api, cluster(*map(node, ("node-1", "node-2", "node-3"))), ProbeSettings(run_id="r1", namespace=namespace))
    running = probes.wait(Deadline.after(5))
    access = PodAccess(api, running)
    assert run(access.host("node-1"), ["true"], timeout_s=20).exit_status == 0
    access.close()
    if level != "read":
        probes.make_services(["node-1"])
        probes.make_groups()
        with suppress(ApiError):
            regroup(api, running["node-1"], "r1", member=False)
        probes.make_ingresses("node-1", ROUTES)
        with suppress(ApiError):
            lead_ingress(api, running["node-2"])
        probes.make_policy_pods(["node-1"], Deadline.after(5))
        make_policy(api, probes.namespace, "r1")
        read_policies(api, probes.namespace)
        remove_policy(api, probes.namespace)
        relay_to_kubelet(api, running["node-1"])
        relay_to_pod(api, running["node-1"], 9443, "k8snet/x")
    probes.delete()
    if level == "load":
        cell_of_lease = LeaseCell(server)
        lease = LoadLease(ApiLeases(api), "r1", wait_s=5, say=print, tell=lambda state: None, timing=Timing(renew_s=0.01))
        lease.start()
        wait_for(lambda: len(cell_of_lease.history) > 1)
        assert lease.remove() is None
    if namespace is None:
        for path in (
            "/api/v1/namespaces",
            "/api/v1/pods",
            "/api/v1/services",
            f"{INGRESSES}/ingresses",
            f"{HTTP_ROUTES}/httproutes",
            f"{INGRESSES}/networkpolicies",
            PRIORITY_CLASSES,
        ):
            server.items(path)
    else:
        server.items(f"/api/v1/namespaces/{namespace}/services")
    left = find(api, namespace)
    assert {item.kind for item in left} == ({"Pod"} if namespace else set())
    for item in left:
        remove(api, item)
    if level == "read":  # what only other levels make is found by those who may make it
        tried |= {("list", resource, namespace) for resource in (*WAYS, "networkpolicies.networking.k8s.io")}
    if level != "load":
        tried.add(("get", "leases.coordination.k8s.io", "default"))
    given = set(granted(printed("--level", level, "--ingress", *(["--namespace", namespace] if namespace else []))))
    used = {right_for(method, path, given) for method, path, _, _ in server.requests if path != "/version"}
    assert used - given == tried
    assert given - used == {("create", "pods/exec", namespace)}, "what a WebSocket's GET takes since Kubernetes 1.35"


def test_the_rights_of_ssh_are_those_that_a_run_uses(server: FakeApiServer, api: Api) -> None:
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.2"})
    server.items("/apis/apps/v1/daemonsets", *(daemonset(cni.DAEMONSETS[0], namespace="elsewhere") for cni in CNIS))
    for path in ("/api/v1/nodes", "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices", "/api/v1/namespaces/kube-system/pods"):
        server.items(path)
    read_cluster(api)
    api.endpoint_slices()
    given = set(granted(printed("--level", "load", "--access", "ssh")))
    assert {right_for(method, path, given) for method, path, _, _ in server.requests if path != "/version"} == given


def right_for(method: str, path: str, given: set[Granted]) -> Granted:
    """Return the right that a request needs: of the whole cluster when that is given, else of its namespace."""
    verb, resource = permission(method, path)
    if (verb, resource, None) in given and "/namespaces/kube-system/" not in path:
        return verb, resource, None
    return verb, resource, path.split("/namespaces/")[1].split("/")[0] if "/namespaces/" in path else None
