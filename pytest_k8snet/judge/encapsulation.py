"""Judge whether packets to other nodes' pods leave the node as they are or inside a tunnel, by the kernel's own routes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.expect.model import EncapsulationExpectation
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.facts import NodeFacts, PeerRoute

#: Kinds of device (``ip -d link``) that put packets into others.
TUNNEL_KINDS = frozenset(
    {
        "vxlan",
        "geneve",
        "ipip",
        "ip6tnl",
        "sit",
        "gre",
        "gretap",
        "ip6gre",
        "ip6gretap",
        "erspan",
        "wireguard",
        "xfrm",
        "vti",
        "vti6",
        "tun",
    }
)

#: Kinds that a wanted encapsulation may show as.
KINDS_OF = {"vxlan": {"vxlan"}, "ipip": {"ipip", "ip6tnl"}, "geneve": {"geneve"}, "wireguard": {"wireguard"}}

#: Devices behind which a CNI decides by itself (BPF, OVS): a route to one says nothing about the wire.
GATEWAYS = frozenset({"cilium_host", "cilium_net", "antrea-gw0", "ovn-k8s-mp0"})

#: Kinds that only stand for physical ones below them.
_STANDING_FOR_PHYSICAL = frozenset({"bond", "team", "vlan", "macvlan", "ipvlan"})


def peers_of(cluster: Cluster, name: str, nodes: Collection[str]) -> list[str]:
    """Return the nodes that the node called `name` has to have a route to: of those of the run, the ready ones that can be measured."""
    chosen = frozenset(nodes)
    return [node.name for node in cluster.nodes if node.name in chosen and node.ready and node.excluded is None and node.name != name]


def routes_to_peers(facts: NodeFacts, expect: EncapsulationExpectation, peers: Sequence[str]) -> Judgement:
    """Judge the device of the kernel's route to a pod of every peer: physical when nothing is to be encapsulated, else the tunnel.

    Physical is what has hardware behind it and the uplink to the node's InternalIP, be it a NIC, bond, VLAN, bridge or veth. This tells
    what kernel-routed CNIs do; behind a CNI's gateway device it is inconclusive.
    """
    if expect.kind is None:
        return Judgement.skipped(
            "nothing says whether pods' traffic should be encapsulated: the CNI claims nothing and no profile gives it"
        )
    if not peers:
        return Judgement.skipped("there is no other node to have a route to")
    judgement = Judgement(want=f"encapsulation {expect.kind}")
    routes = {route.peer: route for route in facts.peer_routes}
    judgement.evidence["devices"] = dict(Counter(route.dev or "none" for route in routes.values()))
    for peer in sorted(peers):
        route = routes.get(peer)
        if route is None:
            judgement.error(f"{facts.node}: no route to a pod of {peer} was measured{facts.why('peer_routes')}")
            continue
        _judge(judgement, facts, route, expect.kind.value, str(expect.kind))
    return judgement


def _judge(judgement: Judgement, facts: NodeFacts, route: PeerRoute, want: str, told: str) -> None:
    command = f"ip -j route get {route.address}"
    target = f"{route.address} ({'a pod of' if route.real_pod else 'in the pod range of'} {route.peer})"
    if route.error is not None:
        if any(word in route.error.lower() for word in ("unreachable", "no route", "prohibited", "invalid argument")):
            _hold(judgement, route, False, f"{facts.node}: no route to {target}: {route.error}", command, want)
        else:
            judgement.error(f"{facts.node}: the route to {target} was not read: {route.error}", command=command)
        return
    link = facts.host.link(route.dev) if route.dev else None
    if route.dev is None or link is None:
        judgement.error(f"{facts.node}: the route to {target} names no known device ({route.dev})", command=command)
        return
    described = f"{link.name} ({link.kind or 'no virtual device'})"
    if link.name in GATEWAYS or link.kind == "openvswitch":
        judgement.inconclusive(
            f"{facts.node}: the route to {target} leads to {described}, behind which the CNI decides; "
            f"only packets on the wire can tell, want {told}",
            command=command,
        )
        return
    physical = link.name in facts.physical or link.name == facts.uplink or link.kind in _STANDING_FOR_PHYSICAL
    tunnel = link.kind in TUNNEL_KINDS
    if want == "none":
        ok = physical and not tunnel
        told = f"{'a tunnel' if tunnel else 'neither uplink nor physical'}; want encapsulation {told}"
    else:
        ok = link.kind in KINDS_OF.get(want, {want})
        told = f"want a {want} device: encapsulation {told}"
    _hold(judgement, route, ok, f"{facts.node}: the route to {target} leaves by {described}, {told}", command, want, link.kind or link.name)
    if not route.real_pod:
        judgement.remark(f"{facts.node}: no running pod of {route.peer} was found, an address of its pod range stands in for one")


def _hold(judgement: Judgement, route: PeerRoute, ok: bool, message: str, command: str, want: str, measured: str | None = None) -> None:
    """Check a route. The pod range of a node object is not the pods' under Calico's, Cilium's and AWS' own: it proves no fault."""
    if ok or route.real_pod:
        judgement.check(ok, message, measured=measured, wanted=want, command=command)
    else:
        judgement.inconclusive(
            f"{message}; no running pod of {route.peer} was found to ask for", measured=measured, wanted=want, command=command
        )
