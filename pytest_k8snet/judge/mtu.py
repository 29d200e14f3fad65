"""Judge MTUs: what a packet really meets, in pods, on the uplink and on the tunnel device. All in bytes, IP header included."""

from __future__ import annotations

from pytest_k8snet.expect.model import EncapsulationExpectation, MtuExpectation, Wanted
from pytest_k8snet.judge.encapsulation import KINDS_OF
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.facts import NetNamespace, NodeFacts, Route
from pytest_k8snet.record.pathmtu import Path, PathMtuRecord, Way

#: Bytes that an encapsulation over IPv4 takes from the underlay's MTU: the least it can be (IPv6 takes 20 more, options more still).
#: VXLAN 20 IP + 8 UDP + 8 VXLAN + 14 Ethernet [cilium pkg/mtu/mtu.go; calico felix/dataplane/linux/int_dataplane.go].
#: Of others that a CNI may claim (flannel's udp, Antrea's gre and stt, kube-router's fou) nothing is known but that they take something.
OVERHEAD = {"none": 0, "ipip": 20, "vxlan": 50, "geneve": 50, "wireguard": 60}
_MORE_OVER_IPV6 = 20

#: Bytes of IP and TCP headers, and of the option that most connections have in every segment.
_TCP_IPV4, _TCP_IPV6, _TIMESTAMPS = 40, 60, 12

_ROUTES = "ip -j route"
_DATAGRAMS = "UDP, IP_MTU_DISCOVER=IP_PMTUDISC_PROBE"
_TCP_INFO = "getsockopt TCP_INFO"
_CUT_OFF = "nothing of this node's pod gets to any other node's: NET-REACH-001 judges that"
_FLANNEL = "/run/flannel/subnet.env"
_ARITHMETIC = "uplink less encapsulation"

#: Shares of packets answered: what meets fewer large and more small ones than these is no loss that meets all sizes alike.
_HALF, _NEARLY_ALL = 0.5, 0.9


def pod_mtu(facts: NodeFacts, expect: MtuExpectation, encapsulation: EncapsulationExpectation) -> Judgement:
    """Judge the MTU of the probe pod's routes: what a packet meets, whatever the interface says.

    Cilium leaves the interface at the uplink's MTU and lowers the route, so the interface alone would mislead.
    """
    if facts.pod_absent is not None:
        return Judgement.beyond_reach(facts.pod_absent)
    wanted = _wanted_of_pods(facts, expect, encapsulation)
    judgement = Judgement(want=_told(wanted))
    if facts.pod is None:
        judgement.error(f"{facts.node}: the probe pod was not measured: {facts.pod_error or 'no reason recorded'}")
        return judgement
    if wanted is None:
        return _by_arithmetic(judgement, facts, facts.pod, "probe pod", expect, encapsulation)
    _routes(judgement, facts.node, facts.pod, "probe pod", wanted)
    room = _room(facts, expect, encapsulation)
    if expect.pod is None and room is not None and wanted.value < room:
        judgement.advise(f"{facts.node}: {_FLANNEL} gives pods {wanted.value}, {room} would fit ({_ARITHMETIC})", command=f"cat {_FLANNEL}")
    return judgement


def existing_pods_mtu(facts: NodeFacts, expect: MtuExpectation, encapsulation: EncapsulationExpectation) -> Judgement:
    """Judge the MTU of the pods that were there before: a changed CNI configuration reaches only pods that are made later."""
    wanted = _wanted_of_pods(facts, expect, encapsulation)
    if wanted is None:
        return Judgement.skipped("nothing says which MTU pods should have: the CNI claims none and no profile gives one")
    if "existing_pods" in facts.errors:
        judgement = Judgement(want=_told(wanted))
        judgement.error(f"{facts.node}: the pods that were there before were not looked at{facts.why('existing_pods')}")
        return judgement
    if not facts.existing_pods and facts.existing_pods_running:
        return Judgement.beyond_reach(f"none of {facts.existing_pods_running} pods was looked at")
    if not facts.existing_pods:
        return Judgement.skipped("no other pod with a network of its own runs on this node")
    judgement = Judgement(want=_told(wanted))
    judgement.evidence["pods"] = len(facts.existing_pods)
    if len(facts.existing_pods) < facts.existing_pods_running:
        judgement.remark(f"{facts.node}: {len(facts.existing_pods)} of {facts.existing_pods_running} pods were looked at")
    for pod in facts.existing_pods:
        if far_routes(pod.network):
            _routes(judgement, facts.node, pod.network, f"pod {pod.name}", wanted)
        else:  # a sandbox with a network stack of its own (gVisor), or one that is just being made
            judgement.remark(f"{facts.node}: pod {pod.name}: no route that leads anywhere, not judged", command=_ROUTES)
    if not judgement.checked:
        judgement.skip_reason = "no other pod on this node has a route in its network namespace"
    return judgement


