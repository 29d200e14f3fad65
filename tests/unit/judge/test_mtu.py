from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.expect.model import EncapsulationExpectation, MtuExpectation, Wanted
from pytest_k8snet.judge import mtu
from tests.unit.judge.builder import facts, link, network, outcome, told

FLAT = MtuExpectation(pod=Wanted(1500, "profile flat-l2.yaml:5"), uplink=Wanted(1500, "profile flat-l2.yaml:6"))
NOTHING = MtuExpectation()
UNKNOWN = EncapsulationExpectation()
NATIVE = EncapsulationExpectation(kind=Wanted("none", "profile native.yaml:3"))
VXLAN = EncapsulationExpectation(kind=Wanted("vxlan", "profile vxlan.yaml:3"))
WANT = "want 1500 (profile flat-l2.yaml:5) (ip -j route)"

CILIUM = network(
    routes=[
        {"dst": "default", "gateway": "10.0.1.7", "dev": "eth0", "metrics": [{"mtu": 1450}]},
        {"dst": "10.0.1.7", "dev": "eth0"},
    ]
)

DUAL_STACK = network(
    routes=[
        *CILIUM["routes"],
        {"dst": "fd00:10:244:1::9", "dev": "eth0", "protocol": "kernel"},
        {"dst": "default", "gateway": "fe80::1", "dev": "eth0", "metrics": [{"mtu": 1450}]},
    ]
)
OTHER_DEVICES = network(
    links=[
        link("lo", 65536),
        link("eth0", kind="veth"),
        link("net1", 9000),
        link("docker0", 1450, "bridge"),
        link("tailscale0", 1280, "tun"),
    ],
    routes=[
        {"dst": "default", "gateway": "10.244.1.1", "dev": "eth0"},
        {"dst": "10.9.0.0/16", "dev": "net1"},
        {"dst": "172.17.0.0/16", "dev": "docker0"},
        {"dst": "100.64.0.0/10", "dev": "tailscale0"},
    ],
)


def probe(**more: Any) -> dict[str, Any]:
    return {"pod": {"name": "probe-node-1", **network(**more)}}


@pytest.mark.parametrize(
    ("changes", "expect", "encapsulation", "expected"),
    [
        pytest.param({}, FLAT, NATIVE, ("pass", ""), id="healthy"),
        pytest.param(
            probe(mtu=1450),
            FLAT,
            NATIVE,
            (
                "fail",
                (
                    f"node-1: probe pod: route default dev eth0 MTU 1450, {WANT}\n"
                    f"node-1: probe pod: route 10.244.1.0/24 dev eth0 MTU 1450, {WANT}"
                ),
            ),
            id="too-small",
        ),
        pytest.param(
            probe(mtu=9000, routes=[{"dst": "default", "gateway": "10.244.1.1", "dev": "eth0"}]),
            FLAT,
            NATIVE,
            ("fail", f"node-1: probe pod: route default dev eth0 MTU 9000, {WANT}"),
            id="too-big",
        ),
        pytest.param(
            {"pod": {"name": "probe-node-1", **CILIUM}}, MtuExpectation(pod=Wanted(1450, "claim x")), VXLAN, ("pass", ""), id="cilium-route"
        ),
        pytest.param(
            {"pod": {"name": "probe-node-1", **CILIUM}},
            FLAT,
            NATIVE,
            ("fail", f"node-1: probe pod: route default dev eth0 MTU 1450, {WANT}"),
            id="cilium-route-too-small",
        ),
        pytest.param(
            {"pod": {"name": "probe-node-1", **DUAL_STACK}},
            MtuExpectation(pod=Wanted(1450, "claim x")),
            VXLAN,
            ("pass", ""),
            id="route-to-its-own-address",
        ),
        pytest.param(
            {"pod": None, "pod_absent": "access ssh makes no probe pods"},
            FLAT,
            NATIVE,
            ("skip", "access ssh makes no probe pods"),
            id="no-pods-on-purpose",
        ),
        pytest.param(
            {"pod": None, "pod_error": "pod probe-node-1: ErrImagePull"},
            FLAT,
            NATIVE,
            ("error", "node-1: the probe pod was not measured: pod probe-node-1: ErrImagePull"),
            id="no-probe-pod",
        ),
        pytest.param(
            probe(routes=[]), FLAT, NATIVE, ("error", "node-1: probe pod: no route that leads anywhere (ip -j route)"), id="no-routes"
        ),
        pytest.param(probe(mtu=1450), NOTHING, UNKNOWN, ("pass", ""), id="nothing-claimed-and-smaller"),
        pytest.param(
            probe(mtu=9000, routes=[{"dst": "default", "gateway": "10.244.1.1", "dev": "eth0"}]),
            NOTHING,
            UNKNOWN,
            ("fail", "node-1: probe pod: route default dev eth0 MTU 9000, want 1500 at most (uplink) (ip -j route)"),
            id="nothing-claimed-and-too-big",
        ),
        pytest.param(
            probe(routes=[{"dst": "default", "gateway": "10.244.1.1", "dev": "eth0"}]),
            NOTHING,
            VXLAN,
            (
                "fail",
                "node-1: probe pod: route default dev eth0 MTU 1500, want 1450 at most (uplink less encapsulation) (ip -j route)",
            ),
            id="too-big-for-the-tunnel",
        ),
        pytest.param(
            {"uplink": None},
            NOTHING,
            NATIVE,
            ("error", "node-1: no device holds the node's InternalIP"),
            id="nothing-claimed-and-no-uplink",
        ),
    ],
)
def test_pod_mtu(
    changes: dict[str, Any], expect: MtuExpectation, encapsulation: EncapsulationExpectation, expected: tuple[str, str]
) -> None:
    assert outcome(mtu.pod_mtu(facts(**changes), expect, encapsulation)) == expected


