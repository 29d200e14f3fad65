from __future__ import annotations

import pytest

from pytest_k8snet.judge import service
from pytest_k8snet.record.balance import BalanceRecord


@pytest.mark.k8snet_check(id="NET-SERVICE-005", level="probe", title="connections to a Service are spread over all its endpoints")
def test_spread(node, cluster, verdict):
    """Of many connections to a Service every endpoint gets the share that what chooses among them promises.

    Why
        An endpoint that one node does not know, or that is dead and still chosen, costs a share of the requests that everybody
        takes for bad luck; one that gets everything is overloaded while the others idle.
    How it is measured
        The run makes one Service of a ClusterIP for up to 4 of its probe pods. The node's probe pod opens 60 connections to it,
        20 at a time, each once; the endpoint tells who it is. Before that every endpoint is looked for, for service.propagation_s
        (30 s) at most: as long as a change of endpoints may take. Where all of them answered then and some connections are not
        answered now, as many are opened once more, and those count.
    Expected
        Every connection is answered; some that were not, where all of as many more were, are a remark. IPVS with rr or wrr: even
        within one. Without IPVS, a random choice (iptables, nftables, replacements of kube-proxy): within what chance allows with
        a false alarm in a million. lc and wlc: some each; other schedulers promise nothing. Skipped where the Service has one
        endpoint, and where no Service address leads anywhere.
    Blind spots
        Sixty connections: a loss of fewer than one in a hundred may be no more than a remark, and so is one that passes within
        seconds; a share that is off by little passes where the choice is random. Topology hints and internalTrafficPolicy are not
        tried.
        Of two address families the first one alone is measured.
    Fix
        The endpoint that is named: does its pod answer by its own address (NET-REACH-001)? Is it in the node's table with weight 1
        (NET-PROXY-006)? If shares differ from the promise, rules may take connections away: NET-SERVICE-004.
    References
        kubernetes pkg/proxy/iptables (statistic --mode random); linux net/netfilter/ipvs/ip_vs_rr.c. Connections are of one client:
        a choice by the client's address looks like one endpoint that gets all.
    """
    verdict(service.spread(BalanceRecord.from_document(node.document("balance")), node.facts, cluster))
