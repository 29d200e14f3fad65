from __future__ import annotations

import pytest

from pytest_k8snet.judge import dns
from pytest_k8snet.record.dns import DnsRecord


@pytest.mark.k8snet_check(id="NET-DNS-004", level="probe", title="the cluster's DNS answers pods of every node, rightly and in time")
def test_dns_answers(node, cluster, expect, verdict):
    """Whom pods are told to ask answers every question of a pod on the node, over UDP and TCP, rightly and in time.

    Why
        A resolver waits five seconds for an answer that does not come; every connection by name begins with one. Answers that
        do not fit into a datagram come over TCP alone.
    How it is measured
        The node's probe pod asks the DNS Service (and NodeLocal DNSCache) for kubernetes.default by packets of its own, each
        question from another source port: 100 over UDP, one after the other, 20 over TCP; 5 for each of dns.names of the
        profile. What failed is asked again once, what was too slow twice. Beside them it asks its own loopback. On GKE Cloud DNS
        (169.254.169.254) is asked in the Service's place where it knows that name: no pod uses kube-dns then. A NodeLocal DNSCache
        that makes no device (-setupinterface=false, behind a CiliumLocalRedirectPolicy) is asked by the Service's address.
    Expected
        No question without a right answer that is not answered when asked again; 99 of 100 within dns.p99_ms of the profile
        (50 ms), the best round counting. Inconclusive when the pod's own loopback takes half of that, and where the kubelet tells
        pods to ask Cloud DNS, which does not know the cluster's name. Skipped where no
        Service address leads anywhere (no kube-proxy and nothing in its place).
    Blind spots
        The cluster's own name comes from CoreDNS' memory; names that are forwarded are asked for only where the profile
        has some. One question at a time: a server that fails under load passes.
    Fix
        NET-DNS-005 tells whether it is one server; else look at the path from the node to CoreDNS (NET-SERVICE-001), at
        policies and firewalls for port 53 over both protocols, at CoreDNS' CPU limits and at its upstream.
    References
        resolv.conf(5); RFC 7766 (DNS over TCP is required).
    """
    record = DnsRecord.from_document(node.document("dns"))
    verdict(dns.answers(record, node.facts, cluster, expect.dns))
