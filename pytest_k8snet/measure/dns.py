"""DNS as pods have it: every node's probe pod asks the cluster's DNS Service, NodeLocal DNSCache and servers of it one by one.

The probe pods' own resolver is the node's, so all of them are asked directly, by packets made for it. What went unanswered or was slow is
asked again, up to `ROUNDS` rounds in all; what went unanswered until every proxy must have seen where the servers are, and another
round at least. Every round is recorded, and what they say is for the judge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.dns import CLOUD_DNS, may_be_of_cloud
from pytest_k8snet.measure.taking import take_document

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Agent
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

API_SERVICE = ("default", "kubernetes")
SHORT_NAME = "kubernetes.default"
HTTPS_PORT = 443  # of that Service (pkg/controlplane/controller/kubernetesservice)
DOMAIN = "cluster.local"  # assumed where neither profile nor Corefile tells another
NDOTS = 5  # what the kubelet writes into pods (pkg/kubelet/network/dns/dns.go)
ROUNDS = 3
FAILED_ROUNDS = 2  # of a series that was not slow but unanswered: each of them takes its time
QUESTIONS = 100  # of the series whose times are judged: the 99th of them is not the slowest
FEW = 20
SERVER_QUESTIONS, SERVER_TCP = 10, 5
OUTSIDE_QUESTIONS = 5
MOST_SERVERS = 8  # asked by one node; nodes begin at different ones
TIMEOUT_S = 5.0  # what resolvers wait
SILENT_S = 1.0  # the same where nothing was answered before
MOST_UNANSWERED = 2
SERIES_S = 10.0
REQUESTS = 7  # over HTTPS, by each name
REQUESTS_S = 10.0
REQUEST_S = 60.0
_BETWEEN_S = 2.0


@dataclass(frozen=True, slots=True)
class _Server:
    what: str  # service, cache, cloud, server
    address: str
    udp_port: int
    tcp_port: int | None
    name: str  # Service or pod
    node: str | None


@dataclass(frozen=True, slots=True)
class _Targets:
    """Whom to ask what, the same for all nodes."""

    domain: str
    domain_from: str  # profile, Corefile, assumed
    kind: str  # A or AAAA: what the API server's Service has
    want: tuple[str, ...]  # its addresses
    resolvers: tuple[_Server, ...]  # what pods are told to ask
    servers: tuple[_Server, ...]

    @property
    def name(self) -> str:
        return f"kubernetes.default.svc.{self.domain}."


@dataclass(frozen=True, slots=True)
class _Nobody:
    """Why nobody is asked."""

    why: str
    unread: bool  # whether it is that the cluster's DNS could not be read, and not that there is none


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Ask from the probe pods of the nodes `subjects`, all at the same time."""
    targets = _targets(context)
    numbers = {node.name: number for number, node in enumerate(context.cluster.nodes)}

    def document(name: str) -> Document:
        probe = context.probes.get(name)
        where = f"by the agent in pod {probe.namespace}/{probe.pod}" if probe and probe.pod else "in a pod"
        return take_document("dns", name, f"DNS questions {where}", partial(_node, context, targets, name, numbers.get(name, 0)))

    with ThreadPoolExecutor(max_workers=context.settings.facts_threads, thread_name_prefix="k8snet-dns") as pool:
        yield from pool.map(document, subjects)


