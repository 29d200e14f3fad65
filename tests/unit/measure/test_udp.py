from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.errors import AccessError, CommandTimeout, MeasurementError
from pytest_k8snet.measure.registry import MEASUREMENTS
from pytest_k8snet.measure.udp import pods_lose_more, read_datagrams, read_overflows
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.udp import UdpRecord
from tests.unit.measure.faked import context

PAIR = "node-1:node-2"
RATE = 10**7


def measure(fake: FakeCluster, rate: int | None = RATE) -> Document:
    (document,) = MEASUREMENTS["udp"].take(replace(context(fake), udp_bps=rate), [PAIR])
    return document


def result(packets: int = 2590, lost: int = 0, bps: float = 1e7, **received: Any) -> dict[str, Any]:
    sent = {"packets": packets, "bits_per_second": bps}
    end = {"sum_sent": sent, "sum_received": {"packets": packets, "lost_packets": lost, "jitter_ms": 0.05, **received}}
    return {"start": {"test_start": {"blksize": 1448}}, "end": end}


def test_nothing_is_sent_where_it_is_not_asked_for() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    record = UdpRecord.from_document(measure(fake, None))
    assert (record.rate_bps, record.takes, fake.requests) == (None, (), [])


def test_nodes_pods_and_nodes_again() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    wishes: list[Mapping[str, Any]] = []

    def client(params: Mapping[str, Any]) -> dict[str, Any]:
        wishes.append(params)
        return {"exit_status": 0, "result": result(), "stderr": ""}

    for role in ("host", "pod"):
        fake.answer("node-1", "iperf3_client", client, role=role)
    record = UdpRecord.from_document(measure(fake))
    assert [(take.path, take.packets, take.lost, take.jitter_ms) for take in record.takes] == [
        (path, 2590, 0, 0.05) for path in ("host", "pod", "host")
    ]
    assert {(params["udp"], params["bitrate_bps"], params["seconds"]) for params in wishes} == {(True, RATE, 3)}
    assert [params["address"] for params in wishes] == ["192.168.10.12", "10.244.2.5", "192.168.10.12"]


def test_pods_that_lose_more_are_asked_again() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    lost = iter([50, 0])
    fake.answer("node-1", "iperf3_client", lambda _: {"exit_status": 0, "result": result(lost=next(lost)), "stderr": ""}, role="pod")
    assert [take.lost for take in UdpRecord.from_document(measure(fake)).takes] == [0, 50, 0, 0, 0]
    fake.answer("node-1", "iperf3_client", {"exit_status": 0, "result": result(lost=50), "stderr": ""}, role="pod")
    assert [take.path for take in UdpRecord.from_document(measure(fake)).takes] == ["host", "pod", "host", "pod", "host"], "and no more"


SNMP = """\
Ip: Forwarding
Ip: 1
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors
Udp: 9 0 5 7 {}
UdpLite: RcvbufErrors
UdpLite: 3
"""


def test_what_found_no_room_in_a_socket() -> None:
    assert read_overflows(SNMP.format(5)) == 5
    assert read_overflows(f"{SNMP.format(5)}Ip6InReceives 3\nUdp6RcvbufErrors \t 4\n") == 9
    assert read_overflows("") == 0, "a kernel that does not tell"


def test_what_is_read_too_late_is_told_of_what_is_lost() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    answers = iter([SNMP.format(count) for count in (5, 35)])  # the receiver's, before and after the take of the pods
    fake.answer("node-2", "run", lambda params: {"exit_status": 1, "stdout": next(answers), "stderr": "", "duration_s": 0.0}, role="pod")
    fake.answer("node-1", "iperf3_client", {"exit_status": 0, "result": result(lost=31), "stderr": ""}, role="pod")
    takes = UdpRecord.from_document(measure(fake)).takes
    assert [(item.lost, item.overflowed, item.on_the_way) for item in takes] == [(0, 0, 0), (31, 30, 1), (0, 0, 0)]


