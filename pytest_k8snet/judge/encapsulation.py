"""Judge whether packets to other nodes' pods leave the node as they are or inside a tunnel, by the kernel's own routes and on the wire."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from pytest_k8snet.cluster.bgp_status import FAMILIES, BgpStatus
from pytest_k8snet.cluster.model import Claim, Cluster
from pytest_k8snet.expect.model import EncapsulationExpectation, Wanted
from pytest_k8snet.judge import wire
from pytest_k8snet.judge.absence import CILIUM_SOCKET
from pytest_k8snet.judge.model import Judgement, Verdict, Weight
from pytest_k8snet.record.facts import Bgp, BgpSession, Link, NodeFacts, PeerRoutes
from pytest_k8snet.record.wire import Crossing, WireRecord

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
KINDS_OF = {
    "vxlan": {"vxlan"},
    "ipip": {"ipip", "ip6tnl"},
    "geneve": {"geneve"},
    "wireguard": {"wireguard"},
    "fou": {"ipip", "ip6tnl"},  # kube-router's, of devices with a second encapsulation
}

#: Names that CNIs give their tunnel devices; others (a VPN of the node's) are nobody's concern. The kernel makes tunl0 with its module.
_OF_CNIS = re.compile(
    r"tunl0|flannel[.-].+|vxlan(-v6)?\.calico|wireguard\.cali|wg-v6\.cali|cilium_(vxlan|geneve|wg0)|vxlan-6784|genev_sys_\d+"
)

#: Devices behind which a CNI decides by itself (BPF, OVS): a route to one says nothing about the wire.
GATEWAYS = frozenset({"cilium_host", "cilium_net", "antrea-gw0", "ovn-k8s-mp0"})

#: Kinds that only stand for physical ones below them.
STANDING_FOR_PHYSICAL = frozenset({"bond", "team", "vlan", "macvlan", "ipvlan"})

Subnet = IPv4Network | IPv6Network

#: The check of `on_the_wire`.
ON_THE_WIRE = "NET-ENCAP-004"

_DEFAULT = frozenset({"default", "0.0.0.0/0", "::/0"})

_UNSAID = "nothing says whether pods' traffic should be encapsulated: the CNI claims nothing and no profile gives it"

#: Peers to which the way is the same that are told one by one; the rest is counted.
_TOLD = 10


def peers_of(cluster: Cluster, name: str, nodes: Collection[str]) -> list[str]:
    """Return the nodes that the node called `name` has to have a route to: of those of the run, the ready ones that can be measured."""
    chosen = frozenset(nodes)
    return [node.name for node in cluster.nodes if node.name in chosen and node.ready and node.excluded is None and node.name != name]


def routes_to_peers(
    facts: NodeFacts,
    expect: EncapsulationExpectation,
    peers: Sequence[str],
    addresses: Mapping[str, Collection[str]] | None = None,
    *,
    witnessed: bool = False,
    configured: Claim | None = None,
) -> Judgement:
    """Judge the device of the kernel's route to a pod of every peer: physical when nothing is to be encapsulated, else the tunnel.

    Physical is what has hardware behind it and the uplink to the node's InternalIP, be it a NIC, bond, VLAN, bridge or veth. This tells
    what kernel-routed CNIs do; behind a CNI's gateway device it is inconclusive, and left to the packets where the run has those judged
    as well (`witnessed`: by `on_the_wire`). `addresses` are the InternalIPs of nodes: they tell which peers are in the node's subnet
    where only what leaves that is to be encapsulated. `configured` is what Cilium's agent would read if it started now: one that runs with
    something else by its own word is a fault, whatever its routes look like.
    """
    if expect.kind is None and expect.across is not None:
        judgement = _across_subnets(facts, expect.across, peers, addresses or {}, witnessed=witnessed)
    elif expect.kind is None:
        judgement = Judgement.skipped(_UNSAID)
    else:
        judgement = _by_one_kind(facts, expect.kind, peers, addresses or {}, witnessed=witnessed)
        if judgement.checked:
            _leftovers(judgement, facts, expect.kind)
    _runs_as_configured(judgement, facts, configured)
    return judgement


def _runs_as_configured(judgement: Judgement, facts: NodeFacts, configured: Claim | None) -> None:
    """Find Cilium's agent at fault that was not restarted since its configuration was changed: it reads that once."""
    routing = None if facts.cilium is None else facts.cilium.routing
    if routing is None:
        return
    judgement.evidence["Cilium's agent"] = f"{routing.described}, by {routing.path}"
    if configured is None or configured.value is None:
        return
    mode, _, tunnel = str(configured.value).partition(" ")
    # The agent's API has no word for hybrid, which is a tunnel to some nodes (api/v1/models/routing.go).
    same_mode = routing.mode == mode or {routing.mode, mode} == {"tunnel", "hybrid"}
    same_tunnel = mode == "native" or not routing.tunnel or routing.tunnel == tunnel
    if not (same_mode and same_tunnel):
        wanted = f"{mode} ({tunnel})" if tunnel else mode
        judgement.add(
            Weight.FAULT,
            f"{facts.node}: Cilium's agent runs in routing mode {routing.described}, want {wanted} as {configured.source} says now: "
            "it has not been restarted since that was changed",
            measured=routing.described,
            wanted=wanted,
            command=f"curl --unix-socket {CILIUM_SOCKET} http://localhost{routing.path}",
        )


