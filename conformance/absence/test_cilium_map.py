from __future__ import annotations

import pytest

from pytest_k8snet.judge import absence


@pytest.mark.k8snet_check(id="NET-ABSENCE-007", level="read", title="Cilium's maps are what Services and EndpointSlices ask for")
def test_cilium_map(cluster, node, verdict):
    """Every Service port leads to its endpoints and to nothing else: in the kernel's maps, nothing is missing and nothing is stale.

    Why
        An agent that is cut off from the API server, or that cannot write to a map (full, or of another size after an
        upgrade), keeps serving what was there before. Its own status and its list of Services come from its memory: they do not
        show what packets meet.
    How it is measured
        Cilium's maps cilium_lb4_services_v2 and cilium_lb4_backends_v3 (lb6 for IPv6), read from where they are pinned by
        bpf(2), beside the Services and EndpointSlices listed right after. When they differ they are read again until
        one sync period (30 s) has passed. Objects that changed meanwhile are not judged.
    Expected
        A frontend for every port at every address of the Service, NodePorts at addresses of the node that have any, with the ready
        endpoints, else serving and terminating ones; Local policies take the node's own. Topology hints may be heeded or
        not. Not judged: hostPorts of pods, what a CiliumLocalRedirectPolicy leads elsewhere, Services with endpoints in other
        clusters of a mesh, for some nodes alone (service.cilium.io/node) or without an EndpointSlice.
        Until Cilium 1.17 maps hold no protocols: one address and port is the same for TCP and UDP.
        Skipped where Cilium does not replace kube-proxy. Maps that are laid out otherwise than in Cilium 1.13 to 1.18 are an
        error, and nodes without python3 cannot be asked.
    Fix
        Look at the agent's log on the node (can it reach the API server? is a map full?), then restart it: it writes all maps.
    References
        cilium bpf/lib/common.h (lb4_key, lb4_service, lb4_backend); cilium-dbg bpf lb list.
    """
    verdict(absence.cilium_map_matches(node.document("ipvs"), node.late_facts, cluster.cni, node.node.internal_ip))
