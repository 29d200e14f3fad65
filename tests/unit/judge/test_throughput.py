from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import ThroughputExpectation, Wanted
from pytest_k8snet.judge import throughput
from pytest_k8snet.judge.throughput import Line
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.throughput import ThroughputRecord
from tests.unit.judge.builder import document, facts, link, outcome, told

LAB = Wanted(50_000_000, "profile lab.yaml:4")
EXPECT = ThroughputExpectation(line_rate_bps=LAB, pod_to_host=Wanted(0.9, "built-in, encapsulation none"))
LINE = Line(LAB)
NO_LINE = "no profile gives the line rate"


def take(path: str, mbit: float | None, **more: Any) -> dict[str, Any]:
    rate = None if mbit is None else mbit * 1e6
    carried = None if rate is None else int(rate / 8 * 3)
    return {
        "path": path,
        "at": "2026-11-24T03:00:00+00:00",
        "error": None if mbit is not None else "the server has terminated",
        "received_bps": rate,
        "received_bytes": carried,
        "sent_bytes": carried,
        "retransmits": 0,
        "mss_bytes": 1448,
        "cpu_sender_percent": 4.0,
        "cpu_receiver_percent": 5.0,
        "wire": None,
        "iperf3": {},
        **more,
    }


def takes(host: float | None, pod: float | None, again: float | None, **more: Any) -> dict[str, Any]:
    return {
        "source": "node-1",
        "target": "node-2",
        "seconds": 3,
        "omit_s": 1,
        "encapsulated": False,
        "takes": [take("host", host), take("pod", pod), take("host", again)],
        **more,
    }


def record(values: dict[str, Any]) -> ThroughputRecord:
    return ThroughputRecord.from_document(document("throughput", "node-1:node-2", values))


def wire(mbit: float, foreign: float = 0.0) -> dict[str, Any]:
    """Return counters of the uplinks over a take of 4 s at `mbit` of payload, `foreign` of the bytes being somebody else's."""
    ours = mbit * 1e6 / 8 * 4 * (1448 + 66) / 1448
    total = int(ours / (1 - foreign))
    return {"source_tx_bytes": total, "target_rx_bytes": int(ours), "seconds": 4.2}


ENDED = "the server has terminated (iperf3)"


