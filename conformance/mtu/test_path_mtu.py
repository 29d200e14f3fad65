from __future__ import annotations

import pytest

from pytest_k8snet.judge import mtu
from pytest_k8snet.record.pathmtu import PathMtuRecord


@pytest.mark.k8snet_check(id="NET-MTU-005", level="probe", title="the largest packets of pods reach pods of other nodes")
def test_path_mtu(node, verdict):
    """Packets exactly as large as pods' MTU cross the network to the pods of every other node, and nodes' own to the other nodes.

    Why
        Where large packets vanish and small ones pass, connections open and then hang: the notorious fault that ping, health
        checks and most tests do not see. It comes from an underlay narrower than its nodes believe, from encapsulation that
        was not taken off, and from firewalls that drop the ICMP errors by which a sender would learn of it. Jumbo frames on
        uplinks over a switch that has none hit what nodes themselves send (images, storage, pods of the host network), even
        where pods' packets are small enough.
    How it is measured
        From the node's probe pod to those of the nodes it is paired with: ten UDP datagrams of 128 bytes and ten of the MTU
        that both pods really have, in turns, which may not be fragmented (IP_PMTUDISC_PROBE) and are answered by small ones.
        Where all of the large ones stay away and at least half of the small ones do not, the size at which it breaks is searched
        for. ICMP errors are collected (IP_RECVERR). One byte more than the MTU has to be refused by the pod's own kernel.
        Answers of full size are asked for as well where nobody measures the opposite direction. Where both pods have addresses
        of both families, each family has its own path. Between the nodes' own addresses the same datagrams are sent from host to
        host as far as the MTU of both nodes is larger than what their pods have just sent: behind a tunnel, and on jumbo uplinks.
    Expected
        At least one packet of full size arrives. A fault, told apart: packets from some size on vanish without a word (black
        hole), or a device on the way says that it carries less (path MTU discovery works). Loss that meets all sizes is a
        remark; where fewer than half of the large ones arrive between pods and nine of ten small ones do, it is inconclusive.
        A device of the node itself that is narrower than its pods is judged by the other MTU checks. Inconclusive as well when
        most small packets stay away too, and when one byte more than the MTU is not refused: what is sent may be fragmented then.
        Between nodes a black hole is a fault as well; a path that tells its size is advice, as connections get by, and where
        small packets are not answered either, as behind a firewall between nodes, nothing is said.
    Blind spots
        One flow a pair: of many equal paths one is walked. Paths out of the cluster, and by way of a Service, are not.
    Fix
        Raise the MTU of what lies between, or lower that of the pods (Calico: mtu, Flannel: Backend.MTU, Cilium: mtu) to the
        size that passes; of nodes that of the uplinks, or the switch's. Let ICMP type 3 code 4 (ICMPv6 type 2) pass firewalls.
    References
        RFC 1191; RFC 4821 section 1; ip(7) IP_MTU_DISCOVER, IP_RECVERR.
    """
    verdict(mtu.path_mtu(PathMtuRecord.from_document(node.document("pathmtu")), node.facts))
