r"""A cluster that is not there: the real measurements, judges and reports over answers that a test gives.

Use it to test checks of your own, without a cluster. In the conftest.py of those tests::

    from pytest_k8snet.access.fake import FakeCluster

    def pytest_k8snet_fake(config):
        fake = FakeCluster(["node-1", "node-2"])
        fake.command("node-1", ["cat", "/proc/sys/vm/swappiness"], stdout="60\n")
        fake.change_facts("node-2", lambda facts: facts["kube_proxy"].update(mode="iptables"))
        return fake

and run ``pytest --k8snet-access=fake FOLDER``; with no path it is the packaged suite that runs on it. Without changes it is a healthy
cluster: kube-proxy in ipvs mode, native routing, MTU 1500, every node tuned.
`answer` replaces what an agent says, by a value or an error; `fail_probe` makes a node's probe pods not start.
Nodes are names or `Node`s; `dual_stack` makes one whose pods and Services have addresses of both families.
"""

from __future__ import annotations

import copy
import ipaddress
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.access import fakes
from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fakes.balance import APART, SCALED
from pytest_k8snet.access.fakes.traffic import POLICED
from pytest_k8snet.access.probe_ingresses import SERVICE, ProbeIngress, ingress_host, ingress_name
from pytest_k8snet.access.probe_policies import NAME as POLICY
from pytest_k8snet.access.probe_policies import PolicyPod
from pytest_k8snet.access.probe_services import GROUP_TARGET_PORTS, GroupService, ProbeService, grouped, scale_name, served, service_name
from pytest_k8snet.access.probes import NoProbes, Probe
from pytest_k8snet.agent.agent import TOOLS
from pytest_k8snet.agent.ingress import GREETING
from pytest_k8snet.cluster.admission import Webhook
from pytest_k8snet.cluster.dns import Dns, DnsServer, parse_corefile
from pytest_k8snet.cluster.ingress import Ingress, Route
from pytest_k8snet.cluster.model import Claim, Cluster, Node
from pytest_k8snet.cluster.policies.reading import Policies
from pytest_k8snet.cluster.ranges import Range
from pytest_k8snet.errors import AccessError, ClusterError, NoPodError, ProbeError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.lease import Leases

Role = Literal["host", "pod"]
Answer = Any  # a JSON value, an exception, or a function of the request's parameters

MTU = 1500
RATE_BPS = 940_000_000

SERVICES: tuple[dict[str, Any], ...] = (
    {
        "metadata": {"name": "kubernetes", "namespace": "default", "uid": "1", "resourceVersion": "1"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.1",
            "clusterIPs": ["10.96.0.1"],
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
        },
    },
)
ENDPOINT_SLICES: tuple[dict[str, Any], ...] = (
    {
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "uid": "2",
            "resourceVersion": "2",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.168.10.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
    },
)
IPVS_TABLE = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr
  -> C0A80A01:192B      Masq    1      2          0
