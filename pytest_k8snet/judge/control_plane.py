"""Judge what the control plane and the nodes' tables have room for, and whether what objects say makes sense."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise

from pytest_k8snet.cluster.model import Cluster, Node
from pytest_k8snet.cluster.ranges import Network, networks
from pytest_k8snet.expect.model import ControlPlaneExpectation
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.judge.service import nobody_serves
from pytest_k8snet.record.api import ApiRecord
from pytest_k8snet.record.facts import NodeFacts, Route
from pytest_k8snet.record.relayed import Relayed, RelayedRecord, RelayedToPod

#: CNIs under which the pods of a node have addresses of the ranges that the inventory has for it.
OF_NODE = frozenset({"antrea", "cilium", "fake", "flannel", "k8snet-lab", "kube-router"})

#: Addresses of an IPv4 range that no pod gets: network, broadcast, the bridge's own (host-local: plugins/ipam/host-local).
_NOT_FOR_PODS = 3

#: Share of a table or range from which on it is told that it fills up.
_NEARLY = 0.8

_TOLD = 5

#: How an API server speaks of a connection of its own that failed, and not of itself: its HTTP client and those of konnectivity's proxy.
_OF_KUBELET = re.compile(r"containerLogs|dial tcp|dialing backend|[Nn]o agent available|i/o timeout|proxy error")
_OF_POD = re.compile(r"error trying to reach service|dial tcp|[Nn]o agent available|proxy error")

_IPV4 = 4
_GC_THRESH3 = "net.ipv{}.neigh.default.gc_thresh3"


def objects(cluster: Cluster) -> Judgement:
    """Judge that configuration objects hold values that their APIs know. What could not be read, and an unknown CNI, are remarks."""
    if cluster.mistakes is None:
        return _not_recorded()
    judgement = Judgement(want="values that the API of each object knows")
    judgement.hold(len(cluster.claims))
    for mistake in cluster.mistakes:
        judgement.check(False, mistake)
    if cluster.cni is None:
        judgement.remark("the CNI is none that is known here: only a profile can say what is wanted of encapsulation and MTU")
    for kind, why in cluster.unreadable.items():
        judgement.remark(f"{kind} could not be read, nothing is claimed from it: {why}")
    judgement.evidence["claims"] = {key: f"{claim.value} ({claim.source})" for key, claim in cluster.claims.items()}
    if not judgement.checked:
        judgement.unsupported = bool(cluster.unreadable)
        judgement.skip_reason = "no object was read that says anything of the network"
    return judgement


def ranges(cluster: Cluster) -> Judgement:
    """Judge that no range of pods overlaps one of Services or another node's, and that no node's own address is in either."""
    if cluster.ranges is None:
        return _not_recorded()
    judgement = Judgement(want="ranges of pods, Services and nodes that do not overlap")
    pods = [(item.network, item.source) for item in cluster.ranges if item.use == "pods"]
    services = [(item.network, item.source) for item in cluster.ranges if item.use == "services"]
    of_nodes = [(network, f"Node {node.name}") for node in cluster.nodes for network in networks(node.pod_cidrs)]
    judgement.evidence.update({item.cidr: f"{item.use} ({item.source})" for item in cluster.ranges})
    of_pods = pods or of_nodes
    for one, other in _overlaps(services, of_pods):
        judgement.check(False, f"the Services' range {_of(one)} overlaps the pods' range {_of(other)}")
    for one, other in _sorted_overlaps(of_nodes):
        judgement.check(False, f"the pod ranges {_of(one)} and {_of(other)} overlap: two pods may have one address")
    hosts = [(_host(address), f"Node {node.name}") for node in cluster.nodes for address in node.addresses]
    for what, those in (("Services'", services), ("pods'", of_pods)):
        seen: set[str] = set()
        for one, other in _overlaps(hosts, those):
            if one[1] not in seen:
                judgement.check(False, f"the address {one[0].network_address} of {one[1]} is within the {what} range {_of(other)}")
                seen.add(one[1])
    told = len(pods) + len(of_nodes) + len(services)
    if not told or told + len(hosts) < 2:
        return Judgement.skipped("no object tells the ranges of pods or Services")
    if not services:
        judgement.remark("the Services' range is not known: no ServiceCIDR and no control plane's flags could be read")
    judgement.hold(len(hosts) + len(of_nodes))
    return judgement


def pod_room(facts: NodeFacts, node: Node, cluster: Cluster) -> Judgement:
    """Judge that the node's pod range of each address family has addresses left; fewer than the kubelet takes pods is advice."""
    if cluster.cni not in OF_NODE:
        return Judgement.skipped(f"under {cluster.cni or 'an unknown CNI'} pods' addresses are not of the range of their Node object")
    own = [*networks(node.pod_cidrs)]
    if not own:
        return Judgement.skipped("the node has no range of pods")
    if "existing_pods" in facts.errors:
        judgement = Judgement()
        judgement.error(f"{facts.node}: the pods of the node were not counted{facts.why('existing_pods')}")
        return judgement
    used = facts.existing_pods_running + (facts.pod is not None)
    judgement = Judgement(want=f"addresses left in {', '.join(map(str, own))}")
    judgement.evidence["pods"] = used
    for family in sorted({network.version for network in own}):
        _room(judgement, facts, node, [network for network in own if network.version == family], used)
    return judgement


