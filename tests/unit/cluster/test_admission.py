from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.cluster.admission import Webhook, selects, webhooks_of_pods
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.inventory import read_cluster
from pytest_k8snet.cluster.model import Cluster
from tests.unit.fakeapi import FakeApiServer

PODS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"]}


def configuration(*rules: dict[str, Any], **webhook: Any) -> dict[str, Any]:
    service = {"service": {"namespace": "policy", "name": "hook", "path": "/"}}
    return {"metadata": {"name": "policy"}, "webhooks": [{"name": "a.policy", "rules": list(rules), "clientConfig": service, **webhook}]}


def read(*rules: dict[str, Any], **webhook: Any) -> list[Webhook]:
    return list(webhooks_of_pods("ValidatingWebhookConfiguration", [configuration(*rules, **webhook)]))


def test_webhook_of_pods() -> None:
    assert read(PODS) == [Webhook("a.policy", "ValidatingWebhookConfiguration policy", True, True, "policy/hook")]
    assert [item.fail for item in read(PODS, failurePolicy="Ignore")] == [False]
    assert [item.service for item in read(PODS, clientConfig={"url": "https://x"})] == [None]


@pytest.mark.parametrize(
    "rule",
    [
        {**PODS, "operations": ["DELETE"]},
        {**PODS, "resources": ["pods/exec", "deployments"]},
        {**PODS, "apiGroups": ["apps"]},
        {**PODS, "scope": "Cluster"},
        {},
    ],
)
def test_webhooks_of_other_things(rule: dict[str, Any]) -> None:
    assert read(rule) == []
    assert len(read(rule, {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"], "scope": "*"})) == 1


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [
        (None, True),
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchLabels": {"b": "1"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "b", "operator": "In", "values": [""]}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "New"}]}, False),
    ],
)
def test_selectors(selector: dict[str, Any] | None, wanted: bool) -> None:
    assert selects(selector, {"a": "1"}) is wanted


def test_namespaces_that_are_left_out() -> None:
    only = {"matchLabels": {"policy": "on"}}
    assert [item.asked_about_probes for item in read(PODS, namespaceSelector=only)] == [False]
    ours = {"matchExpressions": [{"key": "app.kubernetes.io/managed-by", "operator": "NotIn", "values": ["pytest-k8snet"]}]}
    assert [item.asked_about_probes for item in read(PODS, objectSelector=ours)] == [False]


def test_endpoints_of_an_api_server(server: FakeApiServer, api: Api) -> None:
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
    for path in ("/api/v1/nodes", "/api/v1/namespaces/kube-system/pods", "/apis/apps/v1/daemonsets"):
        server.items(path)
    server.items("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", configuration(PODS))
    server.items("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", configuration(PODS, failurePolicy="Ignore"))
    endpoints = [{"addresses": ["10.0.0.1"], "conditions": {"ready": False}}, {"addresses": ["10.0.0.2"]}]
    server.items("/apis/discovery.k8s.io/v1/namespaces/policy/endpointslices", {"endpoints": endpoints}, {"endpoints": None})
    cluster = read_cluster(api)
    assert cluster.webhooks is not None
    assert [(item.configuration, item.ready) for item in cluster.webhooks] == [
        ("ValidatingWebhookConfiguration policy", 1),
        ("MutatingWebhookConfiguration policy", None),
    ]
    assert Cluster.from_json(cluster.to_json()).webhooks == cluster.webhooks
