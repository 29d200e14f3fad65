from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.cluster.model import Cluster, Node
from pytest_k8snet.errors import ConfigurationError
from pytest_k8snet.options import BitRate, PairChoice, Settings, Shard
from pytest_k8snet.plan import (
    CALIBRATION_S,
    HOST_TAKES,
    MOST_SERVICE_TAKES,
    MOST_TAKES,
    OMIT_S,
    STREAMS,
    TAKE_S,
    TAKES,
    Absent,
    Load,
    Plan,
    choose_pairs,
    is_selector,
    make_plan,
    matches,
    replay_plan,
)

RING, ALL, AUTO = PairChoice("ring"), PairChoice("all"), PairChoice("auto")


def sample(count: int) -> PairChoice:
    return PairChoice("sample", count)


def node(name: str, **changes: object) -> Node:
    return replace(fake_node(name), **changes)  # type: ignore[arg-type]


def cluster(*nodes: Node) -> Cluster:
    return Cluster("v1.37.0", nodes, {}, (), None)


@pytest.mark.parametrize(
    ("choice", "nodes", "pairs"),
    [
        (RING, "abc", ["a:b", "b:c", "c:a"]),
        (ALL, "abc", ["a:b", "b:c", "c:a", "b:a", "c:b", "a:c"]),
        (sample(4), "abc", ["a:b", "b:c", "c:a", "b:a"]),
        (sample(99), "ab", ["a:b", "b:a"]),
        (RING, "ab", ["a:b", "b:a"]),
        (ALL, "ab", ["a:b", "b:a"]),
        (RING, "a", []),
        (ALL, "", []),
        (AUTO, "abc", ["a:b", "b:c", "c:a", "b:a", "c:b", "a:c"]),
        (sample(4), "a", []),
    ],
)
def test_pairs(choice: PairChoice, nodes: str, pairs: list[str]) -> None:
    assert list(choose_pairs(choice, nodes)) == pairs


def test_every_pair_of_a_few_nodes_and_the_ring_of_many() -> None:
    names = [f"n{number}" for number in range(17)]
    assert len(choose_pairs(AUTO, names[:16])) == 16 * 15
    assert choose_pairs(AUTO, names) == choose_pairs(RING, names)


@pytest.mark.parametrize("count", range(2, 9))
def test_all_pairs_are_each_ordered_pair_once(count: int) -> None:
    names = [f"n{number}" for number in range(count)]
    pairs = choose_pairs(ALL, names)
    assert len(pairs) == len(set(pairs)) == count * (count - 1)
    assert {end for pair in pairs for end in pair.split(":")} == set(names)
    assert all(pair.split(":")[0] != pair.split(":")[1] for pair in pairs)
    assert choose_pairs(RING, names) == pairs[:count]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_together_are_the_plan(count: int) -> None:
    nodes = cluster(*(node(f"n{number}", ready=number != 4, not_ready_reason="silent") for number in range(5)))
    whole = make_plan(Settings(pairs=RING, load_pairs=ALL), nodes, None)
    parts = [make_plan(Settings(pairs=RING, load_pairs=ALL, shard=Shard(index, count)), nodes, None) for index in range(count)]
    assert sorted(name for part in parts for name in part.nodes) == [*whole.nodes]
    assert sorted(item.node for part in parts for item in part.absent) == ["n4"]
    assert sorted(pair for part in parts for pair in part.pairs) == sorted(whole.pairs)
    assert sorted(pair for part in parts for pair in part.load_pairs) == sorted(whole.load_pairs)
    for part in parts:
        ends = {end for pair in (*part.pairs, *part.load_pairs) for end in pair.split(":")}
        assert ends <= {*part.probed}
        assert not {*part.partners} & {*part.nodes}
        assert Plan.from_json(part.to_json()) == part


def test_shard_without_a_node() -> None:
    part = make_plan(Settings(shard=Shard(2, 3)), cluster(node("a"), node("b")), None)
    assert (part.nodes, part.pairs, part.partners) == ((), (), ())
    assert [item.reason for item in part.left_out] == ["not in shard 2/3"] * 2


AROUND = ["a:b", "b:c", "c:d", "d:a"]


@pytest.mark.parametrize(
    ("pairs", "most", "rounds"),
    [
        ([], 4, ()),
        (AROUND, 4, (("a:b",), ("b:c", "d:a"), ("c:d",))),
        (AROUND, 1, (("a:b",), ("b:c",), ("c:d",), ("d:a",))),
        (["a:b", "c:d", "e:f", "g:h"], 2, (("a:b",), ("c:d", "e:f"), ("g:h",))),
        (["a:b", "b:a", "a:c"], 4, (("a:b",), ("b:a",), ("a:c",))),
    ],
    ids=["none", "ring", "one-at-a-time", "two-at-a-time", "all-have-a-node-in-common"],
)
def test_pairs_that_have_no_node_in_common_are_loaded_together(pairs: list[str], most: int, rounds: tuple[tuple[str, ...], ...]) -> None:
    assert Load.of(pairs, Settings(max_parallel=most)).rounds == rounds


