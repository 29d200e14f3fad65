from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.cluster.api import Api, permission
from pytest_k8snet.cluster.api_error import ApiError, ApiRefusedError, ApiUnreachableError
from pytest_k8snet.errors import ClusterError, ConfigurationError
from tests.unit.fakeapi import FakeApiServer, status, write_kubeconfig


def test_lists_page_by_page(server: FakeApiServer, api: Api) -> None:
    def pages(path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if "continue" not in query:
            return 200, {"items": [{"n": 1}], "metadata": {"continue": "more"}}
        return 200, {"items": [{"n": 2}], "metadata": {}}

    server.routes["GET", "/api/v1/nodes"] = pages
    assert [item["n"] for item in api.list("/api/v1/nodes", labelSelector="a=b")] == [1, 2]
    assert [query["labelSelector"] for _, _, query, _ in server.requests] == ["a=b", "a=b"]


def test_list_without_items(server: FakeApiServer, api: Api) -> None:
    server.routes["GET", "/api/v1/services"] = (200, {"items": None, "metadata": {}})
    assert api.services() == []


def test_one_client_a_thread(server: FakeApiServer, api: Api) -> None:
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.2"})
    threads = [threading.Thread(target=api.get, args=("/version",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(api._clients) == 3


def test_what_is_passed_on_comes_back_as_it_is_and_is_asked_once(server: FakeApiServer, api: Api) -> None:
    path = "/api/v1/namespaces/n/pods/probe-node-1:9443/proxy/k8snet/x"
    api.patience_s = 60.0
    server.routes["GET", path] = (200, b"k8snet\n")
    assert api.relayed(path, tailLines=1) == (200, "k8snet\n")
    assert server.requests[-1][2] == {"tailLines": "1"}
    unreached = "error trying to reach service: dial tcp 10.244.1.5:9443: i/o timeout"
    answers: list[tuple[tuple[int, Any], str]] = [
        (status(503, "ServiceUnavailable", unreached), unreached),
        ((502, b"<html><title>Bad gateway</title>"), "an answer with a web page (Bad gateway)"),
        ((500, b" oh "), "oh"),
        ((500, b""), "no message"),
        ((500, {"no": "message"}), '{"no": "message"}'),
    ]
    for answer, said in answers:
        server.requests.clear()
        server.routes["GET", path] = answer
        assert api.relayed(path) == (answer[0], said)
        assert len(server.requests) == 1
    with pytest.raises(ApiError, match="not sent, for it has parts that are no names of objects"):
        api.relayed("/api/v1/namespaces/n/pods/../log")
    api.configuration.host = "http://127.0.0.1:1"
    with pytest.raises(ApiUnreachableError, match="no connection"):
        api.relayed(path)


def test_rights_that_relaying_takes() -> None:
    assert permission("GET", "/api/v1/namespaces/n/pods/probe-node-1/log") == ("get", "pods/log")
    assert permission("GET", "/api/v1/namespaces/n/pods/probe-node-1:9443/proxy/k8snet/x") == ("get", "pods/proxy")


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (status(401, "Unauthorized", "Unauthorized"), ApiRefusedError, "does not accept the credentials of kubeconfig"),
        (
            status(403, "Forbidden", 'nodes is forbidden: User "me" cannot list resource "nodes" in API group ""'),
            ApiRefusedError,
            "needs the verb list on nodes; k8snet manifests rbac prints a role",
        ),
        (
            status(403, "Forbidden", 'admission webhook "x" denied the request'),
            ApiError,
            'HTTP 403: admission webhook "x" denied the request$',
        ),
        (status(500, "InternalError", "etcdserver: request timed out"), ApiError, "HTTP 500: etcdserver: request timed out"),
        ((200, b"<html>"), ClusterError, "did not answer with JSON but with a web page; is http://127.0.0.1:.* a Kubernetes API server"),
    ],
    ids=["401", "403", "admission", "500", "html"],
)
def test_answers_that_are_errors(server: FakeApiServer, api: Api, answer: tuple[int, Any], error: type[Exception], words: str) -> None:
    server.routes["GET", "/api/v1/nodes"] = answer
    with pytest.raises(error, match=words) as caught:
        api.get("/api/v1/nodes")
    assert "top-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a/../../x", "kube-system/secrets/s?x", "a%2fb", "a b", "", ".", "..", "x#y", "a\nb", "\u00e9"], ids=lambda name: repr(name)
)
def test_a_name_leads_nowhere_else(server: FakeApiServer, api: Api, name: str) -> None:
    with pytest.raises(ApiError, match="not sent, for it has parts that are no names of objects") as caught:
        api.get(f"/api/v1/namespaces/{name}/configmaps/x")
    assert caught.value.status == 400
    assert server.requests == []


def test_deleting_what_is_gone(api: Api) -> None:
    api.delete("/api/v1/namespaces/gone")


def test_no_server(server: FakeApiServer, api: Api) -> None:
    server.close()
    with pytest.raises(ApiUnreachableError, match=r"http://127.0.0.1:\d+: no connection: .*Connection refused.*Is the cluster up"):
        api.get("/version")