@pytest.mark.parametrize(
    ("values", "ratio", "host_line", "pod_line"),
    [
        pytest.param(takes(45, 44.5, 45.2), ("pass", ""), ("pass", ""), ("pass", ""), id="healthy"),
        pytest.param(
            takes(45, 22.5, 45),
            (
                "fail",
                (
                    "node-1:node-2: pods 22.5 Mbit/s, hosts 45 Mbit/s and 45 Mbit/s: pod path 0.50 of the host path, "
                    "want at least 0.9 (built-in, encapsulation none)"
                ),
            ),
            ("pass", ""),
            (
                "fail",
                (
                    "node-1:node-2: pod path 22.5 Mbit/s, want at least 40 Mbit/s: 0.85 (built-in) of the payload "
                    "that 50 Mbit/s carry (profile lab.yaml:4)"
                ),
            ),
            id="pod-path-throttled",
        ),
        pytest.param(
            takes(25, 24.8, 25),
            ("pass", ""),
            (
                "fail",
                (
                    "node-1:node-2: host path 25 Mbit/s and 25 Mbit/s, want at least 40 Mbit/s: 0.85 (built-in) of the payload "
                    "that 50 Mbit/s carry (profile lab.yaml:4)"
                ),
            ),
            (
                "inconclusive",
                (
                    "node-1:node-2: pod path 24.8 Mbit/s: the host path carries only 25 Mbit/s itself, which NET-THROUGHPUT-002 judges; "
                    "want at least 40 Mbit/s: 0.85 (built-in) of the payload that 50 Mbit/s carry (profile lab.yaml:4)"
                ),
            ),
            id="host-path-slow",
        ),
        pytest.param(
            takes(5, 5, 5),
            (
                "inconclusive",
                (
                    "node-1:node-2: pods 5 Mbit/s, hosts 5 Mbit/s and 5 Mbit/s: the host path itself is far below the 47.1 Mbit/s "
                    "that the line carries (profile lab.yaml:4): that the pod path keeps up with it says little"
                ),
            ),
            (
                "fail",
                (
                    "node-1:node-2: host path 5 Mbit/s and 5 Mbit/s, want at least 40 Mbit/s: 0.85 (built-in) of the payload "
                    "that 50 Mbit/s carry (profile lab.yaml:4)"
                ),
            ),
            None,
            id="host-path-far-below-the-line",
        ),
        pytest.param(
            takes(45, 39, 38),
            (
                "inconclusive",
                (
                    "node-1:node-2: pods 39 Mbit/s, hosts 45 Mbit/s and 38 Mbit/s: the host takes differ by 16%, too much to tell "
                    "whether the pod path reaches 0.9 (built-in, encapsulation none)"
                ),
            ),
            ("pass", ""),
            None,
            id="host-takes-differ-and-decide",
        ),
        pytest.param(takes(46, 44, 37), ("pass", ""), ("pass", ""), ("pass", ""), id="host-takes-differ-and-do-not-matter"),
        pytest.param(takes(45, 44, 34), ("pass", ""), ("pass", ""), ("pass", ""), id="one-host-take-reaches-the-line-share"),
        pytest.param(
            takes(45, 44, 45, takes=[take("host", 46), take("pod", 39), take("host", 46), take("pod", 45), take("host", 46)]),
            ("pass", ""),
            ("pass", ""),
            ("pass", ""),
            id="a-slow-pod-take-was-taken-again",
        ),
        pytest.param(
            takes(45, 44, 45, takes=[take("host", 46), take("pod", 25), take("host", 46), take("pod", 26), take("host", 46)]),
            (
                "fail",
                (
                    "node-1:node-2: pods 25 Mbit/s and 26 Mbit/s, hosts 46 Mbit/s and 46 Mbit/s and 46 Mbit/s: pod path 0.57 of the "
                    "host path, want at least 0.9 (built-in, encapsulation none)"
                ),
            ),
            ("pass", ""),
            (
                "fail",
                (
                    "node-1:node-2: pod path 25 Mbit/s and 26 Mbit/s, want at least 40 Mbit/s: 0.85 (built-in) of the payload that "
                    "50 Mbit/s carry (profile lab.yaml:4)"
                ),
            ),
            id="pods-are-slow-again-and-again",
        ),
        pytest.param(
            takes(45, None, 45),
            ("error", f"node-1:node-2: take 1 of 1 of the pod path: {ENDED}"),
            ("pass", ""),
            ("error", f"node-1:node-2: take 1 of 1 of the pod path: {ENDED}"),
            id="server-killed-in-the-pod-take",
        ),
        pytest.param(
            takes(45, 44, None),
            ("error", f"node-1:node-2: take 2 of 2 of the host path: {ENDED}"),
            ("error", f"node-1:node-2: take 2 of 2 of the host path: {ENDED}"),
            ("pass", ""),
            id="server-killed-in-the-second-host-take",
        ),
        pytest.param(
            takes(45, 0, 45),
            ("error", "node-1:node-2: take 1 of 1 of the pod path received nothing (iperf3)"),
            ("pass", ""),
            ("error", "node-1:node-2: take 1 of 1 of the pod path received nothing (iperf3)"),
            id="nothing-received",
        ),
        pytest.param(
            takes(45, 44, 45, takes=[take("host", 45)]),
            ("error", "node-1:node-2: no take of the pod path was recorded"),
            ("pass", ""),
            ("error", "node-1:node-2: no take of the pod path was recorded"),
            id="ended-early",
        ),
    ],
)
def test_paths_against_each_other_and_the_line(
    values: dict[str, Any], ratio: tuple[str, str], host_line: tuple[str, str], pod_line: tuple[str, str] | None
) -> None:
    taken = record(values)
    assert outcome(throughput.pod_against_host(taken, EXPECT, LINE)) == ratio
    assert outcome(throughput.host_against_line(taken, EXPECT, LINE)) == host_line
    if pod_line is not None:
        assert outcome(throughput.pod_against_line(taken, EXPECT, LINE)) == pod_line


def disturbed(host: float, pod: float, *, host_foreign: float = 0.0, pod_foreign: float = 0.0) -> ThroughputRecord:
    return record(
        takes(
            host,
            pod,
            host,
            takes=[
                take("host", host, wire=wire(host, host_foreign)),
                take("pod", pod, wire=wire(pod, pod_foreign)),
                take("host", host, wire=wire(host)),
            ],
        )
    )


