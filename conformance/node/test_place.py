from __future__ import annotations

import pytest

from pytest_k8snet.judge import node


@pytest.mark.k8snet_check(id="NET-NODE-005", level="read", title="nodes are in the regions and zones that are allowed")
def test_place(k8snet_node, expect, verdict):
    """Every node is in a region and a zone that the profile allows.

    Why
        Data that must stay in a country stays there only when every node that may run its pods does; and a node far away
        makes each call to it slow.
    How it is measured
        The node's labels topology.kubernetes.io/region and topology.kubernetes.io/zone, as the API server gives them.
    Expected
        regions and zones of the profile, wildcards allowed (eu-*). A node without the label fails where the profile speaks of
        it. Skipped where it does not.
    Fix
        Remove the node, or set the label where a cloud controller does not.
    References
        kubernetes documentation, well-known labels, annotations and taints.
    """
    verdict(node.place(k8snet_node.node, expect.node))