def take(path: str, lost: int, error: str | None = None, late: int = 0) -> dict[str, Any]:
    return {"path": path, "packets": None if error else 1000, "lost": lost, "overflowed": late, "error": error}


@pytest.mark.parametrize(
    ("takes", "more"),
    [
        ([take("host", 0), take("pod", 2)], True),
        ([take("host", 0), take("pod", 1)], False),
        ([take("host", 9), take("pod", 9)], False),
        ([take("host", 0), take("pod", 9, late=9)], False),
        ([take("host", 9, late=9), take("pod", 9)], True),
        ([take("host", 0), take("pod", 9), take("pod", 0)], False),
        ([take("host", 0), take("pod", 0, "refused")], False),
    ],
)
def test_when_pods_lose_more(takes: list[dict[str, Any]], more: bool) -> None:
    assert pods_lose_more(takes) is more


@pytest.mark.parametrize(
    ("rates", "takes"),
    [
        pytest.param([1e7], 3, id="sent"),
        pytest.param([4.6e6, 1e7], 5, id="sent-after-all"),
        pytest.param([4.6e6, 4.6e6, 4.6e6], 5, id="never-sent"),
    ],
)
def test_what_was_not_sent_is_sent_again(rates: list[float], takes: int) -> None:
    fake = FakeCluster(["node-1", "node-2"])
    left = iter(rates)

    def client(_params: Mapping[str, Any]) -> Any:
        return {"exit_status": 0, "result": result(bps=next(left)), "stderr": ""}

    fake.answer("node-1", "iperf3_client", client, role="pod")
    record = UdpRecord.from_document(measure(fake))
    assert (len(record.takes), [item.sent_bps for item in record.of("pod")]) == (takes, rates[: (takes - 1) // 2])


def test_what_goes_wrong_is_the_takes_error() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-2", "iperf3_server", AccessError("node-2: no free port between 5201 and 5299"), role="pod")
    errors = [item.error for item in UdpRecord.from_document(measure(fake)).takes]
    assert errors == [None, "node-2: no free port between 5201 and 5299", None]
    fake.answer("node-1", "iperf3_client", CommandTimeout("node-1: gone"))
    errors = [item.error for item in UdpRecord.from_document(measure(fake)).takes]
    assert errors == ["node-1: gone", "not taken: node-1: gone", "not taken: node-1: gone"]


def test_nodes_without_pods() -> None:
    record = UdpRecord.from_document(measure(FakeCluster(["node-1", "node-2"], pods=False)))
    assert ([item.path for item in record.takes], record.pod_absent) == (["host", "host"], "access fake makes no probe pods here")


def test_figures() -> None:
    assert read_datagrams(result(lost=3)) == {
        "sent_bps": 1e7,
        "packets": 2590,
        "lost": 3,
        "unseen": 0,
        "jitter_ms": 0.05,
        "datagram_bytes": 1448,
        "cpu_sender_percent": None,
        "cpu_receiver_percent": None,
    }
    nothing = read_datagrams(
        result(packets=100) | {"end": {**result(packets=100)["end"], "sum_received": {"packets": 0, "lost_packets": 0}}}
    )
    assert (nothing["packets"], nothing["lost"], nothing["unseen"], nothing["jitter_ms"]) == (100, 100, 0, None)
    half = read_datagrams(result(packets=100) | {"end": {**result()["end"], "sum_sent": {"packets": 5180, "bits_per_second": 1e7}}})
    assert (half["packets"], half["lost"], half["unseen"]) == (2590, 0, 2590)
    assert read_datagrams(result(lost=-2))["lost"] == 0, "some came twice"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"error": "unable to create a new stream"}, "iperf3: unable to create a new stream"),
        ({}, "iperf3: its result does not say how many datagrams were sent and how many of them were lost"),
        ({"end": {"sum_sent": {"packets": 5}}}, "iperf3: its result does not say"),
    ],
)
def test_what_went_wrong_is_never_a_figure(given: dict[str, Any], message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        read_datagrams(given)
