from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.cluster.ingress import Route
from pytest_k8snet.cluster.model import Claim, Cluster
from pytest_k8snet.expect.profile import Profile, load_profiles
from pytest_k8snet.expect.resolve import BUILT_IN_SYSCTLS, Expectations, resolve

TODAY = datetime.date(2026, 6, 1)


def cluster(**claims: Any) -> Cluster:
    nodes = tuple(fake_node(f"node-{number}", number) for number in (1, 2))
    found = {key.replace("__", "."): Claim(value, f"ConfigMap {key}") for key, value in claims.items()}
    return Cluster(version="v1.37.0", nodes=nodes, claims=found, kube_proxy_daemonsets=(), cni=None)


def profile(folder: Path, text: str) -> Profile:
    path = folder / "p.yaml"
    path.write_text(text)
    return load_profiles([str(path)])


def test_nothing_is_invented() -> None:
    common = resolve(None, cluster()).common
    assert (common.proxy.mode, common.proxy.scheduler, common.proxy.strict_arp) == (None, None, None)
    assert (common.mtu.pod, common.mtu.uplink, common.mtu.tunnel) == (None, None, None)
    assert common.encapsulation.kind is None
    assert common.throughput.line_rate_bps is None
    assert str(common.throughput.pod_to_host) == "0.9 (built-in)"
    assert str(common.throughput.line_share) == "0.85 (built-in)"


def test_an_api_server_on_a_node_is_to_reach_pods(tmp_path: Path) -> None:
    outside = cluster()
    inside = replace(outside, nodes=(replace(outside.nodes[0], control_plane=True), *outside.nodes[1:]))
    assert resolve(None, outside).common.control_plane.reaches_pods is None
    assert str(resolve(None, inside).common.control_plane.reaches_pods) == (
        "True (built-in, nodes of the control plane are nodes of the cluster)"
    )
    wanted = resolve(profile(tmp_path, "control_plane: { reaches_pods: false }"), inside).common.control_plane.reaches_pods
    assert str(wanted) == "False (profile p.yaml:1)"


def test_tuning_that_nobody_wants_is_advice() -> None:
    kernel = resolve(None, cluster()).common.kernel
    assert kernel.advice
    assert str(kernel.qdisc).startswith("fq (profile tuned-node.yaml:")
    assert resolve(load_profiles(["native"]), cluster()).common.kernel == kernel, "a profile of something else wants no tuning"
    assert not resolve(load_profiles(["tuned-node"]), cluster()).common.kernel.advice


def test_claims() -> None:
    common = resolve(None, cluster(proxy__mode="ipvs", proxy__strict_arp=True, mtu__pod="1450", encapsulation="vxlan")).common
    assert str(common.proxy.mode) == "ipvs (claim ConfigMap proxy__mode)"
    assert str(common.mtu.pod) == "1450 (claim ConfigMap mtu__pod)"
    assert common.proxy.strict_arp is not None
    assert common.proxy.strict_arp.value is True
    assert str(common.throughput.pod_to_host) == "0.8 (built-in, encapsulation vxlan)"


def test_what_pods_traffic_is_encrypted_by(tmp_path: Path) -> None:
    by_cilium = resolve(None, cluster(encrypted="ipsec")).common
    assert (by_cilium.encapsulation.kind, str(by_cilium.throughput.encrypted)) == (None, "ipsec (claim ConfigMap encrypted)")
    by_calico = resolve(None, cluster(encapsulation="wireguard")).common
    assert str(by_calico.throughput.encrypted) == "wireguard (claim ConfigMap encapsulation)"
    by_profile = resolve(profile(tmp_path, "encapsulation: wireguard\n"), cluster(encrypted="wireguard")).common
    assert str(by_profile.throughput.encrypted).startswith("wireguard (profile ")
    assert resolve(None, cluster(encapsulation="vxlan")).common.throughput.encrypted is None


def test_claims_that_could_not_be_read() -> None:
    proxy = resolve(None, cluster(proxy__replaced=None)).common.proxy
    assert (proxy.mode, proxy.mode_unknown) == (None, "ConfigMap proxy__replaced")
    assert resolve(None, cluster()).common.proxy.mode_unknown is None


