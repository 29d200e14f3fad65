from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.expect.model import LatencyExpectation, Wanted
from pytest_k8snet.judge import throughput
from pytest_k8snet.record.throughput import ThroughputRecord
from tests.unit.judge.builder import document, outcome, told

EXPECT = LatencyExpectation()
OLD = "the recording is of a version that"
WANT = "2.0 (built-in) times the host path, or"
LOADED = "(TCP request and response beside iperf3)"
FULL = "node-1:node-2: while TCP fills the path, p50 pods"


def loaded(path: str, p50_ms: float | None, error: str | None = None, *, take_error: str | None = None) -> dict[str, Any]:
    samples = 0 if p50_ms is None else 300
    rtt = {"samples": samples, "p50_ms": p50_ms, "p99_ms": None if p50_ms is None else 2 * p50_ms, "max_ms": None, "error": error}
    return {"path": path, "error": take_error, "received_bps": None if take_error else 9e9, "rtt": None if take_error else rtt}


def crossing(*takes: dict[str, Any], absent: str | None = None) -> ThroughputRecord:
    values = {"source": "node-1", "target": "node-2", "seconds": 3, "omit_s": 1, "encapsulated": False, "takes": [*takes]}
    return ThroughputRecord.from_document(document("throughput", "node-1:node-2", {**values, "pod_absent": absent}))


@pytest.mark.parametrize(
    ("takes", "verdict", "message"),
    [
        pytest.param([loaded("host", 3), loaded("pod", 5), loaded("host", 4)], "pass", "", id="healthy"),
        pytest.param([loaded("host", 0.2), loaded("pod", 50), loaded("host", 0.2)], "pass", "", id="within-the-slack"),
        pytest.param([loaded("host", 80), loaded("pod", 158), loaded("host", 81)], "pass", "", id="hosts-wait-as-well"),
        pytest.param([loaded("host", 3), loaded("pod", 90), loaded("host", 3), loaded("pod", 5)], "pass", "", id="the-best-take-counts"),
        pytest.param(
            [loaded("host", 3), loaded("pod", 101.2), loaded("host", 4)],
            "fail",
            f"{FULL} 101 ms, hosts 3 and 4 ms, want 53 ms at most: {WANT} 50.0 (built-in) ms more {LOADED}",
            id="pods-queue",
        ),
        pytest.param(
            [loaded("host", 3), loaded("pod", 101.2), loaded("host", 55)],
            "inconclusive",
            f"{FULL} 101 ms, hosts 3 and 55 ms: the host takes differ too much to tell, "
            f"want 53 ms at most: {WANT} 50.0 (built-in) ms more {LOADED}",
            id="hosts-differ",
        ),
        pytest.param(
            [loaded("host", 3), loaded("pod", None, "10.244.2.5 port 4242: timed out"), loaded("host", 3)],
            "error",
            f"node-1:node-2: pod path: 10.244.2.5 port 4242: timed out {LOADED}",
            id="no-answer",
        ),
        pytest.param(
            [loaded("host", 3), loaded("pod", 5, "10.244.2.5 port 4242: timed out"), loaded("host", 3)],
            "error",
            f"node-1:node-2: pod path: answers ended after 300: 10.244.2.5 port 4242: timed out {LOADED}",
            id="answers-end-early",
        ),
        pytest.param(
            [loaded("host", 3), loaded("pod", 5, "timed out"), loaded("host", 3), loaded("pod", 200)],
            "fail",
            f"{FULL} 200 ms, hosts 3 and 3 ms, want 53 ms at most: {WANT} 50.0 (built-in) ms more {LOADED}",
            id="what-ended-early-is-not-the-best-take",
        ),
        pytest.param(
            [loaded("host", 3, "timed out"), loaded("pod", 5, "timed out"), loaded("host", 3), loaded("pod", 5)], "pass", "", id="once-more"
        ),
        pytest.param(
            [loaded("host", 3), loaded("pod", None, take_error="iperf3: refused"), loaded("host", 3)],
            "error",
            f"node-1:node-2: pod path: iperf3: refused {LOADED}",
            id="a-take-went-wrong",
        ),
        pytest.param(
            [loaded("host", None, "timed out"), loaded("pod", 5), loaded("host", None, "timed out")],
            "skip",
            "no answers between the nodes to compare with, and latency.loaded_p50_ms of no profile says what is wanted",
            id="closed-between-nodes",
        ),
        pytest.param([{**loaded("host", 3), "rtt": None}], "skip", f"{OLD} did not look at answers beside the load", id="older-recording"),
    ],
)
def test_under_load(takes: list[dict[str, Any]], verdict: str, message: str) -> None:
    assert outcome(throughput.under_load(crossing(*takes), EXPECT)) == (verdict, message)


def test_a_profile_limits_what_hosts_wait_for_as_well() -> None:
    limited = LatencyExpectation(loaded_p50_ms=Wanted(20.0, "profile ours.yaml:5"))
    both = crossing(loaded("host", 40), loaded("pod", 41), loaded("host", 40))
    assert outcome(throughput.under_load(both, limited)) == ("fail", f"{FULL} 41 ms, want 20.0 (profile ours.yaml:5) ms at most {LOADED}")
    closed = crossing(loaded("host", None, "timed out"), loaded("pod", 5), loaded("host", None, "timed out"))
    judgement = throughput.under_load(closed, limited)
    assert str(judgement.verdict) == "pass"
    assert told(judgement, "remark") == ["node-1:node-2: no answers between the nodes to compare with: timed out"]


def test_under_load_without_pods() -> None:
    assert outcome(throughput.under_load(crossing(absent="access ssh makes no probe pods"), EXPECT)) == (
        "skip",
        "access ssh makes no probe pods",
    )
