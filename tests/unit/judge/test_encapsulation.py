from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.cluster.bgp_status import BgpStatus, PeerStatus
from pytest_k8snet.cluster.model import Claim, Cluster, Node
from pytest_k8snet.expect.model import EncapsulationExpectation, Wanted
from pytest_k8snet.judge import encapsulation
from tests.unit.judge.builder import facts, link, outcome, told
from tests.unit.judge.crossings import pair, record, side, stream, tcp

NATIVE = EncapsulationExpectation(kind=Wanted("none", "profile native.yaml:3"))
PEERS = ["node-2", "node-3"]
GET = "ip -j route get 10.244.2.5"


def wants(kind: str) -> EncapsulationExpectation:
    return EncapsulationExpectation(kind=Wanted(kind, "profile x.yaml:3"))


def route(peer: str, dev: str | None = "eth0", **more: Any) -> dict[str, Any]:
    return {"peer": peer, "address": f"10.244.{peer[-1]}.5", "real_pod": True, "dev": dev, "gateway": None, **more}


def via(dev: str, kind: str | None, **more: Any) -> dict[str, Any]:
    """Return changes: the route to node-2 leaves by `dev`."""
    return {"host__links": [link("eth0"), link(dev, kind=kind)], "peer_routes": [route("node-2", dev), route("node-3")], **more}


def all_via(dev: str, kind: str | None) -> dict[str, Any]:
    return {"host__links": [link("eth0"), link(dev, kind=kind)], "peer_routes": [route("node-2", dev), route("node-3", dev)]}


@pytest.mark.parametrize(
    ("changes", "expect", "expected"),
    [
        pytest.param({}, NATIVE, ("pass", ""), id="native"),
        pytest.param(all_via("vxlan0", "vxlan"), wants("vxlan"), ("pass", ""), id="vxlan"),
        pytest.param(all_via("tunl0", "ipip"), wants("ipip"), ("pass", ""), id="ipip"),
        pytest.param(all_via("tun-0b1ec8e4c2f", "ipip"), wants("fou"), ("pass", ""), id="fou-of-kube-router"),
        pytest.param(via("flannel-wg", "wireguard"), wants("geneve"), None, id="another-tunnel"),
        pytest.param({**via("bond0", "bond"), "uplink": "bond0"}, NATIVE, ("pass", ""), id="bond"),
        pytest.param(via("eth1.20", "vlan"), NATIVE, ("pass", ""), id="vlan-beside-the-uplink"),
        pytest.param({**via("br-ex", "bridge"), "uplink": "br-ex"}, NATIVE, ("pass", ""), id="uplink-is-a-bridge"),
        pytest.param(
            {"host__links": [link("eth0", kind="veth")], "physical": []}, NATIVE, ("pass", ""), id="uplink-is-a-veth-in-a-container-node"
        ),
        pytest.param({**via("ens6", None), "physical": ["eth0", "ens6"]}, NATIVE, ("pass", ""), id="second-nic"),
        pytest.param(
            via("vxlan0", "vxlan"),
            NATIVE,
            (
                "fail",
                (
                    "node-1: the route to 10.244.2.5 (a pod of node-2) leaves by vxlan0 (vxlan), a tunnel; "
                    f"want encapsulation none (profile native.yaml:3) ({GET})"
                ),
            ),
            id="vxlan-route-on-native",
        ),
        pytest.param(
            via("cni0", "bridge"),
            NATIVE,
            (
                "fail",
                (
                    "node-1: the route to 10.244.2.5 (a pod of node-2) leaves by cni0 (bridge), neither uplink nor physical; "
                    f"want encapsulation none (profile native.yaml:3) ({GET})"
                ),
            ),
            id="route-into-the-pod-bridge",
        ),
        pytest.param(
            {"host__links": [link("eth0"), link("vxlan0", kind="vxlan")], "peer_routes": [route("node-2"), route("node-3", "vxlan0")]},
            wants("vxlan"),
            (
                "fail",
                (
                    "node-1: the route to 10.244.2.5 (a pod of node-2) leaves by eth0 (no virtual device), want a vxlan device: "
                    f"encapsulation vxlan (profile x.yaml:3) ({GET})"
                ),
            ),
            id="native-route-on-vxlan",
        ),
        pytest.param(
            {"peer_routes": [route("node-2", None, error="RTNETLINK answers: Network is unreachable"), route("node-3")]},
            NATIVE,
            ("fail", f"node-1: no route to 10.244.2.5 (a pod of node-2): RTNETLINK answers: Network is unreachable ({GET})"),
            id="no-route",
        ),
        pytest.param(
            {"peer_routes": [route("node-2", None, error="ip: command not found"), route("node-3")]},
            NATIVE,
            ("error", f"node-1: the route to 10.244.2.5 (a pod of node-2) was not read: ip: command not found ({GET})"),
            id="route-not-read",
        ),
        pytest.param(
            {"peer_routes": [route("node-3")]},
            NATIVE,
            ("error", "node-1: no route to a pod of node-2 was measured"),
            id="peer-not-measured",
        ),
        pytest.param(
            {"peer_routes": [route("node-2", "eth9"), route("node-3")]},
            NATIVE,
            ("error", f"node-1: the route to 10.244.2.5 (a pod of node-2) names no known device (eth9) ({GET})"),
            id="device-not-known",
        ),
        pytest.param(
            via("cilium_host", "veth"),
            NATIVE,
            (
                "inconclusive",
                (
                    "node-1: the route to 10.244.2.5 (a pod of node-2) leads to cilium_host (veth), behind which the CNI decides; "
                    f"only packets on the wire can tell, want none (profile native.yaml:3) ({GET})"
                ),
            ),
            id="cni-gateway",
        ),
        pytest.param(
            via("br-int", "openvswitch"),
            NATIVE,
            (
                "inconclusive",
                (
                    "node-1: the route to 10.244.2.5 (a pod of node-2) leads to br-int (openvswitch), behind which the CNI decides; "
                    f"only packets on the wire can tell, want none (profile native.yaml:3) ({GET})"
                ),
            ),
            id="ovs",
        ),
        pytest.param(
            {},
            EncapsulationExpectation(),
            (
                "skip",
                "nothing says whether pods' traffic should be encapsulated: the CNI claims nothing and no profile gives it",
            ),
            id="nothing-wanted",
        ),
    ],
)
def test_routes_to_peers(changes: dict[str, Any], expect: EncapsulationExpectation, expected: tuple[str, str] | None) -> None:
    judgement = encapsulation.routes_to_peers(facts(**changes), expect, PEERS)
    if expected is None:
        assert outcome(judgement)[0] == "fail"
    else:
        assert outcome(judgement) == expected


TUNL0, VXLAN, VPN = link("tunl0", 1480, "ipip"), link("vxlan.calico", 1450, "vxlan"), link("tailscale0", 1280, "tun")


@pytest.mark.parametrize(
    ("devices", "dev", "want", "remarked"),
    [
        pytest.param([TUNL0, VPN], "eth0", "none", ["tunl0 (ipip)"], id="up-and-carries-nothing"),
        pytest.param([link("tunl0", 1480, "ipip", flags=["NOARP"])], "eth0", "none", [], id="made-with-its-module"),
        pytest.param([TUNL0, VXLAN], "vxlan.calico", "vxlan", ["tunl0 (ipip)"], id="of-another-mode"),
        pytest.param(
            [link("cilium_host", kind="veth"), link("cilium_vxlan", kind="vxlan")], "cilium_host", "vxlan", [], id="behind-a-gateway"
        ),
        pytest.param([link("flannel.1", 1450, "vxlan")], "eth0", "none", ["flannel.1 (vxlan)"], id="of-a-cni-that-is-gone"),
    ],
)
def test_devices_that_carry_nothing_are_told(devices: list[dict[str, Any]], dev: str, want: str, remarked: list[str]) -> None:
    changes: dict[str, Any] = {"host__links": [link("eth0"), *devices], "peer_routes": [route("node-2", dev), route("node-3", dev)]}
    judgement = encapsulation.routes_to_peers(facts(**changes), wants(want), PEERS)
    assert told(judgement, "remark") == [
        f"node-1: {device} is up and no route to another node's pods leaves by it: left over from another mode?" for device in remarked
    ]
    assert outcome(judgement)[0] == ("inconclusive" if dev == "cilium_host" else "pass"), "they harm nobody"


