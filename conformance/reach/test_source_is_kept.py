from __future__ import annotations

import pytest

from pytest_k8snet.judge import reach
from pytest_k8snet.record.reach import ReachRecord


@pytest.mark.k8snet_check(id="NET-REACH-004", level="probe", title="pods see each other under their own addresses")
def test_source_is_kept(node, verdict):
    """Pods on other nodes see the pod on this node under its own address.

    Why
        Behind a masquerading rule that takes in too much, all pods of a node look like the node: policies that select pods by
        their addresses let the wrong ones in or keep the right ones out, and logs name nobody.
    How it is measured
        The small server in each probe pod tells which address it sees, over TCP and over UDP, as for NET-REACH-001.
    Expected
        The pod's own address; built in. Inconclusive where no other pod was reached. A CNI that masquerades between nodes on
        purpose takes a waiver.
    Blind spots
        Between probe pods alone: masquerading towards other ranges is NET-REACH-005's, and through a Service nobody's.
    Fix
        Leave the pods' ranges out of masquerading: natOutgoing and the IPPools of Calico, ipMasq and the bridge plugin,
        --cluster-cidr and --masquerade-all of kube-proxy, nonMasqueradeCIDRs of ip-masq-agent.
    References
        Kubernetes documentation, The Kubernetes network model: without address translation.
    """
    verdict(reach.source_is_kept(ReachRecord.from_document(node.document("reach"))))
