from __future__ import annotations

import pytest

from pytest_k8snet.judge import mtu


@pytest.mark.k8snet_check(id="NET-MTU-001", level="read", title="pods use exactly the MTU they are meant to have")
def test_pod_mtu(node, expect, verdict):
    """Every route of a new pod carries the MTU that the profile wants or the CNI claims.

    Why
        Too big: large packets vanish, often only for some peers. Too small: 1450 left over on a flat L2 network costs 3 %
        of the throughput and more packets per byte.
    How it is measured
        `ip -j -d link` and `ip -j route` inside the probe pod's network namespace, once per node. Routes count, not the
        interface: Cilium leaves the interface at the uplink's MTU and lowers the route.
    Expected
        mtu.pod of the profile; else the CNI's own claim; else what flanneld has written for the node's pods, which has to
        fit the underlay less the encapsulation's overhead; else no more than that. Smaller than that arithmetic alone would
        allow is advice, not a failure.
    Fix
        Calico: veth_mtu / spec.calicoNetwork.mtu. Flannel: Backend.MTU. Cilium: mtu. Then restart the pods.
    References
        cilium pkg/mtu/mtu.go; calico felix/dataplane/linux/int_dataplane.go.
    """
    verdict(mtu.pod_mtu(node.facts, expect.mtu, expect.encapsulation))