def test_a_tunnel_for_other_subnets_is_not_left_over_where_all_are_in_one() -> None:
    expect = EncapsulationExpectation(across=Wanted("vxlan", "claim IPPool"))
    on_link = [{"dst": "192.168.10.0/24", "dev": "eth0"}]
    of_node = facts(host__links=[link("eth0"), VXLAN], host__routes=on_link, peer_routes=[route("node-2"), route("node-3")])
    judgement = encapsulation.routes_to_peers(of_node, expect, PEERS, {"node-2": ["192.168.10.12"], "node-3": ["192.168.10.13"]})
    assert (outcome(judgement), told(judgement, "remark")) == (("pass", ""), [])


def test_the_only_node_has_no_peers() -> None:
    assert outcome(encapsulation.routes_to_peers(facts(), NATIVE, [])) == ("skip", "there is no other node to have a route to")


@pytest.mark.parametrize(
    ("stand_in", "message"),
    [
        (
            route("node-2", real_pod=False),
            "leaves by eth0 (no virtual device), want a vxlan device: encapsulation vxlan (profile x.yaml:3)",
        ),
        (route("node-2", None, real_pod=False, error="RTNETLINK answers: Network is unreachable"), "Network is unreachable"),
    ],
)
def test_a_stand_in_address_proves_no_fault(stand_in: dict[str, Any], message: str) -> None:
    verdict, told_ = outcome(encapsulation.routes_to_peers(facts(peer_routes=[stand_in]), wants("vxlan"), ["node-2"]))
    assert verdict == "inconclusive"
    assert told_.endswith(f"{message}; no running pod of node-2 was found to ask for ({GET})")


def test_peers_are_the_ready_linux_nodes_of_the_run() -> None:
    nodes = (
        *(fake_node(f"node-{number}", number) for number in (1, 2, 3)),
        replace(fake_node("windows", 4), os="windows"),
        replace(fake_node("gone", 5), ready=False),
    )
    cluster = Cluster("v1.37.2", nodes, {}, (), None)
    assert encapsulation.peers_of(cluster, "node-1", ["node-1", "node-2", "windows", "gone"]) == ["node-2"]


def test_a_stand_in_address_is_told() -> None:
    judgement = encapsulation.routes_to_peers(facts(peer_routes=[route("node-2", real_pod=False)]), NATIVE, ["node-2"])
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == ["node-1: no running pod of node-2 was found, an address of its pod range stands in for one"]


@pytest.mark.parametrize(("real_pod", "weight"), [(True, "fault"), (False, "inconclusive")])
def test_many_peers_to_which_the_way_is_the_same(real_pod: bool, weight: str) -> None:
    names = [f"node-{number:03}" for number in range(2, 42)]
    routes = {"dev": "eth0", "error": None, "real_pod": real_pod, "peers": {name: ["10.244.2.5", None] for name in names}}
    good = encapsulation.routes_to_peers(facts(peer_routes=[routes]), NATIVE, names)
    assert (good.verdict, good.checked, good.evidence) == ("pass", 40, {"devices": {"eth0": 40}})
    assert len(good.findings) == (0 if real_pod else 11)
    bad = encapsulation.routes_to_peers(facts(peer_routes=[routes]), wants("vxlan"), [*names, *(f"gone-{number}" for number in range(13))])
    messages = told(bad, weight)
    assert messages[0].startswith("node-1: the route to 10.244.2.5 (")
    assert messages[10:] == ["node-1: and the same of 30 more nodes"]
    assert told(bad, "error")[9:] == [
        "node-1: no route to a pod of gone-6 was measured",
        "node-1: nor one to a pod of 3 more nodes",
    ]


PEER_IPS = {"node-2": ("192.168.10.12",), "node-3": ("192.168.10.13",)}
TOLD = {"10.244.2.0": ["192.168.10.12"], "10.244.3.0": ["192.168.10.13"]}


