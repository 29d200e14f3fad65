from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.cluster.ingress import Ingress, NginxController
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.expect.model import IngressExpectation, SysctlWant
from pytest_k8snet.judge import ingress
from tests.unit.judge.builder import outcome, told

NAME = "ingress-nginx/ingress-nginx-controller"
GET = "(kubectl -n ingress-nginx get configmap ingress-nginx-controller -o yaml)"
IMAGE = "registry.k8s.io/ingress-nginx/controller:v1.15.1"
NGINX = NginxController(NAME, IMAGE, NAME, ("hsts", "keep-alive"), {"hsts": "true", "keep-alive": "75"})
OLD = ("skip", "the record is of a version that did not read the cluster's ingress")
NOTHING = IngressExpectation()


def want(key: str, operator: str, value: str) -> IngressExpectation:
    return IngressExpectation((SysctlWant(key, operator, value, "profile x.yaml:4"),))


def cluster(*nginx: NginxController, **changes: Any) -> Cluster:
    return Cluster("v1.37.2", (), {}, (), None, ingress=Ingress(nginx=nginx, **changes))


def setting(**values: str) -> NginxController:
    given = {key.replace("_", "-"): value for key, value in values.items()}
    return replace(NGINX, keys=tuple(given), values=given)


def test_records_of_earlier_versions() -> None:
    old = Cluster("v1.37.2", (), {}, (), None)
    for judgement in (ingress.known_keys(old), ingress.settings(old, NOTHING), ingress.support(old)):
        assert outcome(judgement) == OLD
        assert judgement.unsupported


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        pytest.param(("hsts", "proxy-buffers-number"), ("pass", ""), id="healthy"),
        pytest.param((), ("pass", ""), id="empty"),
        pytest.param(
            ("proxy-buffers",),
            ("fail", f"ConfigMap {NAME}: {NAME} does not know the key proxy-buffers and ignores it; proxy-buffers-number is one {GET}"),
            id="of-another-controller",
        ),
        pytest.param(
            ("upstream-keepalive-conections",),
            (
                "fail",
                (
                    f"ConfigMap {NAME}: {NAME} does not know the key upstream-keepalive-conections and ignores it; "
                    f"upstream-keepalive-connections is one {GET}"
                ),
            ),
            id="typing-error",
        ),
        pytest.param(("zzz",), ("fail", f"ConfigMap {NAME}: {NAME} does not know the key zzz and ignores it {GET}"), id="nothing-like-it"),
    ],
)
def test_known_keys(keys: tuple[str, ...], expected: tuple[str, str]) -> None:
    assert outcome(ingress.known_keys(cluster(replace(NGINX, keys=keys)))) == expected


def test_config_map_that_is_not_there_or_not_readable() -> None:
    none = replace(NGINX, keys=None, values={})
    judgement = ingress.known_keys(cluster(none))
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [f"{NAME}: there is no ConfigMap {NAME}: everything is default"]
    refused = {f"ConfigMap {NAME}": "HTTP 403"}
    assert outcome(ingress.known_keys(cluster(none, unreadable=refused))) == ("error", f"{NAME}: ConfigMap {NAME} was not read: HTTP 403")
    assert outcome(ingress.settings(cluster(none, unreadable=refused), want("hsts", "=", "true")))[0] == "error"


def test_clusters_without_ingress_nginx() -> None:
    for judge in (ingress.known_keys, lambda found: ingress.settings(found, NOTHING)):
        assert outcome(judge(cluster())) == ("skip", "the cluster has no ingress-nginx")
        judgement = judge(cluster(unreadable={"Deployments": "HTTP 403"}))
        assert (outcome(judgement), judgement.unsupported) == (
            ("skip", "whether the cluster has ingress-nginx is not known: HTTP 403"),
            True,
        )