def test_encapsulation_across_subnets_alone(tmp_path: Path) -> None:
    claimed = cluster(encapsulation__cross_subnet="ipip")
    common = resolve(None, claimed).common
    assert common.encapsulation.kind is None
    assert str(common.encapsulation.across) == "ipip (claim ConfigMap encapsulation__cross_subnet)"
    assert common.encapsulation.anywhere == common.encapsulation.across
    assert str(common.throughput.pod_to_host) == "0.8 (built-in, encapsulation ipip)"
    common = resolve(profile(tmp_path, "encapsulation: vxlan\n"), claimed).common
    assert common.encapsulation.across is None, "the profile's word is for all"
    assert common.encapsulation.anywhere == common.encapsulation.kind


@pytest.mark.parametrize(("claim", "value"), [("", "iptables"), ("nftables", "nftables")])
def test_empty_mode_is_the_default_of_kube_proxy(claim: str, value: str) -> None:
    mode = resolve(None, cluster(proxy__mode=claim)).common.proxy.mode
    assert mode is not None
    assert mode.value == value


def test_empty_scheduler_is_rr() -> None:
    scheduler = resolve(None, cluster(proxy__scheduler="")).common.proxy.scheduler
    assert scheduler is not None
    assert scheduler.value == "rr"


def test_profile_wins_over_claims(tmp_path: Path) -> None:
    text = (
        "proxy:\n  mode: nftables\n  strict_arp: false\nencapsulation: none\nmtu: {pod: 1500}\n"
        "throughput:\n  line_rate: 1gbit\n  pod_to_host: 0.7\n"
    )
    claimed = cluster(proxy__mode="ipvs", proxy__strict_arp=True, mtu__pod=1450, mtu__uplink=1500, encapsulation="vxlan")
    common = resolve(profile(tmp_path, text), claimed).common
    assert str(common.proxy.mode) == "nftables (profile p.yaml:2)"
    assert str(common.proxy.strict_arp) == "False (profile p.yaml:3)"
    assert str(common.mtu.pod) == "1500 (profile p.yaml:5)"
    assert str(common.mtu.uplink) == "1500 (claim ConfigMap mtu__uplink)"
    assert str(common.encapsulation.kind) == "none (profile p.yaml:4)"
    assert str(common.throughput.line_rate_bps) == "1000000000 (profile p.yaml:7)"
    assert str(common.throughput.pod_to_host) == "0.7 (profile p.yaml:8)"


def test_kernel(tmp_path: Path) -> None:
    sysctls = '      net.netfilter.nf_conntrack_max: ">= 131072"\n      vm.swappiness: 0\n      net.x: null\n'
    text = f"kernel:\n  sysctl:\n    host:\n{sysctls}  qdisc: fq\n"
    expectations = resolve(profile(tmp_path, text), cluster())
    kernel = expectations.common.kernel
    assert [(want.key, str(want)) for want in kernel.host_sysctls] == [
        ("net.netfilter.nf_conntrack_max", ">= 131072 (profile p.yaml:4)"),
        ("vm.swappiness", "0 (profile p.yaml:5)"),
    ]
    assert str(kernel.qdisc) == "fq (profile p.yaml:7)"
    assert expectations.sysctl_keys() == tuple(sorted({*BUILT_IN_SYSCTLS, "vm.swappiness"}))


def test_nodes_and_custom(tmp_path: Path) -> None:
    expectations = resolve(profile(tmp_path, "custom: {rack: 12}\n"), cluster())
    assert set(expectations.nodes) == {"node-1", "node-2"}
    assert expectations.node("node-2").custom == {"rack": 12}
    assert expectations.node("unknown") is expectations.common


WAIVERS = """
waivers:
  - {check: NET-MTU-*, nodes: [node-2], reason: old, expires: 2026-05-31}
  - {check: NET-MTU-001, nodes: [node-2, "edge-*"], reason: new, expires: 2026-06-01}
  - {check: NET-PROXY-002, reason: all, expires: 2027-01-01}
"""