def _by_one_kind(
    facts: NodeFacts, want: Wanted[str], peers: Sequence[str], addresses: Mapping[str, Collection[str]], *, witnessed: bool
) -> Judgement:
    """Judge the routes to peers that are all to be reached in the same way."""
    if not peers:
        return Judgement.skipped("there is no other node to have a route to")
    judgement = Judgement(want=f"encapsulation {want}")
    judgement.evidence["devices"] = dict(Counter(routes.dev or "none" for routes in facts.peer_routes for _ in routes.peers))
    hidden: dict[str, None] = {}
    unmeasured = set(peers)
    astray = _by_the_default_route_alone(facts, peers, addresses) if want.value == "none" else {}
    for routes in facts.peer_routes:
        concerned = sorted(routes.peers.keys() & set(peers))
        unmeasured.difference_update(concerned)
        rest = [peer for peer in concerned if routes.peers[peer] not in astray]
        if rest and witnessed and facts.pod is not None and (gateway := _gateway(facts, routes)) is not None:
            hidden[f"routes lead to {gateway}, behind which the CNI decides: {ON_THE_WIRE} judges the packets"] = None
        elif rest:
            _judge(judgement, facts, routes, rest, want)
    for _, message in sorted(astray.items())[:_TOLD]:
        judgement.check(False, f"{facts.node}: {message}", measured="default route", wanted="a route of its own", command="ip route")
    if len(astray) > _TOLD:
        judgement.check(False, f"{facts.node}: and the same of {len(astray) - _TOLD} more nodes")
    for peer in sorted(unmeasured)[:_TOLD]:
        judgement.error(f"{facts.node}: no route to a pod of {peer} was measured{facts.why('peer_routes')}")
    if len(unmeasured) > _TOLD:
        judgement.error(f"{facts.node}: nor one to a pod of {len(unmeasured) - _TOLD} more nodes")
    for reason in hidden:
        judgement.remark(f"{facts.node}: {reason}")
    return _unless_all_hidden(judgement, [*hidden])


def _leftovers(judgement: Judgement, facts: NodeFacts, want: Wanted[str]) -> None:
    """Tell of tunnel devices of CNIs that are up and carry nothing: of another mode, or of a CNI that is gone. They harm nobody."""
    used = {routes.dev for routes in facts.peer_routes}
    if any((link := facts.host.link(dev or "")) is not None and _is_gateway(link) for dev in used):
        return  # behind it a tunnel may well be in use
    for link in facts.host.links:
        wanted = link.kind in KINDS_OF.get(want.value, ())
        if link.up and link.kind in TUNNEL_KINDS and link.name not in used and not wanted and _OF_CNIS.fullmatch(link.name):
            judgement.remark(
                f"{facts.node}: {_described(link)} is up and no route to another node's pods leaves by it: left over from another mode?",
                command=f"ip -d link show {link.name}",
            )


