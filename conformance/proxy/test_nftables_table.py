from __future__ import annotations

import pytest

from pytest_k8snet.judge import proxy


@pytest.mark.k8snet_check(id="NET-PROXY-009", level="read", title="kube-proxy's nftables table is what Services and EndpointSlices ask for")
def test_nftables_table(node, expect, verdict):
    """Every Service port leads to its endpoints and to nothing else: nothing is missing, nothing is stale.

    Why
        A kube-proxy that is cut off from the API server keeps serving endpoints that are gone. Rules that somebody else
        removed (a firewall manager's `flush ruleset`) come back only when a Service or its endpoints change, or with the
        next full sync, which is up to an hour away.
    How it is measured
        `nft -j list table ip kube-proxy` (and `ip6` where the node has such an address) beside the Services and
        EndpointSlices listed right after it. When they differ it is read again until one sync period has passed. Objects
        that changed meanwhile are not judged. nftables is asked only where kube-proxy says that it runs in this mode.
    Expected
        What kube-proxy itself would build: ready endpoints after topology hints, else serving and terminating ones; Local
        policies take the node's own endpoints, and none where it has none. Services without endpoints are among those
        that are refused. NodePorts are not judged where the table names no address that has them. Which endpoint a rule
        for some senders alone leads to (session affinity, pods of the node) is not looked at. Skipped where the mode is
        not nftables.
    Fix
        Look at kube-proxy's log on the node (can it reach the API server?), then restart it: its first sync writes the
        whole table.
    References
        kubernetes pkg/proxy/nftables/proxier.go (syncProxyRules), pkg/proxy/topology.go.
    """
    verdict(proxy.nft_table_matches(node.document("ipvs"), node.late_facts, expect.proxy, node.node.internal_ip))