"""
SYSCTLS: Mapping[str, str] = {
    "net.core.default_qdisc": "fq",
    "net.ipv4.conf.all.arp_announce": "2",
    "net.ipv4.conf.all.arp_ignore": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.all.log_martians": "0",
    "net.ipv4.conf.eth0.arp_announce": "0",
    "net.ipv4.conf.eth0.arp_ignore": "0",
    "net.ipv4.conf.eth0.rp_filter": "2",
    "net.ipv4.ip_forward": "1",
    "net.ipv4.ip_local_port_range": "1024\t65535",
    "net.ipv4.ip_local_reserved_ports": "2379-2380,10248-10260,30000-32767",
    "net.ipv4.neigh.default.gc_thresh3": "1024",
    "net.ipv4.tcp_congestion_control": "bbr",
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.vs.conntrack": "1",
    "net.ipv4.vs.expire_nodest_conn": "1",
    "net.ipv4.vs.expire_quiescent_template": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv6.neigh.default.gc_thresh3": "1024",
    "net.netfilter.nf_conntrack_buckets": "65536",
    "net.netfilter.nf_conntrack_max": "131072",
}
COREFILE = """.:53 {
    errors
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods verified
    }
    autopath @kubernetes
    forward . /etc/resolv.conf
    cache 30
    loop
}
"""
RESOLV: Mapping[str, Any] = {
    "nameservers": ["10.96.0.10"],
    "search": ["kube-system.svc.cluster.local", "svc.cluster.local", "cluster.local"],
    "ndots": 5,
}
CLAIMS: Mapping[str, Claim] = {
    "proxy.mode": Claim("ipvs", "ConfigMap kube-system/kube-proxy config.conf mode"),
    "proxy.scheduler": Claim("rr", "ConfigMap kube-system/kube-proxy config.conf ipvs.scheduler"),
    "proxy.strict_arp": Claim(True, "ConfigMap kube-system/kube-proxy config.conf ipvs.strictARP"),
    "encapsulation": Claim("none", "ConfigMap kube-system/fake-network"),
    "mtu.pod": Claim(MTU, "ConfigMap kube-system/fake-network"),
    "mtu.uplink": Claim(MTU, "ConfigMap kube-system/fake-network"),
}


def fake_node(name: str, number: int = 1) -> Node:
    """Return a Ready worker node; `number` makes its addresses."""
    return Node(
        name=name,
        internal_ip=str(ipaddress.ip_address("192.168.10.10") + number),
        pod_cidrs=(f"{ipaddress.ip_address('10.244.0.0') + 256 * number}/24",),
        ready=True,
        not_ready_reason=None,
        schedulable=True,
        control_plane=False,
        group="all",
        os="linux",
        region="",
    )


def dual_stack(node: Node) -> Node:
    """Return a node of `fake_node` with an IPv6 address and pod range beside those of IPv4."""
    number = str(node.internal_ip).rpartition(".")[2]
    ranges = (node.pod_cidrs[0], f"fd00:10:244:{number}::/64")
    return replace(node, internal_ips=(str(node.internal_ip), f"fd00:192:168::{number}"), pod_cidrs=ranges)


def healthy_dns(nodes: Sequence[str]) -> Dns:
    """Return the DNS of a cluster with these nodes: CoreDNS on up to three of them."""
    return Dns(
        service="kube-system/kube-dns",
        addresses=("10.96.0.10",),
        servers=tuple(DnsServer(f"coredns-{name}", name, ready=True) for name in nodes[:3]),
        corefile="ConfigMap kube-system/coredns Corefile",
        blocks=tuple(parse_corefile(COREFILE)),
    )


def healthy_pod_facts(pod_ip: str = "10.244.1.5") -> dict[str, Any]:
    """Return the answer of a probe pod's agent to ``facts``."""
    return {
        "links": [_link("lo", 65536), _link("eth0", kind="veth")],
        "routes": [{"dst": "default", "gateway": "10.244.1.1", "dev": "eth0"}, {"dst": "10.244.1.0/24", "dev": "eth0", "prefsrc": pod_ip}],
        "sysctls": dict(SYSCTLS),
        "congestion_control": "bbr",
    }


def healthy_activity(at_s: float = 1000.0) -> dict[str, Any]:
    """Return the answer of a node's agent to ``activity``."""
    counters = {name: 0 for direction in ("rx", "tx") for name in (f"{direction}_errors", f"{direction}_dropped")}
    return {
        "at_s": at_s,
        "processor": {
            "online": 4,
            "user": 9000,
            "nice": 0,
            "system": 9000,
            "idle": int(382 * at_s),
            "iowait": 0,
            "irq": 0,
            "softirq": 0,
            "steal": 0,
        },
        "softnet": {"processed": 100000, "dropped": 0, "time_squeeze": 0},
        "devices": {"eth0": {"rx_packets": 50000, "tx_packets": 50000, **counters}},
        "conntrack": {"found": 10, "insert_failed": 0, "drop": 0, "early_drop": 0},
        "log": {"last_s": 20.0, "table_full": 0, "table_full_s": [], "error": None},
    }


