from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.expect.model import NodeExpectation, Wanted
from pytest_k8snet.judge import node
from pytest_k8snet.record.activity import Grown
from pytest_k8snet.record.document import Document
from tests.unit.judge.builder import document, facts, facts_document, grown, link, outcome, told

BUILT_IN = NodeExpectation()
ORIGIN = "profile p.yaml:3"
OLDER = ("skip", "the recording is older than the reading of the kernel's counters")
AGAIN = ("error", "node-1: the machine was started anew during the run: its counters began again")
STAT = "head -1 /proc/stat"


def stolen(ticks: int, of: int = 1000, seconds: float = 60.0) -> Grown:
    return grown(seconds, processor__steal=ticks, processor__user=9000 + of - ticks, processor__idle=382000)


@pytest.mark.parametrize(
    ("since", "expect", "expected", "remarks"),
    [
        pytest.param(stolen(0), BUILT_IN, ("pass", ""), [], id="healthy"),
        pytest.param(
            stolen(201),
            BUILT_IN,
            (
                "fail",
                (f"node-1: 20.1 % of the processors' time was stolen by the hypervisor within 60 s, want 20 % at most (built-in) ({STAT})"),
            ),
            [],
            id="stolen",
        ),
        pytest.param(
            stolen(200),
            BUILT_IN,
            ("pass", ""),
            ["node-1: 20 % of the processors' time was stolen by the hypervisor within 60 s"],
            id="as-much-as-allowed",
        ),
        pytest.param(stolen(20), BUILT_IN, ("pass", ""), [], id="a-little"),
        pytest.param(
            stolen(11),
            replace(BUILT_IN, steal=Wanted(0.01, ORIGIN)),
            (
                "fail",
                f"node-1: 1.1 % of the processors' time was stolen by the hypervisor within 60 s, want 1 % at most ({ORIGIN}) ({STAT})",
            ),
            [],
            id="more-than-a-profile-allows",
        ),
        pytest.param(
            stolen(500, seconds=2.0),
            BUILT_IN,
            (
                "inconclusive",
                (
                    "node-1: 50 % of the processors' time was stolen by the hypervisor within 2 s, want 20 % at most (built-in): "
                    f"too short a time to say more ({STAT})"
                ),
            ),
            [],
            id="too-short",
        ),
        pytest.param(stolen(0, 0), BUILT_IN, ("error", f"node-1: the processors' time was not measured ({STAT})"), [], id="not-measured"),
        pytest.param(grown(-5), BUILT_IN, AGAIN, [], id="started-anew"),
        pytest.param(None, BUILT_IN, OLDER, [], id="older"),
    ],
)
def test_steal(since: Grown | None, expect: NodeExpectation, expected: tuple[str, str], remarks: list[str]) -> None:
    judgement = node.steal(facts(), since, expect)
    assert outcome(judgement) == expected
    assert told(judgement, "remark") == remarks


def softnet(processed: int, dropped: int, squeezed: int = 0) -> dict[str, int]:
    return {"processed": 100000 + processed, "dropped": dropped, "time_squeeze": squeezed}