OVER_IPV6 = [{"dst": "fd00:1::/64", "dev": "eth0"}, {"dst": "default", "gateway": "fd00:1::1", "dev": "eth0"}]
OVER_BOTH = [*OVER_IPV6, {"dst": "192.168.10.0/24", "dev": "eth0"}]


@pytest.mark.parametrize(
    ("routes", "mtu_bytes", "expected"),
    [
        pytest.param(OVER_IPV6, 1430, ("pass", ""), id="fits"),
        pytest.param(
            OVER_IPV6,
            1450,
            (
                "fail",
                "node-1: probe pod: route default dev eth0 MTU 1450, want 1430 at most (uplink less encapsulation) (ip -j route)",
            ),
            id="does-not-fit",
        ),
        pytest.param(OVER_BOTH, 1450, ("pass", ""), id="over-ipv4-where-there-is-any"),
    ],
)
def test_an_encapsulation_over_ipv6_takes_20_bytes_more(routes: list[dict[str, Any]], mtu_bytes: int, expected: tuple[str, str]) -> None:
    changes = probe(mtu=mtu_bytes, routes=[{"dst": "default", "dev": "eth0"}])
    judgement = mtu.pod_mtu(facts(host__routes=routes, **changes), NOTHING, VXLAN)
    assert outcome(judgement) == expected
    assert told(judgement, "advice") == []


def test_smaller_than_the_arithmetic_alone_is_advice() -> None:
    judgement = mtu.pod_mtu(facts(**probe(mtu=1400, routes=[{"dst": "default", "dev": "eth0"}])), NOTHING, NATIVE)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "advice") == ["node-1: probe pod: route default dev eth0 MTU 1400, 1500 would fit (uplink less encapsulation)"]


def test_a_wrong_uplink_does_not_redden_the_pod_check_that_is_derived_from_it() -> None:
    wrong = facts(host__links=[link("eth0", 1400)])
    claimed = MtuExpectation(uplink=Wanted(1500, "claim x"))
    assert outcome(mtu.pod_mtu(wrong, claimed, NATIVE)) == ("pass", "")
    assert outcome(mtu.uplink_mtu(wrong, claimed))[0] == "fail"


