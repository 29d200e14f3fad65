from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.errors import AccessError, CommandTimeout
from pytest_k8snet.expect.model import LatencyExpectation
from pytest_k8snet.judge import latency as judge
from pytest_k8snet.measure import latency, wakeups
from pytest_k8snet.measure.latency import far_apart, figures
from pytest_k8snet.measure.registry import MeasureContext
from pytest_k8snet.options import PairChoice
from pytest_k8snet.plan import choose_pairs
from pytest_k8snet.record.latency import Echo, LatencyRecord
from tests.unit.measure.faked import context


def paired(fake: FakeCluster, **changes: Any) -> MeasureContext:
    return replace(context(fake), pairs=choose_pairs(PairChoice("all"), [*fake.nodes]), **changes)


def take(path: str, p50: float, p99: float, error: str | None = None) -> dict[str, Any]:
    return {"path": path, "p50_ms": p50, "p99_ms": p99, "error": error}


@pytest.mark.parametrize(
    ("takes", "again"),
    [
        pytest.param([take("host", 0.2, 0.4), take("pod", 0.3, 0.6), take("host", 0.2, 0.4)], False, id="alike"),
        pytest.param([take("host", 0.2, 0.4), take("pod", 0.9, 1.6), take("host", 0.2, 0.4)], True, id="pods-slower"),
        pytest.param([take("host", 0.2, 0.4), take("pod", 0.3, 9.0), take("host", 0.2, 0.4)], True, id="bursts"),
        pytest.param([take("host", 0.2, 0.4), take("pod", 9, 9), take("host", 1, 1), take("pod", 0.3, 0.6)], False, id="once-alike"),
        pytest.param([take("host", 0.2, 0.4), take("pod", 9, 9, "refused"), take("host", 1, 1)], False, id="went-wrong"),
    ],
)
def test_takes_that_are_far_apart_are_repeated(takes: list[dict[str, Any]], again: bool) -> None:
    assert far_apart(takes) is again


def test_figures() -> None:
    assert figures([1.0]) == {"p50_ms": 1.0, "p90_ms": 1.0, "p99_ms": 1.0, "max_ms": 1.0}
    assert figures([float(number) for number in range(100)]) == {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "max_ms": 99.0}


def test_every_pair_is_measured_in_turns() -> None:
    fake = FakeCluster()
    documents = {item.subject: item for item in latency.take(paired(fake, reference_points=[("hub", "198.51.100.7", 443)]), [*fake.nodes])}
    record = LatencyRecord.from_document(documents["node-2"])
    assert {name: [item.path for item in takes] for name, takes in record.targets.items()} == {
        name: ["host", "pod", "host"] for name in ("node-3", "node-1")
    }
    assert [(point.name, point.p50_ms, point.asked) for point in record.points] == [("hub", 0.503, latency.POINT_SAMPLES)]
    assert str(judge.pods_against_hosts(record, LatencyExpectation()).verdict) == "pass"
    served = [(node, role) for node, role, op in fake.requests if op == "pathmtu.serve"]
    assert sorted(served) == sorted((node, role) for node, role, op in fake.requests if op == "pathmtu.stop")
    assert len(served) == 6


def echoes(fake: FakeCluster, node: str = "node-1") -> dict[str, dict[str, Echo]]:
    documents = {item.subject: item for item in latency.take(paired(fake), [*fake.nodes])}
    found = LatencyRecord.from_document(documents[node]).echoes
    return {target: {echo.path: echo for echo in some} for target, some in found.items()}


def test_a_second_opinion_by_icmp() -> None:
    found = echoes(FakeCluster(["node-1", "node-2"]))["node-2"]
    assert {path: (echo.samples, echo.lost, echo.p50_ms, echo.jitter_ms, echo.error, echo.refused) for path, echo in found.items()} == {
        "host": (50, 0, 0.175, 0.01, None, None),
        "pod": (50, 0, 0.225, 0.01, None, None),
    }


def test_where_icmp_is_not_allowed_one_target_is_asked() -> None:
    fake = FakeCluster()
    fake.answer("node-1", "latency.echo", {"refused": "no", "sorted_ms": [], "jitter_ms": 0.0, "lost": 0}, role="pod")
    found = echoes(fake)
    assert {target: (some["pod"].refused, some["host"].samples) for target, some in found.items()} == {
        "node-2": ("no", 50),
        "node-3": ("no", 50),
    }
    assert [(node, role) for node, role, op in fake.requests if op == "latency.echo" and node == "node-1"].count(("node-1", "pod")) == 1


