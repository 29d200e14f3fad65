from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.expect.model import KernelExpectation, SysctlWant, Wanted
from pytest_k8snet.judge import kernel
from tests.unit.judge.builder import facts, link, network, outcome, sysctls, told

ORIGIN = "profile tuned-node.yaml:7"
TUNED = KernelExpectation(
    host_sysctls=(
        SysctlWant("net.netfilter.nf_conntrack_max", ">=", "131072", ORIGIN),
        SysctlWant("net.ipv4.tcp_tw_reuse", "=", "1", ORIGIN),
        SysctlWant("net.ipv4.ip_local_port_range", "=", "1024 65535", ORIGIN),
        SysctlWant("net.ipv4.ip_local_reserved_ports", "covers", "10248-10250,10256,30000-32767", ORIGIN),
        SysctlWant("net.ipv4.tcp_congestion_control", "=", "bbr", ORIGIN),
    ),
    pod_sysctls=(SysctlWant("net.ipv4.tcp_tw_reuse", "=", "1", ORIGIN),),
    qdisc=Wanted("fq", ORIGIN),
    congestion_control=Wanted("bbr", ORIGIN),
)
NOTHING = KernelExpectation()


def wants(operator: str, value: str) -> KernelExpectation:
    return KernelExpectation(host_sysctls=(SysctlWant("net.core.somaxconn", operator, value, ORIGIN),))


@pytest.mark.parametrize(
    ("changes", "expect", "expected"),
    [
        pytest.param({}, TUNED, ("pass", ""), id="healthy"),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__tcp_tw_reuse="2")},
            TUNED,
            ("fail", f"node-1: net.ipv4.tcp_tw_reuse 2, want 1 ({ORIGIN}) (sysctl net.ipv4.tcp_tw_reuse)"),
            id="reset",
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__ip_local_port_range="32768\t60999")},
            TUNED,
            (
                "fail",
                f"node-1: net.ipv4.ip_local_port_range 32768 60999, want 1024 65535 ({ORIGIN}) (sysctl net.ipv4.ip_local_port_range)",
            ),
            id="fields",
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__ip_local_reserved_ports="10248-10256,30000-31000,31001-32767")},
            TUNED,
            ("pass", ""),
            id="neighbouring-ranges-cover",
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__ip_local_reserved_ports="")},
            TUNED,
            (
                "fail",
                (
                    "node-1: net.ipv4.ip_local_reserved_ports (empty), want covers 10248-10250,10256,30000-32767 "
                    f"({ORIGIN}) (sysctl net.ipv4.ip_local_reserved_ports)"
                ),
            ),
            id="nothing-reserved",
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__ip_local_reserved_ports="10248-10250,10256,30000-32766")},
            TUNED,
            (
                "fail",
                (
                    "node-1: net.ipv4.ip_local_reserved_ports 10248-10250,10256,30000-32766, want covers 10248-10250,10256,30000-32767 "
                    f"({ORIGIN}) (sysctl net.ipv4.ip_local_reserved_ports)"
                ),
            ),
            id="one-port-is-not-covered",
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__tcp_tw_reuse=None)},
            TUNED,
            (
                "fail",
                f"node-1: net.ipv4.tcp_tw_reuse is not known to this kernel, want 1 ({ORIGIN}) (sysctl net.ipv4.tcp_tw_reuse)",
            ),
            id="no-such-file",
        ),
        pytest.param(
            {},
            wants("=", "4096"),
            ("error", "node-1: net.core.somaxconn was not measured (sysctl net.core.somaxconn)"),
            id="not-measured",
        ),
        pytest.param({"host__sysctls": {"net.core.somaxconn": "4096"}}, wants(">=", "4096"), ("pass", ""), id="at-least"),
        pytest.param(
            {"host__sysctls": {"net.core.somaxconn": "128"}},
            wants(">=", "4096"),
            ("fail", f"node-1: net.core.somaxconn 128, want >= 4096 ({ORIGIN}) (sysctl net.core.somaxconn)"),
            id="less-than-at-least",
        ),
        pytest.param(
            {"host__sysctls": {"net.core.somaxconn": "8192"}},
            wants("<=", "4096"),
            ("fail", f"node-1: net.core.somaxconn 8192, want <= 4096 ({ORIGIN}) (sysctl net.core.somaxconn)"),
            id="more-than-at-most",
        ),
        pytest.param(
            {"host__sysctls": {"net.core.somaxconn": "1 2"}},
            wants(">=", "1"),
            ("fail", f"node-1: net.core.somaxconn 1 2, want >= 1 ({ORIGIN}) (sysctl net.core.somaxconn)"),
            id="not-a-number",
        ),
        pytest.param({}, NOTHING, ("skip", "no profile wants a sysctl on nodes"), id="nothing-wanted"),
        pytest.param(
            {"host__sysctls": {}},
            KernelExpectation(host_sysctls=(TUNED.host_sysctls[0], TUNED.host_sysctls[4]), congestion_control=TUNED.congestion_control),
            ("skip", "no profile wants a sysctl on nodes"),
            id="only-what-others-judge",
        ),
    ],
)
def test_host_sysctls(changes: dict[str, Any], expect: KernelExpectation, expected: tuple[str, str]) -> None:
    assert outcome(kernel.host_sysctls(facts(**changes), expect)) == expected


