from __future__ import annotations

import pytest

from pytest_k8snet.expect.namespaces import reach


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("net.core.netdev_max_backlog", "host"),
        ("net.ipv4.neigh.default.gc_thresh3", "host"),
        ("net.core.rmem_max", "shared"),
        ("net.netfilter.nf_conntrack_max", "shared"),
        ("net.ipv4.tcp_rmem", "copied"),
        ("net.ipv4.conf.default.rp_filter", "copied"),
        ("net.ipv4.tcp_keepalive_time", "own"),
        ("net.netfilter.nf_conntrack_tcp_timeout_established", "own"),
        ("net.ipv4.ip_local_reserved_ports", None),
        ("vm.swappiness", None),
    ],
)
def test_reach(key: str, kind: str | None) -> None:
    assert reach(key) == kind
