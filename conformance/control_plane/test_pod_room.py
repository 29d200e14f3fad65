from __future__ import annotations

import pytest

from pytest_k8snet.judge import control_plane


@pytest.mark.k8snet_check(id="NET-CONTROL-003", level="read", title="the node has addresses left for pods")
def test_pod_room(node, cluster, verdict):
    """The node's pod range has more addresses than pods that use them.

    Why
        When the range is used up, new pods of the node stay in ContainerCreating with "no IP addresses available in range",
        and the scheduler sends more of them there.
    How it is measured
        The node's podCIDRs and how many pods its kubelet takes, from the API; network namespaces of running pods, counted on
        the node.
    Expected
        An address left in the ranges of each address family. A range smaller than the kubelet's maxPods is advice. Skipped
        under CNIs that give addresses from elsewhere (Calico, AWS), and where the CNI is not known.
    Fix
        Lower maxPods, or give nodes larger ranges (--node-cidr-mask-size; new nodes only). Addresses that are still reserved
        for pods that are gone: /var/lib/cni/networks on the node.
    References
        kubernetes kube-controller-manager --node-cidr-mask-size; CNI plugins/ipam/host-local.
    """
    verdict(control_plane.pod_room(node.facts, node.node, cluster))