def healthy_host_facts(
    peers: Mapping[str, tuple[str, bool]] | None = None, second_peers: Mapping[str, tuple[str, bool]] | None = None
) -> dict[str, Any]:
    """Return the answer of a node's agent to ``facts``. `peers` and `second_peers` are those of the request."""
    return {
        "agent": "python",
        "tools": {name: {"path": f"/usr/sbin/{name}", "from": "image"} for name in TOOLS},
        "host": {
            "links": [_link("lo", 65536), _link("eth0"), _link("cni0", kind="bridge"), _link("kube-ipvs0", kind="dummy", flags=[])],
            "routes": [{"dst": "default", "gateway": "192.168.10.1", "dev": "eth0"}],
            "sysctls": dict(SYSCTLS),
            "congestion_control": "bbr",
        },
        "existing_pods": [{"name": "kube-system/coredns-abc", **healthy_pod_facts(), "resolv": dict(RESOLV)}],
        "uplink": "eth0",
        "physical": ["eth0"],
        "persisted": [
            {"key": key, "value": value.replace("\t", " "), "file": "/etc/sysctl.d/90-network.conf", "line": line}
            for line, (key, value) in enumerate(SYSCTLS.items(), 1)
        ],
        "running": {key: " ".join(value.split()) for key, value in SYSCTLS.items()},
        "modules": ["br_netfilter", "ip_vs", "ip_vs_rr", "nf_conntrack", "sch_fq", "tcp_bbr"],
        "activity": healthy_activity(),
        "clock": {"problems": [], "max_error_us": 500},
        "kube_proxy": {
            "mode": "ipvs",
            "mode_error": None,
            "listening": True,
            "processes": ["pid 812: /usr/local/bin/kube-proxy --config=/var/lib/kube-proxy/config.conf"],
            "configz": {"kubeproxy.config.k8s.io": {"mode": "ipvs", "ipvs": {"scheduler": "rr", "strictARP": True}}},
            "metrics": {
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds": 1_700_000_000.0,
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds": 1_700_000_001.0,
            },
            "metrics_error": None,
            "at_s": 1_700_000_020.0,
            "livez": 200,
        },
        "ipvs": {"loaded": True, "table": IPVS_TABLE},
        "iptables": {
            "legacy": {
                "tables": ["nat", "filter"],
                "chains": ["KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"],
                "reachable": ["KUBE-SERVICES"],
                "error": None,
            },
            "nft": {"tables": [], "chains": [], "reachable": [], "error": None},
        },
        "nft": {"tables": [], "error": None},
        "qdiscs": [{"kind": "fq", "handle": "8001:", "dev": "eth0", "root": True}],
        "neighbours": {"entries": 12, "table_fulls": 0},
        "neighbours_ipv6": {"entries": 4, "table_fulls": 0},
        "neighbour_entries": {
            "total": 1,
            "entries": [{"dst": "192.168.10.1", "lladdr": "02:00:00:00:00:fe", "state": ["REACHABLE"]}],
        },
        "conntrack": {"count": 120, "max": 131072, "buckets": 65536},
        "uplink_speed_mbit": None,
        "speeds_mbit": {},
        "uplink_duplex": None,
        "virtual": "DMI says fake",
        "peer_routes": [
            {"dev": "eth0", "error": None, "real_pod": real, "peers": {peer: [address, None] for peer, (address, _) in found}}
            for asked in (peers or {}, second_peers or {})
            for real in (True, False)
            if (found := [item for item in asked.items() if item[1][1] is real])
        ],
        "kubelet": {
            "pid": 700,
            "flags": {},
            "files": [{"path": "/var/lib/kubelet/config.yaml", "text": "clusterDNS:\n- 10.96.0.10\nclusterDomain: cluster.local\n"}],
            "resolv_path": "/etc/resolv.conf",
            "resolv": {"nameservers": ["192.168.10.1"], "search": [], "ndots": 1},
        },
        "nginx": [],
        "kernel": "6.12.0",
        "errors": {},
    }


