"""Which network namespace a sysctl belongs to: what is set on a node reaches pods, reaches only new ones, or never does.

Measured on Linux 6.18: values changed in the first network namespace, then read in a new one.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

#: ``host``: pods have no such file. ``shared``: one value for all. ``copied``: from the node when a pod is made. ``own``: each network
#: namespace starts with the kernel's default, whatever the node has.
Reach = Literal["host", "shared", "copied", "own"]

_REACH: dict[Reach, tuple[str, ...]] = {
    "host": (
        "net.core.netdev_max_backlog",
        "net.core.netdev_budget*",
        "net.core.default_qdisc",
        "net.core.busy_*",
        "net.ipv4.tcp_mem",
        "net.ipv[46].neigh.default.gc_thresh[123]",
    ),
    "shared": (
        "net.core.[rw]mem_default",
        "net.core.[rw]mem_max",
        "net.netfilter.nf_conntrack_max",
        "net.netfilter.nf_conntrack_buckets",
    ),
    "copied": ("net.ipv4.tcp_[rw]mem", "net.ipv4.tcp_congestion_control", "net.ipv4.conf.all.*", "net.ipv4.conf.default.*"),
    "own": (
        "net.core.somaxconn",
        "net.core.optmem_max",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_no_pmtu_disc",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_ecn",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_*",
        "net.ipv4.tcp_max_syn_backlog",
        "net.ipv4.tcp_mtu_probing",
        "net.ipv4.tcp_notsent_lowat",
        "net.ipv4.tcp_slow_start_after_idle",
        "net.ipv4.tcp_tw_reuse",
        "net.netfilter.nf_conntrack_*timeout*",
        "net.netfilter.nf_conntrack_tcp_be_liberal",
        "net.bridge.bridge-nf-call-*",
    ),
}


def reach(key: str) -> Reach | None:
    """Return how far a node's value of a sysctl reaches, None when that is not known."""
    return next((kind for kind, patterns in _REACH.items() if any(fnmatchcase(key, pattern) for pattern in patterns)), None)