def probe(**more: Any) -> dict[str, Any]:
    return {"pod": {"name": "probe-node-1", **network(**more)}}


@pytest.mark.parametrize(
    ("changes", "expect", "expected"),
    [
        pytest.param({}, TUNED, ("pass", ""), id="healthy"),
        pytest.param(
            probe(sysctls={"net.ipv4.tcp_tw_reuse": "2"}),
            TUNED,
            ("fail", f"node-1: probe pod: net.ipv4.tcp_tw_reuse 2, want 1 ({ORIGIN}) (sysctl net.ipv4.tcp_tw_reuse)"),
            id="not-inherited-from-the-node",
        ),
        pytest.param(
            probe(sysctls={}),
            TUNED,
            ("error", "node-1: probe pod: net.ipv4.tcp_tw_reuse was not measured (sysctl net.ipv4.tcp_tw_reuse)"),
            id="not-measured",
        ),
        pytest.param(
            {"pod": None, "pod_absent": "access ssh makes no probe pods"},
            TUNED,
            ("skip", "access ssh makes no probe pods"),
            id="no-pods-on-purpose",
        ),
        pytest.param(
            {"pod": None, "pod_error": "pod probe-node-1: OutOfpods"},
            TUNED,
            ("error", "node-1: the probe pod was not measured: pod probe-node-1: OutOfpods"),
            id="no-probe-pod",
        ),
        pytest.param({}, NOTHING, ("skip", "no profile wants a sysctl in pods"), id="nothing-wanted"),
    ],
)
def test_pod_sysctls(changes: dict[str, Any], expect: KernelExpectation, expected: tuple[str, str]) -> None:
    assert outcome(kernel.pod_sysctls(facts(**changes), expect)) == expected


MQ: list[dict[str, Any]] = [
    {"kind": "mq", "handle": "0:", "dev": "eth0", "root": True},
    {"kind": "fq", "handle": "0:", "dev": "eth0", "parent": ":1"},
    {"kind": "fq", "handle": "0:", "dev": "eth0", "parent": ":2"},
    {"kind": "clsact", "handle": "ffff:", "dev": "eth0", "parent": "ffff:fff1"},
]
HTB = [
    {"kind": "htb", "handle": "1:", "dev": "eth0", "root": True},
    {"kind": "prio", "handle": "10:", "dev": "eth0", "parent": "1:10"},
    {"kind": "fq", "handle": "8002:", "dev": "eth0", "parent": "10:1"},
]
SHOW = "tc -j qdisc show dev eth0"
QUEUELESS = [{"kind": "noqueue", "handle": "0:", "dev": dev, "root": True} for dev in ("eth0.20", "bond0", "bond0.20", "br0", "veth1")]