def in_vxlan(**more: Any) -> dict[str, Any]:
    """Return changes: the routes to both peers leave by flannel's device."""
    hops = [route("node-2", "flannel.1", gateway="10.244.2.0"), route("node-3", "flannel.1", gateway="10.244.3.0")]
    return {"host__links": [link("eth0"), link("flannel.1", kind="vxlan")], "peer_routes": hops, "forwarding": {"flannel.1": TOLD}, **more}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(in_vxlan(), ("pass", ""), id="healthy"),
        pytest.param(
            in_vxlan(forwarding={"flannel.1": {**TOLD, "10.244.3.0": []}}),
            (
                "fail",
                "node-1: flannel.1 has no forwarding entry for 10.244.3.0, the next hop to pods of node-3 (bridge fdb show dev flannel.1)",
            ),
            id="no-forwarding-entry",
        ),
        pytest.param(
            in_vxlan(forwarding={"flannel.1": {"10.244.2.0": ["192.168.10.12"]}}),
            (
                "fail",
                "node-1: flannel.1 has no neighbour entry for 10.244.3.0, the next hop to pods of node-3 (bridge fdb show dev flannel.1)",
            ),
            id="no-neighbour-entry",
        ),
        pytest.param(
            in_vxlan(forwarding={"flannel.1": {**TOLD, "10.244.3.0": ["192.168.10.99"]}}),
            (
                "fail",
                (
                    "node-1: flannel.1 sends to 192.168.10.99 instead of 192.168.10.13 for 10.244.3.0, the next hop to pods of node-3 "
                    "(bridge fdb show dev flannel.1)"
                ),
            ),
            id="an-address-that-the-node-no-longer-has",
        ),
        pytest.param(
            in_vxlan(peer_routes=[], errors={"peer_routes": "ip: not on the node"}),
            ("error", "node-1: which next hops lead to other nodes' pods was not read: ip: not on the node"),
            id="routes-not-read",
        ),
        pytest.param(
            in_vxlan(forwarding={}, errors={"forwarding": "bridge: not on the node"}),
            ("error", "node-1: the entries of vxlan devices were not read: bridge: not on the node"),
            id="not-read",
        ),
        pytest.param(
            {},
            ("skip", "no route to another node's pods leaves by a vxlan device that has to be told where they are"),
            id="native",
        ),
    ],
)
def test_vxlan_forwarding(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(encapsulation.forwarding(facts(**changes), PEER_IPS)) == expected


def test_vxlan_forwarding_of_many_peers_is_told_of_some_and_counted() -> None:
    peers = {f"node-{number}": (f"192.168.10.{number}",) for number in range(2, 32)}
    hops = [{**route(peer, "flannel.1"), "address": f"10.244.{peer[5:]}.5", "gateway": f"10.244.{peer[5:]}.0"} for peer in peers]
    judgement = encapsulation.forwarding(facts(**in_vxlan(peer_routes=hops, forwarding={"flannel.1": {}})), peers)
    assert len(judgement.findings) == 11
    assert judgement.findings[-1].message == "node-1: and the same of 20 more nodes"


def agent_of(mode: str, tunnel: str | None, path: str = "/v1/healthz", **more: Any) -> dict[str, Any]:
    routing = {"mode": mode, "tunnel": tunnel, "path": path}
    return {"cilium": {"state": "Ok", "message": "", "replacement": "True", "routing": routing}, **more}


def configured(value: str | None) -> Claim:
    return Claim(value, "ConfigMap kube-system/cilium-config routing-mode")


def other_mode(found: str, want: str, path: str = "/v1/healthz") -> str:
    return (
        f"node-1: Cilium's agent runs in routing mode {found}, want {want} as ConfigMap kube-system/cilium-config routing-mode says now: "
        f"it has not been restarted since that was changed (curl --unix-socket /run/cilium/cilium.sock http://localhost{path})"
    )


@pytest.mark.parametrize(
    ("changes", "claim", "expected"),
    [
        pytest.param(agent_of("native", ""), configured("native"), None, id="native"),
        pytest.param(agent_of("native", "vxlan"), configured("native"), None, id="native-with-a-tunnel-for-egress-gateways"),
        pytest.param(agent_of("tunnel", "vxlan"), configured("tunnel vxlan"), None, id="tunnel"),
        pytest.param(agent_of("tunnel", None), configured("tunnel geneve"), None, id="which-tunnel-it-does-not-say"),
        pytest.param(agent_of("tunnel", "vxlan"), configured("hybrid vxlan"), None, id="hybrid"),
        pytest.param(agent_of("tunnel", "vxlan"), configured("native"), other_mode("tunnel (vxlan)", "native"), id="was-a-tunnel"),
        pytest.param(agent_of("native", ""), configured("tunnel geneve"), other_mode("native", "tunnel (geneve)"), id="was-native"),
        pytest.param(agent_of("native", ""), configured("hybrid vxlan"), other_mode("native", "hybrid (vxlan)"), id="was-never-hybrid"),
        pytest.param(
            agent_of("tunnel", "vxlan"), configured("tunnel geneve"), other_mode("tunnel (vxlan)", "tunnel (geneve)"), id="another-tunnel"
        ),
        pytest.param(
            agent_of("tunnel", None, "/v1/config"), configured("native"), other_mode("tunnel", "native", "/v1/config"), id="of-1.15"
        ),
        pytest.param(agent_of("tunnel", "vxlan"), configured(None), None, id="the-configuration-was-not-read"),
        pytest.param(agent_of("tunnel", "vxlan"), None, None, id="nothing-is-configured"),
        pytest.param(
            {"cilium": {"state": "Ok", "message": "", "replacement": "True"}}, configured("native"), None, id="an-older-recording"
        ),
        pytest.param({"cilium": None}, configured("native"), None, id="not-asked"),
    ],
)
def test_ciliums_agent_routes_as_its_configuration_says_now(changes: dict[str, Any], claim: Claim | None, expected: str | None) -> None:
    """Whether anything else can be judged or not: routes to cilium_host are left to packets, and behind encryption nothing is claimed."""
    hidden: dict[str, Any] = {
        "host__links": [link("eth0"), link("cilium_host", kind="veth")],
        "peer_routes": [route("node-2", "cilium_host")],
    }
    seen = encapsulation.routes_to_peers(facts(**changes), NATIVE, PEERS, configured=claim)
    left = encapsulation.routes_to_peers(facts(**hidden, **changes), NATIVE, ["node-2"], witnessed=True, configured=claim)
    unsaid = encapsulation.routes_to_peers(facts(**changes), EncapsulationExpectation(), PEERS, configured=claim)
    if expected is None:
        assert [judgement.verdict for judgement in (seen, left, unsaid)] == ["pass", "skip", "skip"]
    else:
        assert [outcome(judgement) for judgement in (seen, left, unsaid)] == [("fail", expected)] * 3


def test_what_ciliums_agent_says_is_evidence() -> None:
    judgement = encapsulation.routes_to_peers(facts(**agent_of("tunnel", "vxlan")), NATIVE, PEERS)
    assert judgement.evidence["Cilium's agent"] == "tunnel (vxlan), by /v1/healthz"


SESSIONS = [{"name": "node_2", "state": "up", "info": "Established"}, {"name": "node_3", "state": "up", "info": "Established"}]


def bird(*sessions: dict[str, str]) -> dict[str, Any]:
    return {"bgp": {"socket": "/run/bird/bird.ctl", "sessions": list(sessions)}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(bird(*SESSIONS), ("pass", ""), id="healthy"),
        pytest.param(
            bird(SESSIONS[0], {"name": "node_3", "state": "start", "info": "Active Socket: Connection refused"}),
            (
                "fail",
                (
                    "node-1: BGP session node_3 is start (Active Socket: Connection refused), want up (Established) "
                    "(birdc -s /run/bird/bird.ctl show protocols)"
                ),
            ),
            id="peer-does-not-answer",
        ),
        pytest.param(
            bird({"name": "node_2", "state": "down", "info": ""}, SESSIONS[1]),
            ("fail", "node-1: BGP session node_2 is down, want up (Established) (birdc -s /run/bird/bird.ctl show protocols)"),
            id="disabled",
        ),
        pytest.param(bird(), ("skip", "the BIRD at /run/bird/bird.ctl of this node has no BGP session"), id="no-session"),
        pytest.param({}, ("skip", "no BIRD runs on this node, and Cilium speaks no BGP"), id="no-bird"),
        pytest.param(
            {"errors": {"bgp": "ValueError('?')"}},
            ("error", "node-1: BIRD was not asked for its sessions: ValueError('?')"),
            id="not-asked",
        ),
    ],
)
def test_bgp_sessions(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(encapsulation.bgp_sessions(facts(**changes))) == expected


WAITING = {"state": "start", "info": "Connect"}


@pytest.mark.parametrize(
    ("name", "addresses", "verdict"),
    [
        pytest.param("Mesh_192_168_10_13", ["192.168.10.13"], "pass", id="calico-s-mesh"),
        pytest.param("Node_192_168_10_13_port_179", ["192.168.10.13"], "pass", id="calico-s-peer"),
        pytest.param("Mesh_fd00_1__13", ["192.168.10.13", "fd00:1::13"], "pass", id="ipv6"),
        pytest.param("192.168.10.13 (AS 64512)", ["192.168.10.13"], "pass", id="cilium"),
        pytest.param("Mesh_192_168_10_131", ["192.168.10.13"], "fail", id="another-one"),
        pytest.param("Global_192_168_10_1", ["192.168.10.13"], "fail", id="a-router"),
    ],
)
def test_a_session_with_a_node_that_is_not_ready_is_that_node_s_matter(name: str, addresses: list[str], verdict: str) -> None:
    judgement = encapsulation.bgp_sessions(facts(**bird(SESSIONS[0], {"name": name, **WAITING})), not_ready={"node-3": addresses})
    assert str(judgement.verdict) == verdict
    known = f"node-1: BGP session {name} is start (Connect): node-3, its other end, is not Ready"
    assert told(judgement, "remark") == ([known] if verdict == "pass" else [])


def test_a_node_whose_only_session_is_with_one_that_is_not_ready() -> None:
    judgement = encapsulation.bgp_sessions(
        facts(**bird({"name": "Mesh_192_168_10_13", **WAITING})), not_ready={"node-3": ["192.168.10.13"]}
    )
    assert outcome(judgement) == ("skip", "every other end of this node's BGP sessions is a node that is not Ready")


GONE = "BIRD at /run/calico/bird.ctl: Connection refused"
MESH = Claim("mesh", "ConfigMap kube-system/calico-config calico_backend")
NO_BGP = Claim("none", "ConfigMap kube-system/calico-config calico_backend")
UNREAD = Claim(None, "BGPConfiguration: HTTP 403")
SPOKEN_BY_CILIUM = Claim("peers", "ConfigMap kube-system/cilium-config enable-bgp-control-plane")
IN_CILIUM = [{"name": "10.0.0.1 (AS 64512)", "state": "established", "info": ""}]
CALICO, CALICO6, AGENT = "/run/calico/bird.ctl", "/run/calico/bird6.ctl", "/run/cilium/cilium.sock"


def speaker(socket: str, sessions: list[dict[str, str]] | None = None, error: str | None = None) -> dict[str, Any]:
    return {"socket": socket, "sessions": sessions, "error": error}


@pytest.mark.parametrize(
    ("speakers", "claim", "expected", "remarks"),
    [
        pytest.param([speaker(CALICO, SESSIONS), speaker(CALICO6, SESSIONS[:1])], MESH, ("pass", ""), [], id="both-families"),
        pytest.param(
            [speaker(CALICO, SESSIONS), speaker(CALICO6, [{"name": "Mesh_fd00__3", "state": "start", "info": "Connect"}])],
            MESH,
            (
                "fail",
                (
                    "node-1: BGP session Mesh_fd00__3 is start (Connect), want up (Established) "
                    "(birdc -s /run/calico/bird6.ctl show protocols)"
                ),
            ),
            [],
            id="ipv6-alone-is-down",
        ),
        pytest.param(
            [speaker(CALICO, error=GONE)],
            MESH,
            ("fail", f"node-1: {GONE}; the node should speak BGP ({MESH.source}) (birdc -s /run/calico/bird.ctl show protocols)"),
            [],
            id="a-dead-bird",
        ),
        pytest.param(
            [speaker(CALICO, SESSIONS), speaker(CALICO6, error=GONE)],
            MESH,
            ("pass", ""),
            [f"node-1: {GONE}: the socket is left over"],
            id="of-the-other-family-left-over",
        ),
        pytest.param(
            [speaker(CALICO, error=GONE)],
            NO_BGP,
            ("skip", "nobody tells of BGP at /run/calico/bird.ctl, and nothing says that it is spoken here"),
            [f"node-1: {GONE}: the socket is left over"],
            id="left-over-since-vxlan",
        ),
        *(
            pytest.param(
                [speaker(CALICO, error=GONE)],
                claim,
                ("error", f"node-1: {GONE}: which BGP sessions there are is not known (birdc -s /run/calico/bird.ctl show protocols)"),
                [],
                id=f"dead-and-{named}",
            )
            for claim, named in ((None, "nothing-claimed"), (UNREAD, "claims-unread"))
        ),
        *(
            pytest.param(
                [speaker(CALICO, error="BIRD broke off its answer")],
                claim,
                (
                    "error",
                    (
                        "node-1: BIRD broke off its answer: which BGP sessions there are is not known "
                        "(birdc -s /run/calico/bird.ctl show protocols)"
                    ),
                ),
                [],
                id=f"broken-off-{claim.value}",
            )
            for claim in (MESH, NO_BGP)
        ),
        pytest.param(
            [],
            MESH,
            ("skip", f"no socket of BIRD was found on this node, where one should speak BGP ({MESH.source})"),
            [],
            id="a-socket-elsewhere",
        ),
        pytest.param([speaker(AGENT, IN_CILIUM)], SPOKEN_BY_CILIUM, ("pass", ""), [], id="cilium"),
        pytest.param(
            [speaker(AGENT, [{**IN_CILIUM[0], "state": "active"}])],
            None,
            ("fail", "node-1: BGP session 10.0.0.1 (AS 64512) is active, want established (cilium-dbg bgp peers)"),
            [],
            id="cilium-peer-silent",
        ),
        pytest.param(
            [speaker(AGENT, [])], SPOKEN_BY_CILIUM, ("skip", "Cilium's agent of this node has no BGP session"), [], id="cilium-no-peer"
        ),
        pytest.param(
            [speaker(AGENT, error="Cilium's agent at /run/cilium/cilium.sock: Connection refused")],
            None,
            ("skip", "nobody tells of BGP at /run/cilium/cilium.sock, and nothing says that it is spoken here"),
            ["node-1: Cilium's agent at /run/cilium/cilium.sock: Connection refused: the socket is left over"],
            id="cilium-gone",
        ),
        pytest.param(
            [speaker(AGENT, error="curl: not on the node, so Cilium's agent was not asked")],
            None,
            ("skip", "nobody tells of BGP at /run/cilium/cilium.sock, and nothing says that it is spoken here"),
            ["node-1: curl: not on the node, so Cilium's agent was not asked: whether it speaks BGP is not known"],
            id="cilium-not-asked",
        ),
        pytest.param(
            [speaker(AGENT, error="Cilium's agent at /run/cilium/cilium.sock: HTTP 500")],
            SPOKEN_BY_CILIUM,
            (
                "error",
                (
                    "node-1: Cilium's agent at /run/cilium/cilium.sock: HTTP 500: which BGP sessions there are is not known "
                    "(cilium-dbg bgp peers)"
                ),
            ),
            [],
            id="cilium-cannot-tell",
        ),
    ],
)
def test_bgp_sessions_and_what_is_claimed(
    speakers: list[dict[str, Any]], claim: Claim | None, expected: tuple[str, str], remarks: list[str]
) -> None:
    judgement = encapsulation.bgp_sessions(facts(bgp=speakers), claim)
    assert outcome(judgement) == expected
    assert told(judgement, "remark") == remarks


WITH_BOTH = [
    replace(fake_node(f"node-{number}", number), bgp_addresses=(f"192.168.10.1{number}", f"fd00::1{number}")) for number in (1, 2, 3)
]


def cluster_of(*nodes: Node, claim: Claim | None = MESH) -> Cluster:
    return Cluster("v1.37.2", nodes, {} if claim is None else {"bgp": claim}, (), "calico")


ALL = ["node-1", "node-2", "node-3"]


def test_a_mesh_is_of_every_node_that_is_known_to_be_in_it() -> None:
    first, second, third = WITH_BOTH
    both = {"node-2": second.bgp_addresses, "node-3": third.bgp_addresses}
    assert encapsulation.mesh_of(cluster_of(*WITH_BOTH), "node-1", ALL) == both
    assert encapsulation.mesh_of(cluster_of(*WITH_BOTH), "node-1", ALL[:2]) == {"node-2": second.bgp_addresses}
    of_ipv4 = replace(first, bgp_addresses=("192.168.10.11",))
    assert encapsulation.mesh_of(cluster_of(of_ipv4, second), "node-1", ALL) == {"node-2": ("192.168.10.12",)}
    for claim in (None, UNREAD, NO_BGP, SPOKEN_BY_CILIUM):
        assert encapsulation.mesh_of(cluster_of(*WITH_BOTH, claim=claim), "node-1", ALL) == {}


@pytest.mark.parametrize(
    ("own", "peer"),
    [
        pytest.param({"route_reflector": True}, {}, id="reflects-routes"),
        pytest.param({}, {"route_reflector": True}, id="the-peer-reflects-routes"),
        pytest.param({"bgp_addresses": ()}, {}, id="no-address-is-known"),
        pytest.param({}, {"bgp_addresses": ()}, id="of-the-peer-no-address-is-known"),
        pytest.param({}, {"bgp_addresses": WITH_BOTH[0].bgp_addresses}, id="the-same-address"),
        pytest.param({}, {"ready": False}, id="the-peer-is-not-ready"),
        pytest.param({}, {"os": "windows"}, id="the-peer-is-not-measured"),
    ],
)
def test_who_is_in_no_mesh(own: dict[str, Any], peer: dict[str, Any]) -> None:
    cluster = cluster_of(replace(WITH_BOTH[0], **own), replace(WITH_BOTH[1], **peer))
    assert encapsulation.mesh_of(cluster, "node-1", ALL) == {}


OF_MESH = {"node-2": ("192.168.10.12",), "node-3": ("192.168.10.13",)}
WITH_IPV6 = {"node-2": ("192.168.10.12", "fd00::12")}


def established(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "state": "up", "info": "Established"} for name in names]


