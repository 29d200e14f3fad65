"""A cluster behind a fake API server, whose probe pods run on this machine."""

from __future__ import annotations

import threading
from typing import Any

from tests.unit.fakeapi import Answer, FakeApiServer


class Cluster:
    """Of `count` nodes; pods run as soon as they are made, and an exec in one is answered with `exec_answer` or runs here."""

    def __init__(self, server: FakeApiServer, count: int, *, exec_answer: Answer | None = None) -> None:
        self._server = server
        self._exec_answer = exec_answer
        self._lock = threading.Lock()
        self._pods: dict[str, dict[str, Any]] = {}
        server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
        server.routes["POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = (201, {"status": {"allowed": True}})
        server.items("/api/v1/nodes", *(self._node(number) for number in range(1, count + 1)))
        for path in (
            "/api/v1/namespaces/kube-system/pods",
            "/apis/apps/v1/daemonsets",
            "/api/v1/namespaces",
            "/apis/scheduling.k8s.io/v1/priorityclasses",
        ):
            server.items(path)
        server.routes["POST", "/apis/scheduling.k8s.io/v1/priorityclasses"] = (201, {})
        server.routes["POST", "/api/v1/namespaces"] = self._make_namespace

    def _node(self, number: int) -> dict[str, Any]:
        state = {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "nodeInfo": {"operatingSystem": "linux"},
        }
        return {"metadata": {"name": f"node-{number}"}, "status": state}

    def _make_namespace(self, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        where = f"{path}/{body['metadata']['name']}"
        self._server.routes["GET", f"{where}/serviceaccounts/default"] = (200, {})
        self._server.routes["POST", f"{where}/pods"] = self._make_pod
        self._server.routes["GET", f"{where}/pods"] = self._list_pods
        self._server.routes["DELETE", where] = (200, {})
        return 201, body

    def _make_pod(self, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        running = {"phase": "Running", "podIP": "127.0.0.1", "containerStatuses": [{"state": {"running": {"startedAt": "now"}}}]}
        name = body["metadata"]["name"]
        with self._lock:
            self._pods[name] = {**body, "status": running}
        if self._exec_answer is not None:
            self._server.routes["GET", f"{path}/{name}/exec"] = self._exec_answer
        return 201, body

    def _list_pods(self, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        with self._lock:
            return 200, {"items": [*self._pods.values()], "metadata": {}}