@pytest.mark.parametrize(
    ("changes", "expect", "expected"),
    [
        pytest.param({}, TUNED, ("pass", ""), id="root"),
        pytest.param({"qdiscs": MQ}, TUNED, ("pass", ""), id="leaves-below-mq"),
        pytest.param({"qdiscs": HTB}, TUNED, ("pass", ""), id="leaf-below-classes"),
        pytest.param(
            {"qdiscs": [{"kind": "pfifo_fast", "handle": "0:", "dev": "eth0", "root": True}]},
            TUNED,
            ("fail", f"node-1: eth0 qdisc pfifo_fast in force, want fq ({ORIGIN}) ({SHOW})"),
            id="replaced",
        ),
        pytest.param(
            {"qdiscs": [MQ[0], MQ[1], {**MQ[2], "kind": "fq_codel"}]},
            TUNED,
            ("fail", f"node-1: eth0 qdisc fq_codel in force, want fq ({ORIGIN}) ({SHOW})"),
            id="one-queue-differs",
        ),
        pytest.param(
            {
                "uplink": "bond0",
                "physical": ["eth0", "bond0"],
                "host__links": [link("bond0", kind="bond"), link("eth0", master="bond0"), link("tap1", master="bond0")],
            },
            TUNED,
            ("pass", ""),
            id="members-of-a-bond",
        ),
        pytest.param(
            {
                "uplink": "br0",
                "physical": ["br0", "eth0"],
                "host__links": [
                    link("eth0", master="bond0"),
                    link("bond0", kind="bond"),
                    link("bond0.20", kind="vlan", link="bond0", master="br0"),
                    link("br0", kind="bridge"),
                    link("veth1", kind="veth", master="br0"),
                ],
                "qdiscs": [*QUEUELESS, {"kind": "pfifo_fast", "handle": "0:", "dev": "eth0", "root": True}],
            },
            TUNED,
            ("fail", f"node-1: eth0 qdisc pfifo_fast in force, want fq ({ORIGIN}) ({SHOW})"),
            id="below-a-vlan-on-a-bond-in-a-bridge",
        ),
        pytest.param(
            {
                "uplink": "eth0.20",
                "physical": ["eth0", "eth0.20"],
                "host__links": [link("eth0"), link("eth0.20", kind="vlan", link="eth0")],
                "qdiscs": [*QUEUELESS, {"kind": "fq", "handle": "8001:", "dev": "eth0", "root": True}],
            },
            TUNED,
            ("pass", ""),
            id="below-a-vlan",
        ),
        pytest.param(
            {
                "uplink": "br-ex",
                "physical": ["br-ex", "eth0"],
                "host__links": [
                    link("eth0", master="ovs-system"),
                    link("genev_sys_6081", 65000, "geneve", master="ovs-system"),
                    link("br-int", kind="openvswitch", master="ovs-system"),
                    link("br-ex", kind="openvswitch"),
                ],
                "qdiscs": [
                    {"kind": "noqueue", "handle": "0:", "dev": "br-ex", "root": True},
                    {"kind": "fq", "handle": "8001:", "dev": "eth0", "root": True},
                ],
            },
            TUNED,
            ("pass", ""),
            id="below-a-bridge-of-open-vswitch",
        ),
        pytest.param(
            {
                "uplink": "br-ex",
                "physical": ["br-ex", "eth0", "eth1"],
                "host__links": [
                    *(link(name, master="ovs-system") for name in ("eth0", "eth1")),
                    link("br-ex", kind="openvswitch"),
                ],
                "qdiscs": [{"kind": "noqueue", "handle": "0:", "dev": "br-ex", "root": True}],
            },
            TUNED,
            ("inconclusive", "node-1: which hardware is below br-ex (openvswitch) is not known, and with it whose qdisc is in force"),
            id="of-two-ports-of-open-vswitch-it-is-not-known-which",
        ),
        pytest.param({"qdiscs": []}, TUNED, ("error", f"node-1: no qdisc of eth0 was measured ({SHOW})"), id="not-measured"),
        pytest.param(
            {"qdiscs": [], "errors": {"qdiscs": "tc: neither in the probe image nor on the node"}},
            TUNED,
            ("error", f"node-1: no qdisc of eth0 was measured: tc: neither in the probe image nor on the node ({SHOW})"),
            id="no-tc",
        ),
        pytest.param({"uplink": None}, TUNED, ("error", "node-1: no device holds the node's InternalIP"), id="no-uplink"),
        pytest.param({}, NOTHING, ("skip", "no profile wants a queueing discipline"), id="nothing-wanted"),
    ],
)
def test_qdisc(changes: dict[str, Any], expect: KernelExpectation, expected: tuple[str, str]) -> None:
    assert outcome(kernel.qdisc(facts(**changes), expect)) == expected


@pytest.mark.parametrize(
    ("changes", "expect", "expected"),
    [
        pytest.param({}, TUNED, ("pass", ""), id="healthy"),
        pytest.param(
            {"host__congestion_control": "cubic"},
            TUNED,
            ("fail", f"node-1: a fresh TCP socket uses cubic, want bbr ({ORIGIN}) (getsockopt(TCP_CONGESTION))"),
            id="node",
        ),
        pytest.param(
            probe(congestion_control="cubic"),
            TUNED,
            ("fail", f"node-1: probe pod: a fresh TCP socket uses cubic, want bbr ({ORIGIN}) (getsockopt(TCP_CONGESTION))"),
            id="pod",
        ),
        pytest.param(
            {"host__congestion_control": None},
            TUNED,
            ("error", "node-1: the congestion control of a fresh socket was not measured"),
            id="not-measured",
        ),
        pytest.param({"pod": None, "pod_absent": "no pods"}, TUNED, ("pass", ""), id="no-pods-on-purpose"),
        pytest.param(
            {"pod": None, "pod_absent": "no pods", "host__congestion_control": "cubic"},
            TUNED,
            ("fail", f"node-1: a fresh TCP socket uses cubic, want bbr ({ORIGIN}) (getsockopt(TCP_CONGESTION))"),
            id="node-without-pods-on-purpose",
        ),
        pytest.param(
            {"pod": None, "pod_error": "ErrImagePull"},
            TUNED,
            ("error", "node-1: probe pod: the congestion control of a fresh socket was not measured: ErrImagePull"),
            id="no-probe-pod",
        ),
        pytest.param({}, NOTHING, ("skip", "no profile wants a congestion control"), id="nothing-wanted"),
    ],
)
def test_congestion_control(changes: dict[str, Any], expect: KernelExpectation, expected: tuple[str, str]) -> None:
    assert outcome(kernel.congestion_control(facts(**changes), expect)) == expected