@pytest.mark.parametrize(
    ("taken", "ratio", "host_line", "pod_line"),
    [
        pytest.param(disturbed(45, 44.5), "pass", "pass", "pass", id="nobody-else"),
        pytest.param(disturbed(45, 44.5, pod_foreign=0.05), "pass", "pass", "pass", id="little-of-others"),
        pytest.param(disturbed(45, 30, pod_foreign=0.3), "inconclusive", "pass", "inconclusive", id="others-slow-the-pod-path"),
        pytest.param(disturbed(30, 29, host_foreign=0.3), "inconclusive", "inconclusive", "inconclusive", id="others-slow-the-host-path"),
        pytest.param(disturbed(45, 22, host_foreign=0.3), "fail", "pass", "fail", id="others-cannot-excuse"),
        pytest.param(disturbed(45, 44, pod_foreign=0.3), "pass", "pass", "pass", id="good-in-spite-of-others"),
    ],
)
def test_traffic_of_others(taken: ThroughputRecord, ratio: str, host_line: str, pod_line: str) -> None:
    assert str(throughput.pod_against_host(taken, EXPECT, LINE).verdict) == ratio
    assert str(throughput.host_against_line(taken, EXPECT, LINE).verdict) == host_line
    assert str(throughput.pod_against_line(taken, EXPECT, LINE).verdict) == pod_line


def test_traffic_of_others_is_told_with_its_share() -> None:
    judgement = throughput.pod_against_host(disturbed(45, 30, pod_foreign=0.3), EXPECT, LINE)
    assert judgement.message == (
        "node-1:node-2: pods 30 Mbit/s, hosts 45 Mbit/s and 45 Mbit/s: 30% of the bytes on the uplinks during the pod take were not ours, "
        "so 0.67 carries no verdict, want at least 0.9 (built-in, encapsulation none)"
    )


@pytest.mark.parametrize(("encapsulated", "verdict"), [(True, "pass"), (False, "fail"), (None, "fail")])
def test_without_a_claim_the_measured_encapsulation_gives_the_threshold(encapsulated: bool | None, verdict: str) -> None:
    judgement = throughput.pod_against_host(record(takes(45, 38, 45, encapsulated=encapsulated)), ThroughputExpectation(), NO_LINE)
    assert str(judgement.verdict) == verdict


def test_what_encryption_costs_is_advice_unless_a_profile_says_what_it_may() -> None:
    by = Wanted("wireguard", "claim ConfigMap kube-system/cilium-config enable-wireguard")
    encrypted = replace(EXPECT, encrypted=by)
    cost = f"pods' traffic is encrypted by {by}, whose cost only a profile can judge"
    slow = record(takes(45, 15, 45))
    ratio = (
        "pods 15 Mbit/s, hosts 45 Mbit/s and 45 Mbit/s: pod path 0.33 of the host path, want at least 0.9 (built-in, encapsulation none)"
    )
    line = "pod path 15 Mbit/s, want at least 40 Mbit/s: 0.85 (built-in) of the payload that 50 Mbit/s carry (profile lab.yaml:4)"
    for judge, message in ((throughput.pod_against_host, ratio), (throughput.pod_against_line, line)):
        judgement = judge(slow, encrypted, LINE)
        assert outcome(judgement) == ("pass", "")
        assert told(judgement, "advice") == [f"node-1:node-2: {message}; {cost}"]
    of_profile = replace(encrypted, pod_to_host=Wanted(0.5, "profile x.yaml:3"), line_share=Wanted(0.5, "profile x.yaml:4"))
    assert str(throughput.pod_against_host(slow, of_profile, LINE).verdict) == "fail"
    assert str(throughput.pod_against_line(slow, of_profile, LINE).verdict) == "fail"
    assert str(throughput.host_against_line(record(takes(15, 15, 15)), encrypted, LINE).verdict) == "fail", "nodes encrypt nothing"
    assert told(throughput.pod_against_host(record(takes(45, 44, 45)), encrypted, LINE), "advice") == []


def test_the_line_carries_less_payload_inside_a_tunnel() -> None:
    small = [take("host", 45), take("pod", 39.5, mss_bytes=1398), take("host", 45)]
    native = throughput.pod_against_line(record(takes(45, 39.5, 45, takes=small)), EXPECT, LINE)
    tunnelled = throughput.pod_against_line(record(takes(45, 39.5, 45, takes=small, encapsulated=True)), EXPECT, LINE)
    assert (str(native.verdict), str(tunnelled.verdict)) == ("fail", "pass")


def test_without_a_line_rate_the_ratio_is_judged_alone() -> None:
    taken = record(takes(45, 22, 45))
    assert outcome(throughput.host_against_line(taken, EXPECT, NO_LINE)) == ("skip", NO_LINE)
    assert outcome(throughput.pod_against_line(taken, EXPECT, NO_LINE)) == ("skip", NO_LINE)
    assert str(throughput.pod_against_host(taken, EXPECT, NO_LINE).verdict) == "fail"