@pytest.mark.parametrize(
    ("check", "subject", "expected"),
    [
        ("NET-MTU-001", "node-2", ("new", False)),
        ("NET-MTU-002", "node-2", ("old", True)),
        ("NET-MTU-001", "node-1", None),
        ("NET-MTU-001", "edge-7", ("new", False)),
        ("NET-MTU-001", "node-1:node-2", ("new", False)),
        ("NET-MTU-001", "node-2:node-1", ("new", False)),
        ("NET-PROXY-002", "cluster", ("all", False)),
        ("NET-PROXY-001", "node-2", None),
        ("net-mtu-001", "node-2", None),
    ],
)
def test_waivers(tmp_path: Path, check: str, subject: str, expected: tuple[str, bool] | None) -> None:
    waiver = resolve(profile(tmp_path, WAIVERS), cluster()).waiver(check, subject, TODAY)
    assert (None if waiver is None else (waiver.reason, waiver.expired)) == expected


def test_waiver_ends_with_its_day(tmp_path: Path) -> None:
    expectations = resolve(profile(tmp_path, WAIVERS), cluster())
    found = expectations.waiver("NET-MTU-001", "node-2", TODAY + datetime.timedelta(days=1))
    assert found is not None
    assert found.expired
    assert found.origin == "profile p.yaml:4"
    assert Expectations().waiver("NET-MTU-001", "node-2", TODAY) is None


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/conf/eth0.100/rp_filter", "net.ipv4.conf.eth0/100.rp_filter"),
        ("net.ipv4.conf.eth0/100.rp_filter", "net.ipv4.conf.eth0/100.rp_filter"),
    ],
)
def test_both_notations_of_a_sysctl(tmp_path: Path, written: str, key: str) -> None:
    expectations = resolve(profile(tmp_path, f"kernel:\n  sysctl:\n    host:\n      {written}: 1\n"), cluster())
    assert [(want.key, want.origin) for want in expectations.common.kernel.host_sysctls] == [(key, "profile p.yaml:4")]
    assert key in expectations.sysctl_keys()


