from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.errors import RecordError
from pytest_k8snet.judge import control_plane
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.api import ApiRecord, Greeted
from pytest_k8snet.record.document import Document
from tests.unit.judge.builder import facts, outcome, told

PROXIES = ({"name": "kube-proxy", "namespace": "kube-system", "desired": 3, "ready": 3, "node_selector": {}, "pods": []},)
CLUSTER = Cluster("v1.37.2", (fake_node("node-1"),), {}, PROXIES, None)
NO_PROXY = replace(CLUSTER, kube_proxy_daemonsets=())
WITHOUT = facts(kube_proxy={"mode": None, "mode_error": "Connection refused", "listening": False, "processes": []})


def greeted(what: str, role: str, error: str | None = None) -> Greeted:
    address, port = ("10.96.0.1", 443) if what == "service" else ("192.168.10.1", 6443)
    connected_ms, answered_ms = (0.3, 1.2) if error is None else (None, None)
    return Greeted(what, role, address, port, connected_ms, answered_ms, 3 if error else 1, error)


def api(*items: Greeted, absent: str | None = None, cluster: Cluster = CLUSTER) -> Judgement:
    return control_plane.api_reached(ApiRecord("node-1", items, absent), WITHOUT, cluster)


def test_the_api_server() -> None:
    both = [greeted(what, role) for what in ("service", "server") for role in ("host", "pod")]
    healthy = api(*both)
    assert outcome(healthy) == ("pass", "")
    assert healthy.evidence == {f"{role} to {address}": "1.2 ms" for role in ("host", "pod") for address in ("10.96.0.1", "192.168.10.1")}
    assert outcome(api(*both, greeted("service", "pod", "timed out"), greeted("server", "host", "Connection refused"))) == (
        "fail",
        (
            "node-1: the pod network does not reach kubernetes.default 10.96.0.1 port 443: timed out (3 tries)\n"
            "node-1: the host network does not reach the API server's own address 192.168.10.1 port 6443: Connection refused (3 tries)"
        ),
    )
    silent = greeted("service", "host", "timed out")
    assert outcome(api(silent)) == (
        "fail",
        "node-1: the host network does not reach kubernetes.default 10.96.0.1 port 443: timed out (3 tries)",
    )
    assert outcome(api(silent, greeted("server", "host"), cluster=NO_PROXY)) == ("pass", "")
    podless = api(greeted("server", "host"), absent="access ssh makes no probe pods")
    assert told(podless, Weight.REMARK) == ["node-1: asked from the host network alone: access ssh makes no probe pods"]
    assert outcome(api()) == ("skip", "the Service default/kubernetes has no address")


def test_documents_that_cannot_be_read() -> None:
    def document(values: dict[str, Any] | None) -> Document:
        reason = None if values else "gone"
        return Document(kind="api", subject="node-1", started="x", duration_s=0.0, method="x", values=values, reason=reason)

    with pytest.raises(RecordError, match="node-1: no answers of the API server: gone"):
        ApiRecord.from_document(document(None))
    with pytest.raises(RecordError, match="node-1: the api document is damaged"):
        ApiRecord.from_document(document({"x": 1}))