def uplink_mtu(facts: NodeFacts, expect: MtuExpectation) -> Judgement:
    """Judge the MTU of the device that holds the node's InternalIP."""
    if expect.uplink is None:
        return Judgement.skipped("nothing says which MTU the uplink should have: the CNI claims none and no profile gives one")
    judgement = Judgement(want=_told(expect.uplink))
    link = facts.host.link(facts.uplink) if facts.uplink else None
    if link is None:
        judgement.error(f"{facts.node}: no device holds the node's InternalIP")
        return judgement
    _check(judgement, f"{facts.node}: {link.name}", link.mtu, expect.uplink, f"ip -j link show {link.name}")
    return judgement


def tunnel_mtu(facts: NodeFacts, expect: MtuExpectation, encapsulation: EncapsulationExpectation) -> Judgement:
    """Judge the MTU of the tunnel devices that pods' traffic takes; without a wanted one, that packets of that size fit the uplink.

    Linux gives a vxlan device made without ``dev`` the MTU 1500 over an uplink of 1500: a real fault that no configuration shows.
    """
    kind = encapsulation.anywhere
    if kind is None or kind.value == "none":
        return Judgement.skipped(f"no tunnel is expected ({'nothing says so' if kind is None else kind.origin})")
    used = {routes.dev for routes in facts.peer_routes}
    kinds = KINDS_OF.get(kind.value, {kind.value})
    links = [link for link in facts.host.links if link.kind in kinds and (link.name in used or link.up)]
    if not links:
        return Judgement.skipped(f"there is no {kind.value} device in use: NET-ENCAP-001 judges that")
    judgement = Judgement(want=_told(expect.tunnel))
    if expect.tunnel is not None:
        for link in [link for link in links if link.name in used] or links:
            _check(judgement, f"{facts.node}: {link.name}", link.mtu, expect.tunnel, f"ip -j link show {link.name}")
        return judgement
    links = [link for link in links if link.name in used]
    if not links:
        # Cilium gives cilium_vxlan the MTU of the uplink and lowers that of the pods' routes (pkg/mtu/mtu.go).
        return Judgement.skipped(
            f"no route to another node's pods leaves by a {kind.value} device: what hands packets to it decides their size, "
            "NET-MTU-001 judges that"
        )
    underlay = _underlay(facts, expect)
    if underlay is None:
        judgement.error(f"{facts.node}: no device holds the node's InternalIP")
        return judgement
    for link in links:
        command = f"ip -j link show {link.name}"
        if kind.value in OVERHEAD:
            _fits(judgement, f"{facts.node}: {link.name}", link.mtu, underlay - _overhead(facts, kind.value), command)
        else:
            judgement.check(
                link.mtu < underlay, f"{facts.node}: {link.name} MTU {link.mtu}, want less than {underlay} (uplink)", command=command
            )
    return judgement


def _wanted_of_pods(facts: NodeFacts, expect: MtuExpectation, encapsulation: EncapsulationExpectation) -> Wanted[int] | None:
    """Return the MTU that pods of the node should have: the cluster's, else what flanneld has written for the node, if it fits.

    A claim of more than flannel's own device carries (Canal's veth_mtu over a narrower uplink) is none that pods should keep to.
    """
    if facts.flannel_mtu is None:
        return expect.pod
    if (claimed := expect.pod) is not None:
        claim = claimed.origin.removeprefix("claim ")
        if claim == claimed.origin or claimed.value <= facts.flannel_mtu or not _by_flannel(facts):
            return claimed
        return Wanted(facts.flannel_mtu, f"claim {_FLANNEL} FLANNEL_MTU; {claim} says {claimed.value}")
    room = _room(facts, expect, encapsulation)
    if room is not None and facts.flannel_mtu > room:
        return Wanted(room, f"{_ARITHMETIC}; {_FLANNEL} says {facts.flannel_mtu}")
    return Wanted(facts.flannel_mtu, f"claim {_FLANNEL} FLANNEL_MTU")


