"""Judge whether packets to other nodes' pods leave the node as they are or inside a tunnel, by the kernel's own routes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.expect.model import EncapsulationExpectation, Wanted
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.facts import NodeFacts, PeerRoutes

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
STANDING_FOR_PHYSICAL = frozenset({"bond", "team", "vlan", "macvlan", "ipvlan"})

#: Peers to which the way is the same that are told one by one; the rest is counted.
_TOLD = 10


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
    judgement.evidence["devices"] = dict(Counter(routes.dev or "none" for routes in facts.peer_routes for _ in routes.peers))
    unmeasured = set(peers)
    for routes in facts.peer_routes:
        concerned = sorted(routes.peers.keys() & set(peers))
        unmeasured.difference_update(concerned)
        if concerned:
            _judge(judgement, facts, routes, concerned, expect.kind)
    for peer in sorted(unmeasured)[:_TOLD]:
        judgement.error(f"{facts.node}: no route to a pod of {peer} was measured{facts.why('peer_routes')}")
    if len(unmeasured) > _TOLD:
        judgement.error(f"{facts.node}: nor one to a pod of {len(unmeasured) - _TOLD} more nodes")
    return judgement


def _judge(judgement: Judgement, facts: NodeFacts, routes: PeerRoutes, peers: Sequence[str], want: Wanted[str]) -> None:
    """Judge the routes to `peers`, which all go the same way."""
    weight, opening, rest = _way(facts, routes, want)
    # The pod range of a node object is not the pods' under Calico's, Cilium's and AWS' own: it proves no fault.
    proves_nothing = weight is Weight.FAULT and not routes.real_pod
    if weight is None:
        judgement.hold(len(peers))
    for peer in peers[:_TOLD]:
        target = f"{routes.peers[peer]} ({'a pod of' if routes.real_pod else 'in the pod range of'} {peer})"
        message = f"{facts.node}: {opening} {target}{rest}"
        found: Any = {"measured": routes.dev, "wanted": want.value, "command": f"ip -j route get {routes.peers[peer]}"}
        if proves_nothing:
            judgement.inconclusive(f"{message}; no running pod of {peer} was found to ask for", **found)
        elif weight is not None:
            judgement.add(weight, message, **found)
        elif not routes.real_pod:
            judgement.remark(f"{facts.node}: no running pod of {peer} was found, an address of its pod range stands in for one")
    if len(peers) > _TOLD and (weight is not None or not routes.real_pod):
        told = Weight.INCONCLUSIVE if proves_nothing else weight or Weight.REMARK
        judgement.add(told, f"{facts.node}: and the same of {len(peers) - _TOLD} more nodes")


def _way(facts: NodeFacts, routes: PeerRoutes, want: Wanted[str]) -> tuple[Weight | None, str, str]:
    """Return what is to be said of routes that go this way: the words before and after their target. The wanted way has no weight."""
    if routes.error is not None:
        if any(word in routes.error.lower() for word in ("unreachable", "no route", "prohibited", "invalid argument")):
            return Weight.FAULT, "no route to", f": {routes.error}"
        return Weight.ERROR, "the route to", f" was not read: {routes.error}"
    link = facts.host.link(routes.dev) if routes.dev else None
    if link is None:
        return Weight.ERROR, "the route to", f" names no known device ({routes.dev})"
    described = f"{link.name} ({link.kind or 'no virtual device'})"
    if link.name in GATEWAYS or link.kind == "openvswitch":
        rest = f" leads to {described}, behind which the CNI decides; only packets on the wire can tell, want {want}"
        return Weight.INCONCLUSIVE, "the route to", rest
    physical = link.name in facts.physical or link.name == facts.uplink or link.kind in STANDING_FOR_PHYSICAL
    tunnel = link.kind in TUNNEL_KINDS
    if want.value == "none":
        ok = physical and not tunnel
        told = f"{'a tunnel' if tunnel else 'neither uplink nor physical'}; want encapsulation {want}"
    else:
        ok = link.kind in KINDS_OF.get(want.value, {want.value})
        told = f"want a {want.value} device: encapsulation {want}"
    return None if ok else Weight.FAULT, "the route to", f" leaves by {described}, {told}"
