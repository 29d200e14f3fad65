from __future__ import annotations

import pytest

from pytest_k8snet.judge import pods


@pytest.mark.k8snet_check(id="NET-PODS-002", level="read", title="pods that were there before have a way out")
def test_existing_pods_routes(node, verdict):
    """Pods that ran before this test have a default route, by a device that is up.

    Why
        A CNI that was restarted, upgraded or exchanged for another one may leave pods behind that reach nothing beyond their
        node; kubelet probes them from the node itself and finds them healthy.
    How it is measured
        `ip -j link` and `ip -j route` inside the network namespaces of running pods, from the node and only reading. Up to 20
        pods a node are looked at, in the order of their names; the message says how many of how many.
    Expected
        A default route of either family whose device is up; built in. Pods without a device in their namespace are not
        judged, nor those that have a device that is up and no route at all: gVisor, and virtual machines of KubeVirt with the
        binding bridge, keep addresses and routes elsewhere. Their MTU is NET-MTU-004's.
    Fix
        Restart the named pods, and look at what the CNI's log says of their making.
    References
        CNI specification, result type: routes.
    """
    verdict(pods.routes(node.facts))