@pytest.mark.parametrize(
    ("since", "expected", "remarks"),
    [
        pytest.param(grown(), ("pass", ""), [], id="healthy"),
        pytest.param(
            grown(softnet=softnet(9700, 300)),
            (
                "fail",
                (
                    "node-1: the processors' queues dropped 300 of 10000 packets (3 %) within 60 s, want 1 % at most (built-in) "
                    "(cat /proc/net/softnet_stat)"
                ),
            ),
            [],
            id="queues",
        ),
        pytest.param(
            grown(1.0, softnet=softnet(100, 9)),
            ("pass", ""),
            ["node-1: the processors' queues dropped 9 of 109 packets (8.26 %) within 1 s"],
            id="too-few-to-fail",
        ),
        pytest.param(
            grown(softnet=softnet(1000, 0, 11)),
            ("pass", ""),
            ["node-1: 11 times within 60 s packets had to wait for the next turn (time_squeeze): net.core.netdev_budget"],
            id="squeezed",
        ),
        pytest.param(
            grown(devices__eth0__rx_dropped=400, devices__eth0__rx_packets=59600),
            (
                "fail",
                (
                    "node-1: eth0 lost, receiving, 400 of 10000 packets (4 %) within 60 s, want 1 % at most (built-in) "
                    "(ip -s -s link show eth0)"
                ),
            ),
            [],
            id="ring-is-full",
        ),
        pytest.param(
            grown(devices__eth0__tx_errors=400, devices__eth0__tx_packets=59600),
            (
                "fail",
                "node-1: eth0 lost, sending, 400 of 10000 packets (4 %) within 60 s, want 1 % at most (built-in) (ip -s -s link show eth0)",
            ),
            [],
            id="errors",
        ),
        pytest.param(
            grown(devices__eth0__rx_dropped=30, devices__eth0__rx_packets=50970),
            ("pass", ""),
            ["node-1: eth0 lost, receiving, 30 of 1000 packets (3 %) within 60 s"],
            id="spanning-tree",
        ),
        pytest.param(
            grown(softnet=None),
            ("error", "node-1: the counters of the queues were not read (cat /proc/net/softnet_stat)"),
            [],
            id="not-read",
        ),
        pytest.param(grown(-5), (AGAIN[0], f"{AGAIN[1]} (cat /proc/net/softnet_stat)"), [], id="started-anew"),
        pytest.param(None, OLDER, [], id="older"),
    ],
)
def test_packet_losses(since: Grown | None, expected: tuple[str, str], remarks: list[str]) -> None:
    judgement = node.packet_losses(facts(), since, BUILT_IN)
    assert outcome(judgement) == expected
    assert told(judgement, "remark") == remarks


WANTED = replace(BUILT_IN, clock=Wanted("synchronised", ORIGIN))
UNSYNCHRONISED = {"problems": ["unsynchronised"], "max_error_us": 16_000_000}


@pytest.mark.parametrize(
    ("changes", "expect", "expected", "advice"),
    [
        pytest.param({}, WANTED, ("pass", ""), [], id="healthy"),
        pytest.param(
            {"clock": UNSYNCHRONISED},
            WANTED,
            (
                "fail",
                (
                    f"node-1: the kernel's clock is unsynchronised (error of up to 16 s), want synchronised ({ORIGIN}) "
                    "(timedatectl; chronyc tracking)"
                ),
            ),
            [],
            id="unsynchronised",
        ),
        pytest.param(
            {"clock": UNSYNCHRONISED},
            BUILT_IN,
            ("skip", "no profile wants a synchronised clock (node.clock)"),
            ["node-1: the kernel's clock is unsynchronised (error of up to 16 s)"],
            id="nobody-asked",
        ),
        pytest.param(
            {"clock": None, "errors": {"clock": "Operation not permitted"}},
            WANTED,
            ("error", "node-1: the state of the clock was not read: Operation not permitted (timedatectl; chronyc tracking)"),
            [],
            id="not-read",
        ),
        pytest.param(
            {"clock": None, "agent": "shell", "errors": {"clock": "adjtimex: no busybox and no adjtimex on the node"}},
            WANTED,
            ("skip", "the clock's state is not read by shell: adjtimex: no busybox and no adjtimex on the node"),
            [],
            id="by-shell",
        ),
    ],
)
def test_clock(changes: dict[str, Any], expect: NodeExpectation, expected: tuple[str, str], advice: list[str]) -> None:
    judgement = node.clock(facts(**changes), expect)
    assert outcome(judgement) == expected
    assert told(judgement, "advice") == advice


def test_clock_in_an_older_recording() -> None:
    assert outcome(node.clock(replace(facts(), clock=None, activity=None), WANTED)) == OLDER


def cluster(**groups: str) -> Cluster:
    nodes = tuple(
        replace(fake_node(f"node-{number}", number), group=groups.get(f"node_{number}", "all"), region="eu-central-1")
        for number in (1, 2, 3)
    )
    return Cluster("v1.37.2", nodes, {}, (), None)