def _by_flannel(facts: NodeFacts) -> bool:
    """Whether a device of flannel leads to other nodes' pods: its file stays until the next boot when it is gone."""
    return any((routes.dev or "").startswith("flannel") for routes in facts.peer_routes)


def _room(facts: NodeFacts, expect: MtuExpectation, encapsulation: EncapsulationExpectation) -> int | None:
    """Return what the encapsulation leaves of the underlay's MTU, None where one of them is not known."""
    underlay = _underlay(facts, expect)
    kind = encapsulation.anywhere
    if underlay is None or kind is None or kind.value not in OVERHEAD:
        return None
    return underlay - _overhead(facts, kind.value)


def _routes(judgement: Judgement, node: str, network: NetNamespace, who: str, want: Wanted[int]) -> None:
    routes = far_routes(network)
    if not routes:
        judgement.error(f"{node}: {who}: no route that leads anywhere", command=_ROUTES)
    for route in routes:
        _check(judgement, f"{node}: {who}: route {route.dst} dev {route.dev}", route.mtu, want, _ROUTES)


def far_routes(network: NetNamespace) -> list[Route]:
    """Return the routes of a pod that lead beyond its gateway, by the device that its CNI made.

    A host route without a gateway keeps the device's MTU: that to the gateway, and that to the pod's own IPv6 address. What else a pod
    has is its own affair: a second network, a tunnel it opens, Docker inside it. Kubelet's runtimes call the CNI's device eth0.
    """
    own = {"eth0"} if network.link("eth0") else {link.name for link in network.links} - {"lo"}
    gateways = {route.gateway for route in network.routes}
    return [
        route
        for route in network.routes
        if route.dev in own and route.dst not in gateways and (route.gateway is not None or route.dst == "default" or "/" in route.dst)
    ]


def _check(judgement: Judgement, subject: str, mtu: int, want: Wanted[int], command: str) -> None:
    judgement.check(mtu == want.value, f"{subject} MTU {mtu}, want {want}", measured=mtu, wanted=want.value, command=command)


def _by_arithmetic(
    judgement: Judgement,
    facts: NodeFacts,
    network: NetNamespace,
    who: str,
    expect: MtuExpectation,
    encapsulation: EncapsulationExpectation,
) -> Judgement:
    """Judge without a claim: what cannot fit the uplink is a fault, what could be larger is advice."""
    underlay = _underlay(facts, expect)
    if underlay is None:
        judgement.error(f"{facts.node}: no device holds the node's InternalIP")
        return judgement
    kind = encapsulation.anywhere
    judgement.want = f"no more than the uplink's {underlay} bytes carry"
    for route in far_routes(network):
        subject = f"{facts.node}: {who}: route {route.dst} dev {route.dev}"
        if kind is None or kind.value not in OVERHEAD:
            judgement.check(route.mtu <= underlay, f"{subject} MTU {route.mtu}, want {underlay} at most (uplink)", command=_ROUTES)
        else:
            _fits(judgement, subject, route.mtu, underlay - _overhead(facts, kind.value), _ROUTES)
    return judgement


def _fits(judgement: Judgement, subject: str, mtu: int, room: int, command: str) -> None:
    judgement.check(mtu <= room, f"{subject} MTU {mtu}, want {room} at most ({_ARITHMETIC})", measured=mtu, wanted=room, command=command)
    if mtu < room:
        judgement.advise(f"{subject} MTU {mtu}, {room} would fit ({_ARITHMETIC})", measured=mtu, wanted=room, command=command)


def _underlay(facts: NodeFacts, expect: MtuExpectation) -> int | None:
    """Return the underlay's MTU: the wanted one, so that a wrong uplink reddens its own check and not what is derived from it."""
    if expect.uplink is not None:
        return expect.uplink.value
    link = facts.host.link(facts.uplink) if facts.uplink else None
    return link.mtu if link else None


def _overhead(facts: NodeFacts, encapsulation: str) -> int:
    """Return the bytes that an encapsulation takes; its outer header is one of IPv6 where the uplink has nothing else."""
    by_uplink = [address for route in facts.host.routes if route.dev == facts.uplink for address in (route.dst, route.gateway or "")]
    over_ipv6 = any(":" in address for address in by_uplink) and not any("." in address for address in by_uplink)
    return OVERHEAD[encapsulation] + (_MORE_OVER_IPV6 if over_ipv6 and encapsulation != "none" else 0)


def _told(want: Wanted[int] | None) -> str | None:
    return None if want is None else f"MTU {want}"