def test_volume() -> None:
    alone, ring = Load.of(AROUND[:1], Settings()), Load.of(AROUND, Settings())
    assert Load.of([], Settings()).most_bytes(10**10) == 0
    most, tried_s = MOST_TAKES + MOST_SERVICE_TAKES, len(STREAMS) * (CALIBRATION_S + OMIT_S)
    assert (alone.together, alone.least_takes, alone.most_takes) == (1, TAKES + 1, 2 * most), "by one stream, and by more"
    assert alone.most_bytes(8_000) == (2 * most * (TAKE_S + OMIT_S) + tried_s) * 1_000
    assert (ring.together, ring.least_takes) == (2, 3 * (TAKES + 1))
    assert ring.most_takes == 5 * most + 2 * (TAKES + 1), "the first one by more streams as well, two of them in company before"
    assert Load.of(AROUND, Settings(access="ssh")).most_takes == (5 + 2) * HOST_TAKES


def test_volume_of_what_was_asked_for() -> None:
    capped = Load.of(AROUND[:1], Settings(bitrate=BitRate("1k", 1_000), take_seconds=9, checks=("NET-THROUGHPUT-*",)))
    assert (capped.most_takes, capped.calibration_s) == (MOST_TAKES, 0), "nothing by Services, and one stream"
    assert capped.most_bytes(8_000) == MOST_TAKES * (9 + OMIT_S) * 125
    assert Load.of(AROUND[:1], Settings(streams=4)).most_takes == MOST_TAKES + MOST_SERVICE_TAKES


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ((), True),
        (("NET-MTU-*",), True),
        (("NET-MTU-001",), True),
        (("net-mtu-*",), False),
        (("NET-PROXY-*", "NET-*"), True),
        (("X",), False),
    ],
)
def test_matches(patterns: tuple[str, ...], found: bool) -> None:
    assert matches("NET-MTU-001", patterns) is found


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("node-1,node-2", False),
        ("pool=a", True),
        ("!edge", True),
        ("pool in (a, b)", True),
        ("example.com/x", True),
        ("node-1.example.com", False),
    ],
)
def test_selector(text: str, selector: bool) -> None:
    assert is_selector(text) is selector


def test_plan() -> None:
    nodes = cluster(
        node("w2"),
        node("w1", schedulable=False),
        node("cp", control_plane=True),
        node("down", ready=False, not_ready_reason="KubeletNotReady: cni"),
        node("win", os="windows"),
    )
    plan = make_plan(Settings(), nodes, None)
    assert plan.nodes == ("cp", "down", "w1", "w2")
    assert plan.pairs == ("cp:w1", "w1:w2", "w2:cp", "w1:cp", "w2:w1", "cp:w2")
    assert plan.load_pairs == ("w1:w2", "w2:w1")  # no load on control planes
    assert plan.absent == (Absent("down", "NotReady: KubeletNotReady: cni"),)
    assert plan.left_out == (Absent("win", "runs windows; only Linux nodes are measured"),)
    assert plan.notes == ("w1 is cordoned; it is measured all the same",)
    assert Plan.from_json(plan.to_json()) == plan


def test_control_plane_nodes_alone_are_measured_against_each_other() -> None:
    nodes = cluster(node("cp1", control_plane=True), node("cp2", control_plane=True))
    assert make_plan(Settings(), nodes, None).load_pairs == ("cp1:cp2", "cp2:cp1")


def test_chosen_nodes() -> None:
    nodes = cluster(node("a"), node("b"), node("c"))
    plan = make_plan(Settings(nodes="c, a"), nodes, None)
    assert plan.nodes == ("a", "c")
    assert plan.left_out == (Absent("b", "not in --k8snet-nodes"),)
    assert make_plan(Settings(nodes="x=y"), nodes, ["b"]).nodes == ("b",)


def test_patterns() -> None:
    nodes = cluster(node("web-1"), node("web-2"), node("db-1"), node("web-9", os="windows"))
    plan = make_plan(Settings(nodes="web-*,db-?"), nodes, None)
    assert plan.nodes == ("db-1", "web-1", "web-2")
    assert plan.left_out == (Absent("web-9", "runs windows; only Linux nodes are measured"),)


def test_nodes_that_are_never_measured() -> None:
    fargate = "is EKS Fargate (label eks.amazonaws.com/compute-type=fargate)"
    plan = make_plan(
        Settings(), cluster(node("a"), node("f", virtual=fargate), node("v", virtual="is a virtual kubelet", ready=False)), None
    )
    assert (plan.nodes, plan.absent) == (("a",), ())
    assert plan.left_out == (Absent("f", fargate), Absent("v", "is a virtual kubelet"))
    nobody = make_plan(Settings(), cluster(node("f", virtual=fargate)), None).nobody
    assert nobody == f"all nodes are left out: f ({fargate})"