NOTHING_TO_COMPARE = "no uplink tells a speed that could be believed ({}), and no two equal nodes are in one subnet"
ON_LINK = [{"dst": "default", "gateway": "192.168.10.1", "dev": "eth0"}, {"dst": "192.168.10.0/24", "dev": "eth0"}]


def mtus(*of_uplinks: int, **changes: Any) -> dict[str, Document]:
    return {
        f"node-{number}": facts_document(
            f"node-{number}",
            **{"host__links": [link("lo", 65536), link("eth0", mtu)], "host__routes": ON_LINK, "uplink_speed_mbit": None, **changes},
        )
        for number, mtu in enumerate(of_uplinks, 1)
    }


def speeds(*mbit: int | None, **changes: Any) -> dict[str, Document]:
    return {f"node-{number}": facts_document(f"node-{number}", uplink_speed_mbit=speed, **changes) for number, speed in enumerate(mbit, 1)}


def test_nodes_of_which_the_duplex_is_not_known_are_told() -> None:
    documents = speeds(10000, 10000) | {"node-3": facts_document("node-3", uplink_speed_mbit=10000, uplink_duplex=None)}
    judgement = node.uplinks_agree(documents, cluster())
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == ["whether they run half duplex is not known of 1 nodes: node-3: eth0"]


def test_nodes_of_which_the_speed_is_not_known_are_told() -> None:
    judgement = node.uplinks_agree(speeds(10000, None, 10000), cluster())
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == ["speeds are not compared of 1 nodes: node-2: eth0 does not tell its speed"]


@pytest.mark.parametrize(
    ("documents", "among", "expected"),
    [
        pytest.param(speeds(10000, 10000, 10000), cluster(), ("pass", ""), id="healthy"),
        pytest.param(
            speeds(10000, 1000, 10000),
            cluster(),
            (
                "fail",
                "node-2: the uplink runs at 1000 Mbit/s, that of 2 of 3 equal nodes 10000 (cat /sys/class/net/UPLINK/speed)",
            ),
            id="odd-one-out",
        ),
        pytest.param(
            speeds(10000, 1000),
            cluster(),
            (
                "fail",
                (
                    "equal nodes differ: the uplink runs at 1000 Mbit/s on node-2; the uplink runs at 10000 Mbit/s on node-1 "
                    "(cat /sys/class/net/UPLINK/speed)"
                ),
            ),
            id="no-majority",
        ),
        pytest.param(speeds(10000, 1000, 10000), cluster(node_2="small"), ("pass", ""), id="another-pool"),
        pytest.param(
            {**speeds(10000, 10000, 10000), "node-2": speeds(0, 1000, activity__processor__online=8)["node-2"]},
            cluster(),
            ("pass", ""),
            id="another-machine-that-no-label-tells",
        ),
        pytest.param(
            speeds(10000, 1000, 10000),
            replace(cluster(), nodes=tuple(replace(item, control_plane=item.name == "node-2") for item in cluster().nodes)),
            ("pass", ""),
            id="a-node-of-the-control-plane",
        ),
        pytest.param(
            speeds(10000, uplink_duplex="half"),
            cluster(),
            ("fail", "node-1: eth0 runs half duplex, want full (built-in) (ethtool eth0)"),
            id="half-duplex",
        ),
        pytest.param(
            speeds(10000, virtual="DMI says QEMU"),
            cluster(),
            (
                "skip",
                "no uplink tells a speed that could be believed (node-1: DMI says QEMU), and no two equal nodes are in one subnet",
            ),
            id="virtual-and-alone",
        ),
        pytest.param(speeds(10000, 1000, virtual="DMI says QEMU"), cluster(), ("pass", ""), id="of-virtual-ones-the-mtu-alone"),
        pytest.param(
            mtus(1500, 1400, 1500),
            cluster(),
            ("fail", "node-2: the uplink has MTU 1400, that of 2 of 3 equal nodes in 192.168.10.0/24 1500 (ip link show UPLINK)"),
            id="another-mtu",
        ),
        pytest.param(
            mtus(9000, 1500),
            cluster(),
            (
                "fail",
                (
                    "equal nodes in 192.168.10.0/24 differ: the uplink has MTU 1500 on node-2; the uplink has MTU 9000 on node-1 "
                    "(ip link show UPLINK)"
                ),
            ),
            id="two-mtus",
        ),
        pytest.param(
            mtus(1500, 1400, 1500, host__routes=[]),
            cluster(),
            ("fail", "node-2: the uplink has MTU 1400, that of 2 of 3 equal nodes 1500 (ip link show UPLINK)"),
            id="another-mtu-where-no-route-tells-the-subnet",
        ),
        pytest.param(
            {**mtus(1500), "node-2": mtus(1500, 9000, host__routes=[{"dst": "192.168.10.12/31", "dev": "eth0"}])["node-2"]},
            cluster(),
            ("skip", NOTHING_TO_COMPARE.format("node-1: eth0 does not tell its speed")),
            id="another-mtu-in-another-subnet",
        ),
        pytest.param(
            mtus(1500, 9000),
            cluster(node_2="storage"),
            ("skip", NOTHING_TO_COMPARE.format("node-1: eth0 does not tell its speed")),
            id="another-mtu-in-another-pool",
        ),
        pytest.param(
            mtus(1500, 1500, uplink=None),
            cluster(),
            ("skip", NOTHING_TO_COMPARE.format("node-1: no device holds the node's InternalIP")),
            id="no-uplink",
        ),
        pytest.param(
            speeds(None),
            cluster(),
            ("skip", NOTHING_TO_COMPARE.format("node-1: eth0 does not tell its speed")),
            id="no-speed",
        ),
        pytest.param({}, cluster(), ("skip", NOTHING_TO_COMPARE.format("there is none")), id="no-node"),
        pytest.param(
            {**speeds(10000), "node-2": document("facts", "node-2", None, "node-2: no answer")},
            cluster(),
            ("error", "node-2: no facts: no answer"),
            id="one-was-not-read",
        ),
    ],
)
def test_uplinks_agree(documents: dict[str, Document], among: Cluster, expected: tuple[str, str]) -> None:
    assert outcome(node.uplinks_agree(documents, among)) == expected