def no_session(peer: str, socket: str = CALICO) -> str:
    return f"node-1: no BGP session with {peer} is configured, want one with every node ({MESH.source}) (birdc -s {socket} show protocols)"


@pytest.mark.parametrize(
    ("speakers", "mesh", "expected", "remarks"),
    [
        pytest.param([speaker(CALICO, established("Mesh_192_168_10_12", "Mesh_192_168_10_13"))], OF_MESH, ("pass", ""), [], id="whole"),
        pytest.param(
            [speaker(CALICO, established("Mesh_192_168_10_12"))],
            OF_MESH,
            ("fail", no_session("192.168.10.13 (node-3)")),
            [],
            id="one-short",
        ),
        pytest.param(
            [speaker(CALICO, [])],
            OF_MESH,
            ("fail", "\n".join([no_session("192.168.10.12 (node-2)"), no_session("192.168.10.13 (node-3)")])),
            [],
            id="none-at-all",
        ),
        pytest.param(
            [speaker(CALICO, established("Node_192_168_10_12_port_180", "Global_192_168_10_13"))], OF_MESH, ("pass", ""), [], id="peers"
        ),
        pytest.param(
            [speaker(CALICO, established("Mesh_192_168_10_12")), speaker(CALICO6, established("Mesh_fd00__12"))],
            WITH_IPV6,
            ("pass", ""),
            [],
            id="both-families",
        ),
        pytest.param(
            [speaker(CALICO, established("Mesh_192_168_10_12")), speaker(CALICO6, established("Mesh_fd00__13"))],
            WITH_IPV6,
            ("fail", no_session("fd00::12 (node-2)")),
            [],
            id="ipv6-alone-is-short",
        ),
        pytest.param(
            [speaker(CALICO, established("Mesh_192_168_10_12")), speaker(CALICO6, error="BIRD broke off its answer")],
            WITH_IPV6,
            (
                "error",
                (
                    "node-1: BIRD broke off its answer: which BGP sessions there are is not known "
                    "(birdc -s /run/calico/bird6.ctl show protocols)"
                ),
            ),
            [],
            id="of-ipv6-nothing-is-known",
        ),
        pytest.param(
            [speaker(CALICO, established("Mesh_192_168_10_12", "uplink"))],
            OF_MESH,
            ("pass", ""),
            [
                f"node-1: which node BGP session uplink leads to is not known, so none is missed of the mesh ({MESH.source})",
            ],
            id="a-name-that-tells-no-peer",
        ),
        pytest.param(
            [speaker(CALICO, established("Mesh_192_168_10_12", "Mesh_192_168_10_13")), speaker("/run/bird/bird.ctl", established("rack"))],
            OF_MESH,
            ("pass", ""),
            [],
            id="a-bird-of-the-nodes-own",
        ),
        pytest.param(
            [speaker("/run/bird/bird.ctl", established("node_2"))],
            OF_MESH,
            ("fail", no_session("192.168.10.13 (node-3)", "/run/bird/bird.ctl")),
            [],
            id="by-the-names-of-nodes",
        ),
        pytest.param(
            [],
            OF_MESH,
            ("skip", f"no socket of BIRD was found on this node, where one should speak BGP ({MESH.source})"),
            [],
            id="a-socket-elsewhere",
        ),
        pytest.param([speaker(AGENT, IN_CILIUM)], OF_MESH, ("pass", ""), [], id="cilium-is-in-no-mesh"),
    ],
)
def test_sessions_of_a_mesh(
    speakers: list[dict[str, Any]], mesh: dict[str, tuple[str, ...]], expected: tuple[str, str], remarks: list[str]
) -> None:
    judgement = encapsulation.bgp_sessions(facts(bgp=speakers), MESH, mesh)
    assert outcome(judgement) == expected
    assert told(judgement, "remark") == remarks