def _unless_all_hidden(judgement: Judgement, reasons: Sequence[str]) -> Judgement:
    """Return the judgement; one that does not apply when every route was left to the packets, for these reasons."""
    if not reasons or judgement.checked or any(finding.weight is not Weight.REMARK for finding in judgement.findings):
        return judgement
    skipped = Judgement.skipped("; ".join(reasons))
    skipped.evidence.update(judgement.evidence)
    return skipped


def _across_subnets(
    facts: NodeFacts, across: Wanted[str], peers: Sequence[str], addresses: Mapping[str, Collection[str]], *, witnessed: bool
) -> Judgement:
    """Judge each peer by where it is: within the node's subnet nothing is to be encapsulated, beyond it by the kind of `across`."""
    subnets = subnets_of(facts)
    judgement = Judgement(want=f"encapsulation {across.value} to other subnets, none within one")
    groups: dict[bool, list[str]] = {True: [], False: []}
    for peer in peers:
        if not addresses.get(peer) or not subnets:
            judgement.error(f"{facts.node}: whether {peer} is in the node's subnet is not known: {_unknown(subnets, peer)}")
        else:
            groups[within(subnets, addresses[peer])].append(peer)
    hidden: dict[str, None] = {}
    wants = {True: Wanted("none", f"within a subnet, {across.origin}"), False: Wanted(across.value, f"across subnets, {across.origin}")}
    for inside, group in groups.items():
        if group:
            part = _by_one_kind(facts, wants[inside], group, addresses, witnessed=witnessed)
            if part.verdict is Verdict.SKIP:
                hidden[part.message] = None
            judgement.hold(part.checked)
            judgement.findings += part.findings
            judgement.evidence["devices within the subnet" if inside else "devices across subnets"] = part.evidence["devices"]
    return _unless_all_hidden(judgement, [*hidden]) if peers else Judgement.skipped("there is no other node to have a route to")


def subnets_of(facts: NodeFacts) -> list[Subnet]:
    """Return the subnets that the node's uplink is in, by its routes without a gateway."""
    return [
        ip_network(route.dst) for route in facts.host.routes if route.dev == facts.uplink and route.gateway is None and "/" in route.dst
    ]


def within(subnets: Iterable[Subnet], addresses: Collection[str]) -> bool:
    """Whether one of a node's addresses is in one of the subnets."""
    return any(ip_address(address) in subnet for address in addresses for subnet in subnets)


def _unknown(subnets: Sequence[object], peer: str) -> str:
    return f"{peer} has no InternalIP" if subnets else "no route by the uplink without a gateway was read (ip -j route)"


def on_the_wire(
    record: WireRecord,
    expect: EncapsulationExpectation,
    addresses: Mapping[str, Collection[str]],
    facts: Callable[[], NodeFacts],
) -> Judgement:
    """Judge that every packet to other nodes' pods crosses the wire as wanted. `addresses` are the InternalIPs of nodes.

    `facts` are the node's: they tell which nodes are in its subnet where only what leaves that is to be encapsulated.
    """
    wanted = expect.anywhere
    if wanted is None:
        judgement = Judgement.skipped(_UNSAID)
        judgement.evidence["pairs"] = wire.evidence(record)
        return judgement
    judgement = Judgement(want=f"encapsulation {wanted}{'' if expect.kind else ' to other subnets, none within one'}")
    subnets = subnets_of(facts()) if expect.kind is None else []

    def judge(crossing: Crossing) -> None:
        if expect.kind is not None:
            want = expect.kind
        elif not subnets or not addresses.get(crossing.target):
            why = _unknown(subnets, crossing.target)
            judgement.error(f"{record.node}: whether {crossing.target} is in the node's subnet is not known: {why}")
            return
        elif within(subnets, addresses[crossing.target]):
            want = Wanted("none", f"within a subnet, {wanted.origin}")
        else:
            want = Wanted(wanted.value, f"across subnets, {wanted.origin}")
        wire.crosses_as_wanted(judgement, record.node, crossing, want)

    return wire.each_crossing(judgement, record, judge)