@pytest.mark.parametrize(
    ("changes", "expect", "expected"),
    [
        pytest.param({}, FLAT, ("pass", ""), id="healthy"),
        pytest.param(
            {"existing_pods": [{"name": "default/old", **network(1450, routes=[{"dst": "default", "dev": "eth0"}])}]},
            FLAT,
            ("fail", f"node-1: pod default/old: route default dev eth0 MTU 1450, {WANT}"),
            id="older-than-the-configuration",
        ),
        pytest.param({"existing_pods": []}, FLAT, ("skip", "no other pod with a network of its own runs on this node"), id="no-other-pods"),
        pytest.param(
            {"existing_pods": [], "existing_pods_running": 7},
            FLAT,
            ("skip", "none of 7 pods was looked at"),
            id="others-that-ended-meanwhile",
        ),
        pytest.param(
            {"existing_pods": [{"name": "ci/runner", **OTHER_DEVICES}]},
            FLAT,
            ("pass", ""),
            id="second-network-docker-and-vpn-inside-a-pod",
        ),
        pytest.param(
            {"existing_pods": [{"name": "ci/gvisor", **network(routes=[])}, {"name": "kube-system/coredns-abc", **network()}]},
            FLAT,
            ("pass", ""),
            id="sandbox-without-routes",
        ),
        pytest.param(
            {"existing_pods": [{"name": "ci/gvisor", **network(routes=[])}]},
            FLAT,
            ("skip", "no other pod on this node has a route in its network namespace"),
            id="only-sandboxes-without-routes",
        ),
        pytest.param(
            {"existing_pods": [], "errors": {"existing_pods": "no answer within 30 s"}},
            FLAT,
            ("error", "node-1: the pods that were there before were not looked at: no answer within 30 s"),
            id="not-looked-at",
        ),
        pytest.param(
            {},
            NOTHING,
            ("skip", "nothing says which MTU pods should have: the CNI claims none and no profile gives one"),
            id="nothing-wanted",
        ),
    ],
)
def test_existing_pods_mtu(changes: dict[str, Any], expect: MtuExpectation, expected: tuple[str, str]) -> None:
    assert outcome(mtu.existing_pods_mtu(facts(**changes), expect, NATIVE)) == expected


def test_that_not_all_pods_were_looked_at_is_told() -> None:
    judgement = mtu.existing_pods_mtu(facts(existing_pods_running=110), FLAT, NATIVE)
    assert (outcome(judgement), told(judgement, "remark")) == (("pass", ""), ["node-1: 1 of 110 pods were looked at"])
    assert told(mtu.existing_pods_mtu(facts(existing_pods_running=1), FLAT, NATIVE), "remark") == []


@pytest.mark.parametrize(
    ("changes", "expect", "expected"),
    [
        pytest.param({}, FLAT, ("pass", ""), id="healthy"),
        pytest.param(
            {"host__links": [link("eth0", 1400)]},
            FLAT,
            ("fail", "node-1: eth0 MTU 1400, want 1500 (profile flat-l2.yaml:6) (ip -j link show eth0)"),
            id="too-small",
        ),
        pytest.param(
            {"host__links": [link("eth0", 9000)]},
            FLAT,
            ("fail", "node-1: eth0 MTU 9000, want 1500 (profile flat-l2.yaml:6) (ip -j link show eth0)"),
            id="too-big",
        ),
        pytest.param({"uplink": None}, FLAT, ("error", "node-1: no device holds the node's InternalIP"), id="no-uplink"),
        pytest.param(
            {},
            NOTHING,
            ("skip", "nothing says which MTU the uplink should have: the CNI claims none and no profile gives one"),
            id="nothing-wanted",
        ),
    ],
)
def test_uplink_mtu(changes: dict[str, Any], expect: MtuExpectation, expected: tuple[str, str]) -> None:
    assert outcome(mtu.uplink_mtu(facts(**changes), expect)) == expected


def tunnel(size: int, **more: Any) -> dict[str, Any]:
    routes = [{"peer": "node-2", "address": "10.244.2.5", "real_pod": True, "dev": "vxlan0", "gateway": None}]
    return {"host__links": [link("eth0"), link("vxlan0", size, "vxlan"), link("spare", 1300, "vxlan")], "peer_routes": routes, **more}


TUNNEL = MtuExpectation(tunnel=Wanted(1450, "profile vxlan.yaml:7"))


