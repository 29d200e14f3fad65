from __future__ import annotations

import pytest

from pytest_k8snet.judge import loss
from pytest_k8snet.record.wire import WireRecord


@pytest.mark.k8snet_check(id="NET-LOSS-001", level="probe", title="packets to other nodes' pods are not lost on the way")
def test_silent_loss(node, expect, verdict):
    """Every packet of a numbered stream to a pod on each other node arrives; of one that does not, the check says where it went missing.

    Why
        One packet in fifty that vanishes costs TCP most of its throughput and UDP, DNS first, seconds. Nothing reports it: what
        drops packets is a queue, a filter, a cable or a hypervisor, and each has its own counter or none.
    How it is measured
        1,000 UDP packets of 100 bytes from the probe pod to that on each node it is paired with (`--k8snet-pairs`), from 32
        source ports, at 400 packets/s a pair and 2,000 a node. A pair that loses some is sent 2,000 more: those count. Where
        nodes and pods have both address families, all that once more by the second one. The
        packets are captured on both nodes, on the devices that lead to other nodes and on those to the pods, so each lost one
        has a last place at which it was seen. Counters of both kernels are read before and after: softnet, devices, queueing
        disciplines, /proc/net/snmp and netstat (reverse path filter), connection tracking.
    Expected
        Loss of reach.loss of the profile at most; else none. Inconclusive when the captures dropped packets themselves, or the
        receiver's own buffer did, and when the pod's own kernel refused to send more of them than may be lost. A loss that
        does not come back right after is told, and is no fault.
    Blind spots
        A loss of less than one packet in a thousand may show nothing in one run, nor do bursts rarer than the seconds
        it lasts. Of many equal paths (ECMP, bonds) those that none of the 32 ports is hashed to are not walked. Large
        packets are NET-MTU-005's.
    Fix
        Before the source's uplink: egress policies, `tc -s qdisc`, the firewall's FORWARD and POSTROUTING. Between the uplinks:
        NIC and switch counters (`ethtool -S`), cloud security groups, duplicate addresses. Behind the target's uplink: its
        FORWARD rules, `nstat -az TcpExtIPReversePathFilter`, /proc/net/softnet_stat, a NetworkPolicy. In the pod: its buffers.
    References
        Linux Documentation/networking/snmp_counter.rst; net/ipv4/fib_frontend.c (fib_validate_source).
    """
    verdict(loss.silent_loss(WireRecord.from_document(node.document("wire")), expect.reach))
