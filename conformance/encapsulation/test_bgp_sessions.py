from __future__ import annotations

import pytest

from pytest_k8snet.judge import encapsulation


@pytest.mark.k8snet_check(id="NET-ENCAP-003", level="read", title="BGP sessions of the node are established")
def test_bgp_sessions(node, cluster, k8snet_run, verdict):
    """Every BGP session of the BIRD or the Cilium agent that runs on the node is established, and in a mesh there is one with every node.

    Why
        A session that is down takes its routes with it: pods of some nodes are not reached any more, or by way of a router
        that should not carry their traffic.
    How it is measured
        `show protocols` at BIRD's control sockets on the node: Calico's of both address families (/run/calico/bird.ctl,
        bird6.ctl) and BIRD's own (/run/bird/bird.ctl, /run/bird.ctl, and bird6.ctl beside them); `GET /v1/bgp/peers` at
        /run/cilium/cilium.sock. Asking changes nothing. Where Calico's BIRD cannot be asked (no birdc on a node without
        python3, a socket elsewhere) the node's CalicoNodeStatus with class BGP (and Agent, without which no sessions of a
        family tell nothing) stands in for it, if there is one that was
        written within two minutes of the run's start: calico-node writes it only when something changes, and an old one may
        be that of a calico-node that is dead.
    Expected
        State up, Established, for every protocol of kind BGP; established for every peer of Cilium's. A socket that nobody
        answers at is a fault where the CNI claims that BGP is used (Calico's Installation, calico_backend; Cilium's
        enable-bgp-control-plane), and left over where it claims that it is not. Where a mesh of all nodes is claimed (Calico's
        BGPConfiguration default has not nodeToNodeMeshEnabled false) a session with each ready Linux node of the run is
        configured: with its address of each family by the annotations projectcalico.org/IPv4Address and IPv6Address, a node
        that reflects routes (RouteReflectorClusterID) excepted. Sessions are known by Calico's names of them (Mesh_10_0_0_2). A
        session with a node that is not Ready is a remark: that node is told of by itself. Skipped on nodes without either.
    Fix
        `birdc show protocols all <session>` tells what it waits for. A session that waits in Connect or Active has a peer
        that does not answer at TCP port 179; one that comes and goes has often another AS number than the peer expects. One
        that is not there: confd of calico-node has not written it (`bird.cfg` in the pod, and its log), mostly as it does not
        reach the API server or may not read nodes any more.
    References
        BIRD 2 user's guide, BGP; calico confd/etc/calico/confd/templates/bird.cfg.template; cilium api/v1/openapi.yaml
        (/bgp/peers); calico api/pkg/apis/projectcalico/v3/nodestatus.go, node/pkg/status/reporter.go.
    """
    mesh = encapsulation.mesh_of(cluster, node.name, k8snet_run.nodes)
    reported = cluster.bgp_statuses.get(node.name)
    not_ready = {other.name: other.addresses for other in cluster.nodes if not other.ready}
    verdict(encapsulation.bgp_sessions(node.facts, cluster.claims.get("bgp"), mesh, reported, not_ready))