class FakeCluster:
    """A healthy cluster, until it is changed. Implements what a run needs of a cluster (`pytest_k8snet.backend.Backend`).

    ``created`` and ``deleted`` list the objects that the run made and removed. Without `pods` nodes are reached as by ssh: there are no
    probe pods.
    """

    def __init__(
        self,
        nodes: Sequence[str | Node] = ("node-1", "node-2", "node-3"),
        *,
        version: str = "v1.37.0",
        claims: Mapping[str, Claim] = CLAIMS,
        cni: str | None = "fake",
        dns: Dns | None = None,
        kube_proxy_daemonsets: Sequence[Mapping[str, Any]] | None = None,
        services: Sequence[Mapping[str, Any]] = SERVICES,
        endpoint_slices: Sequence[Mapping[str, Any]] = ENDPOINT_SLICES,
        probe_delay_s: float = 0.0,
        pods: bool = True,
    ) -> None:
        self.nodes = {
            node.name: node for node in (fake_node(item, number) if isinstance(item, str) else item for number, item in enumerate(nodes, 1))
        }
        self.version = version
        self.claims = dict(claims)
        self.cni = cni
        self.dns = dns or healthy_dns(list(self.nodes))
        self.webhooks: tuple[Webhook, ...] = ()
        self.policies = Policies()
        self.relayed: dict[tuple[str, str], tuple[int, str] | Exception] = {}  # by kubelet or pod, and node: what the API server says of it
        self.kube_proxy_daemonsets = kube_proxy_daemonsets
        self.objects = FakeObjects(services, endpoint_slices)
        self.labels: dict[str, dict[str, str]] = {}
        self.created: list[str] = []
        self.deleted: list[str] = []
        self.requests: list[tuple[str, str, str]] = []
        self.probe_delay_s = probe_delay_s
        self.pods = pods
        self.start_error: Exception | None = None
        self.read_error: Exception | None = None
        self.lacking_rights: str | None = None  # what a run is told that the identity may not do
        self.leases: Leases | None = None  # None lets load be measured without asking others
        self._answers: dict[tuple[str, str, str], Answer] = {}
        self._commands: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}
        self._changes: dict[tuple[str, str], list[Callable[[dict[str, Any]], object]]] = {}
        self._failed: dict[str, str] = {}
        self.sent_bytes: dict[str, int] = {}
        self.looks: dict[str, int] = {}  # at counters
        self.api_error: ClusterError | None = None  # of small requests under load
        self.received_bytes: dict[str, int] = {}
        self.left: Sequence[str] = ()  # what killed runs left, that is past its deadline
        self.probed: dict[str, str | None] = {}  # nodes whose probe pods are there, and why they cannot be used
        self.kept: dict[str, Any] = {}  # by the answers to programs of measurements, from one request to the next

    # ---- what a test says

    def answer(self, node: str, op: str, answer: Answer, *, role: Role = "host") -> None:
        """Let an agent answer `op` with a JSON value, an exception, or what a function makes of the parameters."""
        self._answers[node, role, op] = answer

    def command(self, node: str, argv: Sequence[str], *, stdout: str = "", stderr: str = "", exit_status: int = 0) -> None:
        """Let a command on a node end like this."""
        self._commands[node, tuple(argv)] = {"exit_status": exit_status, "stdout": stdout, "stderr": stderr, "duration_s": 0.0}

    def change_facts(self, node: str, change: Callable[[dict[str, Any]], object], *, role: Role = "host") -> None:
        """Change the facts of a node, or of its probe pod, from the healthy ones: `change` gets them and alters them."""
        self._changes.setdefault((node, role), []).append(change)

    def fail_probe(self, node: str, reason: str) -> None:
        """Let the probe pods of a node not start."""
        self._failed[node] = reason

    def not_ready(self, node: str, reason: str) -> None:
        """Make a node NotReady."""
        self.nodes[node] = replace(self.nodes[node], ready=False, not_ready_reason=reason)

    def exclude(self, node: str, reason: str) -> None:
        """Make a node one that is never measured, such as a virtual kubelet."""
        self.nodes[node] = replace(self.nodes[node], virtual=reason)

    # ---- what a run asks

    @property
    def origin(self) -> str:
        """What leads to it."""
        return "fake cluster"

    @property
    def services(self) -> FakeObjects:
        """Services and EndpointSlices."""
        return self.objects

    def missing_rights(self, run_id: str) -> str | None:
        """Return what a test says."""
        return self.lacking_rights

    def read_cluster(self) -> Cluster:
        """Return the inventory."""
        if self.read_error is not None:
            raise self.read_error
        daemonsets = self.kube_proxy_daemonsets
        if daemonsets is None:
            pods = [{"name": f"kube-proxy-{name}", "node": name, "static": False} for name in self.nodes]
            daemonsets = [
                {
                    "name": "kube-proxy",
                    "namespace": "kube-system",
                    "desired": len(pods),
                    "ready": len(pods),
                    "node_selector": {},
                    "pods": pods,
                }
            ]
        return Cluster(
            version=self.version,
            nodes=tuple(self.nodes[name] for name in sorted(self.nodes)),
            claims=self.claims,
            kube_proxy_daemonsets=daemonsets,
            cni=self.cni,
            mistakes=(),
            ranges=(Range("pods", "10.244.0.0/16", "fake"), Range("services", "10.96.0.0/12", "fake")),
            ingress=Ingress(),
            webhooks=self.webhooks,
            dns=self.dns,
        )

    def select_nodes(self, selector: str) -> list[str]:
        """Match ``key=value`` selectors, joined by commas, against `labels`."""
        wanted = dict(part.strip().replace("==", "=").split("=", 1) for part in selector.split(","))
        return [name for name in self.nodes if wanted.items() <= self.labels.get(name, {}).items()]

    def beyond(self, cluster: Cluster, wanted: Collection[str]) -> Mapping[str, str]:
        """All nodes are reached."""
        del cluster, wanted
        return {}

    def sweep(self) -> Sequence[str]:
        """Pretend to remove what a test says is left."""
        return self.left

    def start_probes(self, cluster: Cluster, nodes: Sequence[str], run_id: str) -> FakeProbing | NoProbes:
        """Pretend to create the probe pods."""
        if self.start_error is not None:
            raise self.start_error
        if not self.pods:
            return NoProbes(cluster.node(name) for name in nodes)
        return FakeProbing(self, cluster, nodes, run_id)

    def regroup(self, probe: Probe, run_id: str, *, member: bool) -> None:
        """Let Services of several pods lead to a pod, or no more."""
        del run_id
        apart: set[str] = self.kept.setdefault(APART, set())
        (apart.discard if member else apart.add)(probe.node)

    def make_frontends(self, probe: Probe, run_id: str, number: int, ports: int) -> str:
        """Pretend to make a Service of many ports."""
        del run_id, ports
        self.on_create(f"service {scale_name(number)}")
        self.kept[SCALED] = probe.node
        return f"10.96.3.{number}"

    def lead_ingress(self, probe: Probe) -> None:
        """Pretend to lead the Service behind Ingresses to a pod: whichever is asked answers for all."""
        del probe

    def make_policy(self, namespace: str, run_id: str) -> None:
        """Pretend to make a NetworkPolicy, and to enforce it."""
        del namespace, run_id
        self.on_create(f"networkpolicy {POLICY}")
        self.kept[POLICED] = True

    def remove_policy(self, namespace: str) -> None:
        """Pretend to remove it."""
        del namespace
        self.on_delete(f"networkpolicy {POLICY}")
        self.kept[POLICED] = False

    def read_policies(self, namespace: str) -> Policies:
        """Return what a test says."""
        del namespace
        return self.policies

    def ask_api(self) -> None:
        """Answer at once, or as a test says."""
        if self.api_error is not None:
            raise self.api_error

    def relay_to_kubelet(self, probe: Probe) -> tuple[int, str]:
        """Return an empty log, or what a test says."""
        return self._relay("kubelet", probe, "")

    def relay_to_pod(self, probe: Probe, port: int, path: str) -> tuple[int, str]:
        """Return the pod's answer, or what a test says."""
        del port, path
        return self._relay("pod", probe, GREETING)

    def _relay(self, what: str, probe: Probe, text: str) -> tuple[int, str]:
        said = self.relayed.get((what, probe.node), (200, text))
        if isinstance(said, Exception):
            raise said
        return said

    def way(self, cluster: Cluster, nodes: Sequence[str]) -> str | None:
        """There is nothing to say of it."""
        del cluster, nodes
        return None

    def open_access(self, cluster: Cluster, probes: Mapping[str, Probe]) -> FakeAccess:
        """Return the way to the nodes."""
        del cluster
        self.probed = {name: probe.error for name, probe in probes.items()}
        return FakeAccess(self, probes)

    def close(self) -> None:
        """Nothing is open."""

    def on_create(self, name: str) -> None:
        """Note a created object; override to be told."""
        self.created.append(name)

    def on_delete(self, name: str) -> None:
        """Note a deleted object; override to be told."""
        self.deleted.append(name)

    def failed_probe(self, node: str) -> str | None:
        """Return why a node's probe pods do not start."""
        if self.nodes[node].ready:
            return self._failed.get(node)
        return f"{node}: the node is NotReady: {self.nodes[node].not_ready_reason}"

    def respond(self, node: str, role: Role, op: str, params: Mapping[str, Any]) -> Any:
        """Answer like the agent would."""
        self.requests.append((node, role, op))
        return self.answered(node, role, op, params)

    def answered(self, node: str, role: Role, op: str, params: Mapping[str, Any]) -> Any:
        """Return the agent's answer, of which nobody is told that it was asked."""
        if (node, role, op) in self._answers:
            given = self._answers[node, role, op]
            if isinstance(given, BaseException):
                raise given
            return given(params) if callable(given) else copy.deepcopy(given)
        if op == "facts":
            return self._facts(node, role, params)
        if op == "ipvs":
            facts = self._facts(node, "host", {})
            mode = facts["kube_proxy"]["mode"]
            return {**facts["ipvs"], "kube_ipvs0": facts["ipvs"]["loaded"], "configz": None, "mode": mode}
        if op == "activity":
            return healthy_activity(1060.0)
        if op == "run":
            return self._run(node, tuple(params["argv"]))
        if op == "counters":
            ticks = {"user": 30, "nice": 0, "system": 20, "idle": 300, "iowait": 0, "irq": 0, "softirq": 50, "steal": 0}
            self.looks[node] = self.looks.get(node, 0) + 1
            spent = {use: per_look * self.looks[node] for use, per_look in ticks.items()}
            both = {use: 2 * value for use, value in spent.items()}
            return {
                "tx_bytes": self.sent_bytes.get(node, 0),
                "rx_bytes": self.received_bytes.get(node, 0),
                "processors": {"cpu": both, "cpu0": spent, "cpu1": spent},
            }
        if op == "iperf3_server":
            return {"pid": 4711, "port": params["ports"][0]}
        if op == "iperf3_client":
            return self._iperf3(node, params)
        if op == "stop":
            return {"exit_status": 0, "output": ""}
        program, dot, _ = op.partition(".")
        if dot and find_spec(f"{fakes.__name__}.{program}") is not None:
            return import_module(f"{fakes.__name__}.{program}").respond(self, node, role, op, params)
        raise AccessError(f"{node}: {op}: the fake has no answer; give one with FakeCluster.answer({node!r}, {op!r}, ...)")

    def pod_ip(self, node: str) -> str:
        """Return the address of a node's probe pod."""
        cidrs = self.nodes[node].pod_cidrs
        return cidrs[0].replace(".0/24", ".5") if cidrs else "10.244.255.5"

    def pod_ips(self, node: str) -> tuple[str, ...]:
        """Return the addresses of a node's probe pod, of every family that its pods have."""
        return (self.pod_ip(node), *(cidr.replace("::/64", "::5") for cidr in self.nodes[node].pod_cidrs[1:]))

    def addresses_of(self, node: str, role: str) -> tuple[str, ...]:
        """Return those of the node (``host``) or of its probe pod."""
        return self.pod_ips(node) if role == "pod" else self.nodes[node].addresses

    def policy_address(self, node: str) -> str:
        """Return the address of a node's pod for a NetworkPolicy."""
        return f"10.245.0.{[*self.nodes].index(node) + 1}"

    def service_of(self, node: str) -> tuple[str, int]:
        """Return ClusterIP and NodePort of the Service that leads to a node's probe pod."""
        number = [*self.nodes].index(node) + 1
        return str(ipaddress.ip_address("10.96.1.0") + number), 30000 + number

    def cluster_ips_of(self, node: str) -> tuple[str, ...]:
        """Return the ClusterIPs of that Service, of every family that the node's pods have."""
        number = [*self.nodes].index(node) + 1
        return (self.service_of(node)[0], f"fd00:10:96::1:{number:x}")[: len(self.pod_ips(node))]

    def group_address(self, name: str) -> str:
        """Return the ClusterIP of a Service that leads to several probe pods."""
        return str(ipaddress.ip_address("10.96.2.1") + [*GROUP_TARGET_PORTS].index(name))

    def _facts(self, node: str, role: Role, params: Mapping[str, Any]) -> dict[str, Any]:
        facts = (
            healthy_host_facts(params.get("peers"), params.get("second_peers")) if role == "host" else healthy_pod_facts(self.pod_ip(node))
        )
        sysctls = facts["host"]["sysctls"] if role == "host" else facts["sysctls"]
        for key in params.get("sysctls", ()):
            sysctls.setdefault(key.replace("{uplink}", "eth0"), None)
        for change in self._changes.get((node, role), ()):
            change(facts)
        return facts

    def _run(self, node: str, argv: tuple[str, ...]) -> dict[str, Any]:
        if (node, argv) in self._commands:
            return dict(self._commands[node, argv])
        stdout: str | None = None
        if argv[:4] == ("ip", "-j", "addr", "show") or argv[:4] == ("ip", "-j", "route", "get"):
            stdout = json.dumps([{"ifname": "eth0", "dev": "eth0"}])
        if argv[:2] == ("cat", "/proc/net/snmp"):
            stdout = "Udp: RcvbufErrors\nUdp: 0\n"
        if stdout is None:
            raise AccessError(f"{node}: run: the fake has no answer to {list(argv)}; give one with FakeCluster.command({node!r}, ...)")
        return {"exit_status": 0, "stdout": stdout, "stderr": "", "duration_s": 0.0}

    def _iperf3(self, node: str, params: Mapping[str, Any]) -> dict[str, Any]:
        seconds, omitted = params["seconds"], params["omit_s"]
        bytes_, all_bytes = RATE_BPS * seconds // 8, RATE_BPS * (seconds + omitted) // 8
        of_nodes = {name: (self.nodes[name].internal_ip, self.pod_ip(name), self.service_of(name)[0]) for name in self.nodes}
        target = next((name for name, addresses in of_nodes.items() if params["address"] in addresses), node)
        on_wire = all_bytes * 1514 // 1448
        self.sent_bytes[node] = self.sent_bytes.get(node, 0) + on_wire
        self.received_bytes[target] = self.received_bytes.get(target, 0) + on_wire
        if params.get("udp"):
            packets = params["bitrate_bps"] * seconds // (8 * 1448)
            sums = {"packets": packets, "bits_per_second": float(params["bitrate_bps"]), "lost_packets": 0, "jitter_ms": 0.02}
            end = {"sum_sent": sums, "sum_received": sums, "cpu_utilization_percent": {"host_total": 1.0, "remote_total": 1.0}}
            return {"exit_status": 0, "result": {"start": {"test_start": {"blksize": 1448}}, "end": end}, "stderr": ""}
        sums = {"bytes": bytes_, "bits_per_second": float(RATE_BPS), "seconds": seconds}
        result = {
            "start": {"version": "iperf 3.18", "tcp_mss_default": 1448},
            "intervals": [{"sum": {"bytes": all_bytes}}],
            "end": {
                "sum_sent": {**sums, "retransmits": 0},
                "sum_received": sums,
                "cpu_utilization_percent": {"host_total": 5.0, "remote_total": 7.0},
            },
        }
        return {"exit_status": 0, "result": result, "stderr": ""}


