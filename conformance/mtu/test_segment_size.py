from __future__ import annotations

import pytest

from pytest_k8snet.judge import mtu
from pytest_k8snet.record.pathmtu import PathMtuRecord


@pytest.mark.k8snet_check(id="NET-MTU-006", level="probe", title="TCP between pods sends segments as large as their MTU allows")
def test_segment_size(node, verdict):
    """TCP connections between pods of different nodes use full segments.

    Why
        A rule that clamps the segment size (for a tunnel that is gone, for a provider's uplink) stays unnoticed: everything
        works, with more packets for every byte.
    How it is measured
        One connection from the node's probe pod to those of the nodes it is paired with, before any large packet is sent; the
        segment size that the sender's kernel has agreed on (TCP_INFO tcpi_snd_mss).
    Expected
        The smaller MTU of both pods, less 40 bytes of headers (IPv6: 60) and 12 more where timestamps are in use. Paths on which
        no connection opens are told, and judged by NET-REACH-001. Where the kernel has learnt of a narrower path segments follow
        it, which is told: NET-MTU-005 judges paths.
    Blind spots
        The size that both ends agreed on; whether segments of that size arrive is NET-MTU-005's to say.
    Fix
        Look for TCPMSS in iptables and nftables of both nodes and of routers between them, and for advmss in `ip route`.
    References
        tcp(7) TCP_INFO; iptables-extensions(8) TCPMSS; RFC 6691.
    """
    verdict(mtu.segment_size(PathMtuRecord.from_document(node.document("pathmtu"))))