REGIONS = replace(BUILT_IN, regions=Wanted(("eu-*", "de"), ORIGIN))


@pytest.mark.parametrize(
    ("labels", "expect", "expected"),
    [
        pytest.param({"region": "eu-central-1"}, REGIONS, ("pass", ""), id="healthy"),
        pytest.param(
            {"region": "us-east-1"},
            REGIONS,
            (
                "fail",
                (
                    f"node-1: us-east-1 in label topology.kubernetes.io/region, want eu-* or de ({ORIGIN}) "
                    "(kubectl get node node-1 -L topology.kubernetes.io/region)"
                ),
            ),
            id="another-country",
        ),
        pytest.param(
            {},
            REGIONS,
            (
                "fail",
                (
                    f"node-1: no label topology.kubernetes.io/region, want eu-* or de ({ORIGIN}) "
                    "(kubectl get node node-1 -L topology.kubernetes.io/region)"
                ),
            ),
            id="no-label",
        ),
        pytest.param(
            {"region": "eu-central-1", "zone": "eu-central-1c"},
            replace(REGIONS, zones=Wanted(("eu-central-1a",), ORIGIN)),
            (
                "fail",
                (
                    f"node-1: eu-central-1c in label topology.kubernetes.io/zone, want eu-central-1a ({ORIGIN}) "
                    "(kubectl get node node-1 -L topology.kubernetes.io/zone)"
                ),
            ),
            id="another-zone",
        ),
        pytest.param({"region": None}, REGIONS, ("skip", "the recording is older than the reading of regions"), id="older"),
        pytest.param({"region": "us-east-1"}, BUILT_IN, ("skip", "no profile says in which regions or zones nodes may be"), id="anywhere"),
    ],
)
def test_place(labels: dict[str, Any], expect: NodeExpectation, expected: tuple[str, str]) -> None:
    assert outcome(node.place(replace(fake_node("node-1"), **labels), expect)) == expected