def test_server_that_restarts_is_waited_for(server: FakeApiServer, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_k8snet.cluster.api._BETWEEN_S", 0.01)
    answers: list[tuple[int, Any]] = [status(503, "ServiceUnavailable", "starting"), status(500, "InternalError", "etcd"), (200, {"a": 1})]
    server.routes["GET", "/version"] = lambda path, query, body: answers.pop(0)
    with pytest.raises(ApiError, match="starting"):
        api.get("/version")
    api.patience_s = 30.0
    assert api.get("/version") == {"a": 1}


def test_patience_ends(server: FakeApiServer, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_k8snet.cluster.api._BETWEEN_S", 0.01)
    server.routes["GET", "/version"] = status(503, "ServiceUnavailable", "starting")
    api.patience_s = 0.1
    with pytest.raises(ApiError, match="starting"):
        api.get("/version")
    assert len(server.asked("GET")) > 1
    before = len(server.requests)
    server.routes["GET", "/version"] = status(404, "NotFound", "no such thing")
    with pytest.raises(ApiError, match="no such thing"):
        api.get("/version")
    assert len(server.requests) == before + 1


@pytest.mark.parametrize("ours", [True, False])
def test_object_that_a_lost_answer_has_made(server: FakeApiServer, api: Api, monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    monkeypatch.setattr("pytest_k8snet.cluster.api._BETWEEN_S", 0.01)
    body = {"metadata": {"name": "a", "labels": {"k8snet/run-id": "r1"}}}
    there = {"metadata": {"name": "a", "labels": {"k8snet/run-id": "r1" if ours else "r2"}}}
    answers = [status(504, "Timeout", "took too long"), status(409, "AlreadyExists", "a is there")]
    server.routes["POST", "/api/v1/namespaces"] = lambda path, query, body: answers.pop(0)
    server.routes["GET", "/api/v1/namespaces/a"] = (200, there)
    api.patience_s = 30.0
    if ours:
        assert api.post("/api/v1/namespaces", body) == there
    else:
        with pytest.raises(ApiError, match="a is there"):
            api.post("/api/v1/namespaces", body)


def test_object_of_somebody_else(server: FakeApiServer, api: Api) -> None:
    server.routes["POST", "/api/v1/namespaces"] = status(409, "AlreadyExists", "a is there")
    api.patience_s = 30.0
    with pytest.raises(ApiError, match="a is there"):
        api.post("/api/v1/namespaces", {"metadata": {"name": "a"}})
    assert server.asked("GET") == []


def test_tls_against_plain_http(server: FakeApiServer, tmp_path: Path) -> None:
    api = Api.from_kubeconfig(str(write_kubeconfig(tmp_path / "config", server.url.replace("http:", "https:"))))
    with pytest.raises(ApiUnreachableError, match="TLS: "):
        api.get("/version")
    api.close()


def test_kubeconfig_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        Api.from_kubeconfig(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("users: [\n  token: top-secret: x", r"config:2: not YAML$"),
        ("just text", "not a kubeconfig"),
        ("contexts: []", "it has no contexts, so it names no cluster"),
        (
            "contexts: [{name: a, context: {cluster: c}}]",
            r"no current-context; name one of its contexts with --k8snet-context, or --context of a k8snet command \(a\)",
        ),
        ("contexts: [{name: a, context: {cluster: c}}]\ncurrent-context: b", "no context 'b'; it has: a"),
        ("contexts: [{name: a, context: {cluster: c}}]\ncurrent-context: a\nclusters: []", "of cluster 'c', which the file does not have"),
    ],
    ids=["yaml", "text", "no-contexts", "no-current", "no-context", "no-cluster"],
)
def test_kubeconfig_that_is_damaged(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        Api.from_kubeconfig(str(file))
    assert "top-secret" not in str(caught.value)


def test_context_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no context 'prod'; it has: lab"):
        Api.from_kubeconfig(str(write_kubeconfig(tmp_path / "config", "http://127.0.0.1:1")), "prod")


def test_in_cluster_outside_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match=r"kubeconfig in-cluster: .*This only works in a pod"):
        Api.from_kubeconfig("in-cluster")


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", "/api/v1/nodes", ("list", "nodes")),
        ("GET", "/api/v1/namespaces/kube-system/configmaps/kube-proxy", ("get", "configmaps")),
        ("POST", "/api/v1/namespaces/x/pods", ("create", "pods")),
        ("POST", "/api/v1/namespaces/x/pods/y/exec", ("create", "pods/exec")),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/x/leases/y", ("update", "leases.coordination.k8s.io")),
        ("DELETE", "/api/v1/namespaces/x", ("delete", "namespaces")),
        ("DELETE", "/api/v1/namespaces/x/pods", ("deletecollection", "pods")),
        ("GET", "/apis/apps/v1/daemonsets", ("list", "daemonsets.apps")),
    ],
)
def test_permission(method: str, path: str, wanted: tuple[str, str]) -> None:
    assert permission(method, path) == wanted
