"""What judges of throughput make of more streams than one, and of takes that were held to a rate."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.expect.model import LatencyExpectation
from pytest_k8snet.judge import throughput
from tests.unit.judge.builder import outcome, told
from tests.unit.judge.test_throughput import EXPECT, LINE, record, take, takes

HELD = "takes were held to 20 Mbit/s (--k8snet-bitrate)"


@pytest.mark.parametrize(
    ("version", "streams", "used", "limits"),
    [
        pytest.param("iperf 3.18", 4, 200.0, None, id="of-four-threads"),
        pytest.param("iperf 3.16", 4, 390.0, "iperf3 used 390 % of 4 cores", id="all-of-four-threads"),
        pytest.param("iperf 3.15", 4, 99.0, "iperf3 used 99 % of a core", id="before-threads"),
        pytest.param(None, 4, 99.0, "iperf3 used 99 % of a core", id="version-not-known"),
        pytest.param("iperf 3.18", 1, 99.0, "iperf3 used 99 % of a core", id="one-stream"),
    ],
)
def test_iperf3_has_a_thread_a_stream(version: str | None, streams: int, used: float, limits: str | None) -> None:
    slow = take("host", 30, cpu_sender_percent=used, iperf3={"version": version})
    taken = record(takes(30, 30, 30, takes=[slow, take("pod", 30), take("host", 29)], streams=streams))
    judgement = throughput.host_against_line(taken, EXPECT, LINE)
    assert judgement.evidence["streams"] == streams
    if limits is None:
        assert judgement.verdict == "fail"
    else:
        verdict, message = outcome(judgement)
        assert verdict == "inconclusive"
        assert message.startswith(f"node-1:node-2: host path 30 Mbit/s and 29 Mbit/s: {limits}: what more the line carries it cannot show,")


def held(mbit: float, **more: Any) -> Any:
    return record(takes(mbit, mbit, mbit, bitrate_bps=20_000_000, **more))


def test_what_was_held_to_a_rate_says_nothing_of_the_line() -> None:
    wanted = ("skip", f"{HELD}: at least 40 Mbit/s would be wanted of them")
    assert outcome(throughput.host_against_line(held(20), EXPECT, LINE)) == wanted
    assert outcome(throughput.pod_against_line(held(20), EXPECT, LINE)) == wanted
    assert throughput.under_load(held(20), LatencyExpectation()).skip_reason == f"{HELD}: that may not fill the path"


def test_what_was_held_to_a_rate_is_compared_all_the_same() -> None:
    judgement = throughput.pod_against_host(held(20), EXPECT, "no line rate")
    assert judgement.verdict == "pass"
    assert told(judgement, "remark") == [f"node-1:node-2: {HELD}: faster was not tried"]
    slow = record(takes(20, 10, 20, bitrate_bps=20_000_000))
    assert throughput.pod_against_host(slow, EXPECT, "no line rate").verdict == "fail"


def test_a_rate_above_what_is_wanted_of_the_line_hides_nothing() -> None:
    taken = record(takes(45, 45, 45, bitrate_bps=48_000_000))
    assert throughput.host_against_line(taken, EXPECT, LINE).verdict == "pass"
