"""What judges of throughput make of nodes that had no processor to spare."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.expect.model import LatencyExpectation
from pytest_k8snet.judge import throughput
from pytest_k8snet.record.throughput import ThroughputRecord
from tests.unit.judge.builder import document, outcome, told
from tests.unit.judge.test_throughput import EXPECT, LINE, record, take, takes

WANT = "want at least 0.9 (built-in, encapsulation none)"
SLOW = "node-1:node-2: pods 30 Mbit/s, hosts 45 Mbit/s and 45 Mbit/s"
LEAST = "want at least 40 Mbit/s: 0.85 (built-in) of the payload that 50 Mbit/s carry (profile lab.yaml:4)"


def ticks(**spent: int) -> dict[str, int]:
    return {"user": 0, "nice": 0, "system": 0, "idle": 0, "iowait": 0, "irq": 0, "softirq": 0, "steal": 0, **spent}


def node(online: int = 1, busiest: dict[str, int] | None = None, **spent: int) -> dict[str, Any]:
    return {"online": online, "together": ticks(**spent), "busiest": ticks(**spent) if busiest is None else busiest}


IDLE = node(system=30, idle=70)
BUSY = node(user=60, system=35, idle=5)
ROBBED = node(user=10, steal=20, idle=70)


def slow(source: Any, target: Any, pod: float = 30, **more: Any) -> ThroughputRecord:
    both = {"processors": {"source": source, "target": target}}
    return record(takes(45, pod, 45, takes=[take("host", 45), take("pod", pod, **both), take("host", 45)], **more))


@pytest.mark.parametrize(
    ("source", "target", "disturbed"),
    [
        pytest.param(IDLE, BUSY, "node-2's processors were 95% busy during the pod take", id="target-busy"),
        pytest.param(BUSY, IDLE, "node-1's processors were 95% busy during the pod take", id="source-busy"),
        pytest.param(IDLE, ROBBED, "the hypervisor took 20% of node-2's processors' time during the pod take", id="stolen"),
    ],
)
def test_a_slow_path_between_busy_nodes_is_no_finding(source: Any, target: Any, disturbed: str) -> None:
    assert outcome(throughput.pod_against_host(slow(source, target), EXPECT, LINE)) == (
        "inconclusive",
        f"{SLOW}: {disturbed}, so 0.67 carries no verdict, {WANT}",
    )
    assert outcome(throughput.pod_against_line(slow(source, target), EXPECT, LINE)) == (
        "inconclusive",
        f"node-1:node-2: pod path 30 Mbit/s: {disturbed}, {LEAST}",
    )


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(IDLE, IDLE, id="idle"),
        pytest.param(None, None, id="nobody-counted"),
        pytest.param(IDLE, node(), id="nothing-counted"),
        pytest.param(IDLE, node(system=10, iowait=90), id="waiting-for-disks"),
    ],
)
def test_a_slow_path_between_idle_nodes_is_a_finding(source: Any, target: Any) -> None:
    assert throughput.pod_against_host(slow(source, target), EXPECT, LINE).verdict == "fail"
    assert throughput.pod_against_line(slow(source, target), EXPECT, LINE).verdict == "fail"


def test_what_busy_nodes_reach_they_reach() -> None:
    judgement = throughput.pod_against_host(slow(BUSY, BUSY, pod=44), EXPECT, LINE)
    assert judgement.verdict == "pass"
    assert judgement.evidence["takes"][1]["busy"] == {"node-1": {"busy": 0.95, "stolen": 0.0}, "node-2": {"busy": 0.95, "stolen": 0.0}}


def test_host_takes_without_processors_are_no_doubt() -> None:
    busy = {"processors": {"source": BUSY, "target": IDLE}}
    for more, verdict in (({}, "inconclusive"), (busy, "fail")):
        values = takes(45, 30, 30, takes=[take("host", 45), take("pod", 30), take("host", 30, **more)])
        assert throughput.pod_against_host(record(values), EXPECT, LINE).verdict == verdict


def test_a_rested_take_is_enough_for_a_finding() -> None:
    busy = {"processors": {"source": BUSY, "target": IDLE}}
    for pods, verdict in (((31, 30), "fail"), ((31,), "inconclusive")):
        found = [take("pod", pods[0], **busy), *(take("pod", mbit) for mbit in pods[1:])]
        taken = record(takes(45, 30, 45, takes=[take("host", 45), *found, take("host", 45)]))
        assert throughput.pod_against_host(taken, EXPECT, LINE).verdict == verdict
        assert throughput.pod_against_line(taken, EXPECT, LINE).verdict == verdict


def test_one_host_take_of_several_raises_no_doubt() -> None:
    for hosts, verdict in (((45, 30), "inconclusive"), ((45, 44, 30), "fail"), ((45, 30, 31), "inconclusive")):
        found = [take("pod", 30), *(take("host", mbit) for mbit in hosts)]
        assert throughput.pod_against_host(record(takes(45, 30, 45, takes=found)), EXPECT, LINE).verdict == verdict

    def answering(path: str, p50_ms: float) -> dict[str, Any]:
        return take(path, 45, rtt={"samples": 300, "p50_ms": p50_ms, "p99_ms": 2 * p50_ms, "max_ms": None, "error": None})

    for times, verdict in (((7.0, 29.8), "inconclusive"), ((7.1, 7.4, 7.0, 29.8), "fail"), ((7.1, 30.1, 7.0, 29.8), "inconclusive")):
        found = [answering("pod", 70.0), *(answering("host", p50_ms) for p50_ms in times)]
        assert throughput.under_load(record(takes(45, 45, 45, takes=found)), LatencyExpectation()).verdict == verdict


def test_a_slow_take_is_told_with_what_kept_the_processors() -> None:
    values = [take("host", 46), take("pod", 30, processors={"source": ROBBED, "target": IDLE}), take("pod", 45)]
    judgement = throughput.pod_against_host(record(takes(45, 44, 45, takes=values)), EXPECT, LINE)
    assert told(judgement, "remark") == [
        (
            "node-1:node-2: the takes of the pod path differ: 30 Mbit/s and 45 Mbit/s; the best one counts; "
            "the hypervisor took 20% of node-1's processors' time during the pod take that was slowest"
        )
    ]


def test_iperf3_that_uses_up_a_core_says_nothing_of_the_line() -> None:
    values = [take("host", 30, cpu_sender_percent=99.0), take("pod", 30), take("host", 29)]
    taken = record(takes(30, 30, 30, takes=values))
    assert outcome(throughput.host_against_line(taken, EXPECT, LINE)) == (
        "inconclusive",
        (
            "node-1:node-2: host path 30 Mbit/s and 29 Mbit/s: iperf3 used 99 % of a core: what more the line carries it cannot show, "
            "want at least 40 Mbit/s: 0.85 (built-in) of the payload that 50 Mbit/s carry (profile lab.yaml:4)"
        ),
    )


def test_one_processor_that_takes_in_all_packets_is_told() -> None:
    alone = node(4, ticks(softirq=97, idle=3), softirq=97, idle=303)
    judgement = throughput.pod_against_host(slow(IDLE, alone), EXPECT, LINE)
    assert judgement.verdict == "fail"
    assert told(judgement, "remark") == [
        (
            "node-1:node-2: one of node-2's 4 processors took in packets for 97% of the pod take, and all together were 24% busy: "
            "more queues or RPS would spread that"
        )
    ]


def test_late_answers_between_busy_nodes_are_no_doubt() -> None:
    def answering(path: str, p50_ms: float, source: Any = IDLE) -> dict[str, Any]:
        rtt = {"samples": 300, "p50_ms": p50_ms, "p99_ms": 2 * p50_ms, "max_ms": None, "error": None}
        return take(path, 45, rtt=rtt, processors={"source": source, "target": IDLE})

    for source, verdict in ((IDLE, "inconclusive"), (BUSY, "fail")):
        found = [answering("host", 34.9, source), answering("pod", 83.6), answering("host", 6.2)]
        assert throughput.under_load(record(takes(45, 45, 45, takes=found)), LatencyExpectation()).verdict == verdict
    every = [answering("host", 34.9, BUSY), answering("pod", 83.6), answering("host", 6.2, BUSY)]
    assert throughput.under_load(record(takes(45, 45, 45, takes=every)), LatencyExpectation()).verdict == "inconclusive"


def test_late_answers_of_busy_nodes_are_no_finding() -> None:
    def answering(path: str, p50_ms: float, target: Any) -> dict[str, Any]:
        rtt = {"samples": 300, "p50_ms": p50_ms, "p99_ms": 2 * p50_ms, "max_ms": None, "error": None}
        return take(path, 45, rtt=rtt, processors={"source": IDLE, "target": target})

    def crossing(target: Any) -> ThroughputRecord:
        values = takes(45, 45, 45, takes=[answering("host", 3, IDLE), answering("pod", 101.2, target), answering("host", 4, IDLE)])
        return ThroughputRecord.from_document(document("throughput", "node-1:node-2", values))

    assert throughput.under_load(crossing(IDLE), LatencyExpectation()).verdict == "fail"
    assert outcome(throughput.under_load(crossing(BUSY), LatencyExpectation())) == (
        "inconclusive",
        (
            "node-1:node-2: while TCP fills the path, p50 pods 101 ms, hosts 3 and 4 ms: "
            "node-2's processors were 95% busy during the pod take, want 53 ms at most: "
            "2.0 (built-in) times the host path, or 50.0 (built-in) ms more (TCP request and response beside iperf3)"
        ),
    )
