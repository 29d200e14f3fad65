"""CalicoNodeStatus in the shape of calico's api/pkg/apis/projectcalico/v3/nodestatus.go, as calico-node writes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.bgp_status import BgpStatus, PeerStatus
from pytest_k8snet.cluster.claims.bgp_status import bgp_statuses
from pytest_k8snet.cluster.inventory import read_cluster
from pytest_k8snet.cluster.model import Cluster
from tests.unit.cluster.samples import daemonset
from tests.unit.fakeapi import FakeApiServer

NOW = datetime(2026, 11, 27, 2, 0, 30, tzinfo=UTC)


def peer(address: str, state: str = "Established", kind: str = "NodeMesh") -> dict[str, str]:
    return {"peerIP": address, "type": kind, "state": state, "since": "01:12:07"}


def status(name: str = "of-node-1", node: str = "node-1", *, updated: str | None = "2026-11-27T02:00:00Z", **more: Any) -> dict[str, Any]:
    """Return an object of a node that has no session of IPv6: its BIRD of that runs all the same."""
    bird = {"version": "v0.3.3+birdv1.6.8", "routerID": "10.0.0.1", "lastBootTime": "2026-11-26 11:02:10"}
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "CalicoNodeStatus",
        "metadata": {"name": name},
        "spec": {"classes": ["Agent", "BGP", "Routes"], "node": node, "updatePeriodSeconds": 10},
        "status": {
            "lastUpdated": updated,
            "agent": {"birdV4": {"state": "Ready", **bird}, "birdV6": {"state": "Ready", **bird}},
            "bgp": {
                "numberEstablishedV4": 1,
                "numberEstablishedV6": 0,
                "numberNotEstablishedV4": 1,
                "numberNotEstablishedV6": 0,
                "peersV4": [peer("10.0.0.2"), peer("10.0.0.254", "Active", "GlobalPeer")],
            },
            "routes": {"routesV4": [{"type": "FIB", "destination": "10.244.2.0/24", "gateway": "10.0.0.2"}]},
        },
        **more,
    }


READ = BgpStatus(
    "of-node-1",
    "node-1",
    30.0,
    (PeerStatus(4, "10.0.0.2", "NodeMesh", "Established"), PeerStatus(4, "10.0.0.254", "GlobalPeer", "Active")),
    (4, 6),
    (),
)


def test_a_report() -> None:
    assert bgp_statuses([status()], NOW) == {"node-1": READ}
    assert BgpStatus.from_json(READ.to_json()) == READ


@pytest.mark.parametrize(
    ("peers", "states", "wanted"),
    [
        ({4}, ("Ready", "Ready"), {4, 6}),
        (set(), ("Ready", "Ready"), {4, 6}),
        ({4}, (None, None), {4}),
        ({4, 6}, (None, None), {4, 6}),
        (set(), ("Ready", "NotReady"), set()),
        (set(), ("NotReady", "Ready"), {6}),
        ({6}, ("NotReady", "Ready"), {6}),
        (set(), ("NotReady", "NotReady"), set()),
        (set(), (None, None), set()),
    ],
)
def test_no_peers_are_not_always_no_sessions(peers: set[int], states: tuple[str | None, str | None], wanted: set[int]) -> None:
    """An IPv6 BIRD that is not reached takes the sessions of IPv4 with it, which were filled in before."""
    item = status()
    item["status"]["bgp"] = {f"peersV{family}": [peer("10.0.0.2")] for family in peers}
    item["status"]["agent"] = {f"birdV{family}": {"state": state} for family, state in zip((4, 6), states, strict=True) if state}
    read = bgp_statuses([item], NOW)["node-1"]
    assert {family for family in (4, 6) if read.has_all(family)} == wanted


@pytest.mark.parametrize(
    ("updated", "age_s", "why"),
    [
        ("2026-11-27T02:00:00Z", 30.0, None),
        ("2026-11-27T03:00:00+01:00", 30.0, None),
        ("2026-11-27T02:01:30Z", -60.0, None),
        ("2026-11-27T01:00:00Z", 3630.0, "it was last written 3630 s ago, and whether calico-node would still change it is not known"),
        ("2026-11-27T02:05:00Z", -270.0, "it was last written 270 s from now: clocks differ"),
        (None, None, "calico-node has never written it"),
        ("yesterday", None, "calico-node has never written it"),
        ("2026-11-27T02:00:00", None, "calico-node has never written it"),
    ],
)
def test_what_is_old_proves_nothing(updated: str | None, age_s: float | None, why: str | None) -> None:
    read = bgp_statuses([status(updated=updated)], NOW)["node-1"]
    assert (read.age_s, read.why_no_proof) == (age_s, why)


def test_without_the_servers_time_nothing_is_fresh() -> None:
    assert bgp_statuses([status()], None)["node-1"].age_s is None


def test_the_newest_of_a_node_counts() -> None:
    times = (None, "2026-11-27T01:00:00Z", "2026-11-27T02:00:00Z", "2026-11-27T01:30:00Z")
    objects = [status(f"s-{number}", updated=updated) for number, updated in enumerate(times)]
    assert bgp_statuses(objects, NOW)["node-1"].name == "s-2"
    assert bgp_statuses(objects[::-1], NOW)["node-1"].name == "s-2"


def test_what_is_told_of_anything_else_is_no_report_of_bgp() -> None:
    routes = status(spec={"classes": ["Routes"], "node": "node-1"})
    of_nobody = status(spec={"classes": ["BGP"]})
    assert bgp_statuses([routes, of_nobody, {"metadata": {"name": "x"}, "spec": None}], NOW) == {}


def test_they_are_read_where_calico_is(server: FakeApiServer, api: Api) -> None:
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
    for path in ("/api/v1/nodes", "/api/v1/namespaces/kube-system/pods"):
        server.items(path)
    server.items("/apis/apps/v1/daemonsets", daemonset("calico-node"))
    server.items("/apis/crd.projectcalico.org/v1/caliconodestatuses", status())
    read = read_cluster(api)
    assert read.bgp_statuses["node-1"].peers == READ.peers
    assert Cluster.from_json(read.to_json()).bgp_statuses == read.bgp_statuses