NO_TOOL = "birdc: not on the node"
REPORT = BgpStatus(
    "of-node-1",
    "node-1",
    30.4,
    (
        PeerStatus(4, "192.168.10.12", "NodeMesh", "Established"),
        PeerStatus(4, "192.168.10.13", "NodeMesh", "Established"),
        PeerStatus(6, "fd00::12", "NodeMesh", "Established"),
    ),
    (),
    (),
)
KUBECTL = "kubectl get caliconodestatuses of-node-1 -o yaml"
STOOD_IN = "CalicoNodeStatus of-node-1 tells, written 30 s before the run began"
NOT_KNOWN = f"node-1: {NO_TOOL}: which BGP sessions there are is not known (birdc -s {CALICO} show protocols)"
DOWN = PeerStatus(4, "192.168.10.13", "NodeMesh", "Connect")


def report(*peers: PeerStatus, **more: Any) -> BgpStatus:
    return replace(REPORT, peers=peers, **more)


@pytest.mark.parametrize(
    ("changes", "reported", "mesh", "expected", "remarks"),
    [
        pytest.param(
            {"bgp": [speaker(CALICO, error=NO_TOOL)]}, REPORT, OF_MESH, ("pass", ""), [f"node-1: {NO_TOOL}: {STOOD_IN}"], id="stands-in"
        ),
        pytest.param(
            {"errors": {"bgp": "ValueError('?')"}},
            REPORT,
            OF_MESH,
            ("pass", ""),
            [f"node-1: BIRD was not asked for its sessions: ValueError('?'): {STOOD_IN}"],
            id="nothing-was-asked",
        ),
        pytest.param({"bgp": []}, REPORT, {}, ("pass", ""), [f"node-1: no socket of BIRD was found: {STOOD_IN}"], id="a-socket-elsewhere"),
        pytest.param(
            {"bgp": [speaker(CALICO, error=NO_TOOL)]},
            report(*REPORT.peers[:1], DOWN),
            {},
            ("fail", f"node-1: BGP session with 192.168.10.13 (NodeMesh) is Connect, want Established ({KUBECTL})"),
            [f"node-1: {NO_TOOL}: {STOOD_IN}"],
            id="down",
        ),
        pytest.param(
            {"bgp": [speaker(CALICO, error=NO_TOOL)]},
            report(replace(DOWN, state="")),
            {},
            ("fail", f"node-1: BGP session with 192.168.10.13 (NodeMesh) is in no state that Calico knows, want Established ({KUBECTL})"),
            [f"node-1: {NO_TOOL}: {STOOD_IN}"],
            id="of-no-state",
        ),
        pytest.param(
            {"bgp": [speaker(CALICO, error=NO_TOOL)]},
            report(*REPORT.peers[:1]),
            OF_MESH,
            (
                "fail",
                f"node-1: no BGP session with 192.168.10.13 (node-3) is configured, want one with every node ({MESH.source}) ({KUBECTL})",
            ),
            [f"node-1: {NO_TOOL}: {STOOD_IN}"],
            id="one-short",
        ),
        pytest.param(
            {"bgp": [speaker(CALICO, established("Mesh_192_168_10_12")), speaker(CALICO6, error=NO_TOOL)]},
            REPORT,
            WITH_IPV6,
            ("pass", ""),
            [f"node-1: {NO_TOOL}: {STOOD_IN}"],
            id="for-one-family",
        ),
        pytest.param(
            {"bgp": [speaker(CALICO, established("Mesh_192_168_10_13")), speaker(CALICO6, error=NO_TOOL)]},
            REPORT,
            WITH_IPV6,
            ("fail", no_session("192.168.10.12 (node-2)")),
            [f"node-1: {NO_TOOL}: {STOOD_IN}"],
            id="one-short-of-the-family-that-was-asked",
        ),
        pytest.param(
            {"bgp": []},
            report(not_ready=(4, 6)),
            OF_MESH,
            (
                "fail",
                f"node-1: calico-node does not reach its BIRD of IPv4 (NotReady); the node should speak BGP ({MESH.source}) ({KUBECTL})",
            ),
            [f"node-1: no socket of BIRD was found: {STOOD_IN}"],
            id="no-bird",
        ),
        pytest.param({"bgp": [speaker(CALICO, error=NO_TOOL)]}, report(), OF_MESH, ("error", NOT_KNOWN), [], id="no-peers-tell-nothing"),
        pytest.param(
            {"bgp": [speaker(CALICO, error=NO_TOOL), speaker(CALICO6, error=NO_TOOL)]},
            report(*REPORT.peers[:2], ready=(4, 6)),
            OF_MESH,
            ("pass", ""),
            [f"node-1: {NO_TOOL}: {STOOD_IN}"] * 2,
            id="ipv6-is-not-used",
        ),
        pytest.param(
            {"bgp": [speaker(CALICO, error=NO_TOOL)]},
            report(ready=(4, 6)),
            {"node-2": ("192.168.10.12",)},
            (
                "fail",
                f"node-1: no BGP session with 192.168.10.12 (node-2) is configured, want one with every node ({MESH.source}) ({KUBECTL})",
            ),
            [f"node-1: {NO_TOOL}: {STOOD_IN}"],
            id="none-at-all",
        ),
        pytest.param(
            {"bgp": [speaker(CALICO, error=NO_TOOL), speaker(CALICO6, error=NO_TOOL)]},
            report(*REPORT.peers[:2]),
            OF_MESH,
            ("error", NOT_KNOWN.replace(CALICO, CALICO6)),
            [f"node-1: {NO_TOOL}: {STOOD_IN}"],
            id="of-ipv6-it-tells-nothing",
        ),
        pytest.param(
            {"errors": {"bgp": "ValueError('?')"}},
            report(*REPORT.peers[:2]),
            OF_MESH,
            ("pass", ""),
            [f"node-1: BIRD was not asked for its sessions: ValueError('?'): {STOOD_IN}"],
            id="nothing-is-expected-of-ipv6",
        ),
        pytest.param(
            {"errors": {"bgp": "ValueError('?')"}},
            report(*REPORT.peers[:2]),
            WITH_IPV6,
            ("error", "node-1: BIRD was not asked for its sessions: ValueError('?')"),
            [f"node-1: BIRD was not asked for its sessions: ValueError('?'): {STOOD_IN}"],
            id="of-ipv6-something-is-expected",
        ),
        pytest.param({"bgp": [speaker(CALICO, error=NO_TOOL)]}, None, OF_MESH, ("error", NOT_KNOWN), [], id="no-report"),
        pytest.param(
            {"bgp": [speaker(CALICO, error=NO_TOOL)]},
            replace(REPORT, age_s=700.2),
            OF_MESH,
            ("error", NOT_KNOWN),
            [
                (
                    "node-1: CalicoNodeStatus of-node-1 does not stand in for BIRD's own word: it was last written 700 s ago, "
                    "and whether calico-node would still change it is not known"
                )
            ],
            id="an-old-report",
        ),
        pytest.param(
            {"errors": {"bgp": "ValueError('?')"}},
            replace(REPORT, age_s=-500),
            OF_MESH,
            ("error", "node-1: BIRD was not asked for its sessions: ValueError('?')"),
            [
                (
                    "node-1: CalicoNodeStatus of-node-1 does not stand in for BIRD's own word: "
                    "it was last written 500 s from now: clocks differ"
                )
            ],
            id="another-clock",
        ),
        pytest.param(
            {"bgp": []},
            replace(REPORT, age_s=None),
            OF_MESH,
            ("skip", f"no socket of BIRD was found on this node, where one should speak BGP ({MESH.source})"),
            ["node-1: CalicoNodeStatus of-node-1 does not stand in for BIRD's own word: calico-node has never written it"],
            id="never-written",
        ),
        pytest.param(
            {"bgp": [speaker(CALICO, established("Mesh_192_168_10_12", "Mesh_192_168_10_13"))]},
            report(DOWN),
            OF_MESH,
            ("pass", ""),
            [],
            id="birds-own-word-counts",
        ),
        pytest.param(
            {"bgp": [speaker("/run/bird/bird.ctl", error=NO_TOOL)]},
            REPORT,
            OF_MESH,
            ("error", NOT_KNOWN.replace(CALICO, "/run/bird/bird.ctl")),
            [],
            id="of-calicos-birds-alone",
        ),
    ],
)
def test_sessions_that_calico_node_reports(
    changes: dict[str, Any], reported: BgpStatus | None, mesh: dict[str, tuple[str, ...]], expected: tuple[str, str], remarks: list[str]
) -> None:
    judgement = encapsulation.bgp_sessions(facts(**changes), MESH, mesh, reported)
    assert outcome(judgement) == expected
    assert told(judgement, "remark") == remarks


