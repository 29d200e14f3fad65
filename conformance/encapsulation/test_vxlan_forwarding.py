from __future__ import annotations

import pytest

from pytest_k8snet.judge import encapsulation


@pytest.mark.k8snet_check(id="NET-ENCAP-002", level="read", title="vxlan devices know behind which node every peer is")
def test_vxlan_forwarding(node, cluster, k8snet_run, verdict):
    """A vxlan device that does not learn has a neighbour and a forwarding entry for every other node, and they lead to that node.

    Why
        Flannel and Calico lay their vxlan devices without learning and write these entries themselves. One that is missing,
        or leads to an address that the node no longer has, loses all traffic to one node, and nothing reports it: the route
        is right.
    How it is measured
        `ip -j neigh` and `bridge -j fdb` of each vxlan device without learning, multicast group or external control, and the
        next hops of the routes to a pod of every other node.
    Expected
        The next hop's neighbour entry names a hardware address whose forwarding entry leads to an InternalIP of the node.
        Skipped where no route to another node's pods leaves by such a device.
    Fix
        Restart the CNI's pod on the node (flannel: kube-flannel-ds, Calico: calico-node), which writes the entries anew; by
        hand `bridge fdb append <mac> dev <device> dst <node>`.
    References
        flannel pkg/backend/vxlan/vxlan_network.go; calico felix/dataplane/linux/vxlan_mgr.go.
    """
    peers = encapsulation.peers_of(cluster, node.name, k8snet_run.nodes)
    addresses = {other.name: other.addresses for other in cluster.nodes}
    verdict(encapsulation.forwarding(node.facts, {peer: addresses[peer] for peer in peers}))
