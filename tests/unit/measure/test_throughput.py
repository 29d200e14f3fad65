from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from pytest_k8snet.access.fake import RATE_BPS, FakeCluster
from pytest_k8snet.errors import AccessError, CommandTimeout, MeasurementError, NoAgentError, ProbeError
from pytest_k8snet.measure import throughput
from pytest_k8snet.measure.throughput import disagree, read_result
from pytest_k8snet.plan import HOST_TAKES
from pytest_k8snet.record.document import Document
from tests.unit.measure.faked import Cut, context


def take(path: str, mbit: float | None, p50_ms: float | None = None) -> dict[str, Any]:
    error = "ended early" if mbit is None else None
    return {"path": path, "received_bps": None if mbit is None else mbit * 1e6, "error": error, "rtt": {"p50_ms": p50_ms}}


@pytest.mark.parametrize(
    ("takes", "again"),
    [
        pytest.param([("host", 46), ("pod", 45), ("host", 47)], False, id="agree"),
        pytest.param([("host", 46), ("pod", 39), ("host", 47)], True, id="pod-slower"),
        pytest.param([("host", 30), ("pod", 45), ("host", 31)], True, id="host-slower"),
        pytest.param([("host", 30), ("pod", 45), ("host", 46)], False, id="one-host-take-slower"),
        pytest.param([("host", 46), ("pod", 39), ("host", 47), ("pod", 46), ("host", 46)], False, id="agree-after-all"),
        pytest.param([("host", 46), ("pod", None), ("host", 47)], False, id="a-take-went-wrong"),
        pytest.param([("host", 46, 7.0), ("pod", 46, 57.5), ("host", 47, 17.5)], True, id="answers-late"),
        pytest.param([("host", 46, 7.0), ("pod", 46, 36.0), ("host", 47, 17.5)], False, id="answers-hardly-later"),
        pytest.param([("host", 46, 7.0), ("pod", 46, 57.5), ("host", 47, 17.5), ("pod", 46, 9.0)], False, id="answers-in-time-after-all"),
        pytest.param([("host", 46), ("pod", 46, 57.5), ("host", 47)], False, id="no-answers-between-nodes"),
    ],
)
def test_takes_that_disagree_are_repeated(takes: list[tuple[Any, ...]], again: bool) -> None:
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


RING = [f"node-{number}:node-{number % 6 + 1}" for number in range(1, 7)]
SOME = ["node-1:node-2", "node-3:node-4", "node-5:node-6"]


class Rates:
    """A cluster whose nodes send at rates that depend on how many do, as those behind one uplink of virtual machines."""

    def __init__(self, bps: Callable[[str, str, int], float]) -> None:
        self.fake = FakeCluster([f"node-{number}" for number in range(1, 7)])
        self._bps = bps
        for node in self.fake.nodes:
            for role in ("host", "pod"):
                self.fake.answer(node, "iperf3_client", partial(self._client, node, role), role=role)

    def _client(self, node: str, role: str, params: Mapping[str, Any]) -> Any:
        answer = self.fake._iperf3(node, params)
        answer["result"]["end"]["sum_received"]["bits_per_second"] = self._bps(node, role, self.company)
        return answer

    company = 1

    def measure(self, monkeypatch: pytest.MonkeyPatch, pairs: list[str], **settings: Any) -> list[Document]:
        together = throughput._together

        def watched(load: throughput._Load, pairs: Sequence[str], *rest: Any) -> Any:
            self.company = len(pairs)
            return together(load, pairs, *rest)

        monkeypatch.setattr(throughput, "_together", watched)
        return [*throughput.take(context(self.fake, take_s=1, omit_s=0, **settings), pairs)]


def beside(documents: list[Document]) -> dict[str, tuple[list[str], int]]:
    """Return for each pair what was measured beside it, and how many takes were made before, in company."""
    return {item.subject: (item.values["beside"], len(item.values["takes_in_company"])) for item in documents if item.values is not None}