def test_congestion_control_without_pods_says_so() -> None:
    judgement = kernel.congestion_control(facts(pod=None, pod_absent="access ssh makes no probe pods"), TUNED)
    assert told(judgement, "remark") == ["node-1: judged on the node only: access ssh makes no probe pods"]


def test_congestion_control_that_the_shell_collector_read_names_what_it_read() -> None:
    judgement = kernel.congestion_control(facts(agent="shell", host__congestion_control="cubic"), TUNED)
    assert [finding.command for finding in judgement.findings if finding.weight == "fault"] == ["sysctl net.ipv4.tcp_congestion_control"]


@pytest.mark.parametrize(
    ("table", "expect", "expected"),
    [
        pytest.param({"count": 9, "max": 131072, "buckets": 65536}, TUNED, ("pass", ""), id="healthy"),
        pytest.param(
            {"count": 9, "max": 65536, "buckets": 65536},
            TUNED,
            (
                "fail",
                f"node-1: net.netfilter.nf_conntrack_max 65536, want >= 131072 ({ORIGIN}) (sysctl net.netfilter.nf_conntrack_max)",
            ),
            id="lowered",
        ),
        pytest.param(
            {"count": None, "max": None, "buckets": None},
            TUNED,
            ("skip", "connection tracking is not in use on this node"),
            id="unused",
        ),
        pytest.param(
            {"count": 9, "max": 131072, "buckets": 65536},
            NOTHING,
            ("skip", "no profile wants a size of the connection table"),
            id="nothing-wanted",
        ),
    ],
)
def test_conntrack(table: dict[str, int | None], expect: KernelExpectation, expected: tuple[str, str]) -> None:
    assert outcome(kernel.conntrack(facts(conntrack=table), expect)) == expected


def by_ovn(**changes: str) -> dict[str, Any]:
    """Return changes: a node of OpenShift, which forwards on OVN's devices alone."""
    own = {"net__ipv4__ip_forward": "0", "net__ipv4__conf__br_ex__forwarding": "1", "net__ipv4__conf__ovn_k8s_mp0__forwarding": "1"}
    values = {key.replace("_ex", "-ex").replace("_k8s_", "-k8s-"): value for key, value in sysctls(**{**own, **changes}).items()}
    return {"host__sysctls": values, "host__links": [link("br-ex"), link("ovn-k8s-mp0")], "uplink": "br-ex"}


@pytest.mark.parametrize(
    ("changes", "families", "expected"),
    [
        pytest.param({}, {4, 6}, ("pass", ""), id="healthy"),
        pytest.param({"host__sysctls": sysctls(net__ipv4__conf__eth0__forwarding="1")}, {4}, ("pass", ""), id="uplink-forwards"),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__conf__eth0__forwarding="0")},
            {4},
            ("fail", "node-1: net.ipv4.conf.eth0.forwarding 0, want 1 (built-in) (sysctl net.ipv4.conf.eth0.forwarding)"),
            id="uplink-does-not-forward",
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__conf__eth0__forwarding="0"), "host__links": [link("eth0"), link("cilium_host")]},
            {4},
            ("pass", ""),
            id="cilium-forwards-past-it",
        ),
        pytest.param(
            {
                "host__sysctls": sysctls(**{"net__ipv4__conf__bond0/100__forwarding": "0"}),
                "host__links": [link("bond0.100", kind="vlan")],
                "uplink": "bond0.100",
            },
            {4},
            ("fail", "node-1: net.ipv4.conf.bond0/100.forwarding 0, want 1 (built-in) (sysctl net.ipv4.conf.bond0/100.forwarding)"),
            id="uplink-with-a-dot-does-not-forward",
        ),
        pytest.param(by_ovn(), {4}, ("pass", ""), id="ovn-lets-its-own-devices-forward"),
        pytest.param(by_ovn(net__ipv4__ip_forward="1"), {4}, ("pass", ""), id="ovn-with-all-devices"),
        pytest.param(
            by_ovn(net__ipv4__conf__br_ex__forwarding="0"),
            {4},
            ("fail", "node-1: net.ipv4.conf.br-ex.forwarding 0, want 1 (built-in) (sysctl net.ipv4.conf.br-ex.forwarding)"),
            id="ovn-s-uplink-does-not-forward",
        ),
        pytest.param(
            by_ovn(net__ipv4__conf__ovn_k8s_mp0__forwarding="0"),
            {4},
            ("fail", "node-1: net.ipv4.conf.ovn-k8s-mp0.forwarding 0, want 1 (built-in) (sysctl net.ipv4.conf.ovn-k8s-mp0.forwarding)"),
            id="ovn-s-port-does-not-forward",
        ),
        pytest.param(by_ovn(net__ipv6__conf__all__forwarding="0"), {4, 6}, ("pass", ""), id="ovn-carries-ipv6-past-the-kernel"),
        pytest.param(by_ovn(net__ipv6__conf__all__forwarding="0"), {6}, ("pass", ""), id="ovn-carries-ipv6-alone-past-the-kernel"),
        pytest.param(by_ovn(), {6}, ("pass", ""), id="ovn-with-ipv6-alone"),
        pytest.param(
            {**by_ovn(), "host__sysctls": {}},
            {6},
            ("error", "node-1: net.ipv6.conf.all.forwarding was not measured (sysctl net.ipv6.conf.all.forwarding)"),
            id="ovn-with-ipv6-alone-unmeasured",
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__ip_forward="0")},
            {4},
            ("fail", "node-1: net.ipv4.ip_forward 0, want 1 (built-in) (sysctl net.ipv4.ip_forward)"),
            id="off",
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv6__conf__all__forwarding="0")}, {4}, ("pass", ""), id="off-for-a-family-that-is-not-in-use"
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv6__conf__all__forwarding="0")},
            {4, 6},
            ("fail", "node-1: net.ipv6.conf.all.forwarding 0, want 1 (built-in) (sysctl net.ipv6.conf.all.forwarding)"),
            id="off-for-ipv6",
        ),
        pytest.param(
            {"host__sysctls": {}},
            {4},
            ("error", "node-1: net.ipv4.ip_forward was not measured (sysctl net.ipv4.ip_forward)"),
            id="unmeasured",
        ),
    ],
)
def test_forwarding(changes: dict[str, Any], families: set[int], expected: tuple[str, str]) -> None:
    assert outcome(kernel.forwarding(facts(**changes), NOTHING, families)) == expected


