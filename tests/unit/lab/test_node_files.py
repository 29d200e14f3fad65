"""The folder that makes a node: what is in it for each network and proxy mode, and who may read it."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_k8snet.expect.model import SysctlWant
from pytest_k8snet.expect.profile import load_profiles
from pytest_k8snet.expect.schema import split_want
from pytest_k8snet.judge.kernel import holds
from pytest_k8snet.lab.addresses import AddressPlan
from pytest_k8snet.lab.control_plane import Identities
from pytest_k8snet.lab.kernel import UserModeLinux
from pytest_k8snet.lab.node_files import BIRD_CONFIGURATION, CNI_CONFIGURATION, POD_SYSCTLS, SYSCTLS, TUNING, NodeWriter
from pytest_k8snet.lab.pki import Authority
from pytest_k8snet.lab.settings import LabSettings, NetworkKind, ProxyMode, proxy_mode_for
from tests.unit.lab.samples import IMAGES, prepared

CACHE = Path("/c")


def write(folder: Path, settings: LabSettings, name: str = "node-2") -> Path:
    authority = Authority("k8snet lab test")
    plan, pieces = AddressPlan.of(settings), prepared(CACHE)
    identities = Identities(authority, authority.issue("kubernetes-admin"))
    NodeWriter(settings, plan, pieces, UserModeLinux(pieces), identities, "ssh-ed25519 AAAA k8snet").write(plan.node(name), folder)
    return folder


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("native"), LabSettings())


@pytest.fixture(scope="module")
def vxlan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("vxlan"), LabSettings(network="vxlan", proxy_mode="none"))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def cni(folder: Path) -> dict[str, Any]:
    plugins = json.loads((folder / "root" / CNI_CONFIGURATION.lstrip("/")).read_text())["plugins"]
    return {plugin["type"]: plugin for plugin in plugins}


def test_native_routes_lead_to_the_nodes(native: Path) -> None:
    assert lines(native / "links") == [
        "link set lo up",
        "link set eth0 address 02:6b:38:00:00:02 mtu 1500 up",
        "address add 10.199.0.12/24 dev eth0",
        "route add default via 10.199.0.1",
        "route add 10.200.1.0/24 via 10.199.0.11",
        "route add 10.200.3.0/24 via 10.199.0.13",
    ]
    assert lines(native / "addresses") == ["10.199.0.12"]


def test_nodes_of_both_families_route_both_and_pods_have_both(tmp_path: Path, native: Path) -> None:
    folder = write(tmp_path / "node", LabSettings(nodes=2, ip_family="dual"))
    assert lines(folder / "links")[2:] == [
        "address add 10.199.0.12/24 dev eth0",
        "route add default via 10.199.0.1",
        "address add fd00:10:199::12/64 nodad dev eth0",
        "route add default via fd00:10:199::1",
        "route add 10.200.1.0/24 via 10.199.0.11",
        "route add fd00:10:200:1::/64 via fd00:10:199::11",
    ]
    assert lines(folder / "addresses") == ["10.199.0.12,fd00:10:199::12"]
    ipam = cni(folder)["bridge"]["ipam"]
    assert ipam["ranges"] == [
        [{"subnet": "10.200.2.0/24", "gateway": "10.200.2.1"}],
        [{"subnet": "fd00:10:200:2::/64", "gateway": "fd00:10:200:2::1"}],
    ]
    assert ipam["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    assert yaml.safe_load((folder / "root/etc/kubernetes/kubelet.yaml").read_text())["clusterDNS"] == ["10.96.0.10", "fd00:10:96::a"]
    sysctls = "net.bridge.bridge-nf-call-ip6tables = 1\nnet.ipv6.conf.all.forwarding = 1\n"
    assert (folder / "root/etc/sysctl.d/90-k8snet.conf").read_text().endswith(sysctls)
    assert "ip6tables" not in (native / "root/etc/sysctl.d/90-k8snet.conf").read_text()
    assert "fd00:10:199::11 node-1\n" in (folder / "root/etc/hosts").read_text()


def test_a_node_of_ipv6_asks_the_api_server_by_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "node", LabSettings(nodes=2, ip_family="ipv6"))
    credentials = yaml.safe_load((folder / "root/etc/kubernetes/kubelet.kubeconfig").read_text())
    assert credentials["clusters"][0]["cluster"]["server"] == "https://[fd00:10:199::1]:6443"
    assert "10.199" not in (folder / "links").read_text()


def test_native_routes_to_another_segment_lead_to_the_router(tmp_path: Path) -> None:
    folder = write(tmp_path / "node", LabSettings(nodes=4, subnets=2))
    assert [line for line in lines(folder / "links") if line.startswith(("address", "route"))] == [
        "address add 10.199.1.12/24 dev eth0",
        "route add default via 10.199.1.1",
        "route add 10.200.1.0/24 via 10.199.1.1",
        "route add 10.200.3.0/24 via 10.199.1.1",
        "route add 10.200.4.0/24 via 10.199.1.14",
    ]


def test_vxlan_has_a_device_with_the_mtu_that_it_leaves(vxlan: Path) -> None:
    assert lines(vxlan / "links") == [
        "link set lo up",
        "link set eth0 address 02:6b:38:00:00:02 mtu 1500 up",
        "address add 10.199.0.12/24 dev eth0",
        "route add default via 10.199.0.1",
        "link add vxlan.lab address 02:6b:38:01:00:02 mtu 1450 type vxlan id 1 local 10.199.0.12 dev eth0 dstport 8472 nolearning",
        "address add 10.200.2.0/32 dev vxlan.lab",
        "link set vxlan.lab up",
        "neighbour add 10.200.1.0 lladdr 02:6b:38:01:00:01 dev vxlan.lab nud permanent",
        "route add 10.200.1.0/24 via 10.200.1.0 dev vxlan.lab onlink",
        "neighbour add 10.200.3.0 lladdr 02:6b:38:01:00:03 dev vxlan.lab nud permanent",
        "route add 10.200.3.0/24 via 10.200.3.0 dev vxlan.lab onlink",
    ]
    assert lines(vxlan / "fdb") == [
        "fdb append 02:6b:38:01:00:01 dev vxlan.lab dst 10.199.0.11",
        "fdb append 02:6b:38:01:00:03 dev vxlan.lab dst 10.199.0.13",
    ]


def test_pods_have_the_nodes_range_and_what_mtu_is_left(native: Path, vxlan: Path) -> None:
    for folder, mtu in ((native, 1500), (vxlan, 1450)):
        plugins = cni(folder)
        assert plugins["bridge"]["mtu"] == mtu
        assert plugins["bridge"]["ipam"]["ranges"] == [[{"subnet": "10.200.2.0/24", "gateway": "10.200.2.1"}]]
        assert plugins["tuning"]["sysctl"] == POD_SYSCTLS
        assert list(plugins) == ["bridge", "tuning", "portmap"]


def test_bgp_nodes_are_told_the_ways_by_bird(tmp_path: Path) -> None:
    folder = write(tmp_path / "node", LabSettings(network="bgp"))
    assert not [line for line in lines(folder / "links") if line.startswith("route add 10.200.")]
    bird = (folder / "root" / BIRD_CONFIGURATION.lstrip("/")).read_text()
    assert "router id 10.199.0.12;" in bird
    assert "route 10.200.2.0/24 blackhole;" in bird
    assert [line.split()[2] for line in bird.splitlines() if line.startswith("protocol bgp")] == ["node_1", "node_3"]
    assert "local 10.199.0.12 as 64512; neighbor 10.199.0.13 as 64512; direct;" in bird
    plugins = cni(folder)
    assert list(plugins) == ["ptp", "tuning", "portmap"]
    assert plugins["ptp"]["mtu"] == 1500
    assert plugins["ptp"]["ipam"]["ranges"] == [[{"subnet": "10.200.2.0/24", "gateway": "10.200.2.1"}]]


@pytest.mark.parametrize("network", ["flannel-vxlan", "flannel-host-gw", "flannel-ipip", "cilium", "cilium-vxlan"])
def test_flannel_and_cilium_bring_their_ways_and_cni_configuration_themselves(tmp_path: Path, network: NetworkKind) -> None:
    folder = write(tmp_path / "node", LabSettings(network=network, proxy_mode=proxy_mode_for(network)))
    assert lines(folder / "links") == [
        "link set lo up",
        "link set eth0 address 02:6b:38:00:00:02 mtu 1500 up",
        "address add 10.199.0.12/24 dev eth0",
        "route add default via 10.199.0.1",
    ]
    assert not (folder / "root" / CNI_CONFIGURATION.lstrip("/")).exists()
    assert not (folder / "root" / BIRD_CONFIGURATION.lstrip("/")).exists()


@pytest.mark.parametrize(
    ("proxy_mode", "network", "there", "not_there"),
    [
        ("ipvs", "flannel-vxlan", {"vxlan"}, {"ipip"}),
        ("ipvs", "flannel-ipip", {"ipip"}, {"vxlan"}),
        ("ipvs", "flannel-host-gw", set(), {"vxlan", "ipip"}),
        ("ipvs", "bgp", set(), {"vxlan", "ipip"}),
        ("ipvs", "native", {"ip_vs", "ip_vs_rr", "dummy"}, {"vxlan"}),
        ("iptables", "vxlan", {"vxlan"}, {"ip_vs"}),
        ("none", "native", {"tcp_bbr", "sch_fq", "br_netfilter"}, {"ip_vs", "vxlan"}),
        ("none", "cilium", {"cls_bpf", "sch_ingress", "xt_socket"}, {"ip_vs", "vxlan"}),
    ],
)
def test_modules(tmp_path: Path, proxy_mode: ProxyMode, network: NetworkKind, there: set[str], not_there: set[str]) -> None:
    folder = write(tmp_path / "node", LabSettings(proxy_mode=proxy_mode, network=network))
    modules = set((folder / "modules").read_text().split())
    assert there <= modules
    assert not modules & not_there


def test_fstab_mounts_what_the_lab_brings(native: Path) -> None:
    fstab = [line.split() for line in lines(native / "fstab")]
    assert all(len(line) == 6 for line in fstab)
    from_here = {line[1]: line[3] for line in fstab if line[2] == "hostfs"}
    assert from_here == {"/k8snet/bin": "/c/binaries,ro", "/opt/cni/bin": "/c/cni,ro", "/k8snet/content": "/c/content,ro"}
    places = [line[1] for line in fstab]
    for place in ("/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/dev/shm", "/run", "/tmp", "/var/lib/containerd", "/var/lib/kubelet"):  # noqa: S108
        assert place in places
    for place in places:
        above = [other for other in places if place.startswith(f"{other}/")]
        assert all(places.index(other) < places.index(place) for other in above), f"{place} would be hidden by what is mounted above it"


def test_cilium_finds_the_file_system_of_bpf_and_pods_their_dns_service(tmp_path: Path, native: Path) -> None:
    folder = write(tmp_path / "node", LabSettings(network="cilium", proxy_mode="none"))
    assert "bpffs /sys/fs/bpf bpf mode=700 0 0" in lines(folder / "fstab")
    assert not [line for line in lines(native / "fstab") if "bpf" in line]
    kubelet = json.loads((folder / "root/etc/kubernetes/kubelet.yaml").read_text())
    assert kubelet["clusterDNS"] == ["10.96.0.10"], "Cilium leads from Services to pods"


def test_nodes_are_tuned_as_the_profile_asks(native: Path) -> None:
    wanted = load_profiles(["tuned-node"]).model.kernel
    assert wanted is not None
    assert wanted.sysctl is not None
    written = dict(line.split(" = ") for line in lines(native / "root/etc/sysctl.d/90-k8snet.conf"))
    assert written == SYSCTLS
    for wants, values in ((wanted.sysctl.host, written), (wanted.sysctl.pod, cni(native)["tuning"]["sysctl"])):
        for key, text in (wants or {}).items():
            assert text is not None
            assert holds(values[key], SysctlWant(key, *split_want(text), "tuned-node")), f"{key} is {values[key]}, want {text}"
    for_kubernetes = {"net.bridge.bridge-nf-call-iptables", "net.ipv4.ip_forward"}
    assert set(written) - set(wanted.sysctl.host or {}) == for_kubernetes, "what nobody asks for is not set"
    assert set(POD_SYSCTLS) == set(wanted.sysctl.pod or {})
    assert TUNING["sysctl"] == POD_SYSCTLS, "flannel's pods get them by this too"
    assert f"tc qdisc replace dev eth0 root {wanted.qdisc}\n" in (native / "boot").read_text()
    assert written["net.ipv4.tcp_congestion_control"] == wanted.congestion_control


def test_what_pods_ask_names_of(native: Path, vxlan: Path) -> None:
    def kubelet(folder: Path) -> dict[str, Any]:
        configuration = yaml.safe_load((folder / "root/etc/kubernetes/kubelet.yaml").read_text())
        assert isinstance(configuration, dict)
        return configuration

    assert kubelet(native)["clusterDNS"] == ["10.96.0.10"]
    assert kubelet(vxlan)["clusterDNS"] == ["10.199.0.11"], "without a Service path CoreDNS is asked at its node's own address"
    assert kubelet(native)["authentication"]["anonymous"] == {"enabled": False}


def test_iptables_is_the_one_whose_tables_the_kernel_has(native: Path) -> None:
    links = {path.name: path.readlink() for path in (native / "root/usr/local/sbin").iterdir()}
    assert links["iptables-save"] == Path("/usr/sbin/iptables-legacy-save")
    assert links["ip6tables"] == Path("/usr/sbin/ip6tables-legacy")
    assert len(links) == 6


def test_configurations_are_what_their_readers_read(native: Path) -> None:
    root = native / "root"
    containerd = tomllib.loads((root / "etc/containerd/config.toml").read_text())
    assert containerd["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == IMAGES["pause"]
    assert lines(root / "etc/hostname") == ["node-2"]
    assert "10.199.0.13 node-3" in lines(root / "etc/hosts")
    credentials = json.loads((root / "etc/kubernetes/kubelet.kubeconfig").read_text())
    assert credentials["clusters"][0]["cluster"]["server"] == "https://10.199.0.1:6443"
    assert "PasswordAuthentication no" in lines(root / "etc/ssh/sshd_config")
    done = subprocess.run(["sh", "-n", str(native / "boot")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (native / "boot").read_bytes() == files("pytest_k8snet.lab").joinpath("node", "boot").read_bytes()


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_modes_are_the_same_for_every_umask(tmp_path: Path) -> None:
    root = write(tmp_path / "node", LabSettings()) / "root"
    modes = {str(path.relative_to(root)): path.stat().st_mode & 0o7777 for path in root.rglob("*") if not path.is_symlink()}
    secret = {
        "etc/kubernetes/kubelet.key",
        "etc/kubernetes/kubelet.kubeconfig",
        "etc/ssh/ssh_host_ed25519_key",
        "root/.ssh/authorized_keys",
    }
    assert {name: modes[name] for name in secret} == dict.fromkeys(secret, 0o600)
    of_root_alone = {"root", "root/.ssh"}
    assert {name: modes[name] for name in of_root_alone} == dict.fromkeys(of_root_alone, 0o700)
    assert root.stat().st_mode & 0o7777 == 0o755, "it is copied over the node's /"
    others = {name: mode for name, mode in modes.items() if name not in secret | of_root_alone}
    assert {name: mode for name, mode in others.items() if mode != (0o755 if (root / name).is_dir() else 0o644)} == {}


def test_nodes_have_keys_of_their_own(tmp_path: Path) -> None:
    settings = LabSettings(nodes=2)
    one, other = (write(tmp_path / name, settings, name) for name in ("node-1", "node-2"))
    for name in ("etc/kubernetes/kubelet.key", "etc/ssh/ssh_host_ed25519_key"):
        assert (one / "root" / name).read_bytes() != (other / "root" / name).read_bytes()


def test_a_lab_of_one_node_has_no_peers(tmp_path: Path) -> None:
    folder = write(tmp_path / "node", replace(LabSettings(), nodes=1), "node-1")
    assert not [line for line in lines(folder / "links") if "via" in line and "default" not in line]