def test_pairs_without_a_node_in_common_are_measured_together(monkeypatch: pytest.MonkeyPatch) -> None:
    found = beside(Rates(lambda *_: 1e9).measure(monkeypatch, RING))
    assert {pair: others for pair, (others, _) in found.items()} == {
        RING[0]: [],
        RING[1]: [RING[3], RING[5]],
        RING[3]: [RING[1], RING[5]],
        RING[5]: [RING[1], RING[3]],
        RING[2]: [RING[4]],
        RING[4]: [RING[2]],
    }
    assert {before for _, before in found.values()} == {0}
    found = beside(Rates(lambda *_: 1e9).measure(monkeypatch, RING, max_parallel=1))
    assert [*found.values()] == [([], 0)] * 6


@pytest.mark.parametrize("slower", ["host", "pod"])
def test_a_pair_that_did_worse_in_company_is_measured_again_alone(monkeypatch: pytest.MonkeyPatch, slower: str) -> None:
    rates = Rates(lambda node, role, company: 5e8 if company > 1 and node == "node-4" and slower in (role, "host") else 1e9)
    documents = rates.measure(monkeypatch, RING)
    found = beside(documents)
    assert found[RING[3]] == ([], 3)
    assert found[RING[1]] == ([RING[3], RING[5]], 0)
    (again,) = (item.values for item in documents if item.subject == RING[3])
    assert again is not None
    assert {take["received_bps"] for take in again["takes"]} == {1e9}
    assert {take["received_bps"] for take in again["takes_in_company"]} == ({5e8} if slower == "host" else {5e8, 1e9})


def test_where_company_slows_most_pairs_they_are_measured_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = beside(Rates(lambda node, role, company: 1e9 / company).measure(monkeypatch, RING))
    assert {pair for pair, (_, before) in found.items() if before} == {RING[1], RING[3], RING[5]}
    assert {str(others) for others, _ in found.values()} == {"[]"}


def test_without_a_figure_of_a_pair_alone_there_is_no_company(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates(lambda *_: 1e9)
    rates.fake.answer("node-2", "iperf3_server", MeasurementError("port kept closed"))
    found = beside(rates.measure(monkeypatch, SOME))
    assert found == {SOME[0]: ([], 0), SOME[1]: ([], 0), SOME[2]: ([], 0)}


def answers(fake: FakeCluster) -> list[tuple[int, float | None, str | None]]:
    (document,) = throughput.take(context(fake, take_s=1, omit_s=0), ["node-1:node-2"])
    assert document.values is not None
    assert [item["error"] for item in document.values["takes"]] == [None, None, None]
    return [(item["rtt"]["samples"], item["rtt"]["p50_ms"], item["rtt"]["error"]) for item in document.values["takes"]]


def test_answers_beside_the_load() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    assert answers(fake) == [(300, 1.15, None), (300, 1.25, None), (300, 1.15, None)]
    asked = [
        op
        for node, role, op in fake.requests
        if (node, role) == ("node-1", "pod") and op in ("latency.begin", "iperf3_client", "latency.end")
    ]
    assert asked == ["latency.begin", "iperf3_client", "latency.end"]
    assert [role for node, role, op in fake.requests if (node, op) == ("node-2", "pathmtu.stop")] == ["host", "pod", "host"]


@pytest.mark.parametrize(
    ("node", "op", "answer", "error"),
    [
        ("node-2", "pathmtu.serve", AccessError("node-2: no free port"), "node-2: no free port"),
        ("node-1", "latency.begin", AccessError("node-1: no memory"), "node-1: no memory"),
        ("node-1", "latency.end", AccessError("node-1: gone"), "node-1: gone"),
        ("node-1", "latency.end", {"sorted_ms": [], "jitter_ms": 0.0, "error": "timed out"}, "timed out"),
        ("node-1", "latency.end", {"sorted_ms": [], "jitter_ms": 0.0, "error": None}, "no answer came in the whole take"),
    ],
    ids=["no-server", "not-begun", "not-ended", "no-answer", "too-slow"],
)
def test_without_answers_the_take_counts_all_the_same(node: str, op: str, answer: Any, error: str) -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer(node, op, answer if isinstance(answer, Exception) else lambda _params: answer, role="pod")
    assert answers(fake) == [(300, 1.15, None), (0, None, error), (300, 1.15, None)]


def test_what_the_processors_did_meanwhile_is_kept() -> None:
    (document,) = throughput.take(context(FakeCluster(["node-1", "node-2"])), ["node-1:node-2"])
    assert document.values is not None
    both = document.values["takes"][0]["processors"]
    assert [(side, both[side]["online"], both[side]["together"]["softirq"], both[side]["busiest"]["softirq"]) for side in both] == [
        ("source", 2, 100, 50),
        ("target", 2, 100, 50),
    ]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        pytest.param({}, {}, None, id="a-kernel-that-does-not-tell"),
        pytest.param({"cpu": {"idle": 1}}, {"cpu": {"idle": 5}}, None, id="no-processor-by-itself"),
        pytest.param(
            {"cpu": {"user": 1, "idle": 1}, "cpu0": {"user": 1, "idle": 0}, "cpu1": {"user": 0, "idle": 1}},
            {"cpu": {"user": 9, "idle": 3}, "cpu0": {"user": 2, "idle": 2}, "cpu1": {"user": 7, "idle": 1}, "cpu2": {"user": 9, "idle": 0}},
            {"online": 2, "together": {"user": 8, "idle": 2}, "busiest": {"user": 7, "idle": 0}},
            id="one-came-meanwhile",
        ),
    ],
)
def test_what_processors_were_spent_on(before: Any, after: Any, found: Any) -> None:
    assert throughput.spent(before, after) == found