def test_where_nobody_answers_icmp_two_targets_are_asked() -> None:
    fake = FakeCluster(["node-1", "node-2", "node-3", "node-4"])
    fake.answer("node-1", "latency.echo", {"refused": None, "sorted_ms": [], "jitter_ms": 0.0, "lost": 2}, role="host")
    found = echoes(fake)
    assert [(some["host"].samples, some["host"].lost, some["host"].refused) for some in found.values()] == [
        (0, 2, None),
        (0, 2, None),
        (0, 0, "the first 2 that were asked did not answer"),
    ]
    assert {some["pod"].samples for some in found.values()} == {50}


def test_icmp_that_goes_wrong_takes_nothing_else_with_it() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-1", "latency.echo", AccessError("no route"), role="pod")
    found = echoes(fake)["node-2"]
    assert (found["pod"].error, found["pod"].p50_ms, found["host"].samples) == ("no route", None, 50)
    fake.answer("node-1", "latency.echo", CommandTimeout("no answer"), role="pod")
    documents = {item.subject: item for item in latency.take(paired(fake), [*fake.nodes])}
    assert documents["node-1"].reason == "no answer", "the way broke"


def test_nobody_answers_datagrams() -> None:
    """They are not needed, and answers may be larger than questions."""
    fake = FakeCluster()
    asked: dict[str, Any] = {}
    for role in ("host", "pod"):

        def serve(params: Mapping[str, Any], role: str = role) -> dict[str, Any]:
            asked[role] = params["secret"]
            return {"number": 1, "port": params["port"], "mtu": 1500}

        fake.answer("node-1", "pathmtu.serve", serve, role=role)
    assert all(item.reason is None for item in latency.take(paired(fake), [*fake.nodes]))
    assert asked == {"host": None, "pod": None}


def test_what_cannot_serve_is_an_error_of_those_who_ask_it() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-2", "pathmtu.serve", AccessError("node-2: no python3"), role="pod")
    documents = {item.subject: item for item in latency.take(paired(fake), [*fake.nodes])}
    errors = [take.error for take in LatencyRecord.from_document(documents["node-1"]).targets["node-2"] if take.path == "pod"]
    assert errors == ["node-2 does not serve: node-2: no python3"]
    assert {take.error for take in LatencyRecord.from_document(documents["node-2"]).targets["node-1"]} == {None}


def test_what_goes_wrong_is_never_a_figure() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-1", "latency.rtt", AccessError("10.244.2.5 port 5201: timed out"), role="pod")
    fake.answer("node-2", "latency.rtt", CommandTimeout("node-2: no answer"), role="pod")
    documents = {item.subject: item for item in latency.take(paired(fake), [*fake.nodes])}
    judgement = judge.pods_against_hosts(LatencyRecord.from_document(documents["node-1"]), LatencyExpectation())
    assert [finding.message for finding in judgement.findings] == ["node-1: to node-2: pod path: 10.244.2.5 port 5201: timed out"]
    assert str(judgement.verdict) == "skip"
    assert documents["node-2"].reason == "node-2: no answer"


def test_without_pods_nothing_is_sent() -> None:
    fake = FakeCluster(["node-1", "node-2"], pods=False)
    (first, _) = latency.take(paired(fake), [*fake.nodes])
    assert LatencyRecord.from_document(first).pod_absent == "access fake makes no probe pods here"
    assert "latency.rtt" not in {op for _, _, op in fake.requests}


def late(*gaps: float) -> dict[str, Any]:
    return {"late_ms": sorted([0.1] * 500 + [*gaps]), "processor": {"user": 1, "idle": 99, "steal": 0}}


def test_late_wakeups_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeups, "PAUSES_S", (0.0, 0.001, 0.002))
    fake = FakeCluster(["node-1", "node-2", "node-3"])
    answers = iter([late(70.0, 80.0), late(12.0)])
    fake.answer("node-1", "latency.wakeups", lambda _: next(answers))
    fake.answer("node-2", "latency.wakeups", late(150.0))
    found = {item.subject: item.values for item in wakeups.take(context(fake), [*fake.nodes])}
    assert found["node-1"] is not None
    assert found["node-2"] is not None
    assert found["node-3"] is not None
    assert [(item["late_share"], item["gaps"], item["longest_ms"]) for item in found["node-1"]["takes"]] == [
        (0.15, 2, [70.0, 80.0]),
        (0.012, 1, [12.0]),
    ]
    assert [item["late_share"] for item in found["node-2"]["takes"]] == [0.15] * 4, "as often as there are pauses, and once"
    assert [item["late_share"] for item in found["node-3"]["takes"]] == [0.0]