def _node(context: MeasureContext, targets: _Targets | _Nobody, name: str, number: int) -> dict[str, Any]:
    agent = context.access.pod(name)
    if isinstance(targets, _Nobody):
        return {"absent": targets.why, "unread": targets.unread}
    if may_be_of_cloud(context.cluster.version):
        targets = _by_cloud(agent, targets)
    probe = context.probes.get(name)
    namespace = probe.namespace if probe is not None else "default"
    chosen = _chosen(targets.servers, number)
    asked = {**_resolver_series(targets, context.dns.names), **_server_series(targets, chosen)}
    first = [key for key, item in asked.items() if item["judged_ms"]]
    # By itself: beside the other series the times would be those of this pod's own threads.
    rounds: dict[str, list[dict[str, Any]]] = {key: [] for key in asked}
    _ask(agent, {key: asked[key] for key in first}, rounds)
    _ask(agent, {key: item for key, item in asked.items() if key not in first}, rounds, silent=_silent(targets, rounds))
    while True:
        patient = not context.settled.expired
        again = {key: asked[key] for key, done in rounds.items() if _ask_again(done, context.dns.slow_ms, patient=patient)}
        again.update({key: asked[key] for key in first if again.keys() & {*first} and asked[key]["protocol"] == "loopback"})
        unanswered = any(rounds[key][-1]["errors"] for key in again)
        if not again or (patient and unanswered and context.stopped.wait(_BETWEEN_S)):
            break
        _ask(agent, again, rounds, silent=_silent(targets, rounds))
    return {
        "absent": None,
        "domain": targets.domain,
        "domain_from": targets.domain_from,
        "want": [*targets.want],
        "servers_total": len(targets.servers),
        "series": [{**{k: v for k, v in item.items() if k != "judged_ms"}, "rounds": rounds[key]} for key, item in asked.items()],
        "search": _walk(agent, targets, namespace, context.dns.names, SILENT_S if _silent(targets, rounds) else TIMEOUT_S),
        "requests": None if _silent(targets, rounds) else _requests(agent, targets, namespace),
    }


def _by_cloud(agent: Agent, targets: _Targets) -> _Targets:
    """Return the targets with Cloud DNS in the DNS Service's place, where it knows the cluster's own name: only then pods ask it."""
    cloud = _Server("cloud", CLOUD_DNS, 53, 53, "Cloud DNS", None)
    rounds: dict[str, list[dict[str, Any]]] = {cloud.what: []}
    _ask(agent, {cloud.what: _series(targets, cloud, "UDP", 1)}, rounds, silent=True)
    answer = rounds[cloud.what][0]
    if answer["errors"] or not set(answer["addresses"]) & set(targets.want):
        return targets
    return replace(targets, resolvers=(*(server for server in targets.resolvers if server.what == "cache"), cloud))


def _ask(agent: Agent, asked: Mapping[str, Mapping[str, Any]], rounds: Mapping[str, list[dict[str, Any]]], *, silent: bool = False) -> None:
    """Ask a round; where nothing was answered so far (`silent`) one question that nobody answers ends a series."""
    if not asked:
        return
    series = [
        {"key": key, **{name: item[name] for name in ("address", "port", "protocol", "name", "type", "count")}}
        for key, item in asked.items()
    ]
    params = {"series": series, "timeout_s": TIMEOUT_S, "most_unanswered": 1 if silent else MOST_UNANSWERED, "most_s": SERIES_S}
    answers = agent.request("dns.ask", params, timeout_s=REQUEST_S)
    for key in asked:
        answer = answers[key]
        times = sorted(answer.pop("ms"))
        rounds[key].append({**answer, "p50_ms": _share(times, 0.5), "p99_ms": _share(times, 0.99), "max_ms": times[-1] if times else None})


def _share(times: Sequence[float], share: float) -> float | None:
    """Return the time that `share` of the answers took at most."""
    return times[max(0, math.ceil(share * len(times)) - 1)] if times else None


def _ask_again(done: Sequence[Mapping[str, Any]], slow_ms: float, *, patient: bool) -> bool:
    if done[-1]["errors"]:
        return patient or len(done) < FAILED_ROUNDS
    return len(done) < ROUNDS and (done[-1]["p99_ms"] or 0.0) > slow_ms


def _silent(targets: _Targets, rounds: Mapping[str, Sequence[Mapping[str, Any]]]) -> bool:
    """Whether there is a resolver, and the first one has not answered at all."""
    first = targets.resolvers[:1]
    return bool(first) and all(item["p50_ms"] is None for server in first for item in rounds[f"{server.address} UDP"])


