"""Objects are made, changed and deleted as others do the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.api_error import ApiError
from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.client import LabClient, collection, path
from tests.unit.fakeapi import Answer, FakeApiServer, fake_api, status, write_kubeconfig

ALL = "/api/v1/namespaces/kube-system/configmaps"
ONE = f"{ALL}/mine"
MANIFEST = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "mine"}, "data": {"a": "1"}}
EXISTS = status(409, "AlreadyExists", 'configmaps "mine" already exists')
CHANGED = status(409, "Conflict", "the object has been modified")


@pytest.fixture
def client(api: Api) -> LabClient:
    return LabClient(api)


def in_turn(*answers: Answer) -> Any:
    """Answer one after the other, the last one for ever."""
    left = list(answers)

    def answer(path: str, query: dict[str, str], body: Any) -> Answer:
        del path, query, body
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


def stored(version: str, **content: Any) -> Answer:
    return 200, {**MANIFEST, "metadata": {**MANIFEST["metadata"], "resourceVersion": version}, **content}  # type: ignore[dict-item]


def bodies(server: FakeApiServer, method: str) -> list[Any]:
    return [body for verb, _, _, body in server.requests if verb == method]


@pytest.mark.parametrize(
    ("version", "kind", "wanted"),
    [
        ("v1", "Node", "/api/v1/nodes"),
        ("v1", "Namespace", "/api/v1/namespaces"),
        ("v1", "Service", "/api/v1/namespaces/ns/services"),
        ("v1", "Endpoints", "/api/v1/namespaces/ns/endpoints"),
        ("v1", "ConfigMap", "/api/v1/namespaces/ns/configmaps"),
        ("apps/v1", "DaemonSet", "/apis/apps/v1/namespaces/ns/daemonsets"),
        ("discovery.k8s.io/v1", "EndpointSlice", "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices"),
        ("networking.k8s.io/v1", "Ingress", "/apis/networking.k8s.io/v1/namespaces/ns/ingresses"),
        ("networking.k8s.io/v1", "NetworkPolicy", "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies"),
        ("networking.k8s.io/v1", "ServiceCIDR", "/apis/networking.k8s.io/v1/servicecidrs"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
        ("scheduling.k8s.io/v1", "PriorityClass", "/apis/scheduling.k8s.io/v1/priorityclasses"),
    ],
)
def test_paths(version: str, kind: str, wanted: str) -> None:
    manifest = {"apiVersion": version, "kind": kind, "metadata": {"namespace": "ns", "name": "one"}}
    assert collection(manifest) == wanted
    assert path(manifest) == f"{wanted}/one"


def test_apply_makes_what_is_not_there(server: FakeApiServer, client: LabClient) -> None:
    server.routes["POST", ALL] = (201, MANIFEST)
    client.apply(MANIFEST)
    assert [(verb, asked, body) for verb, asked, _, body in server.requests] == [("POST", ALL, MANIFEST)]


def test_apply_replaces_what_is_there_in_its_version(server: FakeApiServer, client: LabClient) -> None:
    server.routes["POST", ALL] = EXISTS
    server.routes["GET", ONE] = stored("7", data={"a": "0", "b": "2"})
    server.routes["PUT", ONE] = (200, {})
    client.apply(MANIFEST)
    (sent,) = bodies(server, "PUT")
    assert sent["data"] == {"a": "1"}
    assert sent["metadata"] == {"namespace": "kube-system", "name": "mine", "resourceVersion": "7"}
    assert "resourceVersion" not in MANIFEST["metadata"], "the manifest itself stays as it was"


def test_change_starts_again_when_somebody_was_quicker(server: FakeApiServer, client: LabClient) -> None:
    server.routes["GET", ONE] = in_turn(stored("7"), stored("8", data={"a": "1", "theirs": "x"}))
    server.routes["PUT", ONE] = in_turn(CHANGED, (200, {}))
    client.change(MANIFEST, lambda found: found | {"data": found["data"] | {"ours": "y"}})
    first, second = bodies(server, "PUT")
    assert first["data"] == {"a": "1", "ours": "y"}
    assert second["data"] == {"a": "1", "theirs": "x", "ours": "y"}
    assert second["metadata"]["resourceVersion"] == "8"


def test_change_does_not_try_for_ever(server: FakeApiServer, client: LabClient) -> None:
    server.routes["GET", ONE] = stored("7")
    server.routes["PUT", ONE] = CHANGED
    with pytest.raises(LabError, match=f"{ONE}: somebody else kept changing it"):
        client.change(MANIFEST, lambda found: found)


def test_a_service_keeps_its_address(server: FakeApiServer, client: LabClient) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "s"}, "spec": {"ports": [{"port": 80}]}}
    place = "/api/v1/namespaces/default/services"
    server.routes["POST", place] = EXISTS
    found = {**service, "metadata": {"name": "s", "resourceVersion": "1"}, "spec": {"clusterIP": "10.96.1.2", "ports": []}}
    server.routes["GET", f"{place}/s"] = (200, found)
    server.routes["PUT", f"{place}/s"] = (200, {})
    client.apply(service)
    assert bodies(server, "PUT")[0]["spec"] == {"clusterIP": "10.96.1.2", "ports": [{"port": 80}]}


@pytest.mark.parametrize("use", ["apply", "change", "delete", "create", "read"])
def test_other_refusals_are_not_hidden(server: FakeApiServer, client: LabClient, use: str) -> None:
    refusal = status(403, "Forbidden", "no")
    server.routes |= {("POST", ALL): refusal, ("GET", ONE): stored("7"), ("PUT", ONE): refusal, ("DELETE", ONE): refusal}
    if use == "read":
        server.routes["GET", ONE] = refusal
    with pytest.raises(ApiError) as error:
        client.change(MANIFEST, lambda found: found) if use == "change" else getattr(client, use)(MANIFEST)
    assert error.value.status == 403


def test_delete_waits_until_it_is_gone(server: FakeApiServer, client: LabClient) -> None:
    server.routes["DELETE", ONE] = (200, {})
    server.routes["GET", ONE] = in_turn(stored("7"), status(404, "NotFound", "gone"))
    client.delete(MANIFEST)
    assert server.asked("GET") == [ONE, ONE]
    (query,) = (query for verb, _, query, _ in server.requests if verb == "DELETE")
    assert query["propagationPolicy"] == "Foreground"


def test_delete_of_what_is_not_there(client: LabClient) -> None:
    client.delete(MANIFEST)


def test_delete_says_when_it_does_not_go(server: FakeApiServer, client: LabClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_k8snet.lab.client._DELETE_S", 0.0)
    server.routes |= {("DELETE", ONE): (200, {}), ("GET", ONE): stored("7")}
    with pytest.raises(LabError, match=f"{ONE}: not gone 0 s after it was deleted"):
        client.delete(MANIFEST)


def test_answers(server: FakeApiServer, client: LabClient, tmp_path: Path) -> None:
    assert not client.answers(), "no kube-system yet"
    server.routes["GET", "/api/v1/namespaces/kube-system"] = (200, {})
    assert client.answers()
    with fake_api() as other:
        closed = other.url
    api = Api.from_kubeconfig(str(write_kubeconfig(tmp_path / "closed", closed)))
    assert not LabClient(api).answers()
    api.close()
