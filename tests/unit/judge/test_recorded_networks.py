"""What real labs with flannel and BGP gave, by the judges alone: each fault is seen on its node, and nothing on the others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_k8snet.cluster.model import Claim
from pytest_k8snet.expect.model import EncapsulationExpectation, MtuExpectation, Wanted
from pytest_k8snet.judge import encapsulation, mtu
from pytest_k8snet.record.facts import NodeFacts
from pytest_k8snet.record.store import RunFolder

RECORDINGS = Path(__file__).parents[2] / "recordings"
ADDRESSES = {f"node-{number}": (f"10.199.0.1{number}",) for number in (1, 2, 3)}
NOTHING = MtuExpectation()


def facts(recording: str) -> Mapping[str, NodeFacts]:
    folder = RunFolder(RECORDINGS / recording)
    documents = {name: folder.get("facts", name) for name in ADDRESSES}
    return {name: NodeFacts.from_document(document) for name, document in documents.items() if document is not None}


def wants(kind: str) -> EncapsulationExpectation:
    return EncapsulationExpectation(kind=Wanted(kind, "claim of the network"))


def red(recording: str, kind: str) -> set[tuple[str, str]]:
    """Return every (node, judge) that finds a fault, of all judges of routes, tunnels and packet sizes."""
    found = set()
    for name, of_node in facts(recording).items():
        peers = {peer: addresses for peer, addresses in ADDRESSES.items() if peer != name}
        judgements = {
            "routes": encapsulation.routes_to_peers(of_node, wants(kind), [*peers]),
            "forwarding": encapsulation.forwarding(of_node, peers),
            "bgp": encapsulation.bgp_sessions(of_node),
            "pod-mtu": mtu.pod_mtu(of_node, NOTHING, wants(kind)),
            "existing-pods-mtu": mtu.existing_pods_mtu(of_node, NOTHING, wants(kind)),
            "tunnel-mtu": mtu.tunnel_mtu(of_node, NOTHING, wants(kind)),
        }
        found |= {(name, judge) for judge, judgement in judgements.items() if judgement.verdict not in ("pass", "skip")}
    return found


@pytest.mark.parametrize(
    ("recording", "kind", "expected"),
    [
        ("bgp", "none", set()),
        ("bgp-faults-1", "none", {("node-1", "routes"), ("node-2", "bgp")}),
        ("flannel-vxlan", "vxlan", set()),
        (
            "flannel-vxlan-faults-1",
            "vxlan",
            {("node-1", "routes"), ("node-2", "forwarding"), ("node-3", "pod-mtu")},
        ),
        ("flannel-host-gw", "none", set()),
        ("flannel-host-gw-faults-1", "none", {("node-2", "routes")}),
        ("flannel-ipip", "ipip", set()),
        ("flannel-ipip-faults-1", "ipip", {("node-1", "routes"), ("node-2", "tunnel-mtu"), ("node-3", "pod-mtu")}),
        ("flannel-ipip-faults-2", "none", {(node, "routes") for node in ADDRESSES}),
    ],
)
def test_recorded(recording: str, kind: str, expected: set[tuple[str, str]]) -> None:
    assert len(facts(recording)) == 3
    assert red(recording, kind) == expected


@pytest.mark.parametrize(("recording", "pods"), [("bgp", None), ("flannel-vxlan", 1450), ("flannel-host-gw", 1500), ("flannel-ipip", 1480)])
def test_what_flanneld_has_written(recording: str, pods: int | None) -> None:
    assert {of_node.flannel_mtu for of_node in facts(recording).values()} == {pods}


def test_daemons_are_seen_where_they_are() -> None:
    (bgp,) = facts("bgp")["node-1"].bgp
    assert [session.name for session in bgp.sessions] == ["node_2", "node_3"]
    mesh = {name: addresses for name, addresses in ADDRESSES.items() if name != "node-1"}
    claim = Claim("mesh", "ConfigMap kube-system/k8snet-lab-network network.json bgp")
    whole = encapsulation.bgp_sessions(facts("bgp")["node-1"], claim, mesh)
    assert (whole.verdict, whole.checked) == ("pass", 4)
    larger = encapsulation.bgp_sessions(facts("bgp")["node-1"], claim, {**mesh, "node-4": ("10.199.0.14",)})
    assert larger.message == (
        "node-1: no BGP session with 10.199.0.14 (node-4) is configured, want one with every node "
        f"({claim.source}) (birdc -s /run/bird/bird.ctl show protocols)"
    )
    assert facts("bgp")["node-1"].forwarding == {}
    vxlan = facts("flannel-vxlan")["node-1"]
    assert vxlan.bgp == ()
    assert vxlan.forwarding == {"flannel.1": {"10.200.2.0": ["10.199.0.12"], "10.200.3.0": ["10.199.0.13"]}}
