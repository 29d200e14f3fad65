from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.errors import RecordError
from pytest_k8snet.judge import reach
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.neighbours import Neighbourhood
from tests.unit.judge.builder import outcome, told

GONE, ROUTER, GATEWAY = "02:00:00:00:00:99", "02:00:00:00:00:fe", "192.168.10.1"
SUBNET = {"dst": "192.168.10.0/24", "dev": "eth0", "prefsrc": "192.168.10.11"}
DEFAULT = {"dst": "default", "gateway": GATEWAY, "dev": "eth0"}


def mac(number: int) -> str:
    return f"02:00:00:00:00:0{number}"


def entry(address: str, lladdr: str, state: str = "PERMANENT") -> dict[str, Any]:
    return {"dst": address, "lladdr": lladdr, "state": [state]}


def facts(
    number: int, *entries: Mapping[str, Any], routes: tuple[Mapping[str, Any], ...] = (DEFAULT, SUBNET), **more: Any
) -> dict[str, Any]:
    links = [
        {"ifname": "lo", "address": "00:00:00:00:00:00"},
        {"ifname": "eth0", "address": mac(number).upper()},
        {"ifname": "eth1", "address": mac(number + 3)},
        {"ifname": "veth1", "address": mac(9), "linkinfo": {"info_kind": "veth"}},
    ]
    values = {"host": {"links": links, "routes": [*routes, {"dst": "10.244.2.0/24", "gateway": "192.168.10.12", "dev": "eth0"}]}}
    return {**values, "uplink": "eth0", "neighbour_entries": {"total": len(entries), "entries": [*entries]}, **more}


def document(number: int, values: dict[str, Any] | None, reason: str | None = None) -> Document:
    return Document(kind="facts", subject=f"node-{number}", started="x", duration_s=0.0, method="x", values=values, reason=reason)


def judged(*entries: Mapping[str, Any], routes: tuple[Mapping[str, Any], ...] = (DEFAULT, SUBNET)) -> Judgement:
    """Judge entries of node-1, one of three."""
    found = [facts(1, *entries, routes=routes), facts(2), facts(3, entry("192.168.10.11", mac(1), "REACHABLE"))]
    documents = {f"node-{number}": document(number, values) for number, values in enumerate(found, 1)}
    return reach.neighbour_entries(documents, FakeCluster().read_cluster())


def test_what_is_right() -> None:
    judgement = judged(entry("192.168.10.12", mac(2)), entry("192.168.10.13", mac(3), "STALE"), entry("192.168.10.99", GONE))
    assert (outcome(judgement), judgement.checked) == (("pass", ""), 6), "three tables, three entries; one for no node"
    assert outcome(judged(entry("192.168.10.12", mac(5)))) == ("pass", ""), "another device of the node"


def test_a_permanent_entry_that_is_wrong() -> None:
    words = (
        f"node-1: its neighbour entry for node-2 (192.168.10.12) is PERMANENT with {GONE}, which is no node's, and node-2's eth0 has "
        f"{mac(2)}: what it sends there is lost (ip neigh show 192.168.10.12)"
    )
    assert outcome(judged(entry("192.168.10.12", GONE))) == ("fail", words)
    assert f"with {mac(3)}, which is node-3's, and node-2's eth0 has {mac(2)}" in judged(entry("192.168.10.12", mac(3))).message
    assert judged(entry("192.168.10.12", mac(9))).verdict == "fail", "the end of a pod is no device of the node"


