from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import LatencyExpectation, ReferencePoint, Wanted
from pytest_k8snet.judge import latency
from pytest_k8snet.record.latency import LatencyRecord
from pytest_k8snet.record.throughput import ThroughputRecord
from tests.unit.judge.builder import document, outcome, told

EXPECT = LatencyExpectation()
HUB = ReferencePoint("hub", "198.51.100.7", 443, 5.0, "profile ours.yaml:3")
NEAR = LatencyExpectation(points=(HUB,))
OLD = "the recording is of a version that"
WANT = "2.0 (built-in) times the host path, or"


def take(path: str, p50_ms: float, p99_ms: float | None = None, error: str | None = None, *, closed: bool = True) -> dict[str, Any]:
    p99 = p50_ms * 2 if p99_ms is None else p99_ms
    figures = {"p50_ms": p50_ms, "p90_ms": p50_ms, "p99_ms": p99, "max_ms": p99, "jitter_ms": 0.1}
    return {
        "path": path,
        "samples": 100,
        "error": error,
        "closed": error is not None and closed,
        **(dict.fromkeys(figures) if error else figures),
    }


def record(*takes: dict[str, Any], points: list[dict[str, Any]] | None = None, absent: str | None = None) -> LatencyRecord:
    values = {"pod_absent": absent, "targets": {"node-2": {"takes": [*takes]}} if takes else {}, "points": points or []}
    return LatencyRecord.from_document(document("latency", "node-1", values))


def point(**changes: Any) -> dict[str, Any]:
    return {"name": "hub", "address": "198.51.100.7", "port": 443, "samples": 7, "p50_ms": 3.2, "error": None, **changes}


@pytest.mark.parametrize(
    ("takes", "verdict", "message"),
    [
        pytest.param([take("host", 0.2), take("pod", 0.3), take("host", 0.2)], "pass", "", id="healthy"),
        pytest.param([take("host", 0.05), take("pod", 0.9), take("host", 0.05)], "pass", "", id="within-the-slack"),
        pytest.param([take("host", 30), take("pod", 55), take("host", 30)], "pass", "", id="within-the-factor"),
        pytest.param([take("host", 0.2), take("pod", 25), take("host", 0.2), take("pod", 0.3)], "pass", "", id="one-slow-take-of-two"),
        pytest.param(
            [take("host", 0.2), take("pod", 20.4, 21), take("host", 0.25), take("pod", 20.3, 20.9)],
            "fail",
            "node-1: to node-2: p50 pods 20.4 and 20.3 ms, hosts 0.2 and 0.25 ms, "
            f"want 1.2 ms at most: {WANT} 1.0 (built-in) ms more (TCP request and response on an open connection)\n"
            "node-1: to node-2: p99 pods 21 and 20.9 ms, hosts 0.4 and 0.5 ms, "
            f"want 20.4 ms at most: {WANT} 20.0 (built-in) ms more (TCP request and response on an open connection)",
            id="delayed",
        ),
        pytest.param(
            [take("host", 0.2, 0.4), take("pod", 0.3, 41), take("host", 0.2, 0.4)],
            "fail",
            "node-1: to node-2: p99 pods 41 ms, hosts 0.4 and 0.4 ms, want 20.4 ms at most: "
            f"{WANT} 20.0 (built-in) ms more (TCP request and response on an open connection)",
            id="bursts",
        ),
        pytest.param(
            [take("host", 0.2), take("pod", 3), take("host", 2.8)],
            "inconclusive",
            "node-1: to node-2: p50 pods 3 ms, hosts 0.2 and 2.8 ms: the host takes differ too much to tell, "
            f"want 1.2 ms at most: {WANT} 1.0 (built-in) ms more (TCP request and response on an open connection)",
            id="host-takes-differ",
        ),
        pytest.param(
            [take("host", 0.2), take("pod", 0, error="10.244.2.5 port 5201: timed out"), take("host", 0.2)],
            "skip",
            "nothing of this node's pod gets to any other node's: NET-REACH-001 judges that",
            id="no-connection",
        ),
        pytest.param(
            [take("host", 0.2), take("pod", 0, error="node-2 does not serve: no python3", closed=False), take("host", 0.2)],
            "error",
            "node-1: to node-2: pod path: node-2 does not serve: no python3 (TCP request and response on an open connection)",
            id="nobody-serves",
        ),
        pytest.param([take("host", 0.2, 90), take("pod", 0.3, 300), take("host", 0.2, 700)], "pass", "", id="uneven-p99-of-both"),
        pytest.param(
            [take("host", 0.2), take("pod", 0.3, error="refused"), take("host", 0.2), take("pod", 0.3)],
            "error",
            "node-1: to node-2: pod path: refused (TCP request and response on an open connection)",
            id="one-connection-of-two",
        ),
        pytest.param([take("host", 0.2)], "error", "node-1: to node-2: no take of the pod path was recorded", id="no-take"),
    ],
)
def test_pods_against_hosts(takes: list[dict[str, Any]], verdict: str, message: str) -> None:
    assert outcome(latency.pods_against_hosts(record(*takes), EXPECT)) == (verdict, message)


CLOSED = "10.0.0.2 port 5201: timed out"


