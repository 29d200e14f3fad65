from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.errors import CommandTimeout, MeasurementError, NoAgentError, ProbeError
from pytest_k8snet.measure import throughput
from pytest_k8snet.measure.throughput import disagree, read_result
from pytest_k8snet.plan import HOST_TAKES
from tests.unit.measure.faked import Cut, context


def take(path: str, mbit: float | None) -> dict[str, Any]:
    return {"path": path, "received_bps": None if mbit is None else mbit * 1e6, "error": "ended early" if mbit is None else None}


@pytest.mark.parametrize(
    ("takes", "again"),
    [
        pytest.param([("host", 46), ("pod", 45), ("host", 47)], False, id="agree"),
        pytest.param([("host", 46), ("pod", 39), ("host", 47)], True, id="pod-slower"),
        pytest.param([("host", 30), ("pod", 45), ("host", 31)], True, id="host-slower"),
        pytest.param([("host", 30), ("pod", 45), ("host", 46)], False, id="one-host-take-slower"),
        pytest.param([("host", 46), ("pod", 39), ("host", 47), ("pod", 46), ("host", 46)], False, id="agree-after-all"),
        pytest.param([("host", 46), ("pod", None), ("host", 47)], False, id="a-take-went-wrong"),
    ],
)
def test_takes_that_disagree_are_repeated(takes: list[tuple[str, float | None]], again: bool) -> None:
    assert disagree([take(*item) for item in takes]) is again


RECEIVED = {"bytes": 17658360, "bits_per_second": 46870605.4}


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"error": "unable to connect to server: Connection refused"}, "iperf3: unable to connect to server: Connection refused"),
        ({"error": "the server is busy", "end": {"sum_received": RECEIVED}}, "iperf3: the server is busy"),
        ({"end": {}}, "iperf3: no sum_received in its result: the receiver's count never came back"),
        ({"end": {"sum_received": {"bytes": 0, "bits_per_second": 0}}}, "iperf3: no sum_received in its result"),
        ({}, "iperf3: no sum_received in its result"),
    ],
    ids=["refused", "busy", "no-count", "nothing-received", "empty"],
)
def test_what_went_wrong_is_never_a_figure(result: dict[str, Any], message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        read_result(result)


def test_figures() -> None:
    read = read_result(
        {"end": {"sum_received": RECEIVED, "sum_sent": {"bytes": 17462880, "retransmits": 3}}, "start": {"tcp_mss_default": 1448}}
    )
    assert (read["received_bps"], read["retransmits"], read["mss_bytes"]) == (46870605.4, 3, 1448)
    assert read["cpu_sender_percent"] is None


def test_take_that_was_cut_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "_END_S", -1.0)  # the fake's take ends at once
    fake = FakeCluster(["node-1", "node-2"])
    answers = Cut(fake, "node-1", "pod", "iperf3_client")
    fake.answer("node-1", "iperf3_client", answers, role="pod")
    (document,) = throughput.take(context(fake, take_s=1, omit_s=0), ["node-1:node-2"])
    assert document.values is not None
    assert [(item["path"], item["error"], item["retried"]) for item in document.values["takes"]][:2] == [
        ("host", None, None),
        ("pod", None, "node-1: the exec stream ended"),
    ]
    assert (document.retried, answers.asked) == ("node-1: the exec stream ended", 2)


def test_node_that_goes_away_is_waited_for_once() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-2", "iperf3_server", CommandTimeout("node-2: no answer within 15 s"))
    (document,) = throughput.take(context(fake), ["node-1:node-2"])
    assert document.values is not None
    assert [(item["path"], item["error"]) for item in document.values["takes"]] == [
        ("host", "node-2: no answer within 15 s"),
        ("pod", "not taken: node-2: no answer within 15 s"),
        ("host", "not taken: node-2: no answer within 15 s"),
    ]


def test_probe_pod_that_is_gone_leaves_the_host_path() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-2", "iperf3_server", ProbeError("node-2: the probe pod is gone"), role="pod")
    (document,) = throughput.take(context(fake), ["node-1:node-2"])
    assert document.values is not None
    assert [item["error"] for item in document.values["takes"]] == [None, "node-2: the probe pod is gone", None]


def test_without_pods_the_host_path_is_measured() -> None:
    fake = FakeCluster(["node-1", "node-2"], pods=False)
    (document,) = throughput.take(context(fake), ["node-1:node-2"])
    assert document.values is not None
    assert [(item["path"], item["error"]) for item in document.values["takes"]] == [("host", None)] * HOST_TAKES
    assert document.values["pod_absent"] == "access fake makes no probe pods here"
    assert {role for _, role, _ in fake.requests} == {"host"}


def test_node_without_an_agent_makes_the_pair_unsupported() -> None:
    fake = FakeCluster(["node-1", "node-2"], pods=False)
    fake.answer("node-2", "run", NoAgentError("node-2: the node has no python3"))
    (document,) = throughput.take(context(fake), ["node-1:node-2"])
    assert (document.values, document.reason, document.unsupported) == (None, "node-2: the node has no python3", True)