BONDED = {
    "host__links": [
        link("bond0.100", kind="vlan", link="bond0"),
        link("bond0", kind="bond"),
        link("eth0", master="bond0"),
        link("eth1", master="bond0"),
    ],
    "uplink": "bond0.100",
    "physical": ["eth0", "eth1"],
    "uplink_speed_mbit": 50_000,
    "speeds_mbit": {"eth0": 25_000, "eth1": 25_000},
}


@pytest.mark.parametrize(
    ("source", "target", "expect", "line"),
    [
        pytest.param({}, {}, EXPECT, LINE, id="profile"),
        pytest.param({"virtual": "DMI says KVM"}, {}, EXPECT, LINE, id="profile-on-virtual-machines"),
        pytest.param(
            {},
            {"uplink_speed_mbit": 1000},
            ThroughputExpectation(),
            Line(Wanted(1_000_000_000, "speed of node-2's eth0")),
            id="slower-nic",
        ),
        pytest.param(
            {},
            {"virtual": "User-Mode Linux"},
            ThroughputExpectation(),
            "no profile gives the line rate, and what node-2's NIC reports is not believed: User-Mode Linux",
            id="virtual",
        ),
        pytest.param(
            {"uplink_speed_mbit": -1},
            {},
            ThroughputExpectation(),
            "no profile gives the line rate, and node-1's uplink eth0 reports none",
            id="no-speed",
        ),
        pytest.param(
            BONDED,
            {"uplink_speed_mbit": 100_000},
            ThroughputExpectation(),
            Line(Wanted(25_000_000_000, "speed of node-1's eth0 below bond0.100")),
            id="of-a-bond-two-nodes-use-one-device",
        ),
        pytest.param(
            {**BONDED, "speeds_mbit": {"eth0": 25_000}},
            {},
            ThroughputExpectation(),
            "no profile gives the line rate, and node-1's uplink bond0.100 reports none",
            id="a-device-of-the-bond-without-a-speed",
        ),
        pytest.param(
            {
                "host__links": [link("br0", kind="bridge"), link("eth0", master="br0"), link("veth1", kind="veth", master="br0")],
                "uplink": "br0",
                "physical": ["eth0"],
                "uplink_speed_mbit": 10_000,
                "speeds_mbit": {"eth0": 1000},
            },
            {},
            ThroughputExpectation(),
            Line(Wanted(1_000_000_000, "speed of node-1's eth0 below br0")),
            id="a-bridge-has-the-speed-of-its-quickest-port-which-may-be-a-pod-s",
        ),
        pytest.param(
            {key: value for key, value in BONDED.items() if key != "speeds_mbit"},
            {},
            ThroughputExpectation(),
            "no profile gives the line rate, and node-1's uplink bond0.100 reports none",
            id="an-older-recording-of-a-bond",
        ),
    ],
)
def test_line_of(source: dict[str, Any], target: dict[str, Any], expect: ThroughputExpectation, line: Line | str) -> None:
    assert throughput.line_of(facts("node-1", **source), facts("node-2", **target), expect) == line