def _room(judgement: Judgement, facts: NodeFacts, node: Node, own: Sequence[Network], used: int) -> None:
    """Judge the ranges of one family, of which every pod has an address."""
    room = sum(max(0, network.num_addresses - _NOT_FOR_PODS) for network in own)
    told = ", ".join(map(str, own))
    judgement.evidence.setdefault("addresses", {})[told] = room
    judgement.check(
        used < room,
        f"{facts.node}: {used} pods have addresses of {told}, which has {room}: the next pod gets none",
        measured=used,
        wanted=f"< {room}",
        command=f"kubectl get pods -A --field-selector spec.nodeName={facts.node}",
    )
    if node.max_pods is not None and node.max_pods > room:
        judgement.advise(f"{facts.node}: the kubelet takes {node.max_pods} pods, and {told} has addresses for {room}")
    if room * _NEARLY <= used < room:
        judgement.remark(f"{facts.node}: {used} of {room} addresses of {told} are in use")


def neighbour_room(facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that the kernel's neighbour tables have room for the nodes on the same link and the pods of this one (gc_thresh3; arp(7)).

    There is one for each address family that nodes or pods use, and it is one for all network namespaces. Entries that an overlay puts
    there for other nodes are permanent, and those are not counted since Linux 5.0 (58956317c8de, "neighbor: Improve garbage collection").
    """
    judgement = Judgement(want="room for neighbours")
    if "existing_pods" in facts.errors:
        judgement.remark(f"{facts.node}: its pods were not counted and are taken for none{facts.why('existing_pods')}")
    of_node = cluster.node(facts.node)
    families = {network.version for network in networks([*of_node.pod_cidrs, *of_node.addresses])} or {4}
    unread = []
    for family in sorted(families):
        key = _GC_THRESH3.format(family)
        text = facts.host.sysctls.get(key)
        if text is None or not text.isdecimal():
            unread.append(key)
        else:
            _room_for_neighbours(judgement, facts, cluster, family, int(text), together=len(families) > 1)
    if not judgement.checked:
        return Judgement.beyond_reach(f"{' and '.join(unread)} was not read")
    for key in unread:
        judgement.remark(f"{facts.node}: {key} was not read: the neighbours of that family are not judged", command=f"sysctl {key}")
    return judgement


def _room_for_neighbours(judgement: Judgement, facts: NodeFacts, cluster: Cluster, family: int, limit: int, *, together: bool) -> None:
    key = _GC_THRESH3.format(family)
    table = facts.neighbours if family == _IPV4 else facts.neighbours_ipv6
    nodes = _on_link(facts, cluster, family)
    need = nodes + facts.existing_pods_running
    told = f" of IPv{family}" if together else ""
    judgement.evidence[f"neighbours of IPv{family}"] = {"need": need, "gc_thresh3": limit, "entries": table.get("entries")}
    judgement.check(
        limit > need,
        f"{facts.node}: {key} {limit}, want more than {need}: {nodes} other nodes on the same link "
        f"and {facts.existing_pods_running} pods are neighbours",
        measured=limit,
        wanted=f"> {need}",
        command=f"sysctl {key}",
    )
    entries, full = table.get("entries"), table.get("table_fulls")
    if entries is not None:
        judgement.check(
            entries < limit or not full,
            f"{facts.node}: the neighbour table{told} has {entries} entries, {limit} is the most, and it has been full {full} times since "
            "the node started",
            command=f"ip -{family} neigh",
        )
        if limit * _NEARLY <= entries:
            judgement.remark(f"{facts.node}: {entries} neighbours{told} are known, of at most {limit} that are not permanent")
    if full and not (entries is not None and entries >= limit):
        judgement.remark(f"{facts.node}: the neighbour table{told} has been full {full} times since the node started")


def stale_routes(facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that every route within the pods' range leads to a node that there is.

    Of ranges that are nodes' own one that no node has is stale; elsewhere (Calico's blocks) a gateway on the uplink that is no node.
    """
    if cluster.ranges is None:
        return _not_recorded()
    own = cluster.cni in OF_NODE and any(node.pod_cidrs for node in cluster.nodes)

    @cache
    def of_nodes() -> list[Network]:  # those of a large cluster take a while to parse, and few nodes need them
        return [network for node in cluster.nodes for network in networks(node.pod_cidrs)]

    told = [item.network for item in cluster.ranges if item.use == "pods"]
    if not told and not own:
        return Judgement.skipped("no object tells the pods' range")
    is_like_nodes = None if told else _shaped_like(facts, of_nodes())
    addresses = {address for node in cluster.nodes for address in (*node.internal_ips, node.internal_ip, node.external_ip) if address}
    judgement = Judgement(want="no route to a node that is gone")
    judgement.checked = 1
    stale = []
    for route in facts.host.routes:
        if own and route.gateway is not None and cluster.has_pod_cidr(route.dst):
            judgement.hold(1)  # nearly all of them: a thousand nodes have a million routes
            continue
        target = next(iter(networks([route.dst])), None)
        if target is None or route.gateway is None:
            continue
        if not (is_like_nodes(target, route) if is_like_nodes else any(_within(target, network) for network in told)):
            continue
        judgement.hold(1)
        if own:
            gone = not any(target.overlaps(network) for network in of_nodes() if network.version == target.version)
        else:
            gone = route.dev == facts.uplink and route.gateway not in addresses
        if gone:
            stale.append(f"{route.dst} via {route.gateway} dev {route.dev}")
    what = "which is the pod range of no node" if own else "which is no node's address"
    for route_text in stale[:_TOLD]:
        judgement.check(False, f"{facts.node}: route {route_text}, {what}: left over from one that is gone", command="ip route")
    if len(stale) > _TOLD:
        judgement.check(False, f"{facts.node}: and {len(stale) - _TOLD} more", command="ip route")
    if facts.host.routes_total > len(facts.host.routes):
        judgement.remark(f"{facts.node}: {len(facts.host.routes)} of {facts.host.routes_total} routes were looked at")
    return judgement


def _shaped_like(facts: NodeFacts, of_nodes: Sequence[Network]) -> Callable[[Network, Route], bool]:
    """Return what takes a route for one to a node's pods where no object tells the pods' range (k3s with its own), and never another one.

    It is of a node's size, by a device that leads to other nodes' pods, and amid nodes' ranges. Or it is outside of them, by such a device
    that is not the uplink, to a gateway within the route's own range: no router is reached so, but what overlays have at the other end of
    devices of their own is (flannel pkg/backend/vxlan/vxlan_network.go, Antrea pkg/agent/route).
    """
    around = [*_around(of_nodes)]
    sizes = {(network.version, network.prefixlen) for network in of_nodes}
    known = {*of_nodes}
    devices = {route.dev for route in facts.host.routes if route.gateway is not None and known.intersection(networks([route.dst]))}

    def is_like_nodes(target: Network, route: Route) -> bool:
        if route.dev not in devices or (target.version, target.prefixlen) not in sizes:
            return False
        if any(_within(target, network) for network in around):
            return True
        return route.dev != facts.uplink and any(_within(gateway, target) for gateway in networks([route.gateway or ""]))

    return is_like_nodes


def iptables_back_ends(facts: NodeFacts) -> Judgement:
    """Judge that rules are kept in one iptables back end: of two the kernel runs both, and each tool shows only its own."""
    judgement = Judgement(want="rules in one iptables back end")
    of_kube = {}
    for name, backend in sorted(facts.iptables.items()):
        if backend.error is not None:
            judgement.error(f"{facts.node}: iptables-{name} was not read: {backend.error}", command=f"iptables-{name}-save")
            return judgement
        of_kube[name] = backend.reachable
    both = [name for name, chains in of_kube.items() if chains]
    judgement.evidence["tables"] = {name: list(backend.tables) for name, backend in facts.iptables.items()}
    judgement.check(
        len(both) < 2,
        f"{facts.node}: chains of Kubernetes are in force in both iptables back ends ("
        + "; ".join(f"{name}: {', '.join(of_kube[name].names[:3])}" for name in both)
        + "): every packet goes through both, and each tool shows one of them",
        command="iptables-legacy-save; iptables-nft-save",
    )
    with_tables = [name for name, backend in facts.iptables.items() if backend.tables]
    if len(with_tables) > 1 and len(both) < 2:
        judgement.remark(f"{facts.node}: both iptables back ends have tables ({', '.join(sorted(with_tables))}), one of them Kubernetes'")
    return judgement


def webhooks(cluster: Cluster) -> Judgement:
    """Judge that webhooks on which the creation of pods depends have an endpoint to ask."""
    if cluster.webhooks is None:
        return _not_recorded()
    if not cluster.webhooks:
        if why := next((why for kind, why in cluster.unreadable.items() if kind.endswith("WebhookConfiguration")), None):
            return Judgement.beyond_reach(f"admission webhooks are not readable: {why}")
        return Judgement.skipped("no admission webhook is asked about pods")
    judgement = Judgement(want="an endpoint of every webhook with failurePolicy Fail")
    judgement.evidence["webhooks"] = {item.name: f"{'Fail' if item.fail else 'Ignore'} ({item.configuration})" for item in cluster.webhooks}
    for item in cluster.webhooks:
        if not item.fail or item.service is None:
            judgement.hold(1)
        elif item.ready is None:
            judgement.remark(f"{item.configuration}: whether {item.service}, which {item.name} asks about pods, has endpoints is not known")
        else:
            judgement.check(
                bool(item.ready),
                f"{item.configuration}: {item.name} is asked about every new pod and refuses them while nobody answers, and Service "
                f"{item.service} has no ready endpoint",
                command=f"kubectl -n {item.service.split('/')[0]} get endpointslices",
            )
    if not judgement.checked:
        judgement.skip_reason, judgement.unsupported = "whether webhooks that refuse pods have endpoints could not be read", True
    return judgement


def _on_link(facts: NodeFacts, cluster: Cluster, family: int) -> int:
    """Return how many other nodes the routes of a family say are on a link of the node: behind a router none is its neighbour."""
    links = [
        (network.version, int(network.network_address), int(network.broadcast_address))
        for network in networks([route.dst for route in facts.host.routes if route.gateway is None])
    ]
    return len(
        {
            name
            for name, version, number in cluster.addresses
            if name != facts.node
            and version == family
            and any(version == of_link and first <= number <= last for of_link, first, last in links)
        }
    )


Told = tuple[Network, str]


def _overlaps(ones: Iterable[Told], others: Sequence[Told]) -> Iterable[tuple[Told, Told]]:
    return [(one, other) for one in ones for other in others if one[0].version == other[0].version and one[0].overlaps(other[0])]


def _sorted_overlaps(told: Sequence[Told]) -> Iterable[tuple[Told, Told]]:
    """Return neighbours that overlap: of sorted ranges no others can, and a thousand nodes have half a million pairs."""
    found = []
    for version in (4, 6):
        ordered = sorted((item for item in told if item[0].version == version), key=lambda item: (int(item[0].network_address), item[1]))
        found += [(one, other) for one, other in pairwise(ordered) if one[0].overlaps(other[0])]
    return found


def _of(told: Told) -> str:
    return f"{told[0]} ({told[1]})"


def _host(address: str) -> Network:
    return ipaddress.ip_network(address)


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.overlaps(outer)


def _around(found: Sequence[Network]) -> Iterator[Network]:
    """Yield the smallest range around all those of each family."""
    for family in (4, 6):
        some = [network for network in found if network.version == family]
        if some:
            around: Network = some[0]
            while not all(_within(network, around) for network in some):
                around = around.supernet()
            yield around


def _not_recorded() -> Judgement:
    return Judgement.beyond_reach("the record is of a version that did not read this")


def api_reached(record: ApiRecord, facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that the node and its pods get an answer of the API server by its Service, and by each address behind that."""
    if not record.greeted:
        return Judgement.skipped("the Service default/kubernetes has no address")
    nobody = None if any(item.error is None for item in record.greeted if item.what == "service") else nobody_serves(facts, cluster)
    judgement = Judgement(want="a connection and an answer to a TLS hello")
    for item in record.greeted:
        if item.what == "service" and nobody is not None:
            continue
        place = f"{record.node}: the pod network" if item.role == "pod" else f"{record.node}: the host network"
        whom = "kubernetes.default" if item.what == "service" else "the API server's own address"
        judgement.check(
            item.error is None,
            f"{place} does not reach {whom} {item.address} port {item.port}: {item.error} ({item.tries} tries)",
            measured=item.error,
        )
        if item.answered_ms is not None:
            judgement.evidence[f"{item.role} to {item.address}"] = f"{item.answered_ms:g} ms"
    if record.pod_absent is not None:
        judgement.remark(f"{record.node}: asked from the host network alone: {record.pod_absent}")
    return judgement


def reached_by_api(record: RelayedRecord, expect: ControlPlaneExpectation) -> Judgement:
    """Judge that the API server reaches the node's kubelet, and its pods where it is known that it should."""
    judgement = Judgement(want="an answer of the kubelet and of a pod, by the API server's own connections")
    lacking = [
        right
        for right, answer in (("pods/log", record.kubelet), ("pods/proxy", record.pod.answer if record.pod is not None else None))
        if answer is not None and _is_denied(answer)
    ]
    if lacking:
        said = record.kubelet.said if "pods/log" in lacking or record.pod is None else record.pod.answer.said
        why = f"the API server refuses get {' and '.join(lacking)}: {said} (`k8snet manifests rbac` prints a role that has these rights)"
        if len(lacking) == 2 or (record.pod is None and _is_denied(record.kubelet)):
            return Judgement.beyond_reach(why)
        judgement.remark(f"{record.node}: {why}")
    _kubelet_reached(judgement, record)
    if record.pod is not None:
        _pod_reached(judgement, record, record.pod, expect)
    elif record.kubelet.status == 200:
        judgement.error(f"{record.node}: no pod could be made to answer the API server: {record.not_serving}")
    else:
        judgement.remark(f"{record.node}: whether the API server reaches pods was not asked: {record.not_serving}")
    return judgement


def _kubelet_reached(judgement: Judgement, record: RelayedRecord) -> None:
    answer = record.kubelet
    command = "kubectl logs of a pod on the node"
    if answer.status == 200:
        judgement.hold(1)
        judgement.evidence["kubelet"] = f"{answer.ms:g} ms"
    elif _is_of(answer, _OF_KUBELET):
        judgement.check(
            False,
            f"{record.node}: the API server does not reach the kubelet: {answer.said} ({_tries(answer)})",
            measured=answer.said,
            command=command,
        )
    elif not _is_denied(answer):
        judgement.error(f"{record.node}: the API server could not be asked for a log of its kubelet: {_said(answer)}", command=command)


def _pod_reached(judgement: Judgement, record: RelayedRecord, pod: RelayedToPod, expect: ControlPlaneExpectation) -> None:
    answer, wanted = pod.answer, expect.reaches_pods
    at = f"{pod.address} port {pod.port}"
    judgement.evidence["pod"] = {"answer": answer.status, "ms": answer.ms, "requests seen by it": pod.seen, "from": list(pod.sources)}
    if _is_denied(answer):
        return
    if answer.status == 200:
        judgement.check(
            pod.ours,
            f"{record.node}: what answers the API server at {at} is not the probe pod: {answer.said[:100]!r}",
            measured=answer.said[:100],
        )
        return
    if not _is_of(answer, _OF_POD):
        judgement.error(f"{record.node}: the API server could not be asked for an answer of a pod: {_said(answer)}")
        return
    arrived = f", of which {pod.seen} got to the pod: its answers do not get back" if pod.seen else ""
    told = f"{record.node}: the API server does not reach the pod at {at}: {answer.said} ({_tries(answer)}{arrived})"
    if wanted is not None and not wanted.value:
        judgement.hold(1)
        judgement.remark(f"{told}, as control_plane.reaches_pods says ({wanted.origin})")
    elif record.others_answered or wanted is not None:
        of_others = f"; those of {record.others_answered} of {record.others_asked} other nodes it does" if record.others_answered else ""
        judgement.check(False, told + of_others, measured=answer.said, wanted=None if wanted is None else f"reached ({wanted.origin})")
    else:
        judgement.hold(1)
        judgement.advise(
            f"{told}, nor that of any other node: webhooks and aggregated APIs get answers of pods in the host network alone. Say what is "
            "meant by control_plane.reaches_pods in a profile"
        )


def _is_denied(answer: Relayed) -> bool:
    """Whether we lack the right: a kubelet that does not let its API server in, and admission, answer 403 in other words."""
    return answer.status == 403 and " cannot " in answer.said


def _is_of(answer: Relayed, words: re.Pattern[str]) -> bool:
    """Whether an API server's error is about a connection that it could not make, and not about itself."""
    return answer.status is not None and answer.status >= 500 and words.search(answer.said) is not None


def _said(answer: Relayed) -> str:
    return answer.said if answer.status is None else f"HTTP {answer.status}: {answer.said}"


def _tries(answer: Relayed) -> str:
    return "1 try" if answer.tries == 1 else f"{answer.tries} tries"