def _walk(agent: Agent, targets: _Targets, namespace: str, names: Sequence[str], timeout_s: float) -> dict[str, Any] | None:
    """Resolve short names as a pod with the usual search list would."""
    if not targets.resolvers:
        return None
    params = _resolving(targets, namespace, ["kubernetes.default.svc", *(name.rstrip(".") for name in names)], timeout_s)
    names_found = agent.request("dns.walk", params, timeout_s=REQUEST_S)
    return {"server": params["address"], "search": params["search"], "ndots": NDOTS, "names": names_found}


def _resolving(targets: _Targets, namespace: str, names: Sequence[str], timeout_s: float) -> dict[str, Any]:
    """Return what tells a program to resolve names as the kubelet tells pods to."""
    resolver = targets.resolvers[0]
    return {
        "address": resolver.address,
        "port": resolver.udp_port,
        "names": [*names],
        "search": [f"{namespace}.svc.{targets.domain}", f"svc.{targets.domain}", targets.domain],
        "ndots": NDOTS,
        "timeout_s": timeout_s,
    }


def _requests(agent: Agent, targets: _Targets, namespace: str) -> list[dict[str, Any]] | None:
    """Send requests to the API server's Service by its names: short, full as programs write it, and with a dot at its end."""
    if not targets.resolvers:
        return None
    names = [SHORT_NAME, targets.name.rstrip("."), targets.name]
    params = _resolving(targets, namespace, names, TIMEOUT_S)
    asked = {**params, "path": "/version", "https_port": HTTPS_PORT, "count": REQUESTS, "max_s": REQUESTS_S}
    done = agent.request("dns.request", asked, timeout_s=REQUEST_S)
    return [_shares(name, done[name]["requests"], done[name]["error"]) for name in names]


def _shares(name: str, requests: Sequence[Mapping[str, float]], error: str | None) -> dict[str, Any]:
    """Return the median of each part of requests, and the median share of resolution in the whole."""
    whole = sorted(item["resolve_ms"] / max(sum(item.values()), 0.001) for item in requests)
    parts = {part: _share(sorted(item[part] for item in requests), 0.5) for part in ("resolve_ms", "connect_ms", "answer_ms")}
    share = _share(whole, 0.5)
    return {"name": name, "requests": len(requests), **parts, "share": None if share is None else round(share, 3), "error": error}