def test_a_busy_core_is_a_remark_and_retransmits_are_kept() -> None:
    values = takes(45, 44, 45, takes=[take("host", 45), take("pod", 44, cpu_receiver_percent=99.0, retransmits=7), take("host", 45)])
    judgement = throughput.pod_against_host(record(values), EXPECT, LINE)
    assert told(judgement, "remark") == ["node-1:node-2: iperf3 used 99 % of a core on the pod path: it may be what limits"]
    assert judgement.evidence["takes"][1]["retransmits"] == 7
    assert judgement.evidence["pod_to_host"] == 0.978


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "node-1:node-2: no throughput: no route"),
        ({"source": "node-1"}, "node-1:node-2: the throughput document is damaged: KeyError('target')"),
        (
            takes(45, 44, 45, takes=[take("host", 45, received_bps=None)]),
            "node-1:node-2: the throughput document is damaged: ValueError('a take without error has no received_bps but None')",
        ),
        (
            takes(45, 44, 45, takes=[take("service", 45)]),
            "node-1:node-2: the throughput document is damaged: ValueError(\"path 'service' is neither host nor pod\")",
        ),
    ],
)
def test_an_unusable_record_is_never_a_number(values: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        ThroughputRecord.from_document(document("throughput", "node-1:node-2", values, None if values else "no route"))
    assert str(caught.value) == message


def test_a_number_beside_an_error_is_not_read() -> None:
    values = takes(45, 44, 45, takes=[take("host", 45, error="the server is busy")])
    assert record(values).takes[0].received_bps is None


def test_takes_that_differ_are_told() -> None:
    judgement = throughput.pod_against_host(
        record(takes(45, 44, 45, takes=[take("host", 46), take("pod", 30), take("pod", 45)])), EXPECT, LINE
    )
    assert judgement.verdict == "pass"
    remarks = [finding.message for finding in judgement.findings]
    assert "node-1:node-2: the takes of the pod path differ: 30 Mbit/s and 45 Mbit/s; the best one counts" in remarks


def test_without_pods_only_the_host_path_is_judged() -> None:
    values = {**takes(47, None, 46), "takes": [take("host", 47), take("host", 46)], "pod_absent": "access ssh makes no probe pods"}
    taken = ThroughputRecord.from_document(document("throughput", "node-1:node-2", values))
    assert outcome(throughput.pod_against_host(taken, EXPECT, LINE)) == ("skip", "access ssh makes no probe pods")
    assert outcome(throughput.pod_against_line(taken, EXPECT, LINE)) == ("skip", "access ssh makes no probe pods")
    assert outcome(throughput.host_against_line(taken, EXPECT, LINE)) == ("pass", "")
    values["takes"] = [take("host", 20), take("host", 21)]
    slow = ThroughputRecord.from_document(document("throughput", "node-1:node-2", values))
    assert outcome(throughput.host_against_line(slow, EXPECT, LINE))[0] == "fail"


def measured(**mbit: float) -> Callable[[], list[Document]]:
    """Return the documents of pairs of a-b-c-d by name (``ab``), whose pod paths have these rates and host paths 47 Mbit/s."""

    def documents() -> list[Document]:
        named = {f"{name[0]}:{name[1]}": takes(47, rate, 47, source=name[0], target=name[1]) for name, rate in mbit.items()}
        return [document("throughput", pair, values) for pair, values in named.items()]

    return documents


WEAK = takes(47, 20, 47, source="a", target="b")


@pytest.mark.parametrize(
    ("others", "where"),
    [
        pytest.param(measured(), "", id="alone"),
        pytest.param(measured(bc=46), "", id="too-few-to-tell"),
        pytest.param(measured(bc=46, cd=46), "; it is the only one of the 3 pairs that were measured", id="one-pair"),
        pytest.param(
            measured(cb=20, ca=46, bc=46), "; so are all 2 pairs into b that were measured, and no other: look at b", id="into-a-node"
        ),
        pytest.param(
            measured(ac=20, ca=46, bc=46), "; so are all 2 pairs out of a that were measured, and no other: look at a", id="out-of-a-node"
        ),
        pytest.param(measured(bc=20, cd=46), "; so are all 2 pairs of b that were measured, and no other: look at b", id="of-a-node"),
        pytest.param(measured(bc=20, cd=20), "; so are all 3 pairs that were measured: look at what they share", id="all"),
        pytest.param(measured(cd=20, bc=46), "; so are 2 of the 3 pairs that were measured", id="some"),
    ],
)
def test_a_weak_pair_is_located(others: Callable[[], list[Document]], where: str) -> None:
    weak = ThroughputRecord.from_document(document("throughput", "a:b", WEAK))
    _, message = outcome(throughput.pod_against_host(weak, EXPECT, NO_LINE, others))
    assert message.endswith(f"want at least 0.9 (built-in, encapsulation none){where}")
    _, message = outcome(throughput.pod_against_line(weak, EXPECT, LINE, others))
    assert message.endswith(f"carry (profile lab.yaml:4){where}")


def test_pairs_that_went_wrong_locate_nothing() -> None:
    def others() -> list[Document]:
        went_wrong = document("throughput", "b:c", takes(47, None, 47, source="b", target="c"))
        return [went_wrong, document("throughput", "c:d", {"damaged": True}), *measured(da=46)()]

    _, message = outcome(
        throughput.pod_against_host(ThroughputRecord.from_document(document("throughput", "a:b", WEAK)), EXPECT, NO_LINE, others)
    )
    assert message.endswith("want at least 0.9 (built-in, encapsulation none)")


def test_a_weak_host_path_is_located() -> None:
    def others() -> list[Document]:
        return [
            document("throughput", pair, takes(mbit, 46, mbit, source=pair[0], target=pair[2])) for pair, mbit in (("c:b", 21), ("b:c", 47))
        ]

    weak = ThroughputRecord.from_document(document("throughput", "a:b", takes(20, 20, 20, source="a", target="b")))
    _, message = outcome(throughput.host_against_line(weak, EXPECT, LINE, others))
    assert message.endswith("; so are all 2 pairs into b that were measured, and no other: look at b")