@pytest.mark.parametrize(
    ("wanted", "selected", "message"),
    [
        ("a,z,y", None, "--k8snet-nodes: no node y, z in the cluster; it has: a, b, win-1, win-2"),
        ("z-*", None, "--k8snet-nodes: no node z-* in the cluster; it has: a, b, win-1, win-2"),
        (",", None, "--k8snet-nodes: no node ',' in the cluster; it has: a, b, win-1, win-2"),
        ("pool=x", [], "--k8snet-nodes: no node of the cluster matches 'pool=x'"),
        (
            "a,win-*",
            None,
            "--k8snet-nodes: 'win-*' is no node that can be measured: win-1 runs windows; only Linux nodes are measured, win-2 is virtual",
        ),
        ("os=windows", ["win-2"], "--k8snet-nodes: 'os=windows' is no node that can be measured: win-2 is virtual"),
    ],
)
def test_nodes_that_are_not_there(wanted: str, selected: list[str] | None, message: str) -> None:
    nodes = cluster(node("b"), node("a"), node("win-1", os="windows"), node("win-2", virtual="is virtual"))
    with pytest.raises(ConfigurationError) as caught:
        make_plan(Settings(nodes=wanted), nodes, selected)
    assert str(caught.value) == message


def test_empty_cluster() -> None:
    plan = make_plan(Settings(), cluster(), None)
    assert (plan.nodes, plan.pairs, plan.load_pairs) == ((), (), ())


# ---- of a replay

RECORDED_CLUSTER = cluster(node("a"), node("b"), node("c"), node("d", ready=False, not_ready_reason="gone"), node("e"))
RECORDED = make_plan(Settings(nodes="a,b,c,d", pairs=ALL, load_pairs=sample(4)), cluster(*RECORDED_CLUSTER.nodes), None)


def replayed(**given: object) -> Plan:
    sources = dict.fromkeys(given, "command line")
    settings = Settings(**{"nodes": "a,b,c,d", "pairs": ALL, "load_pairs": sample(4), **given}, sources=sources)  # type: ignore[arg-type]
    return replay_plan(RECORDED, settings, RECORDED_CLUSTER)


def test_a_replay_has_the_recorded_plan() -> None:
    assert replayed() == RECORDED
    settings = Settings(nodes="pool=x", sources={"nodes": "recording"})
    assert replay_plan(RECORDED, settings, RECORDED_CLUSTER) is RECORDED


def test_a_replay_of_fewer_nodes_has_the_recorded_pairs_between_them() -> None:
    plan = replayed(nodes=" d, a,c")
    assert plan.nodes == ("a", "c", "d")
    assert plan.pairs == ("c:a", "a:c")
    assert plan.load_pairs == ("c:a",)
    assert plan.absent == RECORDED.absent
    assert plan.left_out == (*RECORDED.left_out, Absent("b", "not in --k8snet-nodes"))


def test_a_replay_of_a_shard() -> None:
    assert replayed(shard=Shard(0, 2)) == RECORDED.of_shard(Shard(0, 2))
    part = RECORDED.of_shard(Shard(0, 2))
    assert (part.nodes, part.partners) == (("a", "c"), ("b",))
    settings = Settings(nodes="a", sources={"nodes": "command line"}, shard=Shard(0, 2))
    plan = replay_plan(part, settings, RECORDED_CLUSTER)
    assert (plan.nodes, plan.pairs, plan.partners) == (("a",), ("a:b",), ("b",))


def test_a_replay_of_other_pairs() -> None:
    plan = replayed(load_pairs=RING)
    assert (plan.nodes, plan.pairs) == (RECORDED.nodes, RECORDED.pairs)
    assert plan.load_pairs == ("a:b", "b:c", "c:a")
    assert replayed(nodes="a,c", pairs=ALL).pairs == ("a:c", "c:a")


def test_a_replay_of_a_node_that_was_not_looked_at() -> None:
    with pytest.raises(ConfigurationError) as caught:
        replayed(nodes="a,e,f")
    assert str(caught.value) == "--k8snet-nodes: the recorded run did not look at e, f; it did at: a, b, c, d"


# ---- what no way leads to


def test_nodes_that_no_way_leads_to_are_left_out_with_the_reason() -> None:
    nodes = cluster(node("a"), node("b"), node("c"))

    def beyond(_cluster: Cluster, wanted: Collection[str]) -> Mapping[str, str]:
        assert set(wanted) == {"a", "b"}
        return {"a": "access local reaches only the machine it runs on", "c": "the same"}

    plan = make_plan(Settings(nodes="a,b"), nodes, None, beyond)
    assert plan.nodes == ("b",)
    assert plan.left_out == (Absent("a", "access local reaches only the machine it runs on"), Absent("c", "not in --k8snet-nodes"))
    assert (plan.pairs, plan.load_pairs) == ((), ())