class FakeObjects:
    """Services and EndpointSlices."""

    def __init__(self, services: Sequence[Mapping[str, Any]], endpoint_slices: Sequence[Mapping[str, Any]]) -> None:
        self._services = services
        self._endpoint_slices = endpoint_slices

    def services(self) -> list[dict[str, Any]]:
        """Return all Services."""
        return [copy.deepcopy(dict(item)) for item in self._services]

    def endpoint_slices(self) -> list[dict[str, Any]]:
        """Return all EndpointSlices."""
        return [copy.deepcopy(dict(item)) for item in self._endpoint_slices]


class FakeProbing:
    """Probe pods that are only noted."""

    def __init__(self, fake: FakeCluster, cluster: Cluster, nodes: Sequence[str], run_id: str) -> None:
        self._fake = fake
        self._namespace = f"k8snet-{run_id}"
        self._names = [*nodes]
        self._deleted = False
        fake.on_create(f"namespace {self._namespace}")
        for name in nodes:
            if cluster.node(name).ready:
                fake.on_create(f"pod host-{name}")
                fake.on_create(f"pod probe-{name}")

    def wait(self, deadline: Deadline) -> Mapping[str, Probe]:
        """Return the probes, after the delay that the fake was given."""
        until = min(time.monotonic() + self._fake.probe_delay_s, deadline.at)
        while time.monotonic() < until and not self._deleted:
            time.sleep(0.02)
        return {name: self._probe(name) for name in self._names}

    def make_services(self, nodes: Sequence[str]) -> list[ProbeService]:
        """Pretend to make them."""
        made = []
        for number, name in enumerate(served(nodes), 1):
            self._fake.on_create(f"service {service_name(number)}")
            address, port = self._fake.service_of(name)
            made.append(ProbeService(service_name(number), self._namespace, name, address, port, self._fake.cluster_ips_of(name)))
        return made

    def make_groups(self) -> list[GroupService]:
        """Pretend to make those of several pods."""
        made = []
        nodes = tuple(grouped([name for name in self._names if self._fake.nodes[name].ready]))
        for name in GROUP_TARGET_PORTS:
            self._fake.on_create(f"service {name}")
            made.append(GroupService(name, self._namespace, nodes, self._fake.group_address(name)))
        return made

    def make_ingresses(self, node: str, routes: Sequence[Route]) -> list[ProbeIngress]:
        """Pretend to make them."""
        self._fake.on_create(f"service {SERVICE}")
        made = []
        for number, route in enumerate(routes, 1):
            name = ingress_name(number)
            self._fake.on_create(f"ingress {name}")
            made.append(ProbeIngress(name, self._namespace, route.name, ingress_host(number, "r1", route.domain), node))
        return made

    def make_policy_pods(self, nodes: Sequence[str], deadline: Deadline) -> list[PolicyPod]:
        """Pretend to make them."""
        del deadline
        made = []
        chosen = self._names[::2]
        for name in nodes:
            if self._fake.failed_probe(name) is None:
                self._fake.on_create(f"pod policy-{name}")
                made.append(PolicyPod(name, self._namespace, f"policy-{name}", self._fake.policy_address(name), name in chosen))
        return made

    def delete(self) -> None:
        """Note the removal, once."""
        if not self._deleted:
            self._deleted = True
            self._fake.on_delete(f"namespace {self._namespace}")

    def _probe(self, name: str) -> Probe:
        error = self._fake.failed_probe(name)
        addresses = self._fake.pod_ips(name) if error is None else ()
        return Probe(name, self._namespace, f"host-{name}", f"probe-{name}", next(iter(addresses), None), error, addresses)