def test_both_notations_are_one_sysctl(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("kernel: {sysctl: {host: {net/ipv4/ip_forward: 0, net.ipv4.tcp_tw_reuse: 1}}}\n")
    text = "extends: base.yaml\nkernel: {sysctl: {host: {net.ipv4.ip_forward: 1, net/ipv4/tcp_tw_reuse: null}}}\n"
    wants = resolve(profile(tmp_path, text), cluster()).common.kernel.host_sysctls
    assert [(want.key, str(want)) for want in wants] == [("net.ipv4.ip_forward", "1 (profile p.yaml:2)")]


def test_wishes_for_dns_and_ingress(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text('dns: {replicas: 3}\ningress:\n  settings:\n    keep-alive: ">= 75"\n')
    expect = resolve(load_profiles([str(path)]), cluster()).common
    assert str(expect.dns.replicas) == "3 (profile p.yaml:1)"
    assert [(want.key, str(want)) for want in expect.ingress.settings] == [("keep-alive", ">= 75 (profile p.yaml:4)")]
    assert resolve(None, cluster()).common.ingress.settings == ()


def test_ways_into_the_cluster(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "ingress:\n  routes:\n"
        "    - {name: plain, ingress_class: nginx, service: a/b}\n"
        "    - name: edge\n      ingress_class: haproxy\n      address: 198.51.100.7\n      tls: true\n      hsts_max_age: 60\n"
        "      header_bytes: 8000\n      served_within_s: 300\n      drain_s: 30\n      annotations: {example.org/x: y}\n"
        "    - {name: gate, gateway: infra/edge, listener: http, domain: apps.test., service: a/b}\n"
    )
    plain, edge, gate = resolve(load_profiles([str(path)]), cluster()).common.ingress.routes
    assert plain.route == Route(name="plain", ingress_class="nginx", service="a/b", port=80, header_bytes=12288)
    assert (str(plain.requests_per_connection), str(plain.header_bytes)) == ("20 (built-in)", "12288 (built-in)")
    assert (plain.hsts_max_age, plain.origin) == (None, "profile p.yaml:3")
    assert edge.route == Route(
        name="edge",
        ingress_class="haproxy",
        address="198.51.100.7",
        port=443,
        tls=True,
        annotations={"example.org/x": "y"},
        served_within_s=300,
        drain_s=30,
        header_bytes=8000,
    )
    assert (str(edge.hsts_max_age), str(edge.header_bytes)) == ("60 (profile p.yaml:8)", "8000 (profile p.yaml:9)")
    assert str(edge) == "edge (haproxy at 198.51.100.7 port 443 by TLS): 20 requests a connection, headers of 8000 bytes, HSTS for 60 s"
    assert gate.route == Route(
        name="gate", gateway="infra/edge", listener="http", domain="apps.test", service="a/b", port=80, header_bytes=12288
    )
    assert (gate.route.made, edge.route.made) == ("HTTPRoute of Gateway infra/edge", "Ingress of class haproxy")
    assert str(gate).startswith("gate (infra/edge at a/b port 80): ")
    assert resolve(None, cluster()).common.ingress.routes == ()


def test_claims_of_one_node_win_over_those_of_all() -> None:
    all_nodes = cluster(encapsulation="none", mtu__pod=1500)
    own = {
        "node-2": {
            "mtu.pod": Claim(9000, "CiliumNodeConfig big over ConfigMap x mtu"),
            "encapsulation": Claim(None, "CiliumNodeConfig big"),
        }
    }
    expect = resolve(None, replace(all_nodes, nodes=(fake_node("node-1"), fake_node("node-2")), node_claims=own))
    assert str(expect.node("node-1").mtu.pod) == "1500 (claim ConfigMap mtu__pod)"
    assert str(expect.node("node-2").mtu.pod) == "9000 (claim CiliumNodeConfig big over ConfigMap x mtu)"
    assert (expect.node("node-1").encapsulation.kind is None, expect.node("node-2").encapsulation.kind) == (False, None)
    assert Cluster.from_json(replace(all_nodes, node_claims=own).to_json()).node_claims == own


def test_a_profile_that_encapsulates_between_subnets_only(tmp_path: Path) -> None:
    wanted = resolve(profile(tmp_path, "encapsulation: VXLANCrossSubnet\n"), cluster(encapsulation="none")).common.encapsulation
    assert (wanted.kind, str(wanted.across)) == (None, "vxlan (profile p.yaml:1)")
    assert str(wanted.word) == "vxlan-cross-subnet (profile p.yaml:1)"
    native = resolve(profile(tmp_path, "encapsulation: None\n"), cluster(encapsulation__cross_subnet="ipip")).common.encapsulation
    assert (str(native.kind), native.across, native.word) == ("none (profile p.yaml:1)", None, native.kind)


def test_the_machine_and_the_connection_table(tmp_path: Path) -> None:
    common = resolve(None, cluster()).common
    assert (str(common.conntrack.full), str(common.conntrack.nearly_full)) == ("0.9 (built-in)", "0.7 (built-in)")
    assert (str(common.node.steal), str(common.node.losses)) == ("0.2 (built-in)", "0.01 (built-in)")
    assert (common.conntrack.losses, common.node.clock, common.node.regions, common.node.zones) == (None, None, None, None)
    text = (
        "conntrack: {full: 0.5, losses: 0}\nnode: {steal: 0, clock: synchronised}\nregions: [eu-*]\n"
        "kernel: {persisted: required, modules: [ip_vs]}\n"
    )
    common = resolve(profile(tmp_path, text), cluster()).common
    assert (str(common.conntrack.full), str(common.conntrack.losses)) == ("0.5 (profile p.yaml:1)", "0 (profile p.yaml:1)")
    assert (str(common.node.steal), str(common.node.clock)) == ("0.0 (profile p.yaml:2)", "synchronised (profile p.yaml:2)")
    assert str(common.node.regions) == "('eu-*',) (profile p.yaml:3)"
    assert (str(common.kernel.persisted), str(common.kernel.modules)) == ("required (profile p.yaml:4)", "('ip_vs',) (profile p.yaml:4)")
    assert common.kernel.advice, "the rest of the kernel's tuning is nobody's wish"