def forwarding(facts: NodeFacts, peers: Mapping[str, Collection[str]]) -> Judgement:
    """Judge whether vxlan devices that do not learn know behind which node every peer is. `peers`: node to its InternalIPs.

    Such a device (flannel's, Calico's) sends nothing where its neighbour and forwarding entries do not lead, and nothing tells so.
    """
    judgement = Judgement(want="a neighbour and a forwarding entry that lead to each node")
    if "forwarding" in facts.errors:
        judgement.error(f"{facts.node}: the entries of vxlan devices were not read{facts.why('forwarding')}")
        return judgement
    if "peer_routes" in facts.errors and facts.forwarding:
        judgement.error(f"{facts.node}: which next hops lead to other nodes' pods was not read{facts.why('peer_routes')}")
        return judgement
    lost: list[tuple[str, str]] = []
    for routes in facts.peer_routes:
        known = facts.forwarding.get(routes.dev or "")
        for peer in sorted(routes.peers.keys() & peers.keys()) if known is not None else ():
            hop = routes.gateways.get(peer) or routes.peers[peer]
            wrong = _misled(known or {}, hop, peers[peer])
            judgement.hold(1)
            if wrong is not None:
                lost.append((f"{facts.node}: {routes.dev} {wrong}, the next hop to pods of {peer}", f"bridge fdb show dev {routes.dev}"))
    for message, command in lost[:_TOLD]:
        judgement.add(Weight.FAULT, message, command=command)
    if len(lost) > _TOLD:
        judgement.add(Weight.FAULT, f"{facts.node}: and the same of {len(lost) - _TOLD} more nodes")
    if not judgement.checked:
        return Judgement.skipped("no route to another node's pods leaves by a vxlan device that has to be told where they are")
    return judgement


def _misled(known: Mapping[str, Sequence[str]], hop: str, wanted: Collection[str]) -> str | None:
    """Return what is wrong with a device's entries for a next hop, None when they lead to the node with one of the `wanted` addresses."""
    if hop not in known:
        return f"has no neighbour entry for {hop}"
    if not known[hop]:
        return f"has no forwarding entry for {hop}"
    if wanted and not set(wanted) & set(known[hop]):
        return f"sends to {', '.join(known[hop])} instead of {' or '.join(wanted)} for {hop}"
    return None


