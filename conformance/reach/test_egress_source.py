from __future__ import annotations

import pytest

from pytest_k8snet.judge import reach
from pytest_k8snet.record.reach import ReachRecord


@pytest.mark.k8snet_check(id="NET-REACH-005", level="probe", title="nodes see pods under the address that the profile says")
def test_egress_source(node, expect, verdict):
    """Other nodes see the pod on this node under its own address, or under its node's, as the profile wants it.

    Why
        Firewalls, databases and audit logs outside the pod network know their clients by address. Whether that is the pod's or the
        node's is decided by rules of masquerading that every node has for itself, and that differ after an upgrade or a lost
        setting on one of them.
    How it is measured
        The probe pod asks the small server on two other nodes' own addresses, over TCP and over UDP; it tells which address it sees.
    Expected
        egress.source of the profile: `pod`, or `node`. Skipped without it. Inconclusive where no other node answers the pod, as
        behind a firewall that keeps pods away from nodes.
    Blind spots
        Other nodes stand for all that is outside the pod network: an egress gateway, or a rule for other ranges, may
        show addresses out of the cluster something else.
        Of two address families the first one alone is measured.
    Fix
        For `pod`: leave the nodes' ranges out of masquerading (Calico: natOutgoing and nodes' addresses in a disabled IPPool; flannel:
        --ip-masq; Cilium: ipv4-native-routing-cidr and ip-masq-agent's nonMasqueradeCIDRs). For `node`: the same the other way.
    References
        Kubernetes documentation, IP Masquerade Agent User Guide. Nodes stand for what is outside the pod network: the CNI may treat
        other destinations in another way (nodes' addresses are left out by Cilium unless it is told otherwise).
    """
    verdict(reach.egress_source(ReachRecord.from_document(node.document("reach")), expect.egress))
