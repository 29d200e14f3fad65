"""Addresses follow from the settings, and nothing has the address of something else."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import combinations

import pytest

from pytest_k8snet.lab.addresses import AddressPlan, host_and_port
from pytest_k8snet.lab.settings import MAX_NODES, NODE_SUBNETS_6, POD_CIDR_6, SERVICE_CIDR, SERVICE_CIDR_6, LabSettings
from pytest_k8snet.lab.wire import BRIDGE, link_commands, shaping_commands

SETTINGS = [
    LabSettings(),
    LabSettings(nodes=1),
    LabSettings(nodes=MAX_NODES),
    LabSettings(nodes=4, node_subnet="192.168.7.0/28", pod_cidr="172.16.0.0/21"),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: f"{settings.nodes}-{settings.node_subnet}")
def test_nothing_clashes(settings: LabSettings) -> None:
    plan = AddressPlan.of(settings)
    subnet, pods = IPv4Network(settings.node_subnet), IPv4Network(settings.pod_cidr)
    hosts = [plan.api_address, plan.proxy_api_address, *(node.address for node in plan.nodes)]
    assert len(set(hosts)) == len(hosts) == settings.nodes + 2
    usable = set(map(str, subnet.hosts()))
    assert set(hosts) <= usable
    ranges = [IPv4Network(node.pod_cidr) for node in plan.nodes]
    assert all(known.subnet_of(pods) for known in ranges)
    for one, other in combinations([subnet, SERVICE_CIDR, *ranges], 2):
        assert not one.overlaps(other), f"{one} overlaps {other}"
    for address in (plan.api_service_address, plan.dns_service_address):
        assert IPv4Address(address) in SERVICE_CIDR
    assert plan.api_service_address != plan.dns_service_address
    macs = [mac for node in plan.nodes for mac in (node.mac, node.tunnel_mac)]
    assert len(set(macs)) == len(macs)
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs), "locally administered, and of one device"
    assert all(len(node.tap) <= 15 for node in plan.nodes), "the kernel takes no longer name of a device"


def test_addresses_are_the_same_at_every_start() -> None:
    plan = AddressPlan.of(LabSettings())
    assert plan == AddressPlan.of(LabSettings())
    assert AddressPlan.of(LabSettings(nodes=5)).nodes[:3] == plan.nodes, "more nodes move none"
    assert plan.api_address == "10.199.0.1"
    node = plan.node("node-2")
    assert (node.address, node.pod_cidr, node.tunnel_address) == ("10.199.0.12", "10.200.2.0/24", "10.200.2.0")


def test_the_wire_is_a_bridge_with_a_tap_and_a_route_for_every_node() -> None:
    plan = AddressPlan.of(LabSettings(nodes=2))
    assert list(link_commands(plan)) == [
        f"link add {BRIDGE} type bridge forward_delay 0",
        f"address add 10.199.0.1/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
        f"address add 10.199.0.2/24 dev {BRIDGE}",
        "tuntap add dev tap-node-1 mode tap",
        f"link set tap-node-1 master {BRIDGE} up",
        "route add 10.200.1.0/24 via 10.199.0.11",
        "tuntap add dev tap-node-2 mode tap",
        f"link set tap-node-2 master {BRIDGE} up",
        "route add 10.200.2.0/24 via 10.199.0.12",
    ]
    assert list(shaping_commands(plan, "50mbit")) == [
        f"qdisc replace dev tap-node-{number} root tbf rate 50mbit burst 64kb latency 50ms" for number in (1, 2)
    ]


def test_two_segments_have_a_bridge_and_a_gateway_each_and_nodes_in_turn() -> None:
    plan = AddressPlan.of(LabSettings(nodes=4, subnets=2))
    assert plan.gateways == (("10.199.0.1",), ("10.199.1.1",))
    found = {node.name: (node.address, *node.gateways) for node in plan.nodes}
    assert found == {
        "node-1": ("10.199.0.11", "10.199.0.1"),
        "node-2": ("10.199.1.12", "10.199.1.1"),
        "node-3": ("10.199.0.13", "10.199.0.1"),
        "node-4": ("10.199.1.14", "10.199.1.1"),
    }
    commands = list(link_commands(plan))
    assert "address add 10.199.1.1/24 dev br-lab-2" in commands
    assert [line.split()[2:5] for line in commands if " master " in line] == [
        [f"tap-node-{number}", "master", bridge] for number, bridge in ((1, BRIDGE), (2, "br-lab-2"), (3, BRIDGE), (4, "br-lab-2"))
    ]
    assert "route add 10.200.2.0/24 via 10.199.1.12" in commands


def test_both_families_have_addresses_that_read_alike() -> None:
    plan = AddressPlan.of(LabSettings(nodes=2, ip_family="dual"))
    assert plan.families == (4, 6)
    assert [(node.addresses, node.pod_cidrs, node.gateways) for node in plan.nodes] == [
        (("10.199.0.11", "fd00:10:199::11"), ("10.200.1.0/24", "fd00:10:200:1::/64"), ("10.199.0.1", "fd00:10:199::1")),
        (("10.199.0.12", "fd00:10:199::12"), ("10.200.2.0/24", "fd00:10:200:2::/64"), ("10.199.0.1", "fd00:10:199::1")),
    ]
    assert (plan.pod_cidrs, plan.service_cidrs) == (("10.200.0.0/16", "fd00:10:200::/48"), ("10.96.0.0/16", "fd00:10:96::/112"))
    assert plan.dns_service_addresses == ("10.96.0.10", "fd00:10:96::a")
    assert (plan.api_address, plan.api_service_address) == ("10.199.0.1", "10.96.0.1"), "IPv4 comes first"


def test_two_segments_of_both_families() -> None:
    plan = AddressPlan.of(LabSettings(nodes=2, subnets=2, ip_family="dual"))
    assert plan.gateways == (("10.199.0.1", "fd00:10:199::1"), ("10.199.1.1", "fd00:10:199:1::1"))
    assert [(node.segment, node.addresses, node.gateways) for node in plan.nodes] == [
        (0, ("10.199.0.11", "fd00:10:199::11"), ("10.199.0.1", "fd00:10:199::1")),
        (1, ("10.199.1.12", "fd00:10:199:1::12"), ("10.199.1.1", "fd00:10:199:1::1")),
    ]
    assert "address add fd00:10:199:1::1/64 nodad dev br-lab-2" in [*link_commands(plan)]


def test_ipv6_alone_leaves_no_address_of_ipv4() -> None:
    plan = AddressPlan.of(LabSettings(nodes=MAX_NODES, ip_family="ipv6"))
    hosts = [plan.api_address, plan.proxy_api_address, *(node.address for node in plan.nodes)]
    assert len(set(hosts)) == len(hosts)
    assert {IPv6Address(address) in NODE_SUBNETS_6[0] for address in hosts} == {True}
    ranges = [IPv6Network(node.pod_cidr) for node in plan.nodes]
    assert all(known.subnet_of(POD_CIDR_6) for known in ranges)
    for one, other in combinations([*NODE_SUBNETS_6, SERVICE_CIDR_6, *ranges], 2):
        assert not one.overlaps(other), f"{one} overlaps {other}"
    assert {IPv6Address(address) in SERVICE_CIDR_6 for address in (plan.api_service_address, plan.dns_service_address)} == {True}
    assert "." not in repr(plan.nodes)


def test_a_wire_of_both_families_needs_no_search_for_others_that_have_the_address() -> None:
    assert [line for line in link_commands(AddressPlan.of(LabSettings(nodes=1, ip_family="dual"))) if "fd00" in line] == [
        f"address add fd00:10:199::1/64 nodad dev {BRIDGE}",
        "route add fd00:10:200:1::/64 via fd00:10:199::11",
    ]


@pytest.mark.parametrize(("address", "text"), [("10.199.0.1", "10.199.0.1:6443"), ("fd00:10:199::1", "[fd00:10:199::1]:6443")])
def test_an_address_with_a_port(address: str, text: str) -> None:
    assert host_and_port(address, 6443) == text
