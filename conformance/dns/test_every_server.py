from __future__ import annotations

import pytest

from pytest_k8snet.judge import dns
from pytest_k8snet.record.dns import DnsRecord


@pytest.mark.k8snet_check(id="NET-DNS-005", level="probe", title="every server of the cluster's DNS answers pods of every node by itself")
def test_every_dns_server(node, expect, verdict):
    """Each ready endpoint of the DNS Service answers a pod on the node by itself, over UDP and TCP.

    Why
        Behind the Service a dead server is one question in n: now and then a name takes five seconds, and nobody finds out why.
    How it is measured
        The node's probe pod asks the address of each ready endpoint in the DNS Service's EndpointSlices for
        kubernetes.default: ten times over UDP, five over TCP; of more than eight, eight that differ from node to node. What
        failed is asked again once, what was too slow twice.
    Expected
        No question without a right answer that is not answered when asked again; half of a server's answers within dns.p99_ms
        of the profile (50 ms). Inconclusive when the pod's own loopback takes half of that.
    Blind spots
        Ten questions find what fails often, not what fails one time in a thousand. Of more than eight servers a node
        asks eight, and says so.
    Fix
        Delete the named CoreDNS pod, or mend its node; when only some nodes miss it, look at the path between the two nodes.
    References
        kubernetes discovery.k8s.io/v1 EndpointSlice (conditions.ready).
    """
    record = DnsRecord.from_document(node.document("dns"))
    verdict(dns.every_server(record, expect.dns))