@pytest.mark.parametrize(
    ("controller", "expect", "expected"),
    [
        pytest.param(NGINX, want("hsts", "=", "true"), ("pass", ""), id="healthy"),
        pytest.param(NGINX, want("upstream-keepalive-connections", ">=", "320"), ("pass", ""), id="by-default"),
        pytest.param(
            setting(upstream_keepalive_connections="0"),
            want("upstream-keepalive-connections", ">=", "320"),
            ("fail", f"{NAME}: upstream-keepalive-connections 0, want >= 320 (profile x.yaml:4) {GET}"),
            id="no-kept-connections",
        ),
        pytest.param(
            NGINX,
            want("proxy-buffer-size", "=", "16k"),
            ("fail", f"{NAME}: proxy-buffer-size 4k by default, want 16k (profile x.yaml:4) {GET}"),
            id="default-is-too-small",
        ),
        pytest.param(
            setting(hsts="false"),
            want("hsts", "=", "true"),
            ("fail", f"{NAME}: hsts false, want true (profile x.yaml:4) {GET}"),
            id="hsts-off",
        ),
        pytest.param(
            setting(keep_alive="a lot"),
            want("keep-alive", "<=", "75"),
            ("fail", f"{NAME}: keep-alive a lot, want <= 75 (profile x.yaml:4) {GET}"),
            id="no-number",
        ),
        pytest.param(
            setting(proxy_busy_buffers_size=""),
            want("proxy-busy-buffers-size", "=", "8k"),
            ("fail", f"{NAME}: proxy-busy-buffers-size (empty), want 8k (profile x.yaml:4) {GET}"),
            id="empty",
        ),
        pytest.param(NGINX, NOTHING, ("skip", "no profile wants a setting of ingress"), id="nothing-wanted"),
    ],
)
def test_settings(controller: NginxController, expect: IngressExpectation, expected: tuple[str, str]) -> None:
    assert outcome(ingress.settings(cluster(controller), expect)) == expected


def test_without_a_wish_no_kept_connections_are_advice() -> None:
    judgement = ingress.settings(cluster(setting(upstream_keepalive_connections="0")), NOTHING)
    assert told(judgement, "advice") == [
        f"ConfigMap {NAME}: upstream-keepalive-connections 0: {NAME} opens a connection to a pod for every request"
    ]


RETIRED = (
    "is ingress-nginx, which is retired: the last releases are 1.15.1, 1.14.5 and 1.13.9 of March 2026, its repository is archived, and no "
    "fix of a vulnerability will come; a Gateway API implementation replaces it (ingress2gateway converts)"
)


def test_support() -> None:
    judgement = ingress.support(cluster(NGINX, classes={"nginx": "k8s.io/ingress-nginx"}))
    assert (outcome(judgement), told(judgement, "advice")) == (("pass", ""), [f"{NAME} {RETIRED}"])
    judgement = ingress.support(cluster(classes={"nginx": "k8s.io/ingress-nginx", "f5": "nginx.org/ingress-controller"}))
    assert told(judgement, "advice") == [f"nginx {RETIRED}"]
    gateways = {
        "cilium": "io.cilium/gateway-controller",
        "eg": "gateway.envoyproxy.io/gatewayclass-controller",
        "own": "example.org/mine",
        "ocp": "openshift.io/gateway-controller/v1",
    }
    judgement = ingress.support(cluster(gateways=gateways))
    assert judgement.evidence["gateways"] == {"cilium": "Cilium", "eg": "Envoy Gateway", "own": None, "ocp": "OpenShift (Istio)"}
    assert told(judgement, "remark") == ["GatewayClass own is of example.org/mine, an implementation that is not known here"]
    assert outcome(ingress.support(cluster())) == ("skip", "the cluster has no IngressClass, no GatewayClass and no ingress-nginx")
    assert outcome(ingress.support(cluster(unreadable={"IngressClass": "HTTP 403"}))) == (
        "skip",
        "ingress controllers are not known: HTTP 403",
    )
