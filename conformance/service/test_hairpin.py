from __future__ import annotations

import pytest

from pytest_k8snet.judge import service
from pytest_k8snet.record.service import ServiceRecord


@pytest.mark.k8snet_check(id="NET-SERVICE-003", level="probe", title="a pod reaches itself by its own Service")
def test_hairpin(node, cluster, verdict):
    """A pod on the node reaches itself by the ClusterIP of a Service whose only endpoint it is.

    Why
        Its packets come back to where they came from, and have to get another source address or the pod drops the answer. Pods
        that call themselves by their Service's name hang now and then: whenever they are chosen.
    How it is measured
        The run makes a NodePort Service for the probe pod of each of up to 16 nodes. The probe pod of
        the node connects three times to the ClusterIP of the Service that leads to itself alone. The endpoint
        tells who it is. Both address families are asked, where pods and Services have them. What fails is asked again for
        35 s: every proxy must have seen the Service then.
    Expected
        Every connection is answered. Of more than 16 nodes those without a Service are skipped; else as NET-SERVICE-001.
    Blind spots
        A Service of one endpoint, over TCP: where there are more, a pod meets itself now and then, in the same way.
    Fix
        hairpinMode of the CNI's bridge plugin, masqueradeAll or clusterCIDR of kube-proxy, the set KUBE-LOOP-BACK in ipvs mode.
    References
        kubernetes "Debug Services": a Pod fails to reach itself via the Service IP.
    """
    verdict(service.hairpin(ServiceRecord.from_document(node.document("service")), node.facts, cluster))
