"""Judging which sizes of packets cross paths between pods: `pytest_k8snet.judge.mtu`."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.judge import mtu
from pytest_k8snet.record.pathmtu import PathMtuRecord
from tests.unit.judge.builder import document, facts, link, outcome, told

TO = "node-1: pod to pod of node-2 (10.244.2.5): "
BACK = "node-1: pod of node-2 to this node's pod (10.244.2.5): "
CUT_OFF = "nothing of this node's pod gets to any other node's: NET-REACH-001 judges that"
END = ", want 1500 (MTU of both pods) (UDP, IP_MTU_DISCOVER=IP_PMTUDISC_PROBE)"


def way(full: int = 10, small: int = 10, **changes: Any) -> dict[str, Any]:
    return {"sent": 10, "small": small, "full": full, "passes": None, "breaks": None, "errors": [], **changes}


def icmp(mtu_bytes: int | None, sender: str | None = "192.168.10.1") -> dict[str, Any]:
    return {"error": "EMSGSIZE" if mtu_bytes else "ECONNREFUSED", "origin": "icmp", "mtu": mtu_bytes, "from": sender}


def tcp(mss: int | None = 1448, mtu_bytes: int | None = 1500, **changes: Any) -> dict[str, Any]:
    return {"error": None, "mss": mss, "mtu": mtu_bytes, "timestamps": True, **changes}


def path(**changes: Any) -> dict[str, Any]:
    return {
        "address": "10.244.2.5",
        "error": None,
        "own_mtu": 1500,
        "known_mtu": 1500,
        "size": 1500,
        "over": "refused",
        "requests": way(),
        "replies": None,
        "tcp": tcp(),
        **changes,
    }


def record(*, absent: str | None = None, **targets: dict[str, Any]) -> PathMtuRecord:
    named = {name.replace("_", "-"): target for name, target in targets.items()}
    return PathMtuRecord.from_document(document("pathmtu", "node-1", {"pod_absent": absent, "targets": named}))


@pytest.mark.parametrize(
    ("changes", "verdict", "message"),
    [
        pytest.param({}, "pass", "", id="healthy"),
        pytest.param({"replies": way()}, "pass", "", id="healthy-both-ways"),
        pytest.param({"requests": way(full=4, small=8)}, "pass", "", id="loss-that-meets-all"),
        pytest.param({"requests": way(full=5)}, "pass", "", id="loss-that-may-meet-all"),
        pytest.param(
            {"requests": way(full=4, small=9)},
            "inconclusive",
            f"{TO}9 of 10 small packets and 4 of 10 of 1500 bytes were answered: large packets are lost where small ones pass, as where "
            "one of several ways is too narrow (UDP, IP_MTU_DISCOVER=IP_PMTUDISC_PROBE)",
            id="loss-of-large-ones-alone",
        ),
        pytest.param(
            {"requests": way(full=0, passes=1400, breaks=1401)},
            "fail",
            f"{TO}packets of 1400 bytes pass, those of 1401 and more vanish and no ICMP error says so: "
            f"a black hole, where connections hang{END}",
            id="black-hole",
        ),
        pytest.param(
            {"replies": way(full=0, passes=1300, breaks=1301)},
            "fail",
            f"{BACK}packets of 1300 bytes pass, those of 1301 and more vanish and no ICMP error says so: "
            f"a black hole, where connections hang{END}",
            id="black-hole-on-the-way-back",
        ),
        pytest.param(
            {"requests": way(full=0, errors=[icmp(1492), icmp(None), icmp(1400)])},
            "fail",
            f"{TO}the path carries 1400 bytes, as 192.168.10.1 answers (ICMP; path MTU discovery works){END}",
            id="narrower-and-answered",
        ),
        pytest.param(
            {"requests": way(full=0, small=2, errors=[icmp(1400)])},
            "fail",
            f"{TO}the path carries 1400 bytes, as 192.168.10.1 answers (ICMP; path MTU discovery works){END}",
            id="answered-and-loss",
        ),
        pytest.param(
            {"requests": way(full=0)},
            "fail",
            f"{TO}none of 10 packets of 1500 bytes was answered, and 10 small ones were{END}",
            id="no-search",
        ),
        pytest.param(
            {"requests": way(full=0, small=4)},
            "inconclusive",
            f"{TO}only 4 of 10 small packets were answered, so that large ones say nothing: is UDP between pods kept out by a "
            "NetworkPolicy, or is there loss? (UDP, IP_MTU_DISCOVER=IP_PMTUDISC_PROBE)",
            id="small-ones-stay-away-too",
        ),
        pytest.param({"requests": way(full=0, small=0)}, "skip", CUT_OFF, id="nothing-passes-at-all"),
        pytest.param(
            {"over": "sent", "requests": way(full=0, passes=1400, breaks=1401)},
            "inconclusive",
            f"{TO}1501 bytes were sent, not refused (MTU 1500): sizes are not exact here (UDP, IP_MTU_DISCOVER=IP_PMTUDISC_PROBE)",
            id="one-more-is-not-refused",
        ),
        pytest.param(
            {"error": "node-2 (pod probe-node-2): the exec stream ended"},
            "error",
            "node-1: path to the pod of node-2 not measured: node-2 (pod probe-node-2): the exec stream ended",
            id="not-measured",
        ),
    ],
)
def test_path_mtu(changes: dict[str, Any], verdict: str, message: str) -> None:
    assert outcome(mtu.path_mtu(record(node_2=path(**changes)), facts())) == (verdict, message)


@pytest.mark.parametrize(
    ("changes", "device", "verdict"),
    [
        pytest.param({"uplink": "eth0"}, link("eth0", 1400), "pass", id="the-uplink"),
        pytest.param({"peer_routes": [{"peer": "node-2", "address": "10.244.2.5", "real_pod": True, "dev": "flannel.1", "gateway": None}]},
                     link("flannel.1", 1400, "vxlan"), "pass", id="the-tunnel-taken"),
        pytest.param({}, link("docker0", 1400, "bridge"), "fail", id="a-device-beside"),
    ],
)  # fmt: skip
def test_a_device_of_the_node_itself_is_judged_elsewhere(changes: dict[str, Any], device: dict[str, Any], verdict: str) -> None:
    host = {"links": [link("lo", 65536), *([link("eth0")] if device["ifname"] != "eth0" else []), device], "routes": [], "sysctls": {}}
    known = facts("node-1", host={**host, "congestion_control": "bbr"}, **changes)
    judgement = mtu.path_mtu(record(node_2=path(requests=way(full=0, errors=[icmp(1400, "10.244.1.1")]))), known)
    assert str(judgement.verdict) == verdict
    if verdict == "pass":
        assert told(judgement, "remark") == [f"{TO}this node's own device carries 1400 bytes, its pods' MTU is 1500: judged with the MTUs"]


def test_loss_is_told() -> None:
    judgement = mtu.path_mtu(record(node_2=path(requests=way(full=7, small=9))), facts())
    assert told(judgement, "remark") == [f"{TO}9 of 10 small packets and 7 of 10 of 1500 bytes were answered: loss"]


def test_every_path_counts() -> None:
    broken = path(address="10.244.3.5", requests=way(full=0, passes=1400, breaks=1401))
    judgement = mtu.path_mtu(record(node_2=path(), node_3=broken), facts())
    assert judgement.checked == 2
    assert str(judgement.verdict) == "fail"
    assert "node-1: pod to pod of node-3 (10.244.3.5): packets of 1400 bytes pass" in judgement.message
    assert [item["full"] for item in judgement.evidence["paths"]] == ["10/10", "0/10"]


NODES = "node-1: node to node-2 (192.168.10.12): "
NODES_BACK = "node-1: node-2 to this node (192.168.10.12): "
NODES_END = ", want 9000 (MTU of both nodes); the largest packets of their pods have 1450 bytes (UDP, IP_MTU_DISCOVER=IP_PMTUDISC_PROBE)"


def nodes_path(**changes: Any) -> dict[str, Any]:
    return path(**{"address": "192.168.10.12", "own_mtu": 9000, "known_mtu": 9000, "size": 9000, "tcp": None, **changes})


def with_nodes(*, pods: dict[str, Any] | None = None, **values: Any) -> PathMtuRecord:
    """Return a record of pods of 1450 bytes on nodes of 9000."""
    small = path(own_mtu=1450, known_mtu=1450, size=1450, tcp=tcp(1398)) if pods is None else pods
    return PathMtuRecord.from_document(document("pathmtu", "node-1", {"pod_absent": None, "targets": {"node-2": small}, **values}))


@pytest.mark.parametrize(
    ("changes", "verdict", "message"),
    [
        pytest.param({}, "pass", "", id="healthy"),
        pytest.param({"replies": way()}, "pass", "", id="healthy-both-ways"),
        pytest.param({"requests": None}, "pass", "", id="left-to-the-pods"),
        pytest.param({"requests": way(full=1, small=7)}, "pass", "", id="loss"),
        pytest.param(
            {"requests": way(full=0, passes=1500, breaks=1501)},
            "fail",
            f"{NODES}packets of 1500 bytes pass, those of 1501 and more vanish and no ICMP error says so: "
            f"a black hole, where connections hang{NODES_END}",
            id="jumbo-frames-over-a-switch-without",
        ),
        pytest.param(
            {"replies": way(full=0, passes=1500, breaks=1501)},
            "fail",
            f"{NODES_BACK}packets of 1500 bytes pass, those of 1501 and more vanish and no ICMP error says so: "
            f"a black hole, where connections hang{NODES_END}",
            id="on-the-way-back",
        ),
        pytest.param(
            {"requests": way(full=0)},
            "fail",
            f"{NODES}none of 10 packets of 9000 bytes was answered, and 10 small ones were{NODES_END}",
            id="no-search",
        ),
        pytest.param({"requests": way(full=0, small=0)}, "pass", "", id="a-firewall"),
        pytest.param({"over": "sent", "requests": way(full=0, passes=1500, breaks=1501)}, "pass", "", id="one-more-is-not-refused"),
        pytest.param(
            {"error": "node-2: the exec stream ended"},
            "error",
            "node-1: path to node node-2 not measured: node-2: the exec stream ended",
            id="not-measured",
        ),
    ],
)
def test_paths_between_nodes(changes: dict[str, Any], verdict: str, message: str) -> None:
    assert outcome(mtu.path_mtu(with_nodes(host_targets={"node-2": nodes_path(**changes)}), facts())) == (verdict, message)


def test_what_is_said_of_paths_between_nodes_beside_faults() -> None:
    def judged(**changes: Any) -> Any:
        return mtu.path_mtu(with_nodes(host_targets={"node-2": nodes_path(**changes)}), facts())

    end = NODES_END.removesuffix(" (UDP, IP_MTU_DISCOVER=IP_PMTUDISC_PROBE)")
    narrower = judged(requests=way(full=0, errors=[icmp(8500)]))
    assert str(narrower.verdict) == "pass"
    assert told(narrower, "advice") == [
        f"{NODES}the path carries 8500 bytes, as 192.168.10.1 answers (ICMP; path MTU discovery works){end}"
    ]
    own = judged(requests=way(full=0, errors=[icmp(1500, None)]))
    assert (told(own, "advice"), told(own, "remark")) == ([], []), "the uplink itself: judged with the MTUs"
    assert told(judged(requests=way(full=0, small=3)), "remark") == [
        f"{NODES}3 of 10 small packets were answered, so that large ones say nothing: is UDP kept out by a firewall?"
    ]
    assert told(judged(over="sent", requests=way(full=0, passes=1500, breaks=1501)), "remark") == [
        f"{NODES}9001 bytes were sent, not refused (MTU 9000): sizes are not exact here"
    ]
    unsupported = mtu.path_mtu(with_nodes(hosts_unsupported="access ssh: no python3 on node-1"), facts())
    assert told(unsupported, "remark") == ["node-1: the paths between nodes were not looked at: access ssh: no python3 on node-1"]


def test_a_fault_between_nodes_is_one_where_pods_are_cut_off() -> None:
    cut_off = path(requests=way(full=0, small=0))
    broken = nodes_path(requests=way(full=0, passes=1500, breaks=1501))
    assert str(mtu.path_mtu(with_nodes(pods=cut_off, host_targets={"node-2": broken}), facts()).verdict) == "fail"
    assert outcome(mtu.path_mtu(with_nodes(pods=cut_off, host_targets={"node-2": nodes_path()}), facts())) == ("skip", CUT_OFF)


def test_each_family_between_nodes_is_compared_with_that_of_the_pods() -> None:
    broken = nodes_path(address="fd00::12", requests=way(full=0, passes=1500, breaks=1501))
    judgement = mtu.path_mtu(with_nodes(host_targets={"node-2": nodes_path()}, second_host_targets={"node-2": broken}), facts())
    assert judgement.message.startswith("node-1: node to node-2 (fd00::12): packets of 1500 bytes pass")
    assert "want 9000 (MTU of both nodes) (UDP" in judgement.message, "of the pods none is known of that family"


MSS = "node-1: TCP to pod of node-2 (10.244.2.5): "


@pytest.mark.parametrize(
    ("changes", "verdict", "message"),
    [
        pytest.param({}, "pass", "", id="healthy"),
        pytest.param({"tcp": tcp(1460, timestamps=False)}, "pass", "", id="without-timestamps"),
        pytest.param({"address": "fd00::5", "tcp": tcp(1428)}, "pass", "", id="IPv6"),
        pytest.param({"size": 1450, "tcp": tcp(1398)}, "pass", "", id="the-other-pod-is-narrower"),
        pytest.param(
            {"tcp": tcp(1288)},
            "fail",
            f"{MSS}segments of 1288 bytes, want 1448 (MTU 1500 of both pods less 52 of headers) (getsockopt TCP_INFO)",
            id="clamped",
        ),
        pytest.param({"tcp": tcp(1348, 1400)}, "pass", "", id="narrower-path"),
        pytest.param({"tcp": tcp(None, None, error="timed out", timestamps=None)}, "skip", CUT_OFF, id="no-connection"),
        pytest.param({"error": "gone"}, "error", "node-1: path to the pod of node-2 not measured: gone", id="not-measured"),
    ],
)
def test_segment_size(changes: dict[str, Any], verdict: str, message: str) -> None:
    assert outcome(mtu.segment_size(record(node_2=path(**changes)))) == (verdict, message)


def test_paths_on_which_nothing_passes_are_told_beside_others() -> None:
    cut_off = path(address="10.244.3.5", requests=way(full=0, small=0), tcp=tcp(None, None, error="timed out"))
    judged = mtu.path_mtu(record(node_2=path(), node_3=cut_off), facts()), mtu.segment_size(record(node_2=path(), node_3=cut_off))
    assert [str(judgement.verdict) for judgement in judged] == ["pass", "pass"]
    assert [told(judgement, "remark") for judgement in judged] == [
        ["node-1: pod to pod of node-3 (10.244.3.5): no packet was answered, however small"],
        ["node-1: TCP to pod of node-3 (10.244.3.5): timed out: no connection whose segments could be looked at"],
    ]


def test_segments_follow_what_the_path_carries() -> None:
    judgement = mtu.segment_size(record(node_2=path(tcp=tcp(1348, 1400))))
    assert told(judgement, "remark") == [f"{MSS}the kernel has learnt that the path carries 1400 bytes only"]


def test_where_there_is_nothing_to_judge() -> None:
    podless = record(absent="access ssh makes no probe pods")
    for judged in (mtu.path_mtu(podless, facts()), mtu.segment_size(podless)):
        assert outcome(judged) == ("skip", "access ssh makes no probe pods")
        assert judged.unsupported
    assert outcome(mtu.path_mtu(record(), facts())) == ("skip", "there is no other node that this one is paired with")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "node-1: no path MTU: no route"),
        ({"pod_absent": None}, "node-1: the pathmtu document is damaged: KeyError('targets')"),
        (
            {"pod_absent": None, "targets": {"node-2": {"error": None, "address": ""}}},
            "node-1: the pathmtu document is damaged: KeyError('tcp')",
        ),
    ],
)
def test_damaged(values: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        PathMtuRecord.from_document(document("pathmtu", "node-1", values, None if values else "no route"))
    assert str(caught.value) == message
