from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster, healthy_host_facts
from pytest_k8snet.cluster.ingress import Ingress, NginxController
from pytest_k8snet.judge import ingress
from pytest_k8snet.judge.model import Judgement, Verdict
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.facts import NodeFacts
from tests.unit.agent.test_nginx import DIRECTIVES, UPSTREAM

POD = "ingress-nginx/ingress-nginx-controller-6d8f7c9b5-x2x4z"
VALUES = {
    "keep-alive": "75",
    "keep-alive-requests": "1000",
    "large-client-header-buffers": "4  8k",
    "max-worker-connections": "16384",
    "upstream-keepalive-connections": "320",
    "upstream-keepalive-requests": "10000",
    "upstream-keepalive-time": "1h",
    "upstream-keepalive-timeout": "60",
    "hsts": "true",
}
CONTROLLER = NginxController(
    name="ingress-nginx/ingress-nginx-controller",
    image="registry.k8s.io/ingress-nginx/controller:v1.13.9",
    config_map="ingress-nginx/ingress-nginx-controller",
    keys=tuple(VALUES),
    values=VALUES,
)
INTERNAL = replace(CONTROLLER, name="ingress-nginx/ingress-nginx-controller-internal", values={"keep-alive": "10"})
RUNNING = {"pod": POD, "path": "/etc/nginx/nginx.conf", "directives": DIRECTIVES, "upstream": UPSTREAM}


def judged(*running: dict[str, Any], nginx: tuple[NginxController, ...] = (CONTROLLER,), **facts: Any) -> Judgement:
    values = {**healthy_host_facts(), "pod": None, "nginx": [*running], **facts}
    document = Document(kind="facts", subject="node-1", started="", duration_s=0, method="", values=values)
    cluster = replace(FakeCluster(["node-1"]).read_cluster(), ingress=Ingress(nginx=nginx))
    return ingress.running(NodeFacts.from_document(document), cluster)


def conf(**changes: str | None) -> dict[str, Any]:
    return {**RUNNING, "directives": {key: value for key, value in {**DIRECTIVES, **changes}.items() if value is not None}}


def upstream(**changes: str | None) -> dict[str, Any]:
    return {**RUNNING, "upstream": {key: value for key, value in {**UPSTREAM, **changes}.items() if value is not None}}


def of(**values: str) -> tuple[NginxController, ...]:
    return (replace(CONTROLLER, values={key.replace("_", "-"): value for key, value in values.items()}),)


FINE = {
    "healthy": judged(RUNNING),
    "nothing is set": judged(conf(keepalive_timeout="75s"), nginx=of()),
    "as many connections as there may be files": judged(RUNNING, nginx=of(max_worker_connections="0")),
    "no connection is kept": judged(
        upstream(keepalive=None, keepalive_timeout=None), nginx=of(upstream_keepalive_connections="0", upstream_keepalive_timeout="60")
    ),
    "a DaemonSet": judged({**RUNNING, "pod": "ingress-nginx/ingress-nginx-controller-x2x4z"}),
    "an older release without the upstream": judged({**RUNNING, "upstream": None}),
}


@pytest.mark.parametrize("judgement", FINE.values(), ids=FINE)
def test_as_it_should_be(judgement: Judgement) -> None:
    assert judgement.verdict is Verdict.PASS, judgement.message


def test_a_value_that_the_controller_has_not_taken() -> None:
    judgement = judged(conf(keepalive_timeout="75s"), nginx=of(keep_alive="30s"))
    assert judgement.verdict is Verdict.FAIL
    assert judgement.message == (
        f"node-1: pod {POD} runs with keepalive_timeout 75s, and ConfigMap ingress-nginx/ingress-nginx-controller says keep-alive 30s: "
        "the controller has not taken it; its log says why (kubectl -n ingress-nginx exec ingress-nginx-controller-6d8f7c9b5-x2x4z -- "
        "grep keepalive_timeout /etc/nginx/nginx.conf)"
    )


@pytest.mark.parametrize(
    ("running", "message"),
    [
        (conf(large_client_header_buffers="4 16k"), "large_client_header_buffers 4 16k, and ConfigMap"),
        (conf(keepalive_requests=None), "keepalive_requests (none), and ConfigMap"),
        (upstream(keepalive="32"), "keepalive 32 of upstream_balancer, and ConfigMap"),
        (upstream(keepalive=None), "keepalive (none) of upstream_balancer, and ConfigMap"),
        (upstream(keepalive_timeout="6s"), "says upstream-keepalive-timeout 60:"),
    ],
)
def test_what_is_wrong(running: dict[str, Any], message: str) -> None:
    judgement = judged(running)
    assert judgement.verdict is Verdict.FAIL
    assert message in judgement.message


def test_whose_pod_it_is() -> None:
    internal = {**conf(keepalive_timeout="10s"), "pod": "ingress-nginx/ingress-nginx-controller-internal-6d8f7c9b5-abcde"}
    assert judged(RUNNING, internal, nginx=(CONTROLLER, INTERNAL)).verdict is Verdict.PASS
    swapped = judged({**RUNNING, "pod": internal["pod"]}, nginx=(CONTROLLER, INTERNAL))
    assert "keepalive_timeout 75s, and ConfigMap" in swapped.message
    assert judged({**RUNNING, "pod": "web/nginx-6d8f7c9b5-abcde"}).message == "no nginx of ingress-nginx runs on this node"


def test_what_cannot_be_judged() -> None:
    unread = judged({**RUNNING, "directives": None})
    assert (unread.verdict, unread.message) == (Verdict.ERROR, f"node-1: pod {POD}: /etc/nginx/nginx.conf could not be read")
    failed = judged(errors={"nginx": "OSError()"})
    assert (failed.verdict, failed.message) == (Verdict.ERROR, "node-1: what nginx runs with was not read: OSError()")
    absent = judged(RUNNING, nginx=())
    assert (absent.verdict, absent.message) == (Verdict.SKIP, "the cluster has no ingress-nginx")
    without = judged(RUNNING, nginx=(replace(CONTROLLER, keys=None, values={}),))
    assert without.verdict is Verdict.PASS
    assert "everything is default" in without.findings[0].message


def test_an_older_recording_says_nothing() -> None:
    facts = {**healthy_host_facts(), "pod": None}
    del facts["nginx"]
    document = Document(kind="facts", subject="node-1", started="", duration_s=0, method="", values=facts)
    cluster = replace(FakeCluster(["node-1"]).read_cluster(), ingress=Ingress(nginx=(CONTROLLER,)))
    assert ingress.running(NodeFacts.from_document(document), cluster).unsupported
