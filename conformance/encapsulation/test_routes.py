from __future__ import annotations

import pytest

from pytest_k8snet.judge import encapsulation


@pytest.mark.k8snet_check(id="NET-ENCAP-001", level="read", title="routes to other nodes' pods leave as the network is meant to")
def test_routes(node, cluster, expect, k8snet_run, verdict):
    """The kernel's route to a pod of every other node leaves by a physical device, or by the tunnel that is expected.

    Why
        A CNI that falls back to a tunnel for one peer costs MTU, CPU and throughput on that path only, and nothing reports
        it.
    How it is measured
        `ip -j route get` to a real pod's address on every other node (an address of its pod range when there is none), of
        each address family that pods have, and `ip -j -d link` for the kind of the device. The pod range of the node object is
        not trusted: Calico, Cilium and AWS have their own. Of Cilium's agent its own word, `routing` of `GET /v1/healthz` at
        /run/cilium/cilium.sock, until 1.15 RoutingMode of `GET /v1/config`.
    Expected
        encapsulation of the profile; else the CNI's claim. none: the uplink to the node's InternalIP (NIC, bond, VLAN,
        bridge or veth) or another physical device; where pods of other nodes of a subnet have routes, not the default route alone. vxlan,
        ipip, geneve, wireguard: a device of that kind. Calico's CrossSubnet and flannel's DirectRouting: none to nodes whose
        InternalIP is in a subnet of the node's uplink, that kind to all others. Behind a gateway
        device (cilium_host, antrea-gw0, ovn-k8s-mp0, OVS) routes tell nothing: inconclusive, or skipped where the run has
        the packets judged (NET-ENCAP-004, from level probe on). Inconclusive is a route that is not as
        expected to a node of which no running pod was found. Ready Linux nodes of the run count. A CNI's tunnel device that is up
        and that no such route leaves by (tunl0 of another mode) is a remark. Cilium's agent runs in the routing mode, and with the
        tunnel, that routing-mode and tunnel-protocol of its ConfigMap (and CiliumNodeConfigs) say now: it reads them once, at
        its start. Of an agent with flags of that kind, and of one that does not tell, nothing is said.
    Fix
        Calico: ipipMode and vxlanMode of the IPPool. Flannel: Backend.Type and DirectRouting. Cilium: routing-mode, and a
        restart of its DaemonSet after each change. Then look for the route by hand: `ip route get <address>`.
    References
        cilium pkg/mtu, api/v1/models/routing.go, daemon/cmd/config.go; calico api/pkg/apis/projectcalico/v3/ippool.go;
        flannel Documentation/backends.md.
    """
    peers = encapsulation.peers_of(cluster, node.name, k8snet_run.nodes)
    addresses = {other.name: other.addresses for other in cluster.nodes}
    witnessed = k8snet_run.has_check(encapsulation.ON_THE_WIRE)
    configured = cluster.claim_of(node.name, "cilium.routing")
    verdict(encapsulation.routes_to_peers(node.facts, expect.encapsulation, peers, addresses, witnessed=witnessed, configured=configured))