@pytest.mark.parametrize(
    ("changes", "expect", "encapsulation", "expected"),
    [
        pytest.param(tunnel(1450), TUNNEL, VXLAN, ("pass", ""), id="healthy"),
        pytest.param(
            tunnel(1500),
            TUNNEL,
            VXLAN,
            ("fail", "node-1: vxlan0 MTU 1500, want 1450 (profile vxlan.yaml:7) (ip -j link show vxlan0)"),
            id="too-big",
        ),
        pytest.param(
            tunnel(1400),
            TUNNEL,
            VXLAN,
            ("fail", "node-1: vxlan0 MTU 1400, want 1450 (profile vxlan.yaml:7) (ip -j link show vxlan0)"),
            id="too-small",
        ),
        pytest.param(
            tunnel(1500),
            NOTHING,
            VXLAN,
            ("fail", "node-1: vxlan0 MTU 1500, want 1450 at most (uplink less encapsulation) (ip -j link show vxlan0)"),
            id="does-not-fit-the-uplink",
        ),
        pytest.param(tunnel(1400), NOTHING, VXLAN, ("pass", ""), id="smaller-than-fits"),
        pytest.param(tunnel(1400, uplink=None), NOTHING, VXLAN, ("error", "node-1: no device holds the node's InternalIP"), id="no-uplink"),
        pytest.param(
            tunnel(1500, peer_routes=[{"peer": "node-2", "address": "10.0.2.5", "real_pod": True, "dev": "cilium_host", "gateway": None}]),
            NOTHING,
            VXLAN,
            (
                "skip",
                (
                    "no route to another node's pods leaves by a vxlan device: what hands packets to it decides their size, "
                    "NET-MTU-001 judges that"
                ),
            ),
            id="behind-the-gateway-of-cilium",
        ),
        pytest.param({}, TUNNEL, VXLAN, ("skip", "there is no vxlan device in use: NET-ENCAP-001 judges that"), id="no-tunnel"),
        pytest.param({}, TUNNEL, NATIVE, ("skip", "no tunnel is expected (profile native.yaml:3)"), id="none-expected"),
        pytest.param({}, TUNNEL, UNKNOWN, ("skip", "no tunnel is expected (nothing says so)"), id="nothing-expected"),
    ],
)
def test_tunnel_mtu(
    changes: dict[str, Any], expect: MtuExpectation, encapsulation: EncapsulationExpectation, expected: tuple[str, str]
) -> None:
    assert outcome(mtu.tunnel_mtu(facts(**changes), expect, encapsulation)) == expected


@pytest.mark.parametrize("kind", ["tun", "gre", "stt"])
def test_tunnels_of_which_it_is_not_known_what_they_take(kind: str) -> None:
    """Flannel's udp, and what Antrea may be told to tunnel by."""
    encapsulation = EncapsulationExpectation(kind=Wanted(kind, "claim c"))
    routes = [{"peer": "node-2", "address": "10.0.2.5", "real_pod": True, "dev": "tunnel0", "gateway": None}]
    for size, expected in (
        (1472, ("pass", "")),
        (1500, ("fail", "node-1: tunnel0 MTU 1500, want less than 1500 (uplink) (ip -j link show tunnel0)")),
    ):
        changes: dict[str, Any] = {"host__links": [link("eth0"), link("tunnel0", size, kind)], "peer_routes": routes}
        assert outcome(mtu.tunnel_mtu(facts(**changes), NOTHING, encapsulation)) == expected
    by_gateway = [{**routes[0], "dev": "antrea-gw0"}]
    judgement = mtu.tunnel_mtu(facts(host__links=[link("eth0"), link("antrea-gw0", 1450)], peer_routes=by_gateway), NOTHING, encapsulation)
    assert outcome(judgement) == ("skip", f"there is no {kind} device in use: NET-ENCAP-001 judges that")
    assert outcome(mtu.pod_mtu(facts(**probe(mtu=1472)), NOTHING, encapsulation)) == ("pass", "")
    verdict, message = outcome(mtu.pod_mtu(facts(**probe(mtu=9000)), NOTHING, encapsulation))
    assert (verdict, message.split("\n")[0]) == (
        "fail",
        "node-1: probe pod: route default dev eth0 MTU 9000, want 1500 at most (uplink) (ip -j route)",
    )


def by_flannel(mtu_bytes: int, pods: int) -> dict[str, Any]:
    """Return changes: flanneld has written `mtu_bytes`, and pods have `pods`."""
    made = network(mtu=pods)
    return {
        "flannel": f"FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU={mtu_bytes}\nFLANNEL_IPMASQ=true\n",
        "pod": {"name": "probe-node-1", **made},
        "existing_pods": [{"name": "kube-system/coredns-abc", **made}],
    }


TOO_BIG = "(uplink less encapsulation; /run/flannel/subnet.env says 1500) (ip -j route)"
FLANNELS = "(claim /run/flannel/subnet.env FLANNEL_MTU) (ip -j route)"