def test_forwarding_of_ipv6_that_ovn_does_without_is_advised() -> None:
    judgement = kernel.forwarding(facts(**by_ovn(net__ipv6__conf__all__forwarding="0")), NOTHING, {4, 6})
    message = (
        "node-1: net.ipv6.conf.all.forwarding 0: pods' packets go by OVS past the kernel, and what the node's own routes carry between "
        "them and others over IPv6 is lost"
    )
    assert told(judgement, "advice") == [message]


def test_forwarding_that_a_profile_wants_is_judged_under_ovn_as_well() -> None:
    judgement = kernel.forwarding(facts(**by_ovn()), wants_of("net.ipv4.ip_forward", "1"), {4})
    assert outcome(judgement) == ("fail", f"node-1: net.ipv4.ip_forward 0, want 1 ({ORIGIN}) (sysctl net.ipv4.ip_forward)")


def wants_of(key: str, value: str) -> KernelExpectation:
    return KernelExpectation(host_sysctls=(SysctlWant(key, "=", value, ORIGIN),))


def test_forwarding_that_a_profile_wants_off_for_a_family_without_pods() -> None:
    key = "net.ipv6.conf.all.forwarding"
    assert outcome(kernel.forwarding(facts(), wants_of(key, "0"), {4})) == ("fail", f"node-1: {key} 1, want 0 ({ORIGIN}) (sysctl {key})")


def test_congestion_control_that_only_a_sysctl_wants() -> None:
    key = "net.ipv4.tcp_congestion_control"
    expect = wants_of(key, "cubic")
    assert outcome(kernel.host_sysctls(facts(), expect)) == ("fail", f"node-1: {key} bbr, want cubic ({ORIGIN}) (sysctl {key})")
    assert outcome(kernel.host_sysctls(facts(), wants_of(key, "bbr"))) == ("pass", "")


@pytest.mark.parametrize("value", ["${PORTS}", "1024\t65535"])
def test_what_is_no_list_of_ports_covers_none(value: str) -> None:
    key = "net.ipv4.ip_local_reserved_ports"
    expect = KernelExpectation(host_sysctls=(SysctlWant(key, "covers", "10250", ORIGIN),))
    assert outcome(kernel.host_sysctls(facts(host__sysctls={key: value}), expect))[0] == "fail"


@pytest.mark.parametrize(
    ("cidrs", "internal_ip", "families"),
    [
        (("10.244.1.0/24", "fd00:1::/64"), "192.168.10.11", {4, 6}),
        ((), "192.168.10.11", {4}),
        ((), "2001:db8::11", {6}),
        ((), None, {4}),
    ],
)
def test_families_of_pods(cidrs: tuple[str, ...], internal_ip: str | None, families: set[int]) -> None:
    assert kernel.pod_families(replace(fake_node("node-1"), pod_cidrs=cidrs, internal_ip=internal_ip)) == families


ADVISED = replace(TUNED, advice=True)
UNTUNED: dict[str, Any] = {
    "host__sysctls": sysctls(net__ipv4__tcp_tw_reuse="2"),
    "pod": {"name": "probe-node-1", **network(sysctls={"net.ipv4.tcp_tw_reuse": "2"}, congestion_control="cubic")},
    "qdiscs": [{"kind": "pfifo_fast", "handle": "0:", "dev": "eth0", "root": True}],
    "conntrack": {"count": 120, "max": 65536, "buckets": 65536},
}


