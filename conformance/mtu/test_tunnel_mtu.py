from __future__ import annotations

import pytest

from pytest_k8snet.judge import mtu


@pytest.mark.k8snet_check(id="NET-MTU-003", level="read", title="the tunnel device has exactly the MTU it is meant to have")
def test_tunnel_mtu(node, expect, verdict):
    """The tunnel device that pods' traffic takes has the MTU that is wanted, and its packets fit the uplink.

    Why
        Linux gives a vxlan device that was made without an underlying device an MTU of 1500 over an uplink of 1500:
        full-size packets are fragmented or lost, small ones pass.
    How it is measured
        `ip -j -d link` in the node's network namespace, devices of the expected kind that routes to peers leave by.
    Expected
        mtu.tunnel of the profile; else the CNI's claim; else no more than the underlay less the overhead (IPIP 20, VXLAN
        and Geneve 50, WireGuard 60 bytes over IPv4; 20 more where the uplink has IPv6 alone; of other tunnels anything less
        than the underlay is taken). Skipped when no tunnel is expected; without a wanted MTU also where routes lead to a
        gateway device: Cilium's tunnel device has the uplink's MTU and the pods' routes a smaller one.
    Fix
        The CNI's MTU setting; most CNIs create the device anew when it is deleted and their pod restarted.
    References
        cilium pkg/mtu/mtu.go; flannel pkg/backend; calico felix/dataplane/linux/int_dataplane.go.
    """
    verdict(mtu.tunnel_mtu(node.facts, expect.mtu, expect.encapsulation))