@pytest.mark.parametrize(
    ("changes", "expect", "expected"),
    [
        pytest.param(by_flannel(1450, 1450), NOTHING, ("pass", ""), id="healthy"),
        pytest.param(
            by_flannel(1450, 1500),
            NOTHING,
            (
                "fail",
                (
                    f"node-1: probe pod: route default dev eth0 MTU 1500, want 1450 {FLANNELS}\n"
                    f"node-1: probe pod: route 10.244.1.0/24 dev eth0 MTU 1500, want 1450 {FLANNELS}"
                ),
            ),
            id="pods-have-another",
        ),
        pytest.param(
            by_flannel(1500, 1500),
            NOTHING,
            (
                "fail",
                (
                    f"node-1: probe pod: route default dev eth0 MTU 1500, want 1450 {TOO_BIG}\n"
                    f"node-1: probe pod: route 10.244.1.0/24 dev eth0 MTU 1500, want 1450 {TOO_BIG}"
                ),
            ),
            id="flanneld-s-own-does-not-fit",
        ),
        pytest.param(by_flannel(1400, 1450), MtuExpectation(pod=Wanted(1450, "profile x.yaml:5")), ("pass", ""), id="the-profile-wins"),
    ],
)
def test_pods_by_flannel_s_own_word(changes: dict[str, Any], expect: MtuExpectation, expected: tuple[str, str]) -> None:
    assert outcome(mtu.pod_mtu(facts(**changes), expect, VXLAN)) == expected


CANAL = "ConfigMap kube-system/rke2-canal-config veth_mtu"
BY_FLANNEL = [{"peer": "node-2", "address": "10.42.1.0", "real_pod": True, "dev": "flannel.1", "gateway": "10.42.1.0"}]


@pytest.mark.parametrize(
    ("flannels", "routes", "expected"),
    [
        pytest.param(8950, BY_FLANNEL, ("pass", ""), id="over-jumbo-frames"),
        pytest.param(1450, BY_FLANNEL, ("pass", ""), id="usual"),
        pytest.param(
            1350,
            BY_FLANNEL,
            (
                "fail",
                "\n".join(
                    f"node-1: probe pod: route {dst} dev eth0 MTU 1450, want 1350 (claim /run/flannel/subnet.env FLANNEL_MTU; {CANAL} "
                    "says 1450) (ip -j route)"
                    for dst in ("default", "10.244.1.0/24")
                ),
            ),
            id="more-than-flannel-carries",
        ),
        pytest.param(1350, [], ("pass", ""), id="left-over-of-a-flannel-that-is-gone"),
    ],
)
def test_pods_of_canal(flannels: int, routes: list[dict[str, Any]], expected: tuple[str, str]) -> None:
    changes = {**by_flannel(flannels, 1450), "peer_routes": routes}
    assert outcome(mtu.pod_mtu(facts(**changes), MtuExpectation(pod=Wanted(1450, f"claim {CANAL}")), VXLAN)) == expected


def test_less_than_fits_by_flannel_s_own_word_is_advice() -> None:
    judgement = mtu.pod_mtu(facts(**by_flannel(1400, 1400)), NOTHING, VXLAN)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "advice") == ["node-1: /run/flannel/subnet.env gives pods 1400, 1450 would fit (uplink less encapsulation)"]


def test_pods_that_were_there_before_by_flannel_s_own_word() -> None:
    assert outcome(mtu.existing_pods_mtu(facts(**by_flannel(1450, 1450)), NOTHING, VXLAN)) == ("pass", "")
    of_the_rest = mtu.existing_pods_mtu(facts(**{**by_flannel(1500, 1450), "pod": None}), NOTHING, VXLAN)
    assert outcome(of_the_rest) == ("pass", ""), "what flanneld has written wrong is told of the new pod alone"
    verdict, message = outcome(mtu.existing_pods_mtu(facts(**by_flannel(1450, 1500)), NOTHING, VXLAN))
    assert verdict == "fail"
    assert f"pod kube-system/coredns-abc: route default dev eth0 MTU 1500, want 1450 {FLANNELS}" in message


def test_a_subnet_file_without_an_mtu_says_nothing() -> None:
    assert facts(flannel="FLANNEL_SUBNET=10.244.1.1/24\n").flannel_mtu is None
    assert facts().flannel_mtu is None