def test_without_a_host_path_quick_pods_are_within_whatever_it_would_be() -> None:
    """What is not more than the slack is not more than any host path and the slack."""
    judgement = latency.pods_against_hosts(record(take("host", 0, error=CLOSED), take("pod", 0.9), take("host", 0, error=CLOSED)), EXPECT)
    assert str(judgement.verdict) == "pass"
    assert told(judgement, "remark") == [
        f"node-1: to node-2: no host path to compare with ({CLOSED}); pods are within what they may take more"
    ]


def test_without_a_host_path_slow_pods_cannot_be_judged() -> None:
    judgement = latency.pods_against_hosts(record(take("host", 0, error=CLOSED), take("pod", 1.1), take("host", 0, error=CLOSED)), EXPECT)
    assert outcome(judgement) == ("error", f"node-1: to node-2: host path: {CLOSED} (TCP request and response on an open connection)")


def test_profiles_decide() -> None:
    taken = record(take("host", 0.2), take("pod", 0.9), take("host", 0.2))
    strict = LatencyExpectation(slack_ms=Wanted(0.1, "profile ours.yaml:4"))
    verdict, message = outcome(latency.pods_against_hosts(taken, strict))
    assert verdict == "fail"
    assert "want 0.4 ms at most: 2.0 (built-in) times the host path, or 0.1 (profile ours.yaml:4) ms more" in message


def test_evidence_has_the_figures() -> None:
    judgement = latency.pods_against_hosts(record(take("host", 0.2), take("pod", 0.3), take("host", 0, error="refused")), EXPECT)
    assert judgement.evidence["node-2"][1] == {
        "path": "pod",
        "samples": 100,
        "error": None,
        "p50_ms": 0.3,
        "p90_ms": 0.3,
        "p99_ms": 0.6,
        "jitter_ms": 0.1,
    }
    assert judgement.evidence["node-2"][2] == {"path": "host", "samples": 100, "error": "refused"}


@pytest.mark.parametrize(
    ("points", "verdict", "message"),
    [
        pytest.param([point()], "pass", "", id="near"),
        pytest.param(
            [point(p50_ms=12.345)],
            "fail",
            "node-1: hub (198.51.100.7 port 443): half of the connections take more than 12.3 ms to open, "
            "want 5 ms at most (profile ours.yaml:3) (TCP connect)",
            id="far",
        ),
        pytest.param(
            [point(p50_ms=None, samples=0, error="timed out")],
            "fail",
            "node-1: hub (198.51.100.7 port 443): no connection: timed out (TCP connect)",
            id="not-reached",
        ),
        pytest.param([], "error", "node-1: hub (198.51.100.7 port 443): was not measured", id="not-measured"),
        pytest.param([point(port=80)], "error", "node-1: hub (198.51.100.7 port 443): was not measured", id="another-one-was"),
    ],
)
def test_reference_points(points: list[dict[str, Any]], verdict: str, message: str) -> None:
    assert outcome(latency.reference_points(record(points=points), NEAR)) == (verdict, message)


def test_connections_that_did_not_open_are_told() -> None:
    judgement = latency.reference_points(record(points=[point(error="timed out", samples=6)]), NEAR)
    assert str(judgement.verdict) == "pass"
    assert told(judgement, "remark") == ["node-1: hub (198.51.100.7 port 443): some connections did not open: timed out"]


def test_where_there_is_nothing_to_judge() -> None:
    skip = "access ssh makes no probe pods"
    assert outcome(latency.pods_against_hosts(record(absent=skip), EXPECT)) == ("skip", skip)
    assert outcome(latency.reference_points(record(absent=skip), NEAR)) == ("skip", skip)
    assert outcome(latency.pods_against_hosts(record(), EXPECT)) == ("skip", "there is no other node that this one is paired with")
    assert outcome(latency.reference_points(record(), EXPECT)) == ("skip", "no profile names a reference point (latency.points)")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "node-1: no latency: no route"),
        ({"pod_absent": None}, "node-1: the latency document is damaged: KeyError('targets')"),
        (
            {"pod_absent": None, "targets": {"node-2": {"takes": [take("wire", 1)]}}, "points": []},
            "node-1: the latency document is damaged: ValueError(\"path 'wire' is neither host nor pod\")",
        ),
    ],
)
def test_damaged(values: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        LatencyRecord.from_document(document("latency", "node-1", values, None if values else "no route"))
    assert str(caught.value) == message


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
    assert outcome(latency.under_load(crossing(*takes), EXPECT)) == (verdict, message)


def test_a_profile_limits_what_hosts_wait_for_as_well() -> None:
    limited = LatencyExpectation(loaded_p50_ms=Wanted(20.0, "profile ours.yaml:5"))
    both = crossing(loaded("host", 40), loaded("pod", 41), loaded("host", 40))
    assert outcome(latency.under_load(both, limited)) == ("fail", f"{FULL} 41 ms, want 20.0 (profile ours.yaml:5) ms at most {LOADED}")
    closed = crossing(loaded("host", None, "timed out"), loaded("pod", 5), loaded("host", None, "timed out"))
    judgement = latency.under_load(closed, limited)
    assert str(judgement.verdict) == "pass"
    assert told(judgement, "remark") == ["node-1:node-2: no answers between the nodes to compare with: timed out"]


def test_under_load_without_pods() -> None:
    assert outcome(latency.under_load(crossing(absent="access ssh makes no probe pods"), EXPECT)) == (
        "skip",
        "access ssh makes no probe pods",
    )
