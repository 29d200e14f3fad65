from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.errors import RecordError
from pytest_k8snet.judge import service
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.idle import IdleRecord, Opened
from tests.unit.judge.builder import facts, outcome, told

PROXIES = ({"name": "kube-proxy", "namespace": "kube-system", "desired": 3, "ready": 3, "node_selector": {}, "pods": []},)
CLUSTER = Cluster("v1.37.2", (fake_node("node-1"),), {}, PROXIES, None)
ALIVE = Opened(keepalive_s=600, expires_s=900, waited_s=960.4, idle=None, used=None)
WHAT = "node-1: a connection of its pod to Service k8snet-1/probe-spread, with the pod on node-2,"
LATE = "the pod's kernel asks the other side only after 7200 s"

ADVICE = "node-1: connections through Services that nobody uses do not live for ever"


def judged(opened: Opened | None, *, cluster: Cluster = CLUSTER, mode: str | None = "ipvs", **changes: Any) -> Judgement:
    record = IdleRecord("node-1", 960, "k8snet-1/probe-spread", "node-2", {}, opened)
    error = None if mode else "Connection refused"
    proxy: dict[str, Any] = {"mode": mode, "mode_error": error, "listening": mode is not None, "processes": []}
    return service.idle(replace(record, **changes), facts(kube_proxy=proxy), cluster)


def test_alive() -> None:
    judgement = judged(ALIVE)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, Weight.ADVICE) == []
    assert judgement.evidence == {"idle_s": 960.4, "keepalive_s": 600, "ipvs_forgets_after_s": 900}


def test_alive_for_a_shorter_time_than_ipvs_remembers() -> None:
    judgement = judged(replace(ALIVE, keepalive_s=7200, waited_s=60.0))
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, Weight.ADVICE) == [f"{ADVICE}: IPVS forgets what nobody uses after 900 s, and {LATE}"]


@pytest.mark.parametrize(
    ("expires_s", "why", "command"),
    [
        (900, f"IPVS forgets what nobody uses after 900 s, and {LATE}", "ipvsadm -l --timeout"),
        (None, LATE, "sysctl net.netfilter.nf_conntrack_tcp_timeout_established"),
    ],
    ids=["ipvs", "conntrack"],
)
def test_dead(expires_s: int | None, why: str, command: str) -> None:
    judgement = judged(replace(ALIVE, keepalive_s=7200, expires_s=expires_s, idle="Connection reset by peer"))
    beside = "and one beside it that was used is alive"
    dead = f"{WHAT} that nobody used for 960 s is dead (Connection reset by peer), {beside}: {why}"
    assert outcome(judgement) == ("fail", f"{dead} ({command}; sysctl net.ipv4.tcp_keepalive_time)")


def test_the_way_itself_breaks_down() -> None:
    judgement = judged(replace(ALIVE, waited_s=31.2, idle="timed out", used="timed out"))
    assert outcome(judgement) == ("inconclusive", f"{WHAT} that was used all the time ended, too, after 31 s: timed out")


def test_nothing_could_be_opened() -> None:
    unseen = f"{WHAT} could not be opened: whether it would live on is not seen (NET-SERVICE-001 says more)"
    assert outcome(judged(None)) == ("inconclusive", unseen)
    nobody = "no kube-proxy runs in this cluster, and nothing is known to stand for it: no Service address leads anywhere"
    assert outcome(judged(None, cluster=replace(CLUSTER, kube_proxy_daemonsets=()), mode=None)) == ("skip", nobody)


def test_nobody_to_talk_to() -> None:
    none = "no probe pod on another node than node-1 answers: nothing can be far away"
    assert outcome(judged(None, endpoint=None)) == ("skip", none)
    gone = judged(None, endpoint=None, not_serving={"node-2": "node-2: evicted"})
    assert outcome(gone) == ("skip", f"{none} (node-2: evicted)")
    own = judged(None, endpoint=None, not_serving={"node-1": "node-1: evicted"})
    assert outcome(own) == ("error", "node-1: its probe pod could not be made to answer: evicted")


def test_what_is_not_asked_for() -> None:
    assert outcome(judged(None, asked_s=0)) == ("skip", "connections are left idle only when --k8snet-idle asks for it")


def test_documents_that_cannot_be_read() -> None:
    def document(values: dict[str, Any] | None) -> Document:
        reason = None if values else "gone"
        return Document(kind="idle", subject="node-1", started="x", duration_s=0.0, method="x", values=values, reason=reason)

    with pytest.raises(RecordError, match="node-1: no idle connections: gone"):
        IdleRecord.from_document(document(None))
    with pytest.raises(RecordError, match="node-1: the idle document is damaged"):
        IdleRecord.from_document(document({"x": 1}))