def path_mtu(record: PathMtuRecord, facts: NodeFacts) -> Judgement:
    """Judge whether the largest packets that both ends can have cross the paths from a node's probe pod to other nodes' ones.

    At the MTU that pods really have: a wrong one is judged where it is, and so is a device of this node that is narrower than its pods.
    Between the nodes themselves, where packets may be larger, a black hole is a fault as well, and a path that tells its size is advice.
    """
    judgement = Judgement(want="packets as large as the MTU of both pods arrive")
    for path in _paths(judgement, record):
        if path.over != "refused":
            judgement.inconclusive(
                f"{record.node}: pod to pod of {path.target} ({path.address}): {path.own_mtu + 1} bytes were {path.over}, not refused "
                f"(MTU {path.own_mtu}): sizes are not exact here",
                command=_DATAGRAMS,
            )
            continue
        for way, name in ((path.requests, f"pod to pod of {path.target}"), (path.replies, f"pod of {path.target} to this node's pod")):
            if way is not None:
                _way(judgement, facts, f"{record.node}: {name} ({path.address})", path.size, way, local=way is path.requests)
    _unless_cut_off(judgement)
    if record.pod_absent is None:
        _between_nodes(judgement, record, facts)
    return judgement


def _between_nodes(judgement: Judgement, record: PathMtuRecord, facts: NodeFacts) -> None:
    """Judge the paths between the nodes' own addresses. What nodes let through to each other is theirs: silence is no fault."""
    if record.hosts_unsupported is not None:
        judgement.remark(f"{record.node}: the paths between nodes were not looked at: {record.hosts_unsupported}")
    of_pods = {(path.target, _is_ipv6(path)): path.size for path in record.paths if path.error is None}
    for path in record.host_paths:
        if path.error is not None:
            judgement.error(f"{record.node}: path to node {path.target} not measured: {path.error}")
            continue
        size = of_pods.get((path.target, _is_ipv6(path)))
        pods = "" if size is None else f"; the largest packets of their pods have {size} bytes"
        for way, name in ((path.requests, f"node to {path.target}"), (path.replies, f"{path.target} to this node")):
            if way is not None:
                local = way is path.requests
                _way_of_nodes(judgement, facts, f"{record.node}: {name} ({path.address}): ", path, way, pods=pods, local=local)


def _way_of_nodes(judgement: Judgement, facts: NodeFacts, told: str, path: Path, way: Way, *, pods: str, local: bool) -> None:
    judgement.evidence.setdefault("paths between nodes", []).append(
        {"path": told.removesuffix(": "), "size": path.size, "small": f"{way.small}/{way.sent}", "full": f"{way.full}/{way.sent}"}
    )
    narrow = way.narrowest
    if way.full or (narrow is not None and local and narrow.mtu in _mtus_on_the_way(facts)):
        return
    if path.over != "refused":
        judgement.remark(f"{told}{path.own_mtu + 1} bytes were {path.over}, not refused (MTU {path.own_mtu}): sizes are not exact here")
    elif narrow is None and way.small * 2 < way.sent:
        judgement.remark(
            f"{told}{way.small} of {way.sent} small packets were answered, so that large ones say nothing: is UDP kept out by a firewall?",
            command=_DATAGRAMS,
        )
    else:
        judgement.add(
            Weight.FAULT if narrow is None else Weight.ADVICE,
            f"{told}{_broken(way, path.size)}, want {path.size} (MTU of both nodes){pods}",
            measured=narrow.mtu if narrow is not None else way.passes,
            wanted=path.size,
            command=_DATAGRAMS,
        )


def _is_ipv6(path: Path) -> bool:
    return ":" in (path.address or "")