def test_sessions_that_many_nodes_are_missed_of() -> None:
    mesh = {f"peer-{number:02}": (f"192.168.11.{number}",) for number in range(14)}
    messages = outcome(encapsulation.bgp_sessions(facts(bgp=[speaker(CALICO, [])]), MESH, mesh))[1].splitlines()
    assert (len(messages), messages[0], messages[-1]) == (11, no_session("192.168.11.0 (peer-00)"), "node-1: nor with 4 more")


HOST_ROUTES = [
    {"dst": "default", "gateway": "192.168.10.1", "dev": "eth0"},
    {"dst": "192.168.10.0/24", "dev": "eth0"},
    {"dst": "10.244.2.0/24", "gateway": "192.168.10.12", "dev": "eth0"},
    {"type": "blackhole", "dst": "10.244.1.0/24"},
]
ONE_ASTRAY = [route("node-2", gateway="192.168.10.12"), route("node-3", gateway="192.168.10.1")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            {"host__routes": HOST_ROUTES, "host__routes_total": 4, "peer_routes": ONE_ASTRAY},
            (
                "fail",
                (
                    "node-1: only the default route, via 192.168.10.1, leads to 10.244.3.5 (a pod of node-3); other nodes' pods have "
                    "routes (ip route)"
                ),
            ),
            id="one-peer-lacks-its-route",
        ),
        pytest.param(
            {
                "host__routes": [*HOST_ROUTES, {"dst": "10.244.3.0/24", "gateway": "192.168.10.1", "dev": "eth0"}],
                "peer_routes": ONE_ASTRAY,
            },
            ("pass", ""),
            id="a-route-of-its-own-by-the-same-router",
        ),
        pytest.param(
            {"peer_routes": [route("node-2", gateway="192.168.10.1"), route("node-3", gateway="192.168.10.1")]},
            ("pass", ""),
            id="a-cloud-s-router-knows-the-way-to-all",
        ),
        pytest.param(
            {"host__routes": HOST_ROUTES, "host__routes_total": 400, "peer_routes": ONE_ASTRAY},
            ("pass", ""),
            id="routes-that-were-not-kept-may-be-theirs",
        ),
    ],
)
def test_a_peer_that_only_the_default_route_leads_to(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(encapsulation.routes_to_peers(facts(**changes), NATIVE, PEERS)) == expected


ZONES = [{"dst": "default", "gateway": "10.0.0.1", "dev": "eth0"}, {"dst": "10.0.0.0/19", "dev": "eth0"}]


@pytest.mark.parametrize(
    ("routes", "addresses", "expected"),
    [
        pytest.param(
            [route("node-2", address="10.0.5.7"), route("node-3", address="10.0.40.9", gateway="10.0.0.1")],
            {"node-2": ["10.0.5.2"], "node-3": ["10.0.40.2"]},
            ("pass", ""),
            id="pods-have-addresses-of-the-nodes-own-subnets-and-a-router-is-between-zones",
        ),
        pytest.param(
            [route("node-2", gateway="10.0.0.12"), route("node-3", gateway="10.0.0.1")],
            {"node-2": ["10.0.0.12"], "node-3": ["10.0.40.2"]},
            ("pass", ""),
            id="a-fabric-s-router-knows-the-way-to-all-other-racks",
        ),
        pytest.param(
            [route("node-2", gateway="10.0.0.12"), route("node-3", gateway="10.0.0.1"), route("node-4", gateway="10.0.0.1")],
            {"node-2": ["10.0.0.12"], "node-3": ["10.0.40.2"], "node-4": ["10.0.0.14"]},
            (
                "fail",
                (
                    "node-1: only the default route, via 10.0.0.1, leads to 10.244.4.5 (a pod of node-4); other nodes' pods have routes "
                    "(ip route)"
                ),
            ),
            id="one-within-the-subnet-lacks-its-route",
        ),
    ],
)
def test_only_the_default_route_leads_to_other_subnets(
    routes: list[dict[str, Any]], addresses: dict[str, list[str]], expected: tuple[str, str]
) -> None:
    gateways = [{"dst": f"{item['address'][:-1]}0/24", "gateway": item["gateway"], "dev": "eth0"} for item in routes if item["gateway"]]
    own = [item for item in gateways if item["gateway"] != "10.0.0.1"]
    node = facts(host__routes=[*ZONES, *own], host__routes_total=len(ZONES) + len(own), peer_routes=routes)
    assert outcome(encapsulation.routes_to_peers(node, NATIVE, [*addresses], addresses)) == expected


BY_IPV6 = [
    {"dst": "default", "gateway": "fd00:1::1", "dev": "eth0"},
    {"dst": "fd00:2::/64", "gateway": "fd00:1::12", "dev": "eth0"},
]
IPV4 = [route("node-2", gateway="192.168.10.12"), route("node-3", gateway="192.168.10.13")]


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        pytest.param(
            [
                route("node-2", address="fd00:2::5", gateway="fd00:1::12"),
                route("node-3", address="fd00:3::5", gateway="fd00:1::1"),
            ],
            (
                "fail",
                (
                    "node-1: only the default route, via fd00:1::1, leads to fd00:3::5 (a pod of node-3); other nodes' pods have routes "
                    "(ip route)"
                ),
            ),
            id="one-peer-lacks-its-route",
        ),
        pytest.param(
            [route("node-2", address="fd00:4::5", gateway="fd00:1::1"), route("node-3", address="fd00:3::5", gateway="fd00:1::1")],
            ("pass", ""),
            id="a-cloud-s-router-knows-the-way-to-all-of-this-family",
        ),
        pytest.param(
            [
                route("node-2", address="fd00:2::5", gateway="fd00:1::12"),
                route("node-3", None, address="fd00:3::5", error="RTNETLINK answers: Network is unreachable"),
            ],
            (
                "fail",
                "node-1: no route to fd00:3::5 (a pod of node-3): RTNETLINK answers: Network is unreachable (ip -j route get fd00:3::5)",
            ),
            id="no-route-of-one-family",
        ),
    ],
)
def test_routes_of_each_family_are_judged(routes: list[dict[str, Any]], expected: tuple[str, str]) -> None:
    found = facts(host__routes=[*HOST_ROUTES, *BY_IPV6], peer_routes=[*IPV4, *routes])
    judgement = encapsulation.routes_to_peers(found, NATIVE, PEERS)
    assert outcome(judgement) == expected
    assert judgement.checked >= 3


def test_many_peers_that_only_the_default_route_leads_to_are_counted() -> None:
    peers = [f"node-{number}" for number in range(2, 32)]
    hops = [{**route(peer, gateway="192.168.10.1"), "address": f"10.244.{peer[5:]}.5"} for peer in peers]
    hops[0]["gateway"] = "192.168.10.12"
    judgement = encapsulation.routes_to_peers(facts(host__routes=HOST_ROUTES, peer_routes=hops), NATIVE, peers)
    assert len(judgement.findings) == 11
    assert judgement.findings[-1].message == "node-1: and the same of 19 more nodes"


ACROSS = EncapsulationExpectation(across=Wanted("vxlan", "claim net-conf.json Backend.Type"))
IN_TWO_SUBNETS = {"node-2": ("192.168.11.12",), "node-3": ("192.168.10.13",)}


