from __future__ import annotations

import pytest

from pytest_k8snet.judge import mtu


@pytest.mark.k8snet_check(id="NET-MTU-004", level="read", title="pods that were there before have the MTU as well")
def test_existing_pods_mtu(node, expect, verdict):
    """Pods that ran before this test carry the wanted MTU on their routes, too.

    Why
        A changed CNI configuration reaches only pods made later. Fresh probe pods look right while every old pod keeps the
        old MTU.
    How it is measured
        Routes by eth0 in the network namespaces of the node's pods, read from the node without touching them. Devices that
        a pod has besides (second networks, tunnels of its own) are not judged. On nodes with more than 20 pods the first
        20 by name are looked at, which is told.
    Expected
        mtu.pod of the profile; else the CNI's own claim; else what flanneld has written for the node's pods. Skipped when
        there is none of these, and on nodes without such pods.
    Fix
        Restart the named pods (`kubectl rollout restart` of what owns them).
    References
        calico and flannel document that a changed MTU needs pods to be restarted.
    """
    verdict(mtu.existing_pods_mtu(node.facts, expect.mtu, expect.encapsulation))
