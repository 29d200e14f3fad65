"""Documents of a healthy node, made by hand, and changed by one thing at a time."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pytest_k8snet.access.fake import healthy_activity
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.activity import Activity, Grown
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.facts import NodeFacts

TABLE_HEAD = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
"""

#: Virtual servers of kubernetes.default and of DNS over TCP, as a node of a small cluster has them.
TABLE = f"""{TABLE_HEAD}TCP  0A600001:01BB rr
  -> C0A80A01:192B      Masq    1      2          0
TCP  0A60000A:0035 rr
  -> 0AF40105:0035      Masq    1      0          0
  -> 0AF40206:0035      Masq    1      0          0
"""

SYSCTLS = {
    "net.core.default_qdisc": "fq",
    "net.ipv4.conf.all.arp_announce": "2",
    "net.ipv4.conf.all.arp_ignore": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.eth0.rp_filter": "2",
    "net.ipv4.conf.eth0.arp_announce": "0",
    "net.ipv4.conf.eth0.arp_ignore": "0",
    "net.ipv4.ip_forward": "1",
    "net.ipv4.ip_local_port_range": "1024\t65535",
    "net.ipv4.ip_local_reserved_ports": "10248-10250,10256,30000-32767",
    "net.ipv4.tcp_congestion_control": "bbr",
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.vs.conntrack": "1",
    "net.ipv4.vs.expire_nodest_conn": "1",
    "net.ipv4.vs.expire_quiescent_template": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.netfilter.nf_conntrack_buckets": "65536",
    "net.netfilter.nf_conntrack_max": "131072",
}


def link(name: str, mtu: int = 1500, kind: str | None = None, **more: Any) -> dict[str, Any]:
    """Return one element of ``ip -j -d link``."""
    info = {} if kind is None else {"linkinfo": {"info_kind": kind}}
    return {"ifname": name, "mtu": mtu, "flags": ["UP"], "qdisc": "fq", **info, **more}


def network(mtu: int = 1500, **changes: Any) -> dict[str, Any]:
    """Return a pod's network namespace."""
    return {
        "links": [link("lo", 65536), link("eth0", mtu, "veth")],
        "routes": [
            {"dst": "default", "gateway": "10.244.1.1", "dev": "eth0"},
            {"dst": "10.244.1.0/24", "dev": "eth0", "prefsrc": "10.244.1.9"},
        ],
        "sysctls": {"net.ipv4.tcp_tw_reuse": "1", "net.ipv4.ip_local_port_range": "1024\t65535"},
        "congestion_control": "bbr",
        **changes,
    }


_HEALTHY: dict[str, Any] = {
    "host": {
        "links": [
            link("lo", 65536),
            link("eth0"),
            link("cni0", kind="bridge"),
            link("kube-ipvs0", kind="dummy", flags=[]),
        ],
        "routes": [{"dst": "default", "gateway": "192.168.10.1", "dev": "eth0"}],
        "sysctls": SYSCTLS,
        "congestion_control": "bbr",
    },
    "pod": {"name": "probe-node-1", **network()},
    "pod_error": None,
    "existing_pods": [{"name": "kube-system/coredns-abc", **network()}],
    "uplink": "eth0",
    "physical": ["eth0"],
    "persisted": [],
    "running": {},
    "modules": ["br_netfilter", "ip_vs", "ip_vs_rr", "nf_conntrack", "sch_fq", "tcp_bbr"],
    "activity": healthy_activity(),
    "clock": {"problems": [], "max_error_us": 500},
    "kube_proxy": {
        "mode": "ipvs",
        "mode_error": None,
        "listening": True,
        "processes": ["pid 812: /usr/local/bin/kube-proxy --config=/var/lib/kube-proxy/config.conf"],
    },
    "ipvs": {"loaded": True, "table": TABLE},
    "iptables": {
        "legacy": {
            "tables": ["nat", "filter"],
            "chains": ["KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"],
            "reachable": ["KUBE-SERVICES"],
        },
        "nft": {"tables": [], "chains": [], "reachable": []},
    },
    "nft": {"tables": [], "error": None},
    "qdiscs": [{"kind": "fq", "handle": "8001:", "dev": "eth0", "root": True}],
    "conntrack": {"count": 120, "max": 131072, "buckets": 65536},
    "uplink_speed_mbit": 10000,
    "uplink_duplex": "full",
    "virtual": None,
    "peer_routes": [
        {"peer": "node-2", "address": "10.244.2.5", "real_pod": True, "dev": "eth0", "gateway": "192.168.10.12"},
        {"peer": "node-3", "address": "10.244.3.5", "real_pod": True, "dev": "eth0", "gateway": "192.168.10.13"},
    ],
    "kernel": "6.1.0",
}


def document(kind: str, subject: str, values: Mapping[str, Any] | None, reason: str | None = None) -> Document:
    """Return a recorded document."""
    return Document(
        kind=kind, subject=subject, started="2026-11-24T03:00:00+00:00", duration_s=0.2, method="test", values=values, reason=reason
    )


def facts_document(node: str = "node-1", **changes: Any) -> Document:
    """Return the facts of a healthy node with `changes`: keys are paths with ``__`` between their parts."""
    values = copy.deepcopy(_HEALTHY)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = values
        for part in parents:
            target = target[part]
        target[last] = value
    return document("facts", node, values)


def facts(node: str = "node-1", **changes: Any) -> NodeFacts:
    """Return the typed facts of a healthy node with `changes`."""
    return NodeFacts.from_document(facts_document(node, **changes))


def grown(seconds: float = 60.0, first: Mapping[str, Any] | None = None, **changes: Any) -> Grown:
    """Return what a healthy node counted between two readings, with changes of the second: keys are paths as those of `facts`."""
    values = healthy_activity(1000.0 + seconds)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = values
        for part in parents:
            target = target[part]
        target[last] = value
    return Grown(Activity.from_json({**healthy_activity(1000.0), **(first or {})}), Activity.from_json(values))


def sysctls(**changes: str | None) -> dict[str, str | None]:
    """Return the healthy node's sysctls with changes; ``__`` stands for a dot."""
    return {**SYSCTLS, **{key.replace("__", "."): value for key, value in changes.items()}}


def told(judgement: Judgement, weight: str) -> list[str]:
    """Return the messages of one weight."""
    return [finding.message for finding in judgement.findings if finding.weight == weight]


def outcome(judgement: Judgement) -> tuple[str, str]:
    """Return verdict and message: what every row of a judge's table asserts."""
    return str(judgement.verdict), judgement.message
