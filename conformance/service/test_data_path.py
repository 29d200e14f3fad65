from __future__ import annotations

import pytest

from pytest_k8snet.judge import service
from pytest_k8snet.record.balance import BalanceRecord


@pytest.mark.k8snet_check(id="NET-SERVICE-004", level="probe", title="connections to Services take the data path that is claimed")
def test_data_path(node, cluster, expect, verdict):
    """New connections through a ClusterIP are found in the tables of the mode that kube-proxy is meant to run in, and in no other's.

    Why
        A table of IPVS that is right is no proof that packets meet it: rules that a second kube-proxy, another tool or an earlier
        mode has left in iptables come first, take connections away, and lead to endpoints of their own.
    How it is measured
        The run makes one Service of a ClusterIP for up to 4 of its probe pods. The node's probe pod opens 60 connections to it.
        In ipvs mode each is looked for, by its own address and port, in /proc/net/ip_vs_conn of the node. In iptables mode
        `iptables-save -c -t nat` before and after says what the rules that name the address have counted. Nobody else
        knows the address, so all that is counted is the run's own.
    Expected
        Mode ipvs: every connection that was answered is in that table. Mode iptables: rules of KUBE-SERVICES counted as many,
        and IPVS has none. Rules of nftables mode have no counters: that neither IPVS nor iptables had any is judged, and
        the rest is skipped; so is a data path whose counters are not read (Cilium and other replacements of kube-proxy).
        Inconclusive when no connection was answered, when kube-proxy's rules were written anew whenever they were read, and when
        nothing had any beside a CNI that can serve Services itself, unless a profile names the mode.
    Blind spots
        What answers in the place of an endpoint behind the right table; NET-PROXY-006 compares its servers.
        Of two address families the first one alone is measured.
    Fix
        Look at what is named: `iptables-save -c -t nat`. Take out rules that nobody owns; run one kube-proxy a node only. After
        a change of mode restart the node, or `kube-proxy --cleanup`.
    References
        kubernetes pkg/proxy/ipvs, pkg/proxy/iptables; linux net/netfilter/ipvs/ip_vs_conn.c.
    """
    verdict(service.data_path(BalanceRecord.from_document(node.document("balance")), node.facts, expect.proxy, cluster))
