"""What a lab may be asked to be, and what is said when that is not possible."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.settings import MAX_NODES, LabSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": ""}, "--name '': a lab's name has 1 to 32 of a-z, 0-9 and -, and neither starts nor ends with -"),
        ({"name": "../x"}, "--name '../x': "),
        ({"name": "-a"}, "--name '-a': "),
        ({"name": "a-"}, "--name 'a-': "),
        ({"name": "Lab"}, "--name 'Lab': "),
        ({"name": "a\n"}, r"--name 'a\n': "),
        ({"name": "a" * 33}, "--name 'aaa"),
        ({"nodes": 0}, "--nodes 0: a lab has 1 to 50 nodes"),
        ({"nodes": MAX_NODES + 1}, "--nodes 51: a lab has 1 to 50 nodes"),
        (
            {"node_kernel": "uml", "proxy_mode": "nftables"},
            "--node-kernel uml: User-Mode Linux lacks what --proxy-mode nftables needs (nf_tables for IPv4 and IPv6); use ",
        ),
        ({"line_rate": "fast"}, "--line-rate fast: not a speed; write it as 50mbit, 1gbit or 500kbit"),
        ({"line_rate": "50mbit; reboot"}, "--line-rate 50mbit; reboot: not a speed"),
        ({"line_rate": "0mbit"}, "--line-rate 0mbit: not a speed"),
        ({"line_rate": ""}, "--line-rate : not a speed"),
        ({"node_subnet": "10.199.0.1/24"}, "--node-subnet 10.199.0.1/24: 10.199.0.1/24 has host bits set; write an IPv4 range as "),
        ({"pod_cidr": "fd00::/48"}, "--pod-cidr fd00::/48: "),
        ({"pod_cidr": "8.8.0.0/16"}, "--pod-cidr 8.8.0.0/16: use a private range, such as one of 10.0.0.0/8"),
        ({"pod_cidr": "127.1.0.0/16"}, "--pod-cidr 127.1.0.0/16: use a private range"),
        ({"pod_cidr": "169.254.0.0/16"}, "--pod-cidr 169.254.0.0/16: use a private range"),
        ({"pod_cidr": "240.1.0.0/16"}, "--pod-cidr 240.1.0.0/16: use a private range"),
        ({"pod_cidr": "0.0.0.0/16"}, "--pod-cidr 0.0.0.0/16: use a private range"),
        ({"pod_cidr": "10.96.0.0/16"}, "--pod-cidr 10.96.0.0/16 overlaps the range of Services, 10.96.0.0/16; choose another one"),
        ({"node_subnet": "10.96.7.0/24"}, "--node-subnet 10.96.7.0/24 overlaps the range of Services"),
        ({"node_subnet": "10.200.7.0/24"}, "--node-subnet 10.200.7.0/24 and --pod-cidr 10.200.0.0/16 overlap; choose ranges that do not"),
        (
            {"node_subnet": "10.199.0.0/28", "nodes": 5},
            "--node-subnet 10.199.0.0/28 is too small for 5 nodes: it has 16 addresses, use a /24",
        ),
        ({"pod_cidr": "10.200.0.0/25", "nodes": 1}, "--pod-cidr 10.200.0.0/25 is too small for 1 nodes: each gets a /24 of it, use a /16"),
        (
            {"ip_family": "dual", "network": "vxlan"},
            "--ip-family dual: --network vxlan is of IPv4 alone in a lab; use --network native",
        ),
        ({"ip_family": "dual", "ingress": "nginx"}, "--ip-family dual: --ingress nginx is of IPv4 alone in a lab; leave --ingress out"),
        ({"ip_family": "dual", "policy": "kube-router"}, "--ip-family dual: --policy kube-router is of IPv4 alone in a lab; leave "),
        ({"subnets": 3}, "--subnets 3: the nodes are in 1 or 2 segments"),
        ({"subnets": 2, "nodes": 1}, "--subnets 2: a lab of one node has one segment; use --nodes 2 or more"),
        (
            {"subnets": 2, "network": "flannel-host-gw"},
            "--subnets 2: --network flannel-host-gw needs nodes that reach each other without a router; use --subnets 1",
        ),
        ({"subnets": 2, "network": "bgp"}, "--subnets 2: --network bgp needs nodes that reach each other without a router"),
        (
            {"subnets": 2, "node_subnet": "10.95.255.0/24"},
            "--node-subnet 10.95.255.0/24: the second segment would be 10.96.0.0/24, which is no range of its own; choose another",
        ),
        (
            {"ingress": "nginx", "proxy_mode": "none"},
            "--ingress nginx: with --proxy-mode none nothing leads to its Service; choose another --proxy-mode",
        ),
        (
            {"network": "cilium"},
            "--proxy-mode ipvs: --network cilium takes the place of kube-proxy; leave --proxy-mode out",
        ),
        (
            {"network": "cilium-vxlan", "proxy_mode": "none", "node_kernel": "uml"},
            "--node-kernel uml: User-Mode Linux lacks what --network cilium-vxlan needs (BPF with perf events); use ",
        ),
        ({"subnets": 2, "network": "cilium", "proxy_mode": "none"}, "--subnets 2: --network cilium needs nodes that reach each other"),
        ({"direct_routing": True}, "--direct-routing: --network native has no such choice; flannel-vxlan and flannel-ipip have"),
        ({"pod_cidr": "10.200.0.0/22", "nodes": 4}, "--pod-cidr 10.200.0.0/22 is too small for 4 nodes"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_refusals(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError) as refusal:
        LabSettings(**values)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"name": "a"},
        {"name": "a" * 32},
        {"nodes": MAX_NODES},
        {"line_rate": "1.5gbit"},
        {"line_rate": "500kbit"},
        {"node_subnet": "192.168.7.0/28", "nodes": 4},
        {"pod_cidr": "172.16.0.0/22", "nodes": 3},
        {"proxy_mode": "none", "network": "vxlan"},
        {"network": "flannel-ipip", "subnets": 2, "direct_routing": True},
        {"ingress": "nginx", "proxy_mode": "iptables"},
        {"network": "cilium-vxlan", "proxy_mode": "none", "ingress": "nginx", "subnets": 2},
    ],
    ids=str,
)
def test_what_is_possible_survives_json(values: dict[str, Any]) -> None:
    settings = LabSettings(**values)
    assert LabSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(
    ("values", "kernel"),
    [
        ({}, "uml"),
        ({"proxy_mode": "nftables"}, "qemu"),
        ({"proxy_mode": "nftables", "node_kernel": "qemu"}, "qemu"),
        ({"node_kernel": "qemu"}, "qemu"),
        ({"node_kernel": "uml", "proxy_mode": "none"}, "uml"),
        ({"network": "cilium", "proxy_mode": "none"}, "qemu"),
    ],
)
def test_nodes_run_on_user_mode_linux_wherever_it_can_do_what_is_asked_for(values: dict[str, Any], kernel: str) -> None:
    assert LabSettings(**values).kernel == kernel
