from __future__ import annotations

import pytest

from pytest_k8snet.judge import dns
from pytest_k8snet.record.dns import DnsRecord


@pytest.mark.k8snet_check(
    id="NET-DNS-007", level="probe", title="short names are found by the search list, with as many questions as wanted"
)
def test_dns_search_list(node, cluster, expect, verdict):
    """A pod on the node finds names by the search list that the kubelet gives, and no step on the way goes unanswered.

    Why
        With ndots 5 a name is tried with every domain of the list first, each for A and AAAA: a name outside costs eight
        questions instead of two. One domain on the way that nobody answers for makes all such names slow.
    How it is measured
        The node's probe pod does what a resolver with the usual list does (its namespace, svc and the cluster's domain,
        ndots 5): it asks for kubernetes.default.svc and for dns.names of the profile, and counts the questions. And it sends
        seven HTTPS requests to the API server's Service by its short name, its full one, and that with a dot at its end: how
        long resolution, connection, and handshake with answer take, and what part of it all the name takes.
    Expected
        Every name is found, and each step is answered, be it that there is no such name. At most dns.questions of the profile
        for a name; without it the number is told. Where resolution takes the larger part of a request, and more than 10 ms, that
        is advice: what it may take is the programs' business. Inconclusive when nothing at all is answered. Skipped where no Service
        address leads anywhere.
    Blind spots
        The resolver is ours: musl, which asks for all at once, and pods with a dnsConfig of their own ask in other
        ways. The requests carry no credentials, so that the answer may be a refusal, which is quick; programs that keep
        their connections resolve once for many requests.
    Fix
        Fewer questions: a dot at the end of names, dnsConfig with ndots 1 or 2, autopath, NodeLocal DNSCache. A step that is
        not answered: look at the plugins kubernetes and forward in the Corefile.
    References
        resolv.conf(5); kubernetes pkg/kubelet/network/dns/dns.go (the search list and ndots).
    """
    record = DnsRecord.from_document(node.document("dns"))
    verdict(dns.search_list(record, node.facts, cluster, expect.dns))
