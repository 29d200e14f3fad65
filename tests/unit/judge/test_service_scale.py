from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import LatencyExpectation, ServiceExpectation, Wanted
from pytest_k8snet.judge import service
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.scale import ScaleRecord, Size
from tests.unit.judge.builder import facts, outcome, told

PROXIES = ({"name": "kube-proxy", "namespace": "kube-system", "desired": 3, "ready": 3, "node_selector": {}, "pods": []},)
CLUSTER = Cluster("v1.37.2", (fake_node("node-1"),), {}, PROXIES, None)


def size(frontends: int, p50_ms: float, **changes: Any) -> Size:
    times = tuple([p50_ms] * 198 + [p50_ms * 3] * 2)
    return replace(Size(frontends, -(-frontends // 100), 0.1, 1.5, 3.0, None, times, (0.1,) * 200, 0), **changes)


def scaled(*sizes: Size, mode: str = "ipvs", factor: Wanted[float] | None = None) -> Judgement:
    known = facts(kube_proxy={"mode": mode, "mode_error": None, "listening": True, "processes": []})
    expect = ServiceExpectation() if factor is None else ServiceExpectation(scale_factor=factor)
    return service.scale(ScaleRecord("node-1", "node-3", sizes), known, expect, LatencyExpectation(), CLUSTER)


SLOW = (
    "node-1: connecting takes 2.90 ms (p50) longer than to the pod itself with 1000 frontends of Services and 0.10 ms with 10, want at most"
)


def test_not_slower() -> None:
    judgement = scaled(size(10, 0.2), size(1000, 0.3), size(10_000, 1.1))
    assert outcome(judgement) == ("pass", "")
    assert judgement.evidence["1000 frontends"] == "p50 0.30 ms, p99 0.90 ms, answering 1.5 s after the first was made"


def test_a_node_that_is_busy_meanwhile() -> None:
    assert outcome(scaled(size(10, 0.2), size(1000, 7.0, direct_ms=(6.5,) * 200))) == ("pass", "")
    silent = "node-1: the last of 1000 frontends of Services: the pod itself answered no connection: how much the Service adds is not seen"
    assert outcome(scaled(size(10, 0.2), size(1000, 7.0, direct_ms=()))) == ("inconclusive", silent)


def test_slower() -> None:
    message = f"{SLOW} 2 times that or 1 ms more (built-in)"
    slow = size(10, 0.2), size(1000, 3.0)
    assert outcome(scaled(*slow)) == ("fail", message)
    advised = scaled(*slow, mode="iptables")
    assert outcome(advised) == ("pass", "")
    why = "rules of iptables are gone through one by one; ipvs and nftables modes look them up"
    assert told(advised, Weight.ADVICE) == [f"{message}: {why}"]
    wanted = scaled(*slow, mode="iptables", factor=Wanted(3.0, "profile x.yaml:3"))
    assert outcome(wanted) == ("fail", f"{SLOW} 3 times that or 1 ms more (profile x.yaml:3)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"answering_s": None, "error": "timed out", "connected_ms": (), "waited_s": 110.4},
            "the last of 1000 frontends of Services was not answered within 110 s after it was made: timed out",
        ),
        ({"unanswered": 2}, "the last of 1000 frontends of Services: 2 of 202 connections failed"),
    ],
    ids=["never", "some"],
)
def test_unanswered(changes: dict[str, Any], message: str) -> None:
    assert outcome(scaled(size(10, 0.2), size(1000, 0.2, **changes))) == ("fail", f"node-1: {message}")


def test_one_number_is_not_compared() -> None:
    judgement = scaled(size(10, 0.2))
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, Weight.REMARK) == ["node-1: there is one number of Services to look at, and nothing to compare it with"]


def test_what_is_not_asked_for() -> None:
    assert outcome(scaled()) == ("skip", "many Services are made only when --k8snet-service-scale asks for them")
    without = facts(kube_proxy={"mode": None, "mode_error": "Connection refused", "listening": False, "processes": []})
    silent = ScaleRecord("node-1", "node-3", (size(10, 0.2, answering_s=None, error="timed out", connected_ms=()),))
    nobody = replace(CLUSTER, kube_proxy_daemonsets=())
    none = "no kube-proxy runs in this cluster, and nothing is known to stand for it: no Service address leads anywhere"
    judgement = service.scale(silent, without, ServiceExpectation(), LatencyExpectation(), nobody)
    assert outcome(judgement) == ("skip", none)


def test_documents_that_cannot_be_read() -> None:
    def document(values: dict[str, Any] | None) -> Document:
        reason = None if values else "gone"
        return Document(kind="scale", subject="node-1", started="x", duration_s=0.0, method="x", values=values, reason=reason)

    with pytest.raises(RecordError, match="node-1: no connections to many Services: gone"):
        ScaleRecord.from_document(document(None))
    with pytest.raises(RecordError, match="node-1: the scale document is damaged"):
        ScaleRecord.from_document(document({"x": 1}))
