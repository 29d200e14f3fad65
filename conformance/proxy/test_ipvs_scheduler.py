from __future__ import annotations

import pytest

from pytest_k8snet.judge import proxy


@pytest.mark.k8snet_check(id="NET-PROXY-003", level="read", title="every IPVS virtual server uses the wanted scheduler")
def test_ipvs_scheduler(node, expect, verdict):
    """Every virtual server in the kernel's IPVS table uses the wanted scheduler.

    Why
        Another scheduler spreads connections otherwise than was sized for: lc and wrr behave differently from rr when
        endpoints restart, sh pins clients.
    How it is measured
        Column 3 of `/proc/net/ip_vs` in the node's network namespace, for every virtual server.
    Expected
        proxy.scheduler of the profile; else ipvs.scheduler of the kube-proxy ConfigMap (empty is rr). Skipped where the
        mode is not ipvs.
    Fix
        Set ipvs.scheduler in ConfigMap kube-system/kube-proxy, key config.conf, and restart kube-proxy on the node.
    References
        kubernetes pkg/proxy/ipvs/proxier.go; linux net/netfilter/ipvs/ip_vs_ctl.c (ip_vs_info_seq_show).
    """
    verdict(proxy.scheduler(node.facts, expect.proxy))