@pytest.mark.parametrize(
    ("judge", "reason", "advice"),
    [
        (kernel.host_sysctls, "no profile wants a sysctl on nodes", f"node-1: net.ipv4.tcp_tw_reuse 2, want 1 ({ORIGIN})"),
        (kernel.pod_sysctls, "no profile wants a sysctl in pods", f"node-1: probe pod: net.ipv4.tcp_tw_reuse 2, want 1 ({ORIGIN})"),
        (kernel.qdisc, "no profile wants a queueing discipline", f"node-1: eth0 qdisc pfifo_fast in force, want fq ({ORIGIN})"),
        (
            kernel.congestion_control,
            "no profile wants a congestion control",
            f"node-1: probe pod: a fresh TCP socket uses cubic, want bbr ({ORIGIN})",
        ),
        (
            kernel.conntrack,
            "no profile wants a size of the connection table",
            f"node-1: net.netfilter.nf_conntrack_max 65536, want >= 131072 ({ORIGIN})",
        ),
    ],
    ids=["host", "pod", "qdisc", "congestion-control", "conntrack"],
)
def test_tuning_that_nobody_wants_is_advice(judge: Any, reason: str, advice: str) -> None:
    """Nothing fails, nothing that could not be measured is an error, and what would be better is said."""
    judgement = judge(facts(**UNTUNED), ADVISED)
    assert outcome(judgement) == ("skip", reason)
    assert told(judgement, "advice") == [advice]
    unmeasured = judge(facts(pod=None, uplink=None, qdiscs=[], host__sysctls={}, host__congestion_control=None), ADVISED)
    assert outcome(unmeasured) == ("skip", reason)
    assert told(unmeasured, "error") == []


SOMAXCONN = "net.core.somaxconn"
CAT = "systemd-analyze cat-config sysctl.d"
REQUIRED = Wanted("required", "profile p.yaml:2")


def files(*assigned: tuple[str, str | None]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value, "file": "/etc/sysctl.d/90-x.conf", "line": line} for line, (key, value) in enumerate(assigned, 1)]


@pytest.mark.parametrize(
    ("changes", "wanted", "expected"),
    [
        pytest.param({"persisted": files((SOMAXCONN, "4096"))}, ">= 4096", ("pass", ""), id="healthy"),
        pytest.param(
            {},
            ">= 4096",
            ("fail", f"node-1: {SOMAXCONN} is in no sysctl.d file: it may be lost at the next boot, want >= 4096 ({ORIGIN}) ({CAT})"),
            id="in-no-file",
        ),
        pytest.param(
            {"persisted": files((SOMAXCONN, "4096"), (SOMAXCONN, "128"))},
            ">= 4096",
            (
                "fail",
                f"node-1: /etc/sysctl.d/90-x.conf:2 sets {SOMAXCONN} to 128 at the next boot, want >= 4096 ({ORIGIN}) ({CAT})",
            ),
            id="the-last-file-counts",
        ),
        pytest.param({"persisted": files(("net/core/somaxconn", "4096"))}, ">= 4096", ("pass", ""), id="written-with-slashes"),
        pytest.param({"persisted": files(("net.core.*", "4096"))}, ">= 4096", ("pass", ""), id="by-a-pattern"),
        pytest.param(
            {"persisted": files((SOMAXCONN, "4096"), ("net.core.som*", "1"))}, ">= 4096", ("pass", ""), id="a-name-outweighs-a-pattern"
        ),
        pytest.param(
            {"persisted": files(("net.*", "4096"), ("net.core.*", "4096"), (SOMAXCONN, None))},
            ">= 4096",
            ("fail", f"node-1: {SOMAXCONN} is in no sysctl.d file: it may be lost at the next boot, want >= 4096 ({ORIGIN}) ({CAT})"),
            id="left-alone-by-patterns",
        ),
        pytest.param(
            {"persisted": files((SOMAXCONN, "4096")), "running": {SOMAXCONN: "128"}},
            ">= 4096",
            ("pass", ""),
            id="the-value-in-force-is-another-check-s",
        ),
        pytest.param(
            {"persisted": files(("net.ipv4.tcp_rmem", "4096 131072 6291456")), "running": {"net.ipv4.tcp_rmem": "4096 87380 6291456"}},
            None,
            (
                "fail",
                (
                    "node-1: net.ipv4.tcp_rmem is 4096 87380 6291456, /etc/sysctl.d/90-x.conf:1 makes it 4096 131072 6291456 at the next "
                    "boot (sysctl net.ipv4.tcp_rmem)"
                ),
            ),
            id="drift",
        ),
        pytest.param(
            {
                "persisted": files(("net.ipv4.ip_local_reserved_ports", "1,2,3-5"), ("net.ipv4.x", "1,a")),
                "running": {"net.ipv4.ip_local_reserved_ports": "1-5", "net.ipv4.x": "1,a"},
            },
            None,
            ("pass", ""),
            id="the-kernel-joins-ports",
        ),
        pytest.param(
            {"persisted": files(("net.ipv4.x", "1,a")), "running": {"net.ipv4.x": "1"}},
            None,
            ("fail", "node-1: net.ipv4.x is 1, /etc/sysctl.d/90-x.conf:1 makes it 1,a at the next boot (sysctl net.ipv4.x)"),
            id="no-ports",
        ),
        pytest.param(
            {
                "persisted": files(("net.netfilter.nf_conntrack_max", "1")),
                "running": {"net.netfilter.nf_conntrack_max": "131072"},
                "kube_proxy__configz": {"kubeproxy.config.k8s.io": {"conntrack": {"maxPerCore": 1, "min": 131072}}},
            },
            None,
            ("skip", "no profile wants a sysctl, and no file of the node assigns one of networks"),
            id="kube-proxy-s",
        ),
        pytest.param(
            {"persisted": files(("net.ipv4.x", None)), "running": {"net.ipv4.x": "1"}},
            None,
            ("skip", "no profile wants a sysctl, and no file of the node assigns one of networks"),
            id="nothing",
        ),
        pytest.param(
            {"errors": {"persisted": "no answer within 20 s"}},
            None,
            ("error", "node-1: the sysctl.d files were not read: no answer within 20 s"),
            id="not-read",
        ),
    ],
)
def test_persisted(changes: dict[str, Any], wanted: str | None, expected: tuple[str, str]) -> None:
    expect = KernelExpectation() if wanted is None else wants(*wanted.split())
    judgement = kernel.persisted(facts(**changes), replace(expect, persisted=REQUIRED))
    assert outcome(judgement) == expected
    advised = kernel.persisted(facts(**changes), expect)
    assert advised.verdict == "skip"
    assert told(advised, "advice") == [finding.message for finding in judgement.findings if expected[0] == "fail"]