def test_a_way_that_is_not_used() -> None:
    via = {"dst": "192.168.10.12", "gateway": GATEWAY, "dev": "eth0"}
    assert outcome(judged(entry("192.168.10.12", GONE), routes=(DEFAULT, SUBNET, via))) == ("pass", "")
    assert outcome(judged(entry("192.168.10.12", GONE), routes=(DEFAULT,))) == ("pass", "")
    elsewhere = {**SUBNET, "dev": "eth1"}
    assert outcome(judged(entry("192.168.10.12", GONE), routes=(elsewhere,))) == ("pass", "")


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([entry("192.168.10.12", ROUTER), entry(GATEWAY, ROUTER, "REACHABLE")], f"goes to {ROUTER}: it is that of a gateway"),
        ([entry("192.168.10.12", "00:00:5e:00:01:07")], "goes to 00:00:5e:00:01:07: it is a virtual router's (VRRP)"),
        (
            [entry("192.168.10.12", GONE), entry("192.168.10.13", GONE)],
            f"goes to {GONE}: so does what it sends to 1 other nodes",
        ),
    ],
    ids=["gateway", "vrrp", "several"],
)
def test_a_way_that_somebody_laid(entries: list[dict[str, Any]], why: str) -> None:
    judgement = judged(*entries)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, Weight.REMARK)[0] == f"node-1: what it sends to node-2 (192.168.10.12) {why}"


def test_a_node_that_routes_lead_through_is_no_gateway_that_explains_it() -> None:
    assert judged(entry("192.168.10.12", GONE)).verdict == "fail", "routes to pods lead through it"


def test_what_the_kernel_learned_mends_itself() -> None:
    judgement = judged(entry("192.168.10.12", GONE, "REACHABLE"))
    assert outcome(judgement) == ("pass", "")
    words = f"node-1 learned that node-2 is at {GONE}, which is none of its devices: proxy ARP, or another machine has its address"
    assert told(judgement, Weight.REMARK) == [f"{words} (NET-REACH-008)"]


def test_a_node_whose_devices_are_not_known() -> None:
    documents = {"node-1": document(1, facts(1, entry("192.168.10.12", GONE))), "node-2": document(2, None, "node-2: gone")}
    assert outcome(reach.neighbour_entries(documents, FakeCluster().read_cluster())) == ("error", "node-2: no facts: gone")


def test_more_than_were_looked_at() -> None:
    values = facts(1, entry("192.168.10.12", mac(2)), neighbour_entries={"total": 3000, "entries": [entry("192.168.10.12", mac(2))]})
    judgement = reach.neighbour_entries({"node-1": document(1, values), "node-2": document(2, facts(2))}, FakeCluster().read_cluster())
    assert told(judgement, Weight.REMARK) == ["node-1: 1 of 3000 neighbour entries were looked at"]


def test_ipv6() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    cluster = fake.read_cluster()
    subnet = {"dst": "fd00::/64", "dev": "eth0"}
    values = [facts(1, entry("fd00::2", GONE), routes=({"dst": "default", "gateway": "fe80::1", "dev": "eth0"}, subnet)), facts(2)]
    documents = {f"node-{number}": document(number, item) for number, item in enumerate(values, 1)}
    nodes = tuple(
        type(node)(**{**node.to_json(), "internal_ips": (f"fd00:0::{number}",), "pod_cidrs": (), "pod_ips": ()})
        for number, node in enumerate(cluster.nodes, 1)
    )
    judgement = reach.neighbour_entries(documents, type(cluster)(cluster.version, nodes, {}, (), None))
    assert judgement.verdict == "fail"
    assert "its neighbour entry for node-2 (fd00::2) is PERMANENT" in judgement.message


def test_an_older_record_and_what_was_not_read() -> None:
    cluster = FakeCluster().read_cluster()
    old = {key: value for key, value in facts(1).items() if key != "neighbour_entries"}
    judgement = reach.neighbour_entries({"node-1": document(1, old)}, cluster)
    assert (outcome(judgement), judgement.unsupported) == (("skip", "the record is of a version that did not read this"), True)
    failed = facts(1, errors={"neighbour_entries": "ip: not on the node"}, neighbour_entries=None)
    words = "node-1: the neighbour table was not read: ip: not on the node"
    assert outcome(reach.neighbour_entries({"node-1": document(1, failed)}, cluster)) == ("error", words)
    with pytest.raises(RecordError, match="node-1: the facts document is damaged: KeyError"):
        Neighbourhood.from_document(document(1, {"neighbour_entries": None}))
    nowhere = Neighbourhood.from_document(document(1, facts(1, uplink=None, neighbour_entries=None)))
    assert nowhere is not None
    assert (nowhere.entries, nowhere.uplink_mac) == ((), None)