def by_streams(rates: Mapping[int, float | str], pairs: Sequence[str] = SOME, **settings: Any) -> list[Document]:
    """Measure where nodes carry at most so much (bit/s) by so many streams, or say why not."""
    fake = FakeCluster([f"node-{number}" for number in range(1, 7)])

    def client(node: str, params: Mapping[str, Any]) -> Any:
        answer = fake._iperf3(node, params)
        rate = rates[params["streams"]]
        if isinstance(rate, str):
            return {**answer, "result": {"error": rate}}
        answer["result"]["end"]["sum_received"]["bits_per_second"] = rate
        return answer

    for node in fake.nodes:
        for role in ("host", "pod"):
            fake.answer(node, "iperf3_client", partial(client, node), role=role)
    return [*throughput.take(context(fake, take_s=1, omit_s=0, **settings), pairs)]


def tried(document: Document) -> tuple[int, list[tuple[int, float | None]], float]:
    assert document.values is not None
    calibration = [(item["streams"], item["received_bps"]) for item in document.values["calibration"]]
    return document.values["streams"], calibration, document.values["takes"][0]["received_bps"]


@pytest.mark.parametrize(
    ("rates", "found"),
    [
        pytest.param({1: 9e9, 4: 9.4e9}, (1, [(4, 9.4e9)], 9e9), id="one-fills-the-line"),
        pytest.param({1: 9e9, 4: 25e9, 8: 26e9}, (4, [(4, 25e9), (8, 26e9)], 25e9), id="four-do"),
        pytest.param({1: 9e9, 4: 25e9, 8: 45e9}, (8, [(4, 25e9), (8, 45e9)], 45e9), id="eight-carry-more-still"),
        pytest.param({1: 9e9, 4: "the control socket has closed"}, (1, [(4, None)], 9e9), id="that-went-wrong"),
    ],
)
def test_the_first_host_path_says_how_many_streams_are_needed(rates: Mapping[int, float | str], found: Any) -> None:
    documents = by_streams(rates)
    assert [tried(document) for document in documents] == [found] * len(SOME)
    by = "one TCP stream" if found[0] == 1 else f"{found[0]} TCP streams"
    assert {document.method for document in documents} == {f"iperf3, {by}, 1 s after 0 s omitted"}