def test_a_congestion_control_that_no_file_sets() -> None:
    expect = KernelExpectation(congestion_control=Wanted("bbr", ORIGIN), persisted=REQUIRED)
    key = "net.ipv4.tcp_congestion_control"
    told_so = f"node-1: {key} is in no sysctl.d file: it may be lost at the next boot, want bbr ({ORIGIN}) ({CAT})"
    assert outcome(kernel.persisted(facts(), expect)) == ("fail", told_so)
    assert outcome(kernel.persisted(facts(persisted=files((key, "bbr"))), expect)) == ("pass", "")


@pytest.mark.parametrize("judge", [kernel.persisted, kernel.modules])
def test_older_recordings_do_not_tell(judge: Any) -> None:
    judgement = judge(replace(facts(), running=None, modules=None), TUNED)
    assert (judgement.verdict, judgement.unsupported) == ("skip", True)
    assert judgement.message.startswith("the recording is older than ")


BRIDGED = [link("cni0", kind="bridge"), link("veth1", kind="veth", master="cni0")]
MODULES = Wanted(("ip_vs-rr", "br_netfilter"), ORIGIN)
BR_NETFILTER = (
    "node-1: pods are ports of a bridge and br_netfilter is not loaded: a pod that asks a Service whose endpoint is on its own node gets "
    "no usable answer"
)


@pytest.mark.parametrize(
    ("changes", "wanted", "expected", "advice"),
    [
        pytest.param({}, MODULES, ("pass", ""), [], id="healthy"),
        pytest.param(
            {"modules": ["ip_vs_rr"]},
            MODULES,
            (
                "fail",
                (
                    f"node-1: the module br_netfilter is neither loaded nor built in, want it ({ORIGIN}) "
                    "(lsmod | grep br_netfilter; grep br_netfilter /lib/modules/6.1.0/modules.builtin)"
                ),
            ),
            [],
            id="missing",
        ),
        pytest.param(
            {"modules": ["ip_vs_rr"], "modules_built_in": False, "host__links": BRIDGED},
            MODULES,
            (
                "inconclusive",
                (
                    "node-1: the module br_netfilter is not loaded, and whether it is built in is not known: the node has no list of such "
                    f"modules, want it ({ORIGIN}) (cat /lib/modules/6.1.0/modules.builtin)"
                ),
            ),
            [],
            id="missing-and-maybe-built-in",
        ),
        pytest.param({"modules_built_in": False}, MODULES, ("pass", ""), [], id="loaded"),
        pytest.param({}, None, ("skip", "no profile names modules"), [], id="nothing-wanted"),
        pytest.param(
            {"modules": [], "host__links": BRIDGED}, None, ("skip", "no profile names modules"), [BR_NETFILTER], id="a-bridge-without-it"
        ),
        pytest.param({"host__links": BRIDGED}, None, ("skip", "no profile names modules"), [], id="a-bridge-with-it"),
    ],
)
def test_modules(changes: dict[str, Any], wanted: Wanted[tuple[str, ...]] | None, expected: tuple[str, str], advice: list[str]) -> None:
    judgement = kernel.modules(facts(**changes), KernelExpectation(modules=wanted))
    assert outcome(judgement) == expected
    assert told(judgement, "advice") == advice