def segment_size(record: PathMtuRecord) -> Judgement:
    """Judge whether TCP between pods sends segments as large as the MTU of both ends allows."""
    judgement = Judgement(want="segments of the MTU less headers")
    for path in _paths(judgement, record):
        segments = path.segments
        if segments is None:
            continue
        about = f"{record.node}: TCP to pod of {path.target} ({path.address})"
        if segments.error is not None or segments.mss is None:
            judgement.remark(f"{about}: {segments.error}: no connection whose segments could be looked at", command=_TCP_INFO)
            continue
        options = _TIMESTAMPS if segments.timestamps else 0
        want = path.size - (_TCP_IPV6 if ":" in (path.address or "") else _TCP_IPV4) - options
        sizes = judgement.evidence.setdefault("mss", {})
        sizes[f"{path.target} at {path.address}" if path.target in sizes else path.target] = segments.mss
        if segments.mtu is not None and segments.mtu < path.size:
            judgement.hold(1)  # what the path carries is NET-MTU-005's to judge, and segments follow it
            judgement.remark(f"{about}: the kernel has learnt that the path carries {segments.mtu} bytes only", command=_TCP_INFO)
            continue
        judgement.check(
            segments.mss == want,
            f"{about}: segments of {segments.mss} bytes, want {want} (MTU {path.size} of both pods less {path.size - want} of headers)",
            measured=segments.mss,
            wanted=want,
            command=_TCP_INFO,
        )
    return _unless_cut_off(judgement)


def _paths(judgement: Judgement, record: PathMtuRecord) -> list[Path]:
    """Return the paths of which something is known; of the others it is noted that nothing is."""
    if record.pod_absent is not None:
        judgement.skip_reason, judgement.unsupported = record.pod_absent, True
    elif not record.paths:
        judgement.skip_reason = "there is no other node that this one is paired with"
    for path in record.paths:
        if path.error is not None:
            judgement.error(f"{record.node}: path to the pod of {path.target} not measured: {path.error}")
    return [path for path in record.paths if path.error is None]


def _unless_cut_off(judgement: Judgement) -> Judgement:
    """Leave a judgement that has nothing but paths on which nothing passes at all to the checks of those."""
    if not judgement.checked and judgement.skip_reason is None:
        judgement.skip_reason = _CUT_OFF
    return judgement


def _way(judgement: Judgement, facts: NodeFacts, about: str, size: int, way: Way, *, local: bool) -> None:
    told = f"{about}: "
    judgement.evidence.setdefault("paths", []).append(
        {"path": about, "size": size, "small": f"{way.small}/{way.sent}", "full": f"{way.full}/{way.sent}", "passes": way.passes}
    )
    counts = f"{way.small} of {way.sent} small packets and {way.full} of {way.sent} of {size} bytes were answered"
    if way.full and way.full < _HALF * way.sent and way.small >= _NEARLY_ALL * way.sent:
        judgement.inconclusive(
            f"{told}{counts}: large packets are lost where small ones pass, as where one of several ways is too narrow",
            measured=f"{way.full}/{way.sent}",
            wanted=f"{way.sent}/{way.sent}",
            command=_DATAGRAMS,
        )
        return
    if way.full:
        judgement.hold(1)
        if way.full < way.sent or way.small < way.sent:
            judgement.remark(f"{told}{counts}: loss")
        return
    narrow = way.narrowest
    if narrow is not None and local and narrow.mtu in _mtus_on_the_way(facts):
        judgement.hold(1)
        judgement.remark(f"{told}this node's own device carries {narrow.mtu} bytes, its pods' MTU is {size}: judged with the MTUs")
        return
    if narrow is None and not way.small:
        judgement.remark(f"{told}no packet was answered, however small", command=_DATAGRAMS)
        return
    if narrow is None and way.small * 2 < way.sent:
        judgement.inconclusive(
            f"{told}only {way.small} of {way.sent} small packets were answered, so that large ones say nothing: "
            "is UDP between pods kept out by a NetworkPolicy, or is there loss?",
            command=_DATAGRAMS,
        )
        return
    judgement.check(
        False,
        f"{told}{_broken(way, size)}, want {size} (MTU of both pods)",
        measured=narrow.mtu if narrow is not None else way.passes,
        wanted=size,
        command=_DATAGRAMS,
    )


def _broken(way: Way, size: int) -> str:
    """Say where packets of full size stay."""
    narrow = way.narrowest
    if narrow is not None:
        return f"the path carries {narrow.mtu} bytes, as {narrow.sender or 'somebody'} answers (ICMP; path MTU discovery works)"
    if way.passes is None:
        return f"none of {way.sent} packets of {size} bytes was answered, and {way.small} small ones were"
    return (
        f"packets of {way.passes} bytes pass, those of {way.breaks} and more vanish and no ICMP error says so: "
        "a black hole, where connections hang"
    )


def _mtus_on_the_way(facts: NodeFacts) -> set[int]:
    """Return the MTUs of the node's devices that packets of its pods leave by."""
    leave_by = {facts.uplink, *(routes.dev for routes in facts.peer_routes)}
    return {link.mtu for link in facts.host.links if link.name in leave_by}