@pytest.mark.parametrize(
    ("settings", "streams"), [({"streams": 8}, 8), ({"bitrate_bps": 10**8}, 1), ({"streams": 4, "bitrate_bps": 10**8}, 4)]
)
def test_what_the_user_asks_for_is_not_tried(settings: Any, streams: int) -> None:
    (document,) = by_streams({1: 9e9, 4: 25e9, 8: 45e9}, SOME[:1], **settings)
    assert tried(document)[:2] == (streams, [])


def test_a_pair_that_went_wrong_says_nothing_of_streams() -> None:
    fake = FakeCluster([f"node-{number}" for number in range(1, 7)])
    fake.answer("node-2", "iperf3_server", MeasurementError("port kept closed"))
    documents = throughput.take(context(fake, take_s=1, omit_s=0), SOME)
    assert [len((document.values or {})["calibration"]) for document in documents] == [0, 1, 1]


def by_service(
    through: Sequence[float | str], served: Sequence[str] = ("node-1", "node-2", "node-3"), pairs: Sequence[str] = ("node-1:node-2",)
) -> list[Mapping[str, Any]]:
    """Measure where pods carry what the fake does directly, and through a Service one by one what is given, or why not."""
    fake = FakeCluster(["node-1", "node-2", "node-3"])
    left = iter(through)

    def client(node: str, params: Mapping[str, Any]) -> Any:
        answer = fake._iperf3(node, params)
        if params["address"].startswith("10.96."):
            rate = next(left)
            if isinstance(rate, str):
                return {**answer, "result": {"error": rate}}
            answer["result"]["end"]["sum_received"]["bits_per_second"] = rate
        return answer

    for node in fake.nodes:
        fake.answer(node, "iperf3_client", partial(client, node), role="pod")
    services = fake.start_probes(fake.read_cluster(), [*fake.nodes], "r1").make_services(served)
    given = replace(context(fake, take_s=1, omit_s=0), service_load=True, probe_services=lambda: services)
    return [(document.values or {})["service"] for document in throughput.take(given, pairs)]


FULL_BPS = float(RATE_BPS)


@pytest.mark.parametrize(
    ("through", "takes"),
    [
        pytest.param([FULL_BPS], 1, id="as-fast"),
        pytest.param([0.5 * FULL_BPS, FULL_BPS], 2, id="as-fast-after-all"),
        pytest.param([0.5 * FULL_BPS] * 3, 3, id="slow"),
        pytest.param(["the control socket has closed"], 1, id="went-wrong"),
    ],
)
def test_what_a_service_carries_is_looked_at_again_where_it_is_less(through: Sequence[float | str], takes: int) -> None:
    (found,) = by_service(through)
    assert (found["address"], found["port"], found["absent"], len(found["takes"])) == ("10.96.1.2", 80, None, takes)


def test_a_pod_that_no_service_leads_to() -> None:
    (found,) = by_service([], served=["node-1"])
    assert found["absent"] == "no Service of the run leads to a pod of node-2: 16 nodes have one at most"
    assert found["takes"] == []


def test_services_that_could_not_be_made() -> None:
    fake = FakeCluster(["node-1", "node-2"])

    def refused() -> Any:
        raise ProbeError("Service k8snet-1/probe-1 could not be made: quota")

    given = replace(context(fake, take_s=1, omit_s=0), service_load=True, probe_services=refused)
    (document,) = throughput.take(given, ["node-1:node-2"])
    assert (document.values or {})["service"]["error"] == "Service k8snet-1/probe-1 could not be made: quota"


def test_nothing_is_sent_through_services_where_nobody_asks_or_pods_reach_nothing() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    (document,) = throughput.take(context(fake, take_s=1, omit_s=0), ["node-1:node-2"])
    assert (document.values or {})["service"] is None
    fake.answer("node-2", "iperf3_server", MeasurementError("port kept closed"), role="pod")
    (document,) = throughput.take(replace(context(fake, take_s=1, omit_s=0), service_load=True), ["node-1:node-2"])
    assert (document.values or {})["service"] is None