def _resolver_series(targets: _Targets, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what is asked of whom pods are told to ask."""
    asked: dict[str, dict[str, Any]] = {}
    for server in targets.resolvers:
        for protocol, count in (("UDP", QUESTIONS), ("TCP", FEW), ("pair", FEW)):
            key = f"{server.address} {protocol}"
            asked[key] = _series(targets, server, protocol, count, judged_ms=protocol == "UDP")
        for name in names:
            fields = {"name": name.rstrip(".") + ".", "type": "A", "what": "outside"}
            asked[f"{server.address} {name}"] = {**_series(targets, server, "UDP", OUTSIDE_QUESTIONS), **fields}
    if targets.resolvers:
        loopback = _Server("loopback", "127.0.0.1", 0, None, "", None)
        asked["loopback"] = _series(targets, loopback, "loopback", QUESTIONS, judged_ms=True)
    return asked


def _server_series(targets: _Targets, servers: Sequence[_Server]) -> dict[str, dict[str, Any]]:
    """Return what is asked of single servers."""
    return {
        f"{server.address} {protocol}": _series(targets, server, protocol, count)
        for server in servers
        for protocol, count in (("UDP", SERVER_QUESTIONS), ("TCP", SERVER_TCP))
    }


def _series(targets: _Targets, server: _Server, protocol: str, count: int, *, judged_ms: bool = False) -> dict[str, Any]:
    return {
        "what": server.what,
        "server": server.name,
        "node": server.node,
        "address": server.address,
        "port": server.udp_port if protocol != "TCP" else server.tcp_port or server.udp_port,
        "protocol": protocol,
        "name": targets.name,
        "type": targets.kind,
        "count": count,
        "judged_ms": judged_ms,
    }


def _chosen(servers: Sequence[_Server], number: int) -> list[_Server]:
    """Return the servers that one node asks: all of a few, else a part that begins elsewhere on every node."""
    if len(servers) <= MOST_SERVERS:
        return [*servers]
    return [servers[(number * MOST_SERVERS + index) % len(servers)] for index in range(MOST_SERVERS)]


def _targets(context: MeasureContext) -> _Targets | _Nobody:
    """Return whom to ask, or why there is nobody."""
    found = context.cluster.dns
    if found is None or found.service is None:
        why = "" if found is None else next(iter(found.unreadable.values()), "")
        none = "kube-system has no Service with label k8s-app=kube-dns: DNS is somebody else's here"
        return _Nobody(f"the cluster's DNS is not known: {why}" if why else none, unread=bool(why))
    services = {(item["metadata"]["namespace"], item["metadata"]["name"]): item for item in context.services.services()}
    slices = context.services.endpoint_slices()
    namespace, _, name = found.service.partition("/")
    spec = services.get((namespace, name), {}).get("spec") or {}
    ports = {(item.get("name"), item.get("protocol", "TCP")) for item in spec.get("ports") or () if item.get("port") == 53}
    addresses = _cluster_ips(services.get(API_SERVICE))
    node_local = found.node_local.addresses if found.node_local is not None and found.node_local.makes_device else ()
    resolvers = [
        _Server("cache", address, 53, 53, found.node_local.name if found.node_local else "", None)
        for address in node_local
        if address not in found.addresses
    ]
    resolvers += [_Server("service", address, 53, 53, found.service, None) for address in found.addresses]
    domain, domain_from = _domain(context)
    return _Targets(
        domain=domain,
        domain_from=domain_from,
        kind="AAAA" if addresses and ":" in addresses[0] else "A",
        want=tuple(address for address in addresses if (":" in address) == (":" in addresses[0])),
        resolvers=tuple(resolvers),
        servers=tuple(sorted(_servers(slices, namespace, name, ports), key=lambda server: server.address)),
    )


def _domain(context: MeasureContext) -> tuple[str, str]:
    if context.dns.domain is not None:
        return context.dns.domain.strip("."), "profile"
    for block in () if context.cluster.dns is None else context.cluster.dns.blocks:
        for zone in block.plugins.get("kubernetes", ()):
            if not zone.endswith("arpa"):
                return zone.strip("."), "Corefile"
    return DOMAIN, "assumed"


def _cluster_ips(service: Mapping[str, Any] | None) -> list[str]:
    spec = {} if service is None else service.get("spec") or {}
    return [address for address in spec.get("clusterIPs") or [spec.get("clusterIP") or ""] if address not in ("", "None")]


def _servers(slices: Sequence[Mapping[str, Any]], namespace: str, name: str, ports: set[tuple[str | None, str]]) -> Iterator[_Server]:
    """Yield the ready endpoints of the DNS Service; their ports need not be 53."""
    for item in slices:
        metadata = item["metadata"]
        if metadata["namespace"] != namespace or (metadata.get("labels") or {}).get("kubernetes.io/service-name") != name:
            continue
        found = {
            port.get("protocol", "TCP"): port["port"]
            for port in item.get("ports") or ()
            if (port.get("name") or None, port.get("protocol", "TCP")) in ports
        }
        if "UDP" not in found:
            continue
        for endpoint in item.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                pod = (endpoint.get("targetRef") or {}).get("name") or "an endpoint"
                for address in endpoint["addresses"][:1]:
                    yield _Server("server", address, found["UDP"], found.get("TCP"), pod, endpoint.get("nodeName"))
