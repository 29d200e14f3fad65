from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import LatencyExpectation, ReferencePoint, Wanted
from pytest_k8snet.judge import latency
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.latency import LatencyRecord
from tests.unit.judge.builder import document, outcome, told

EXPECT = LatencyExpectation()
HUB = ReferencePoint("hub", "198.51.100.7", 443, 5.0, "profile ours.yaml:3")
NEAR = LatencyExpectation(points=(HUB,))
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


def echo(p50_ms: float | None = 0.2, *, lost: int = 0, refused: str | None = None, error: str | None = None) -> dict[str, Any]:
    return {
        "samples": 0 if p50_ms is None else 50,
        "lost": lost,
        **dict.fromkeys(("p50_ms", "p90_ms", "p99_ms", "max_ms", "jitter_ms"), p50_ms),
        "refused": refused,
        "error": error,
    }


def with_echoes(*takes: dict[str, Any], host: dict[str, Any], pod: dict[str, Any]) -> Judgement:
    targets = {"node-2": {"takes": [*takes], "echo": {"host": host, "pod": pod}}}
    values: dict[str, Any] = {"pod_absent": None, "targets": targets, "points": []}
    return latency.pods_against_hosts(LatencyRecord.from_document(document("latency", "node-1", values)), EXPECT)


HEALTHY = (take("host", 0.2), take("pod", 0.3), take("host", 0.2))


def test_a_second_opinion_by_icmp() -> None:
    healthy = with_echoes(*HEALTHY, host=echo(0.1), pod=echo(0.15, lost=1))
    assert outcome(healthy) == ("pass", "")
    assert told(healthy, Weight.REMARK) == []
    assert healthy.evidence["node-2"][-1] == {
        "path": "pod",
        "by": "ICMP",
        "samples": 50,
        "lost": 1,
        "error": None,
        **dict.fromkeys(("p50_ms", "p90_ms", "p99_ms", "jitter_ms"), 0.15),
    }
    late = (take("host", 0.2), take("pod", 20.4, 20.4), take("host", 0.2))
    want = f"hosts 0.2 and 0.2 ms, want 1.2 ms at most: {WANT} 1.0 (built-in) ms more (TCP request and response on an open connection)"
    for pod_ms, where in ((20.1, "packets are late, whatever they carry"), (0.2, "not packets are late, but what is above IP")):
        judged = with_echoes(*late, host=echo(), pod=echo(pod_ms))
        assert outcome(judged) == ("fail", f"node-1: to node-2: p50 pods 20.4 ms (ICMP echo {pod_ms:g} ms: {where}), {want}")


def test_no_second_opinion_is_no_fault() -> None:
    range_ = "net.ipv4.ping_group_range is 1 0, and there is no CAP_NET_RAW"
    silent = with_echoes(*HEALTHY, host=echo(None, lost=2), pod=echo(None, refused=range_))
    assert outcome(silent) == ("pass", "")
    assert told(silent, Weight.REMARK) == [
        "node-1: ICMP echo from the node to node-2 is not answered",
        f"node-1: no ICMP echo from its pod: {range_}",
    ]
    assert silent.evidence["node-2"][-1] == {"path": "pod", "by": "ICMP", "samples": 0, "lost": 0, "error": range_}
    wrong = with_echoes(*HEALTHY, host=echo(), pod=echo(None, error="no route"))
    assert told(wrong, Weight.REMARK) == ["node-1: ICMP echo from its pod to node-2: no route"]


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
        pytest.param(
            [point(samples=1, asked=7, error="timed out")],
            "fail",
            "node-1: hub (198.51.100.7 port 443): 1 of 7 connections opened, want half of them within 5 ms (profile ours.yaml:3): "
            "timed out (TCP connect)",
            id="most-do-not-open",
        ),
        pytest.param([point(samples=4, asked=7, error="timed out")], "pass", "", id="half-of-them-open"),
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
