from __future__ import annotations

import pytest

from pytest_k8snet.judge import control_plane


@pytest.mark.k8snet_check(id="NET-CONTROL-005", level="read", title="no route leads to a node that is gone")
def test_stale_routes(node, cluster, verdict):
    """Every route into the pods' range leads to a node that the cluster has.

    Why
        A range whose node is gone is given to a new node: packets for its pods go to the old one's address until the route is
        corrected, from this node alone.
    How it is measured
        The first 100 routes of the node's main table, beside nodes' addresses and pod ranges from the API.
    Expected
        A route within the pods' range is for the pod range of a node; under CNIs with ranges of their own (Calico) its gateway
        on the uplink is a node. Where no object tells the pods' range (k3s with its own), routes that have a node's size, a
        device that leads to other nodes' pods, and are amid nodes' ranges or of an overlay; skipped under CNIs with ranges of
        their own.
    Fix
        Restart the CNI's pod on the node; `ip route del` what is left then.
    References
        Flannel pkg/backend/route_network.go; Calico felix (route table), BIRD.
    """
    verdict(control_plane.stale_routes(node.facts, cluster))