class FakeAccess:
    """The way to the agents of a `FakeCluster`."""

    def __init__(self, fake: FakeCluster, probes: Mapping[str, Probe]) -> None:
        self._fake = fake
        self._probes = probes

    def host(self, node: str) -> FakeAgent:
        """Return the node's agent."""
        return self._agent(node, "host")

    def pod(self, node: str) -> FakeAgent:
        """Return the agent in the node's probe pod."""
        if not self._fake.pods:
            raise NoPodError("access fake makes no probe pods here")
        return self._agent(node, "pod")

    def close(self) -> None:
        """Nothing is open."""

    def _agent(self, node: str, role: Role) -> FakeAgent:
        probe = self._probes.get(node)
        if probe is None or probe.error is not None:
            raise ProbeError(f"{node}: no probe pods were made on this node" if probe is None else str(probe.error))
        return FakeAgent(self._fake, node, role)


class FakeAgent:
    """One agent of a `FakeCluster`."""

    def __init__(self, fake: FakeCluster, node: str, role: Role) -> None:
        self._fake = fake
        self._node = node
        self._role = role

    @property
    def where(self) -> str:
        """Node and role."""
        return f"{self._node} (host)" if self._role == "host" else f"{self._node} (pod probe-{self._node})"

    def request(self, op: str, params: Mapping[str, Any] | None = None, *, timeout_s: float) -> Any:
        """Ask the fake."""
        del timeout_s
        return self._fake.respond(self._node, self._role, op, params or {})

    def close(self) -> None:
        """Nothing is open."""


def _link(name: str, mtu: int = MTU, kind: str | None = None, flags: Sequence[str] = ("UP",)) -> dict[str, Any]:
    info = {} if kind is None else {"linkinfo": {"info_kind": kind}}
    return {"ifname": name, "mtu": mtu, "flags": [*flags], "qdisc": "fq", **info}
