from __future__ import annotations

import pytest

from pytest_k8snet.judge import proxy


@pytest.mark.k8snet_check(id="NET-PROXY-006", level="read", title="the IPVS table is what Services and EndpointSlices ask for")
def test_ipvs_table(node, expect, verdict):
    """Every Service port has its virtual server, and every endpoint is a real server of weight 1: nothing is missing, nothing is stale.

    Why
        A kube-proxy that is cut off from the API server keeps serving endpoints that are gone, and connections to them
        hang. A real server at weight 0 gets no new connections and is never healed.
    How it is measured
        `/proc/net/ip_vs` beside the Services and EndpointSlices listed right after it. When they differ it is read again
        until one sync period has passed. Objects that changed meanwhile are not judged.
    Expected
        What kube-proxy itself would build: ready endpoints after topology hints, else serving and terminating ones; Local
        policies take the node's own endpoints and fall back to all. Draining TCP servers may stay at weight 0 until their
        connections end. Virtual servers in kube-proxy's ipvs.excludeCIDRs are somebody else's. Skipped where the mode is
        not ipvs.
    Fix
        Look at kube-proxy's log on the node (can it reach the API server?), then restart it: its first sync repairs
        weights, too.
    References
        kubernetes pkg/proxy/ipvs/proxier.go (syncProxyRules, syncEndpoint), pkg/proxy/topology.go,
        pkg/proxy/ipvs/graceful_termination.go.
    """
    verdict(proxy.table_matches(node.document("ipvs"), node.late_facts, expect.proxy, node.node.internal_ip))