CILIUM = [link("eth0"), link("cilium_host", kind="veth")]


def filters(everywhere: str, device: str, value: str | None) -> dict[str, Any]:
    return sysctls(**{"net.ipv4.conf.all.rp_filter": everywhere, f"net.ipv4.conf.{device}.rp_filter": value})


@pytest.mark.parametrize(
    ("changes", "cni", "expected"),
    [
        pytest.param({"host__links": CILIUM, "host__sysctls": filters("0", "cilium_host", "0")}, "cilium", ("pass", ""), id="cilium"),
        pytest.param(
            {"host__links": CILIUM, "host__sysctls": filters("1", "cilium_host", "0")},
            "cilium",
            (
                "fail",
                (
                    "node-1: the reverse path filter is strict on cilium_host, want it loose or off: "
                    "Cilium brings packets to it that the routing table would send elsewhere (claim CNI cilium) "
                    "(sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.cilium_host.rp_filter)"
                ),
            ),
            id="cilium-behind-a-default",
        ),
        pytest.param(
            {"host__links": CILIUM, "host__sysctls": filters("2", "cilium_host", "1")}, "cilium", ("pass", ""), id="loose-outweighs"
        ),
        pytest.param(
            {"host__links": CILIUM, "host__sysctls": filters("0", "cilium_host", None)},
            "cilium",
            (
                "error",
                (
                    "node-1: the reverse path filter of cilium_host was not measured "
                    "(sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.cilium_host.rp_filter)"
                ),
            ),
            id="not-measured",
        ),
        pytest.param(
            {"host__sysctls": filters("0", "eth0", "1")},
            "aws-vpc-cni",
            (
                "fail",
                (
                    "node-1: the reverse path filter is strict on eth0, want it loose or off: "
                    "pods with addresses of other network interfaces answer NodePorts by it (claim CNI aws-vpc-cni) "
                    "(sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.eth0.rp_filter)"
                ),
            ),
            id="aws",
        ),
        pytest.param({}, "aws-vpc-cni", ("pass", ""), id="aws-loose"),
        pytest.param(
            {"host__sysctls": filters("1", "eth0", "1")},
            "flannel",
            ("skip", "nothing is known of CNI flannel that a strict reverse path filter would break"),
            id="flannel",
        ),
        pytest.param({}, None, ("skip", "nothing is known of CNI unknown that a strict reverse path filter would break"), id="unknown"),
    ],
)
def test_reverse_path(changes: dict[str, Any], cni: str | None, expected: tuple[str, str]) -> None:
    assert outcome(kernel.reverse_path(facts(**changes), cni)) == expected


@pytest.mark.parametrize(("value", "martians", "advised"), [("1", "0", True), ("1", "1", False), ("2", "0", False)])
def test_what_a_strict_filter_drops_is_told(value: str, martians: str, advised: bool) -> None:
    values = {**filters("0", "eth0", value), "net.ipv4.conf.all.log_martians": martians}
    judgement = kernel.reverse_path(facts(host__sysctls=values), "flannel")
    said = "node-1: the reverse path filter is strict on eth0 and net.ipv4.conf.all.log_martians is 0: what it drops is told nowhere"
    assert told(judgement, "advice") == ([said] if advised else [])


@pytest.mark.parametrize(("release", "advised"), [("5.15.0-91-generic", True), ("5.18.0", False), ("6.1.0", False), ("unknown", False)])
def test_bbr_in_pods_that_cannot_pace(release: str, advised: bool) -> None:
    judgement = kernel.congestion_control(facts(kernel=release), TUNED)
    assert outcome(judgement) == ("pass", "")
    assert [f"bbr on kernel {release}: before 5.18 " in text for text in told(judgement, "advice")] == [True] * advised


def test_what_does_not_reach_pods_is_told() -> None:
    judgement = kernel.host_sysctls(facts(host__sysctls={SOMAXCONN: "4096"}), wants("=", "4096"))
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "advice") == [
        (
            f"node-1: {SOMAXCONN} of the node does not reach pods, which start with the kernel's own value; "
            "what is wanted there goes below kernel.sysctl.pod"
        )
    ]
    both = replace(wants("=", "4096"), pod_sysctls=(SysctlWant(SOMAXCONN, "=", "4096", ORIGIN),))
    assert told(kernel.host_sysctls(facts(host__sysctls={SOMAXCONN: "4096"}), both), "advice") == []