def mesh_of(cluster: Cluster, name: str, nodes: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the nodes that the node called `name` should have a BGP session with, and by which of their addresses; none without a mesh.

    In a mesh are the nodes whose address for BGP is known, but no route reflectors: so Calico's BIRD is configured (bird.cfg.template).
    """
    claim, own = cluster.claims.get("bgp"), cluster.node(name)
    if claim is None or claim.value != "mesh" or own.route_reflector:
        return {}
    families = {":" in address for address in own.bgp_addresses}
    mesh = {}
    for peer in map(cluster.node, peers_of(cluster, name, nodes)):
        addresses = tuple(item for item in peer.bgp_addresses if (":" in item) in families and item not in own.bgp_addresses)
        if addresses and not peer.route_reflector:
            mesh[peer.name] = addresses
    return mesh


def bgp_sessions(
    facts: NodeFacts,
    claim: Claim | None = None,
    mesh: Mapping[str, Collection[str]] | None = None,
    reported: BgpStatus | None = None,
    not_ready: Mapping[str, Collection[str]] | None = None,
) -> Judgement:
    """Judge whether every BGP session of the node, BIRD's or Cilium's, is established: without it the routes it would bring are not there.

    `not_ready` are nodes that are not, by their InternalIPs: that a session with one of them waits is that node's matter.
    `claim` is what the CNI says of BGP (mesh, peers or none). Where it is used a socket that nobody answers at is that of one who is dead;
    elsewhere it is left over. With each node of `mesh` (`mesh_of`) BIRD should have a session: one that is not even configured is missed
    as one that is down. What calico-node has `reported` of its BIRDs counts for those that could not be asked, if it is fresh.
    """
    judgement = Judgement(want="every BGP session established")
    if "bgp" in facts.errors:
        about = f"{facts.node}: BIRD was not asked for its sessions{facts.why('bgp')}"
        if not _by_report(judgement, facts, reported, FAMILIES, mesh or {}, claim, about):
            judgement.error(about)
        return judgement
    speaking = [speaker for speaker in facts.bgp if speaker.error is None]
    silent = [speaker for speaker in facts.bgp if speaker.error is not None]
    used = None if claim is None or claim.value is None else claim.value != "none"
    judgement.evidence["sessions"] = sum(len(speaker.sessions) for speaker in speaking)
    for speaker in speaking:
        for session in speaker.sessions:
            other = _at_other_end(session, not_ready or {})
            found = f"{session.state} ({session.info})" if session.info else session.state
            if other is not None and not session.established:
                judgement.remark(f"{facts.node}: BGP session {session.name} is {found}: {other}, its other end, is not Ready")
                continue
            judgement.check(
                session.established,
                f"{facts.node}: BGP session {session.name} is {found}, want {speaker.wanted}",
                measured=found,
                wanted=speaker.wanted,
                command=speaker.command,
            )
    if claim is not None and mesh:
        birds = [speaker for speaker in speaking if not speaker.of_cilium]
        unknown = [speaker for speaker in silent if not (speaker.of_cilium or speaker.is_gone)]
        asked = {family for family in FAMILIES if all(bird.of_calico and bird.family != family for bird in unknown)}
        known = {peer: [item for item in addresses if _family(item) in asked] for peer, addresses in mesh.items()}
        # One of the node's own beside Calico's speaks to whom it likes.
        _missing(judgement, facts, [bird for bird in birds if bird.of_calico] or birds, known, claim)
    for speaker in silent:
        about = f"{facts.node}: {speaker.error}"
        if speaker.is_gone and used and not speaking and claim is not None:
            judgement.check(False, f"{about}; the node should speak BGP ({claim.source})", command=speaker.command)
        elif speaker.is_gone and (speaking or used is False or speaker.of_cilium):
            judgement.remark(f"{about}: the socket is left over", command=speaker.command)
        elif speaker.of_cilium and not used:
            judgement.remark(f"{about}: whether it speaks BGP is not known", command=speaker.command)
        elif not (speaker.of_calico and _by_report(judgement, facts, reported, (speaker.family,), mesh or {}, claim, about)):
            judgement.error(f"{about}: which BGP sessions there are is not known", command=speaker.command)
    if not facts.bgp and claim is not None and used:
        _by_report(judgement, facts, reported, FAMILIES, mesh or {}, claim, f"{facts.node}: no socket of BIRD was found")
    if not judgement.checked and not any(finding.weight is Weight.ERROR for finding in judgement.findings):
        judgement.skip_reason = _why_no_session(speaking, silent, claim if used else None)
    return judgement


def _at_other_end(session: BgpSession, nodes: Mapping[str, Collection[str]]) -> str | None:
    """Return which of these nodes (by their addresses) a session is with, by its name."""
    address = session.peer_address or session.name.split()[0]  # Cilium's begin with it
    return next((node for node, addresses in nodes.items() if address in addresses or session.name == node.replace("-", "_")), None)


def _missing(judgement: Judgement, facts: NodeFacts, birds: Sequence[Bgp], mesh: Mapping[str, Collection[str]], claim: Claim) -> None:
    """Judge whether there is a session with each address of the mesh. Nothing is missed where the name of one does not tell its peer."""
    sessions = [session for speaker in birds for session in speaker.sessions]
    named = {peer.replace("-", "_"): peer for peer in mesh}
    strangers = [session.name for session in sessions if session.peer_address is None and session.name not in named]
    if strangers:
        judgement.remark(
            f"{facts.node}: which node BGP session {strangers[0]} leads to is not known, so none is missed of the mesh ({claim.source})",
            command=birds[0].command,
        )
    if strangers or not birds:
        return
    met = {session.peer_address for session in sessions}
    by_name = {named[session.name] for session in sessions if session.name in named}
    wanted = {address: peer for peer, addresses in sorted(mesh.items()) for address in addresses}
    with_session = {address for address, peer in wanted.items() if address in met or peer in by_name}
    _missed(judgement, facts, wanted, with_session, claim, birds[0].command)


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def _missed(judgement: Judgement, facts: NodeFacts, wanted: Mapping[str, str], met: Collection[str], claim: Claim, command: str) -> None:
    """Judge whether there is a session with each address of `wanted` (address to node); `met` are those with one."""
    missing = [f"{address} ({peer})" for address, peer in wanted.items() if address not in met]
    judgement.hold(len(wanted) - len(missing))
    for peer in missing[:_TOLD]:
        message = f"{facts.node}: no BGP session with {peer} is configured, want one with every node ({claim.source})"
        judgement.check(False, message, measured="none", wanted="a session", command=command)
    if len(missing) > _TOLD:
        judgement.check(False, f"{facts.node}: nor with {len(missing) - _TOLD} more")


def _by_report(
    judgement: Judgement,
    facts: NodeFacts,
    reported: BgpStatus | None,
    families: Collection[int],
    mesh: Mapping[str, Collection[str]],
    claim: Claim | None,
    about: str,
) -> bool:
    """Judge the sessions of these families by what calico-node reports, in place of what is said in `about`; return whether that tells.

    A report without peers of a family is not always a node without sessions of it: see `BgpStatus.has_all`.
    """
    if reported is None:
        return False
    name = f"CalicoNodeStatus {reported.name}"
    if reported.why_no_proof is not None:
        judgement.remark(f"{facts.node}: {name} does not stand in for BIRD's own word: {reported.why_no_proof}")
        return False
    command = f"kubectl get caliconodestatuses {reported.name} -o yaml"
    untold = set(families)
    told = False
    for family in families:
        peers = [peer for peer in reported.peers if peer.family == family]
        wanted = {item: node for node, items in sorted(mesh.items()) for item in items if _family(item) == family}
        for peer in peers:
            found = peer.state or "in no state that Calico knows"
            judgement.check(
                peer.state == "Established",
                f"{facts.node}: BGP session with {peer.address} ({peer.kind}) is {found}, want Established",
                measured=found,
                wanted="Established",
                command=command,
            )
        dead = bool(wanted) and not peers and family in reported.not_ready
        if dead and claim is not None:
            about_bird = f"{facts.node}: calico-node does not reach its BIRD of IPv{family} (NotReady)"
            judgement.check(False, f"{about_bird}; the node should speak BGP ({claim.source})", measured="NotReady", command=command)
        elif reported.has_all(family) and wanted and claim is not None:
            _missed(judgement, facts, wanted, {peer.address for peer in peers}, claim, command)
        if dead or reported.has_all(family):
            told = True
            untold.discard(family)
        elif not wanted and len(families) > 1:
            untold.discard(family)  # nothing is to be expected of it
    if told:
        judgement.remark(f"{about}: {name} tells, written {max(reported.age_s or 0, 0):.0f} s before the run began", command=command)
    return told and not untold


def _why_no_session(speaking: Sequence[Bgp], silent: Sequence[Bgp], claim: Claim | None) -> str:
    if any(speaker.sessions for speaker in speaking):
        return "every other end of this node's BGP sessions is a node that is not Ready"
    if speaking:
        return f"{' and '.join(speaker.who for speaker in speaking)} of this node has no BGP session"
    if silent:
        return f"nobody tells of BGP at {' and '.join(speaker.socket for speaker in silent)}, and nothing says that it is spoken here"
    if claim is not None:
        return f"no socket of BIRD was found on this node, where one should speak BGP ({claim.source})"
    return "no BIRD runs on this node, and Cilium speaks no BGP"


def _by_the_default_route_alone(facts: NodeFacts, peers: Sequence[str], addresses: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Return what to say of peers' pods' addresses that only the default route leads to, where other peers' pods have routes of their own.

    Where all of a family go by the default route the network knows the way (the route tables of clouds); where some do, the node was not
    told of these. Peers in other subnets are told apart: in a routed fabric and between a cloud's zones the router knows the way to all of
    them. A pod with an address of the node's own subnet (AWS, Azure) has no route of its own: that subnet has one.
    """
    if facts.host.routes_total > len(facts.host.routes):
        return {}  # the routes that were not kept may be theirs
    gateways = {route.gateway for route in facts.host.routes if route.dst in _DEFAULT}
    own = [ip_network(route.dst) for route in facts.host.routes if route.dst not in _DEFAULT]
    wanted = set(peers)
    asked = [(routes, peer) for routes in facts.peer_routes if routes.dev is not None for peer in routes.peers if peer in wanted]
    subnets = subnets_of(facts)
    astray: dict[tuple[bool, bool], dict[str, str]] = {}  # by whether it is of IPv6, and whether its node is in another subnet
    told: set[tuple[bool, bool]] = set()
    for routes, peer in asked:
        gateway, address = routes.gateways.get(peer), routes.peers[peer]
        kind = ":" in address, bool(subnets and addresses.get(peer)) and not within(subnets, addresses[peer])
        if gateway is not None and gateway in gateways and not any(ip_address(address) in network for network in own):
            what = "a pod of" if routes.real_pod else "in the pod range of"
            astray.setdefault(kind, {})[address] = (
                f"only the default route, via {gateway}, leads to {address} ({what} {peer}); other nodes' pods have routes"
            )
        elif gateway is not None or routes.dev != facts.uplink:
            told.add(kind)
    return {address: text for kind, found in astray.items() if kind in told for address, text in found.items()}


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


def _gateway(facts: NodeFacts, routes: PeerRoutes) -> str | None:
    """Return the device of these routes behind which a CNI decides by itself, None when it is none."""
    link = facts.host.link(routes.dev) if routes.dev and routes.error is None else None
    return _described(link) if link is not None and _is_gateway(link) else None


def _is_gateway(link: Link) -> bool:
    return link.name in GATEWAYS or link.kind == "openvswitch"


def _described(link: Link) -> str:
    return f"{link.name} ({link.kind or 'no virtual device'})"


def _way(facts: NodeFacts, routes: PeerRoutes, want: Wanted[str]) -> tuple[Weight | None, str, str]:
    """Return what is to be said of routes that go this way: the words before and after their target. The wanted way has no weight."""
    if routes.error is not None:
        if any(word in routes.error.lower() for word in ("unreachable", "no route", "prohibited", "invalid argument")):
            return Weight.FAULT, "no route to", f": {routes.error}"
        return Weight.ERROR, "the route to", f" was not read: {routes.error}"
    link = facts.host.link(routes.dev) if routes.dev else None
    if link is None:
        return Weight.ERROR, "the route to", f" names no known device ({routes.dev})"
    described = _described(link)
    if _gateway(facts, routes) is not None:
        rest = f" leads to {described}, behind which the CNI decides; only packets on the wire can tell, want {want}"
        return Weight.INCONCLUSIVE, "the route to", rest
    physical = link.name in facts.physical or link.name == facts.uplink or link.kind in STANDING_FOR_PHYSICAL
    tunnel = link.kind in TUNNEL_KINDS
    if want.value == "none":
        ok = physical and not tunnel
        told = f"{'a tunnel' if tunnel else 'neither uplink nor physical'}; want encapsulation {want}"
    else:
        ok = link.kind in KINDS_OF.get(want.value, {want.value})
        told = f"want {'an' if want.value.startswith('i') else 'a'} {want.value} device: encapsulation {want}"
    return None if ok else Weight.FAULT, "the route to", f" leaves by {described}, {told}"
