from __future__ import annotations

import pytest

from pytest_k8snet.judge import encapsulation
from pytest_k8snet.record.wire import WireRecord


@pytest.mark.k8snet_check(id="NET-ENCAP-004", level="probe", title="packets to other nodes' pods cross the wire as they are meant to")
def test_on_the_wire(node, cluster, expect, verdict):
    """Every packet from pod to pod is seen at the uplinks of both nodes as it should be: as it is, or inside the expected tunnel.

    Why
        Configuration is a claim and a route is a plan; a CNI's programs (BPF, OVS, XFRM) go around both. What crosses the wire
        is the proof: a tunnel nobody wanted costs MTU and CPU, a tunnel that is missing shows plain text to whoever listens.
    How it is measured
        Packets of the stream of NET-LOSS-001 and one TCP connection of 48 KiB, each ending in eight random bytes of this run,
        are captured (AF_PACKET, no tcpdump) on both nodes: on the uplink to the InternalIP, what that consists of (bond, VLAN,
        bridge) and other hardware. The filter finds them whatever they are inside of: VXLAN, Geneve, FOU and GUE on any UDP
        port, IPIP, GRE, one in another. WireGuard, ESP and AH are told by as many packets of one length. Merged datagrams are
        counted one by one, TCP by its sequence numbers. As a control 64 packets cross between the nodes' own addresses. Where
        nodes and pods have both address families, all that once more by the second one. The
        first packets of each kind are kept beside the document (`wire/<node>.pcap`; Wireshark and `tcpdump -r` read it).
    Expected
        encapsulation of the profile; else the CNI's claim, as in NET-ENCAP-001. Everything sent was seen at the source's uplink
        and everything delivered at the target's, in that form, with the source pod's own address. A packet in another form, or
        masqueraded, fails; one that was not seen at all never passes: inconclusive, whether or not the control's packets were
        seen, and so is a capture that dropped some. For wireguard no plain text, the control's packets, and as many encrypted
        packets of one length as were sent: they could be somebody else's.
    Blind spots
        What a SmartNIC or a switch does to packets happens behind the captured device. Other pods' packets may go
        another way, where routes or tunnels are chosen by source, port or mark. Encrypted packets are told by their
        number and length alone.
    Fix
        Calico: ipipMode, vxlanMode, natOutgoing of the IPPool. Flannel: Backend.Type. Cilium: routing-mode, ipv4-native-routing-
        cidr, encryption. Masqueraded: the ranges that ip-masq-agent or the CNI spares (clusterCIDR of kube-proxy).
    References
        Linux net/packet/af_packet.c; Kubernetes' network model (pods reach each other without NAT); RFC 7348, 8926, 2784.
    """
    addresses = {other.name: other.addresses for other in cluster.nodes}
    record = WireRecord.from_document(node.document("wire"))
    verdict(encapsulation.on_the_wire(record, expect.encapsulation, addresses, lambda: node.facts))
