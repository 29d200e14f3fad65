"""What makes a node this node: the folder that it sees as /k8snet/node.

`boot` is its first program; `root` is copied over its root; `fstab`, `links`, `fdb` and `modules` are what `mount`, `ip -batch`,
`bridge -batch` and `modprobe` are given. Its logs are written here too, so that they can be read when the node is gone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from pytest_k8snet.lab.addresses import API_PORT, host_and_port
from pytest_k8snet.lab.kubeconfig import kubeconfig
from pytest_k8snet.lab.networks import MTU, NETWORKS
from pytest_k8snet.lab.pki import ssh_pair, write_file
from pytest_k8snet.lab.wire import with_length

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_k8snet.lab.addresses import AddressPlan, NodeAddress
    from pytest_k8snet.lab.control_plane import Identities
    from pytest_k8snet.lab.kernel import NodeKernel
    from pytest_k8snet.lab.networks import Network
    from pytest_k8snet.lab.prepare import Prepared
    from pytest_k8snet.lab.settings import LabSettings

UPLINK = "eth0"
TUNNEL = "vxlan.lab"
TUNNEL_PORT = 8472
CNI_CONFIGURATION = "/etc/cni/net.d/10-k8snet.conflist"
BIRD_CONFIGURATION = "/etc/bird/bird.conf"
BGP_AS = 64512  # what Calico takes, from the range for private use

# What the profile `tuned-node` asks for, and what every Kubernetes node needs.
SYSCTLS = {
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.core.default_qdisc": "fq",
    "net.ipv4.ip_forward": "1",
    "net.ipv4.ip_local_port_range": "1024 65535",
    # NodePorts, and the ports that kubelet, kube-proxy, control plane and etcd listen on.
    "net.ipv4.ip_local_reserved_ports": "2379-2380,10248-10260,30000-32767",
    "net.ipv4.tcp_congestion_control": "bbr",
    "net.ipv4.tcp_tw_reuse": "1",
    "net.netfilter.nf_conntrack_max": "131072",
}
SYSCTLS_6 = {"net.bridge.bridge-nf-call-ip6tables": "1", "net.ipv6.conf.all.forwarding": "1"}
"""Where nodes have IPv6."""
# A new network namespace starts with the kernel's own values of these.
POD_SYSCTLS = {"net.ipv4.ip_local_port_range": "1024 65535", "net.ipv4.tcp_tw_reuse": "1"}

TUNING = {"type": "tuning", "sysctl": POD_SYSCTLS}
"""The CNI plugin that gives them to pods."""

# Places on tmpfs, with their modes: what a node throws away at its end anyway, and what must not be on an overlay.
_IN_MEMORY = {"/dev/shm": "1777", "/run": "755", "/tmp": "1777", "/var/lib/containerd": "711", "/var/lib/kubelet": "750"}  # noqa: S108

# Debian's default is the nft back end, for which User-Mode Linux has no tables. Only labs that need those leave it at that.
_IPTABLES = tuple(f"{family}{suffix}" for family in ("iptables", "ip6tables") for suffix in ("", "-save", "-restore"))

_MODULES = ("br_netfilter", "nf_conntrack", "sch_fq", "tcp_bbr", "veth")
_MODULES_OF_PROXY = {"ipvs": ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "dummy"), "iptables": (), "nftables": (), "none": ()}


def bird_protocol(node: str) -> str:
    """Give the name of BIRD's session with a node: a minus is none of a name's characters there."""
    return node.replace("-", "_")


@dataclass(frozen=True, slots=True)
class NodeWriter:
    """Writes the folders of the nodes of one lab."""

    settings: LabSettings
    plan: AddressPlan
    prepared: Prepared
    kernel: NodeKernel
    identities: Identities
    authorized_key: str

    @property
    def _network(self) -> Network:
        return NETWORKS[self.settings.network]

    def write(self, node: NodeAddress, folder: Path) -> str:
        """Fill the folder of a node; give the public line of its SSH host key."""
        (folder / "log").mkdir(parents=True)
        write_file(folder / "boot", files("pytest_k8snet.lab").joinpath("node", "boot").read_bytes(), mode=0o755)
        write_file(folder / "addresses", ",".join(node.addresses) + "\n")
        write_file(folder / "fstab", "".join(f"{line}\n" for line in self._fstab()))
        write_file(folder / "links", "".join(f"{line}\n" for line in self._links(node)))
        write_file(folder / "fdb", "".join(f"{line}\n" for line in self._forwarding(node)))
        write_file(folder / "modules", " ".join(self._modules()) + "\n")
        root = folder / "root"
        (root / "usr/local/sbin").mkdir(parents=True)
        for name in () if self.settings.proxy_mode == "nftables" else _IPTABLES:
            (root / "usr/local/sbin" / name).symlink_to(f"/usr/sbin/{name.replace('tables', 'tables-legacy', 1)}")
        host_key, host_line = ssh_pair(node.name)
        for name, content in self._configuration(node).items():
            write_file(root / name, content)
        pair = self.identities.authority.issue(
            f"system:node:{node.name}", groups=("system:nodes",), dns=(node.name,), addresses=node.addresses
        )
        pair.write(root / "etc/kubernetes", "kubelet")
        credentials = kubeconfig(
            cluster=self.settings.name,
            user=f"system:node:{node.name}",
            server=f"https://{host_and_port(self.plan.api_address, API_PORT)}",
            authority=self.identities.authority.pair.certificate,
            pair=pair,
        )
        write_file(root / "etc/kubernetes/kubelet.kubeconfig", credentials, mode=0o600)
        write_file(root / "etc/ssh/ssh_host_ed25519_key", host_key, mode=0o600)
        write_file(root / "root/.ssh/authorized_keys", f"{self.authorized_key}\n", mode=0o600)
        # They become folders of the node, its / too: with the modes that Debian gives them, whatever the umask here.
        for path in (root, *root.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700 if path.is_relative_to(root / "root") else 0o755)
        return host_line

    def _fstab(self) -> Iterator[str]:
        yield "sysfs /sys sysfs defaults 0 0"
        yield "cgroup2 /sys/fs/cgroup cgroup2 defaults 0 0"
        if self._network.routes_by == "cilium":
            yield "bpffs /sys/fs/bpf bpf mode=700 0 0"
        yield "devtmpfs /dev devtmpfs defaults 0 0"
        yield "devpts /dev/pts devpts mode=620,ptmxmode=666,X-mount.mkdir 0 0"
        for place, mode in _IN_MEMORY.items():
            yield f"tmpfs {place} tmpfs mode={mode},X-mount.mkdir 0 0"
        yield from self.kernel.mounts()

    def _links(self, node: NodeAddress) -> Iterator[str]:
        peers = [peer for peer in self.plan.nodes if peer.name != node.name]
        yield "link set lo up"
        yield f"link set {UPLINK} address {node.mac} mtu {MTU} up"
        for address, length, gateway in zip(node.addresses, self.plan.node_prefix_lengths, node.gateways, strict=True):
            yield f"address add {with_length(address, length)} dev {UPLINK}"
            yield f"route add default via {gateway}"
        if self.settings.network == "native":
            for peer in peers:
                hops = peer.addresses if peer.segment == node.segment else node.gateways
                for pods, hop in zip(peer.pod_cidrs, hops, strict=True):
                    yield f"route add {pods} via {hop}"
        if self.settings.network != "vxlan":
            return
        # As flannel lays it: no learning; neighbours and forwarding entries are given.
        yield (
            f"link add {TUNNEL} address {node.tunnel_mac} mtu {self._network.pod_mtu} type vxlan id 1 local {node.address} dev {UPLINK} "
            f"dstport {TUNNEL_PORT} nolearning"
        )
        yield f"address add {node.tunnel_address}/32 dev {TUNNEL}"
        yield f"link set {TUNNEL} up"
        for peer in peers:
            yield f"neighbour add {peer.tunnel_address} lladdr {peer.tunnel_mac} dev {TUNNEL} nud permanent"
            yield f"route add {peer.pod_cidr} via {peer.tunnel_address} dev {TUNNEL} onlink"

    def _forwarding(self, node: NodeAddress) -> Iterator[str]:
        """Give the entries that say behind which node a tunnel's address is: VXLAN without learning finds no other."""
        if self.settings.network == "vxlan":
            for peer in self.plan.nodes:
                if peer.name != node.name:
                    yield f"fdb append {peer.tunnel_mac} dev {TUNNEL} dst {peer.address}"

    def _modules(self) -> tuple[str, ...]:
        return (*_MODULES, *_MODULES_OF_PROXY[self.settings.proxy_mode], *self._network.modules)

    def _configuration(self, node: NodeAddress) -> dict[str, str]:
        wanted = SYSCTLS | (SYSCTLS_6 if 6 in self.plan.families else {})
        sysctls = "".join(f"{key} = {value}\n" for key, value in wanted.items())
        hosts = "".join(f"{address} {known.name}\n" for known in self.plan.nodes for address in known.addresses)
        own = {}
        if self._network.interfaces_by not in ("flannel", "cilium-cni"):  # their DaemonSets bring their own
            own[CNI_CONFIGURATION.lstrip("/")] = json.dumps(self._cni(node), indent=2) + "\n"
        if self._network.routes_by == "bird":
            own[BIRD_CONFIGURATION.lstrip("/")] = "\n".join(self._bird(node)) + "\n"
        return own | {
            "etc/hostname": f"{node.name}\n",
            "etc/hosts": f"127.0.0.1 localhost\n{hosts}",
            "etc/resolv.conf": "",
            "etc/sysctl.d/90-k8snet.conf": sysctls,
            "etc/ssh/sshd_config": _SSHD,
            "etc/containerd/config.toml": _CONTAINERD.format(pause=self.prepared.images["pause"]),
            "etc/kubernetes/ca.crt": self.identities.authority.pair.certificate.decode(),
            "etc/kubernetes/kubelet.yaml": json.dumps(self._kubelet(), indent=2) + "\n",  # JSON is YAML
        }

    def _cni(self, node: NodeAddress) -> Mapping[str, Any]:
        ranges = [[{"subnet": pods, "gateway": str(ip_network(pods)[1])}] for pods in node.pod_cidrs]
        routes = [{"dst": "::/0" if ":" in pods else "0.0.0.0/0"} for pods in node.pod_cidrs]
        ipam = {"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": "/run/cni-ipam"}
        interface: dict[str, Any] = {"type": self._network.interfaces_by, "mtu": self._network.pod_mtu, "ipam": ipam}
        if self._network.interfaces_by == "bridge":
            interface |= {"bridge": "cni0", "isGateway": True, "hairpinMode": True}
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "1.0.0", "name": "k8snet", "plugins": [interface, TUNING, portmap]}

    def _bird(self, node: NodeAddress) -> Iterator[str]:
        """Give the configuration of BIRD: a session with every other node, and the pod range of this one told to all."""
        yield f"router id {node.address};"
        yield "log stderr all;"
        yield "debug protocols { states };"
        yield "protocol device { scan time 10; }"
        yield f"protocol static pods {{ ipv4; route {node.pod_cidr} blackhole; }}"
        # Of its own range the kernel knows the pods one by one; what is left of it leads nowhere.
        yield "protocol kernel { ipv4 { import none; export all; }; }"
        for peer in self.plan.nodes:
            if peer.name != node.name:
                yield f"protocol bgp {bird_protocol(peer.name)} {{"
                yield f"  local {node.address} as {BGP_AS}; neighbor {peer.address} as {BGP_AS}; direct;"
                yield "  connect delay time 1; connect retry time 5; error wait time 1, 5;"
                yield '  ipv4 { import all; export where proto = "pods"; next hop self; };'
                yield "}"

    def _kubelet(self) -> Mapping[str, Any]:
        # Without a Service path pods ask the only CoreDNS there is, at its node's address.
        dns = self.plan.dns_service_addresses if self.settings.has_services else self.plan.nodes[0].addresses
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"}},
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": "/etc/kubernetes/kubelet.crt",
            "tlsPrivateKeyFile": "/etc/kubernetes/kubelet.key",
            "clusterDNS": [*dns],
            "clusterDomain": "cluster.local",
            "cgroupDriver": "cgroupfs",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
            "failSwapOn": False,
            "imageMinimumGCAge": "24h",
            "maxPods": 110,
            "nodeStatusUpdateFrequency": "5s",
            "registerNode": True,
            "resolvConf": "/etc/resolv.conf",
        }


_SSHD = """PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
HostKey /etc/ssh/ssh_host_ed25519_key
MaxSessions 50
MaxStartups 50
"""

_CONTAINERD = """version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.native",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"

[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/opt/cni/bin"]
conf_dir = "/etc/cni/net.d"
"""
