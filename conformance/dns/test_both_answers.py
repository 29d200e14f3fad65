from __future__ import annotations

import pytest

from pytest_k8snet.judge import dns
from pytest_k8snet.record.dns import DnsRecord


@pytest.mark.k8snet_check(id="NET-DNS-006", level="probe", title="A and AAAA asked for from one socket are both answered")
def test_both_dns_answers(node, cluster, verdict):
    """Of two questions that a pod on the node sends from one socket at once, A and AAAA, both are answered.

    Why
        glibc and musl ask so. Where connection tracking loses the second one (two packets of one flow at the same time race
        for its entry), every lookup hit by it takes five seconds.
    How it is measured
        The node's probe pod sends both questions for kubernetes.default to the DNS Service from one UDP socket and waits for
        both answers, 20 times; and once more when one was missing.
    Expected
        No pair of which one answer alone is missing both times. Pairs without any answer are NET-DNS-004's; when there
        are only such, inconclusive. Skipped where no Service address leads anywhere.
    Blind spots
        The race that drops one of the two now and then passes when the pair is answered the second time: what is found
        is what always, or often, drops one. Resolvers that use a socket a question do not meet it.
    Fix
        NodeLocal DNSCache (TCP to the cluster's DNS, no NAT), a kernel of 5.1 or later, `single-request-reopen` in dnsConfig.
        When insert_failed grows it is that race (NET-CONNTRACK-002); when it does not, something else drops answers.
    References
        Racy conntrack and DNS lookup timeouts, M. Pumputis, 2018; resolv.conf(5).
    """
    record = DnsRecord.from_document(node.document("dns"))
    verdict(dns.both_answers(record, node.facts, cluster))