def two_subnets(*routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return changes: node-3 is in the node's subnet, node-2 in another one, which flannel's device leads to."""
    return {
        "host__links": [link("eth0"), link("flannel.1", kind="vxlan")],
        "host__routes": [
            {"dst": "default", "gateway": "192.168.10.1", "dev": "eth0"},
            {"dst": "192.168.10.0/24", "dev": "eth0", "prefsrc": "192.168.10.11"},
            {"dst": "10.244.2.0/24", "gateway": "10.244.2.0", "dev": "flannel.1"},
            {"dst": "10.244.3.0/24", "gateway": "192.168.10.13", "dev": "eth0"},
        ],
        "peer_routes": routes or [route("node-2", "flannel.1", gateway="10.244.2.0"), route("node-3", gateway="192.168.10.13")],
        **more,
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(two_subnets(), ("pass", ""), id="healthy"),
        pytest.param(
            two_subnets(route("node-2", gateway="192.168.10.1"), route("node-3", gateway="192.168.10.13")),
            (
                "fail",
                (
                    "node-1: the route to 10.244.2.5 (a pod of node-2) leaves by eth0 (no virtual device), want a vxlan device: "
                    f"encapsulation vxlan (across subnets, claim net-conf.json Backend.Type) ({GET})"
                ),
            ),
            id="native-across-subnets",
        ),
        pytest.param(
            two_subnets(route("node-2", "flannel.1"), route("node-3", "flannel.1")),
            (
                "fail",
                (
                    "node-1: the route to 10.244.3.5 (a pod of node-3) leaves by flannel.1 (vxlan), a tunnel; want encapsulation none "
                    "(within a subnet, claim net-conf.json Backend.Type) (ip -j route get 10.244.3.5)"
                ),
            ),
            id="encapsulated-within-the-subnet",
        ),
        pytest.param(
            two_subnets(host__routes=[{"dst": "default", "gateway": "192.168.10.1", "dev": "eth0"}]),
            (
                "error",
                "\n".join(
                    f"node-1: whether {peer} is in the node's subnet is not known: no route by the uplink without a gateway was read "
                    "(ip -j route)"
                    for peer in PEERS
                ),
            ),
            id="subnet-not-known",
        ),
        pytest.param(
            two_subnets(route("node-3", gateway="192.168.10.13")),
            ("error", "node-1: no route to a pod of node-2 was measured"),
            id="peer-not-measured",
        ),
    ],
)
def test_only_what_leaves_the_subnet_is_to_be_encapsulated(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(encapsulation.routes_to_peers(facts(**changes), ACROSS, PEERS, IN_TWO_SUBNETS)) == expected


def test_a_node_without_address_is_in_no_subnet() -> None:
    judgement = encapsulation.routes_to_peers(facts(**two_subnets()), ACROSS, PEERS, {**IN_TWO_SUBNETS, "node-2": ()})
    assert outcome(judgement) == ("error", "node-1: whether node-2 is in the node's subnet is not known: node-2 has no InternalIP")
    assert encapsulation.routes_to_peers(facts(**two_subnets()), ACROSS, [], {}).verdict == "skip"


LEFT_TO_PACKETS = "routes lead to cilium_host (veth), behind which the CNI decides: NET-ENCAP-004 judges the packets"


def test_what_a_cni_decides_by_itself_is_left_to_the_packets_where_those_are_judged() -> None:
    everywhere = facts(**all_via("cilium_host", "veth"))
    judgement = encapsulation.routes_to_peers(everywhere, wants("vxlan"), PEERS, witnessed=True)
    assert outcome(judgement) == ("skip", LEFT_TO_PACKETS)
    assert judgement.evidence["devices"] == {"cilium_host": 2}
    beside = encapsulation.routes_to_peers(facts(**via("cilium_host", "veth")), NATIVE, PEERS, witnessed=True)
    assert (outcome(beside), told(beside, "remark")) == (("pass", ""), [f"node-1: {LEFT_TO_PACKETS}"])
    unlike = encapsulation.routes_to_peers(facts(**via("cilium_host", "veth")), wants("vxlan"), PEERS, witnessed=True)
    assert unlike.verdict == "fail"
    no_pods = facts(**all_via("cilium_host", "veth"), pod=None)
    assert encapsulation.routes_to_peers(no_pods, wants("vxlan"), PEERS, witnessed=True).verdict == "inconclusive"


def test_between_subnets_as_well() -> None:
    changes = two_subnets(route("node-2", "cilium_host"), route("node-3", "cilium_host"))
    changes["host__links"] = [link("eth0"), link("cilium_host", kind="veth")]
    assert outcome(encapsulation.routes_to_peers(facts(**changes), ACROSS, PEERS, IN_TWO_SUBNETS, witnessed=True)) == (
        "skip",
        LEFT_TO_PACKETS,
    )
    assert encapsulation.routes_to_peers(facts(**changes), ACROSS, PEERS, IN_TWO_SUBNETS).verdict == "inconclusive"


def hidden(kind: str, count: int = 1000, there: int | None = None) -> dict[str, Any]:
    """Return a direction of which nothing but encrypted packets was seen."""
    blind = side({}, unseen=1000, addresses=[])
    found = {"kind": kind, "length": 188, "count": count}
    return pair(
        streams=[stream(source=blind, target=blind, nowhere=0)],
        tcp=tcp({}),
        cipher={"source": [found], "target": [{**found, "count": count if there is None else there}]},
    )


CROSS = "node-1: packets to the pod on node-2 cross"
PLAIN = "claim of the CNI"
UNSEEN = side({"native": 990}, unseen=10)


@pytest.mark.parametrize(
    ("want", "direction", "expected"),
    [
        pytest.param("none", pair(), ("pass", ""), id="native"),
        pytest.param("vxlan", pair("vxlan/8472"), ("pass", ""), id="vxlan"),
        pytest.param("ipip", pair("ipip"), ("pass", ""), id="ipip"),
        pytest.param("geneve", pair("geneve/6081"), ("pass", ""), id="geneve"),
        pytest.param("tun", pair("fou/8285"), ("pass", ""), id="udp-of-flannel"),
        pytest.param("fou", pair("gue/5555"), ("pass", ""), id="fou-of-kube-router"),
        pytest.param(
            "fou",
            pair("ipip"),
            ("fail", f"{CROSS} inside IPIP: 1000 of 1000, want inside GUE ({PLAIN})"),
            id="ipip-although-fou-is-wanted",
        ),
        pytest.param("wireguard", hidden("wireguard"), ("pass", ""), id="wireguard"),
        pytest.param(
            "none",
            pair("vxlan/31999"),
            (
                "fail",
                f"{CROSS} inside VXLAN (UDP port 31999): 1000 of 1000, want as they are ({PLAIN})",
            ),
            id="vxlan-although-native-is-wanted",
        ),
        pytest.param(
            "none",
            pair("vxlan/8472+ipip"),
            ("fail", f"{CROSS} inside IPIP in VXLAN (UDP port 8472): 1000 of 1000, want as they are ({PLAIN})"),
            id="one-tunnel-in-another",
        ),
        pytest.param(
            "vxlan",
            pair(),
            ("fail", f"{CROSS} as they are: 1000 of 1000, want inside VXLAN ({PLAIN})"),
            id="native-although-vxlan-is-wanted",
        ),
        pytest.param(
            "vxlan",
            pair("vxlan/8472+ipip"),
            ("fail", f"{CROSS} inside IPIP in VXLAN (UDP port 8472): 1000 of 1000, want inside VXLAN ({PLAIN})"),
            id="more-than-the-wanted-tunnel",
        ),
        pytest.param(
            "none",
            pair(streams=[stream(source=side({"native": 980, "gre": 20}), target=side({"native": 980, "gre": 20}))]),
            ("fail", f"{CROSS} inside GRE: 20 of 1000, want as they are ({PLAIN})"),
            id="some-of-the-source-ports-only",
        ),
        pytest.param(
            "wireguard",
            pair(),
            ("fail", f"{CROSS} as they are: 1000 of 1000, want inside WireGuard ({PLAIN})"),
            id="plain-text-although-encryption-is-wanted",
        ),
        pytest.param(
            "wireguard",
            pair("vxlan/8472", streams=[stream(source=side({"vxlan/8472": 3}, dropped=900), target=side({}, dropped=900))]),
            ("fail", f"{CROSS} inside VXLAN (UDP port 8472): 3 of 1000, want inside WireGuard ({PLAIN})"),
            id="plain-text-is-proof-whatever-was-dropped",
        ),
        pytest.param(
            "none",
            hidden("esp"),
            ("fail", f"{CROSS} inside ESP, 1000 packets of 188 bytes, want as they are ({PLAIN})"),
            id="encrypted-although-native-is-wanted",
        ),
        pytest.param(
            "wireguard",
            hidden("esp"),
            ("fail", f"{CROSS} inside ESP, 1000 packets of 188 bytes, want inside WireGuard ({PLAIN})"),
            id="encrypted-by-another",
        ),
        pytest.param(
            "wireguard",
            hidden("wireguard", 400),
            (
                "inconclusive",
                (
                    "node-1: packets to the pod on node-2: nothing of 1000 was seen in plain text, but as many encrypted packets of one "
                    "length were not seen either: 400 at node-1, 400 at node-2"
                ),
            ),
            id="fewer-encrypted-packets-than-were-sent",
        ),
        pytest.param(
            "none",
            hidden("wireguard", there=3),
            (
                "inconclusive",
                (
                    "node-1: packets to the pod on node-2: not all are accounted for: of 1000 sent 1000 were not seen at the uplink of "
                    "node-1, of 1000 delivered 1000 not at that of node-2\n"
                    "node-1: the TCP connection to the pod on node-2: not all is accounted for: of 49152 bytes 0 were seen leaving, 0 "
                    "arriving, and 49152 were delivered"
                ),
            ),
            id="seen-nowhere",
        ),
        pytest.param(
            "none",
            pair(streams=[stream(source=UNSEEN)]),
            (
                "inconclusive",
                (
                    "node-1: packets to the pod on node-2: not all are accounted for: of 1000 sent 10 were not seen at the uplink of "
                    "node-1, of 1000 delivered 0 not at that of node-2"
                ),
            ),
            id="some-not-seen-at-the-source",
        ),
        pytest.param(
            "none",
            pair(streams=[stream(target=UNSEEN)]),
            (
                "inconclusive",
                (
                    "node-1: packets to the pod on node-2: not all are accounted for: of 1000 sent 0 were not seen at the uplink of "
                    "node-1, of 1000 delivered 10 not at that of node-2"
                ),
            ),
            id="some-not-seen-at-the-target",
        ),
        pytest.param(
            "none",
            pair(streams=[stream(source=side(dropped=3), target=side(cut=True))]),
            (
                "inconclusive",
                (
                    "node-1: packets to the pod on node-2: the capture on node-1 had no room for 3 packets; the capture on node-2 saw more "
                    "than it could count"
                ),
            ),
            id="capture-dropped",
        ),
        pytest.param(
            "none",
            pair(control=stream(64, 64, source=side({"native": 64}), target=side({}))),
            ("pass", ""),
            id="no-control-but-all-packets-seen",
        ),
        pytest.param(
            "none",
            pair(streams=[stream(target=UNSEEN)], control=stream(64, 64, source=side({"native": 64}), target=side({}))),
            (
                "inconclusive",
                (
                    "node-1: packets to the pod on node-2: of 64 packets between the nodes' own addresses the capture at the uplink of "
                    "node-2 saw 0: it cannot be believed that it sees what passes (is UDP between nodes kept closed, or encrypted?)"
                ),
            ),
            id="no-positive-control",
        ),
        pytest.param(
            "none",
            pair(streams=[stream(senders=["192.168.10.11"], target=side(addresses=["192.168.10.11"]))]),
            (
                "fail",
                (
                    "node-1: packets to the pod on node-2 come from 192.168.10.11 and not from the pod's own 10.244.1.5: they are "
                    "masqueraded"
                ),
            ),
            id="masqueraded",
        ),
        pytest.param(
            "none",
            pair(tcp=tcp({"vxlan/8472": 49152})),
            (
                "fail",
                (
                    "node-1: the TCP connection to the pod on node-2 crosses inside VXLAN (UDP port 8472): 49152 of 49152 bytes, want as "
                    f"they are ({PLAIN})"
                ),
            ),
            id="tcp-alone-in-a-tunnel",
        ),
        pytest.param(
            "none",
            pair(tcp=tcp(source={"native": 49152}, target={"native": 40000})),
            (
                "inconclusive",
                (
                    "node-1: the TCP connection to the pod on node-2: not all is accounted for: of 49152 bytes 49152 were seen leaving, "
                    "40000 arriving, and 49152 were delivered"
                ),
            ),
            id="tcp-not-all-seen",
        ),
        pytest.param("none", pair(tcp=tcp({}, sent=0, delivered=0, error="timed out")), ("pass", ""), id="no-tcp"),
        pytest.param("none", pair(tcp=None), ("pass", ""), id="tcp-not-tried"),
        pytest.param(
            "none",
            pair(streams=[stream(980, lost={"wire": 20}, target=side({"native": 980}))]),
            ("pass", ""),
            id="lost-on-the-wire-but-accounted-for",
        ),
        pytest.param(
            "sit",
            pair(),
            ("inconclusive", "node-1: packets to the pod on node-2: what sit looks like on the wire is not known to this check"),
            id="a-tunnel-of-another-kind",
        ),
        pytest.param(
            "none",
            pair(streams=[stream(0, 0, errors={"Network is unreachable": 1000})]),
            ("error", "node-1: packets to the pod on node-2: none could be sent: Network is unreachable (1000)"),
            id="nothing-sent",
        ),
        pytest.param(
            "none",
            {"error": "node-2 (pod): no answer", "unsupported": False, "missing": False},
            ("error", "node-1: nothing could be measured to node-2: node-2 (pod): no answer"),
            id="not-measured",
        ),
    ],
)
def test_on_the_wire(want: str, direction: dict[str, Any], expected: tuple[str, str]) -> None:
    expect = EncapsulationExpectation(kind=Wanted(want, PLAIN))
    judgement = encapsulation.on_the_wire(record(direction), expect, {}, facts)
    assert outcome(judgement) == expected
    assert judgement.want == f"encapsulation {want} ({PLAIN})"


def test_on_the_wire_losses_and_failed_connections_are_told() -> None:
    expect = EncapsulationExpectation(kind=Wanted("none", PLAIN))
    lossy = pair(streams=[stream(980, lost={"wire": 20})], tcp=tcp({}, sent=0, delivered=0, error="timed out"))
    assert told(encapsulation.on_the_wire(record(lossy), expect, {}, facts), "remark") == [
        "node-1: packets to the pod on node-2: 20 of 1000 were lost: NET-LOSS-001 says where",
        "node-1: the TCP connection to the pod on node-2: timed out",
    ]


def test_on_the_wire_what_ipsec_decrypted_is_no_plain_text() -> None:
    """The kernel shows what it has decrypted on the device it came by: what left the source decides."""
    expect = EncapsulationExpectation(kind=Wanted("wireguard", PLAIN))
    direction = hidden("esp")
    direction["streams"][0]["target"] = side()
    direction["tcp"] = tcp(source={}, target={"native": 49152})
    assert outcome(encapsulation.on_the_wire(record(direction), expect, {}, facts))[1] == (
        f"{CROSS} inside ESP, 1000 packets of 188 bytes, want inside WireGuard ({PLAIN})"
    )


def test_on_the_wire_across_subnets() -> None:
    """Within the node's subnet nothing is to be encapsulated, beyond it by the claimed kind."""
    expect = EncapsulationExpectation(across=Wanted("vxlan", PLAIN))
    addresses = {"node-2": ("192.168.10.12",), "node-3": ("192.168.20.13",)}
    routes = [{"dst": "192.168.10.0/24", "dev": "eth0"}, {"dst": "default", "gateway": "192.168.10.1", "dev": "eth0"}]
    own = facts(host__routes=routes)
    judged = encapsulation.on_the_wire(record(pair(), pair("vxlan/8472")), expect, addresses, lambda: own)
    assert outcome(judged) == ("pass", "")
    judged = encapsulation.on_the_wire(record(pair("vxlan/8472"), pair()), expect, addresses, lambda: own)
    assert outcome(judged) == (
        "fail",
        (
            f"{CROSS} inside VXLAN (UDP port 8472): 1000 of 1000, want as they are (within a subnet, {PLAIN})\n"
            f"node-1: packets to the pod on node-3 cross as they are: 1000 of 1000, want inside VXLAN (across subnets, {PLAIN})"
        ),
    )
    judged = encapsulation.on_the_wire(record(pair()), expect, {}, lambda: own)
    assert outcome(judged) == ("error", "node-1: whether node-2 is in the node's subnet is not known: node-2 has no InternalIP")


def test_on_the_wire_where_nothing_is_wanted() -> None:
    judgement = encapsulation.on_the_wire(record(pair()), EncapsulationExpectation(), {}, facts)
    assert judgement.verdict == "skip"
    assert judgement.evidence["pairs"]["node-2"] == {
        "sent": [1000],
        "delivered": [1000],
        "at source": {"native": 1000},
        "at target": {"native": 1000},
        "control": [64, 64],
        "tcp bytes": {"sent": 49152, "at source": {"native": 49152}, "at target": {"native": 49152}},
    }
