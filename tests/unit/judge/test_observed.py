from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.expect.source import Location
from pytest_k8snet.judge.observed import Unread, observe
from tests.unit.judge.builder import TABLE, TABLE_HEAD, facts, link, network, sysctls

HOST = ("net.netfilter.nf_conntrack_max", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.x.not_measured")
ADDRESSES = {"node-2": ("192.168.10.12",), "node-3": ("192.168.20.13",)}
POD = ("net.ipv4.tcp_tw_reuse",)


def seen(**changes: Any) -> dict[str, object]:
    found = observe(facts(**changes), HOST, POD, ADDRESSES)
    return {name(at): value.why if isinstance(value, Unread) else value for at, value in found.items()}


def name(at: Location) -> str:
    return ".".join(map(str, at))


def test_a_healthy_node() -> None:
    assert seen() == {
        "proxy.mode": "ipvs",
        "proxy.scheduler": "rr",
        "proxy.strict_arp": True,
        "encapsulation": "none",
        "mtu.pod": 1500,
        "mtu.uplink": 1500,
        "throughput.line_rate": "10gbit",
        "kernel.sysctl.host.net.netfilter.nf_conntrack_max": 131072,
        "kernel.sysctl.host.net.ipv4.ip_local_port_range": "1024 65535",
        "kernel.sysctl.host.net.ipv4.ip_local_reserved_ports": "10248-10250,10256,30000-32767",
        "kernel.sysctl.pod.net.ipv4.tcp_tw_reuse": 1,
        "kernel.qdisc": "fq",
        "kernel.congestion_control": "bbr",
    }


def proxy(**changes: Any) -> dict[str, Any]:
    return {f"kube_proxy__{key}": value for key, value in changes.items()}


def via(dev: str, kind: str, mtu: int = 1450, **more: Any) -> dict[str, Any]:
    routes = [{"peer": "node-2", "address": "10.244.2.5", "real_pod": True, "dev": dev, "gateway": None}]
    return {"host__links": [link("eth0"), link(dev, mtu, kind)], "peer_routes": routes, **more}


MIXED = [
    {"peer": "node-2", "address": "10.244.2.5", "real_pod": True, "dev": "eth0", "gateway": None},
    {"peer": "node-3", "address": "10.244.3.5", "real_pod": True, "dev": "flannel.1", "gateway": None},
]


SPLIT = {
    "host__links": [link("eth0"), link("flannel.1", 1450, "vxlan")],
    "host__routes": [{"dst": "192.168.10.0/24", "dev": "eth0"}, {"dst": "default", "dev": "eth0", "gateway": "192.168.10.1"}],
}


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        (proxy(mode="nftables"), "proxy.mode", "nftables"),
        (proxy(mode=None, mode_error="connection refused", listening=False, processes=[]), "proxy.mode", "none"),
        (proxy(mode=None, mode_error="HTTP 404"), "proxy.mode", "kube-proxy does not tell its mode (HTTP 404)"),
        (proxy(mode="userspace"), "proxy.mode", "kube-proxy runs in mode userspace, for which a profile has no word"),
        ({"ipvs__table": TABLE.replace("0035 rr", "0035 lc")}, "proxy.scheduler", "virtual servers differ: rr on 1, lc on 1"),
        ({"ipvs__table": TABLE_HEAD}, "proxy.scheduler", "the IPVS table is empty"),
        ({"ipvs__table": None}, "proxy.scheduler", "/proc/net/ip_vs was not read"),
        ({"host__sysctls": sysctls(net__ipv4__conf__all__arp_ignore="0")}, "proxy.strict_arp", False),
        ({"uplink": None}, "proxy.strict_arp", "no device holds the node's InternalIP"),
        ({"host__sysctls": {}}, "proxy.strict_arp", "net.ipv4.conf.all.arp_ignore was not measured"),
        (via("flannel.1", "vxlan"), "encapsulation", "vxlan"),
        (via("tunl0", "ipip"), "encapsulation", "ipip"),
        (via("bond0", "bond"), "encapsulation", "none"),
        (via("cilium_host", "veth"), "encapsulation", "routes lead to cilium_host, behind which the CNI decides"),
        (via("gre1", "gre"), "encapsulation", "the route to a pod of node-2 leaves by gre1 (gre), for which a profile has no word"),
        (
            {"host__links": [link("eth0"), link("flannel.1", 1450, "vxlan")], "peer_routes": MIXED},
            "encapsulation",
            "other nodes differ: none on 1, vxlan on 1",
        ),
        ({**SPLIT, "peer_routes": MIXED}, "encapsulation", "vxlan-cross-subnet"),
        (
            {**SPLIT, "peer_routes": [{**MIXED[0], "dev": "flannel.1"}, {**MIXED[1], "dev": "eth0"}]},
            "encapsulation",
            "other nodes differ: vxlan on 1, none on 1",
        ),
        ({"peer_routes": []}, "encapsulation", "there is no other node to have a route to"),
        ({"peer_routes": [], "errors": {"peer_routes": "ip: not found"}}, "encapsulation", "its routes were not read: ip: not found"),
        (
            {"peer_routes": [{**MIXED[0], "dev": None, "error": "RTNETLINK answers: Network is unreachable"}]},
            "encapsulation",
            "the route to a pod of node-2 was not read: RTNETLINK answers: Network is unreachable",
        ),
        ({"pod": {"name": "p", **network(1450)}, "existing_pods": []}, "mtu.pod", 1450),
        ({"pod": {"name": "p", **network(1450)}}, "mtu.pod", "pods differ: 1450 on 1, 1500 on 1"),
        ({"pod": None, "pod_error": "no answer"}, "mtu.pod", "the probe pod was not measured: no answer"),
        ({"pod": None, "pod_absent": "access ssh makes no probe pods"}, "mtu.pod", "access ssh makes no probe pods"),
        ({"host__links": [link("eth0", 9000)]}, "mtu.uplink", 9000),
        ({"uplink": None}, "mtu.uplink", "no device holds the node's InternalIP"),
        (via("flannel.1", "vxlan", 8950), "mtu.tunnel", 8950),
        ({"uplink_speed_mbit": 2500}, "throughput.line_rate", "2500mbit"),
        ({"uplink_speed_mbit": -1}, "throughput.line_rate", "its uplink eth0 reports no speed"),
        ({"virtual": "DMI says KVM"}, "throughput.line_rate", "what its NIC reports is not believed: DMI says KVM"),
        (
            {"host__sysctls": sysctls(net__ipv4__ip_local_reserved_ports="\n")},
            "kernel.sysctl.host.net.ipv4.ip_local_reserved_ports",
            "it is empty",
        ),
        (
            {"host__sysctls": sysctls(net__ipv4__ip_local_reserved_ports=None)},
            "kernel.sysctl.host.net.ipv4.ip_local_reserved_ports",
            "this kernel does not know it",
        ),
        ({"qdiscs": []}, "kernel.qdisc", "no qdisc of eth0 was measured"),
        ({"uplink": None}, "kernel.qdisc", "no device holds the node's InternalIP"),
        ({"host__congestion_control": "cubic"}, "kernel.congestion_control", "cubic on the node, bbr in the probe pod"),
        ({"host__congestion_control": None}, "kernel.congestion_control", "a fresh socket's was not measured"),
        ({"pod": None, "pod_absent": "access ssh makes no probe pods"}, "kernel.congestion_control", "bbr"),
    ],
)
def test_one_thing_is_different(changes: dict[str, Any], key: str, value: object) -> None:
    assert seen(**changes)[key] == value


def test_what_does_not_apply_is_not_there() -> None:
    keys = seen(**proxy(mode="iptables"), pod=None, pod_error="x").keys()
    assert not keys & {"proxy.scheduler", "proxy.strict_arp", "mtu.tunnel", "kernel.sysctl.pod.net.ipv4.tcp_tw_reuse"}
