"""What kube-proxy has to put into a node's IPVS table, or in nftables mode into its own, and how a table differs from it.

Pure: objects and a table in, differences out. The rules are those of Kubernetes 1.37's ``pkg/proxy/ipvs/proxier.go`` (``syncProxyRules``,
``syncEndpoint``, ``cleanLegacyService``), ``pkg/proxy/topology.go`` (``CategorizeEndpoints``), ``pkg/proxy/endpointslicecache.go`` and
``pkg/proxy/serviceport.go``.

Most of what Services ask for is the same on every node, so it is worked out once for all nodes that are judged by the same lists.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from pytest_k8snet.cluster.ipvs_table import Endpoint, ServerKey, VirtualServer

#: Slices that a service proxy other than kube-proxy handles carry it; so do headless Services' (``pkg/proxy/util/utils.go``).
SERVICE_PROXY_NAME = "service.kubernetes.io/service-proxy-name"
SERVICE_NAME = "kubernetes.io/service-name"

#: kube-proxy tries out the scheduler with this virtual server at its start (``pkg/proxy/ipvs/supported.go``).
_TRIAL_ADDRESS = "198.51.100.0"


@dataclass(frozen=True, slots=True)
class Backend:
    """What the modes of kube-proxy have otherwise."""

    entry: str
    destination: str
    local_falls_back: bool  # whether a node without endpoints of its own serves a Local policy with all others
    takes_hints: bool = True  # whether it prefers endpoints that topology hints name for the node
    healer: str = "kube-proxy"  # what mends a table that differs


IPVS = Backend("virtual server", "real server", local_falls_back=True)
NFTABLES = Backend("entry", "destination", local_falls_back=False)
CILIUM = Backend("frontend", "backend", local_falls_back=False, takes_hints=False, healer="Cilium's agent")


class WantedServer(NamedTuple):
    """A virtual server that a Service asks for."""

    key: ServerKey
    owner: str  # "Service default/web port http"
    service: str  # "default/web"
    endpoints: frozenset[Endpoint]  # each at weight 1
    persistent_s: int | None
    node_port: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which a table is not what is wanted. `message` needs no second look; it does not name the node."""

    key: ServerKey
    message: str
    node_port: bool = False


def wanted(
    services: Sequence[Mapping[str, Any]],
    endpoint_slices: Sequence[Mapping[str, Any]],
    *,
    node: str,
    node_ips: Sequence[str],
    zone: str | None = None,
    backend: Backend = IPVS,
) -> dict[ServerKey, WantedServer]:
    """Return the virtual servers that the node called `node` has to have. The lists must not be changed afterwards.

    `node_ips` are the node's addresses that NodePorts are wanted on, `zone` is its label ``topology.kubernetes.io/zone``. Only address
    families of `node_ips` are looked at: kube-proxy runs no proxier for another.

    Left out, as kube-proxy does: headless and ExternalName Services (``ShouldSkipService``), those another proxy claims by the label
    ``service.kubernetes.io/service-proxy-name``, and ``ipMode: Proxy`` addresses of load balancers (``IsVIPMode``).
    """
    asked = _asked(_Same(services), _Same(endpoint_slices))
    addresses = [*map(_canonical, node_ips)]
    families = _families(addresses)
    result: dict[ServerKey, WantedServer] = {}
    for family in families:
        result.update(asked.everywhere.get(family, {}))
    for port in asked.differing:
        if port.family in families:
            result.update((server.key, server) for server in port.servers(node, zone, addresses, backend))
    return result


def differences(
    table: Iterable[VirtualServer],
    services: Sequence[Mapping[str, Any]],
    endpoint_slices: Sequence[Mapping[str, Any]],
    changed: Sequence[str],
    *,
    node: str,
    node_ips: Sequence[str],
    zone: str | None = None,
    exclude: Sequence[str] = (),
    backend: Backend = IPVS,
) -> tuple[Difference, ...]:
    """Return how the table differs from what Services and EndpointSlices ask for, in the order of the virtual servers.

    `changed` names the objects (``Service ns/name``, ``EndpointSlice ns/name``) that changed while the table was read: nothing that
    depends on them is judged. Neither is a TCP server at weight 0 that no endpoint stands for: it drains, kube-proxy deletes it when
    its last connection has ended (``pkg/proxy/ipvs/graceful_termination.go``). A wanted server at weight 0 is a difference.
    Virtual servers in the ranges `exclude` (excludeCIDRs) that no Service asks for are somebody else's: kube-vip's, say.
    """
    have = {server.key: server for server in table if server.key.address != _TRIAL_ADDRESS}
    want = wanted(services, endpoint_slices, node=node, node_ips=node_ips, zone=zone, backend=backend)
    asked = _asked(_Same(services), _Same(endpoint_slices))
    unsettled = _Unsettled(changed, asked)
    found: list[Difference] = []
    missing = []
    for key, server in want.items():  # thousands on every node, and nearly all of them as they should be
        present = have.get(key)
        if server.service in unsettled.services:
            continue
        if present is None:
            missing.append(server)
        elif not _fits(present, server):
            found.extend(_compare(present, server, backend))
    if missing:
        restricted = _restricted_addresses(have, want, node_ips)
        found.extend(
            Difference(server.key, f"{server.key}: no {backend.entry}, {server.owner} wants one", server.node_port)
            for server in missing
            if server.key.address not in restricted
        )
    families = _families(node_ips)
    for key in have.keys() - want.keys():
        if _family(key.address) not in families:
            continue
        elsewhere = _node_port_elsewhere(key, want, asked)
        if elsewhere is None:
            if not unsettled.may_own(key) and not is_excluded(key.address, exclude):
                found.append(Difference(key, f"{key}: no Service asks for this {backend.entry}"))
        elif elsewhere.service not in unsettled.services and not _fits(have[key], elsewhere):
            found.extend(_compare(have[key], elsewhere, backend))
    return tuple(sorted(found, key=lambda difference: difference.key))


def is_excluded(address: str, ranges: Iterable[str]) -> bool:
    """Whether an address is in one of the ranges that kube-proxy was told to leave alone."""
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(cidr, strict=False) for cidr in ranges)


def _fits(have: VirtualServer, want: WantedServer) -> bool:
    return have.endpoints == want.endpoints and len(have.real) == len(want.endpoints) and have.keeps_for(want.persistent_s)


def _compare(have: VirtualServer, want: WantedServer, backend: Backend) -> Iterator[Difference]:
    key = have.key
    real = {server.endpoint: server for server in have.real}
    for endpoint in sorted(want.endpoints - real.keys()):
        yield Difference(key, f"{key}: no {backend.destination} {endpoint}, an endpoint of {want.owner}")
    for endpoint, server in sorted(real.items()):
        if endpoint in want.endpoints:
            if server.weight != 1:
                yield Difference(key, f"{key}: {backend.destination} {endpoint} has weight {server.weight}, want 1 ({want.owner})")
        elif server.weight != 0 or key.protocol != "TCP":
            yield Difference(key, f"{key}: {backend.destination} {endpoint} is no endpoint of {want.owner}")
    if not have.keeps_for(want.persistent_s):
        wanted = "none" if want.persistent_s is None else f"ClientIP for {want.persistent_s} s"
        yield Difference(key, f"{key}: session affinity {have.affinity}, want {wanted} ({want.owner})")


def _restricted_addresses(
    have: Mapping[ServerKey, VirtualServer], want: Mapping[ServerKey, WantedServer], node_ips: Sequence[str]
) -> set[str]:
    """Return node addresses that ``nodePortAddresses`` leaves out: NodePorts are on other addresses of that family, and none on it."""
    ports = {(key.protocol, key.port) for key, server in want.items() if server.node_port}
    service_addresses = {key.address for key, server in want.items() if not server.node_port}
    serving = {key.address for key in have if (key.protocol, key.port) in ports and key.address not in service_addresses}
    return {
        address
        for address in map(_canonical, node_ips)
        if address not in serving and any((":" in other) == (":" in address) for other in serving)
    }


def _node_port_elsewhere(key: ServerKey, want: Mapping[ServerKey, WantedServer], asked: _Asked) -> WantedServer | None:
    """Return the NodePort that `key` serves on an address of the node that is not among those asked for.

    That of a bridge, say, or a load balancer's that kube-vip or keepalived has put on the uplink: kube-proxy takes every address but those
    of kube-ipvs0 alone (GetAllLocalAddressesExcept, pkg/proxy/ipvs/proxier.go). A ClusterIP is none.
    """
    if key.address in asked.cluster_ips:
        return None
    for server in want.values():
        same_port = (server.key.protocol, server.key.port) == (key.protocol, key.port)
        if server.node_port and same_port and (":" in server.key.address) == (":" in key.address):
            return server
    return None


class _Unsettled:
    """The Services that cannot be judged because something of theirs changed while the table was read."""

    def __init__(self, changed: Iterable[str], asked: _Asked) -> None:
        gone = {entry.removeprefix("Service ") for entry in changed if entry.startswith("Service ")}
        self.services = set(gone)
        for name in (entry.removeprefix("EndpointSlice ") for entry in changed if entry.startswith("EndpointSlice ")):
            if owner := asked.slice_owners.get(name):
                self.services.add(owner)
            else:
                # The slice is gone. Its controller named it after the Service and a random suffix (generateName).
                self.services.update(service for service in asked.addresses if name.startswith(f"{service}-"))
        self._service_changed = bool(gone)
        self._gone = gone
        self._asked = asked

    def may_own(self, key: ServerKey) -> bool:
        """Whether a virtual server nobody asks for may be what a changed or deleted Service asked for before."""
        return self._service_changed and not any(
            key.address in addresses for name, addresses in self._asked.addresses.items() if name not in self._gone
        )


class _Same:
    """A list that is the same only as itself: what is worked out of it is remembered without looking at its content again."""

    __slots__ = ("value",)

    def __init__(self, value: Sequence[Mapping[str, Any]]) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value


@dataclass(frozen=True, slots=True)
class _Asked:
    """What Services and EndpointSlices ask for, of nodes in general."""

    everywhere: Mapping[int, Mapping[ServerKey, WantedServer]]  # by address family: what every node has to have
    differing: tuple[_Port, ...]  # what each node has its own of
    addresses: Mapping[str, frozenset[str]]  # of each Service
    cluster_ips: frozenset[str]
    slice_owners: Mapping[str, str | None]


@lru_cache(maxsize=4)
def _asked(services: _Same, endpoint_slices: _Same) -> _Asked:
    slices_of = _slices_by_service(endpoint_slices.value)
    everywhere: dict[int, dict[ServerKey, WantedServer]] = {4: {}, 6: {}}
    differing = []
    for service in services.value:
        if not _proxied(service):
            continue
        for port in service["spec"].get("ports") or []:
            for item in _ports(service, port, slices_of.get(_name(service), [])):
                if item.differs:
                    differing.append(item)
                else:
                    everywhere[item.family].update((server.key, server) for server in item.servers("", None, (), IPVS))
    return _Asked(
        everywhere=everywhere,
        differing=tuple(differing),
        addresses={_name(service): frozenset(_addresses(service)) for service in services.value},
        cluster_ips=frozenset(address for service in services.value for address in _own_addresses(service)),
        slice_owners={_name(item): _owner(item) for item in endpoint_slices.value},
    )


@dataclass(frozen=True, slots=True)
class _Port:
    """One port of a Service in one address family."""

    owner: str
    service: str
    protocol: str
    port: int
    node_port: int
    family: int
    cluster_ip: str
    outside: tuple[str, ...]  # external and load balancers' addresses
    persistent_s: int | None
    internal_local: bool
    external_local: bool
    candidates: tuple[_Candidate, ...]
    everywhere: frozenset[Endpoint] | None  # the endpoints of all nodes; None where topology hints may have each node use others

    @property
    def differs(self) -> bool:
        """Whether nodes have different virtual servers for it."""
        return bool(self.node_port) or self.internal_local or self.external_local or self.everywhere is None

    def servers(self, node: str, zone: str | None, node_ips: Sequence[str], backend: Backend) -> Iterator[WantedServer]:
        """Yield what the node has to have for it."""
        # UsesClusterEndpoints (pkg/proxy/serviceport.go): a Service that is only internal and Local has no other endpoints to fall back to.
        cluster = not self.internal_local or self.node_port or self.outside
        everywhere: frozenset[Endpoint] = frozenset()
        if cluster:
            hinted = (node, zone) if backend.takes_hints else ("", None)
            everywhere = _cluster_endpoints(self.candidates, *hinted) if self.everywhere is None else self.everywhere
        own = _local_endpoints(self.candidates, node) if self.internal_local or self.external_local else frozenset()
        own_or_all = (own or everywhere) if backend.local_falls_back else own
        internal = own_or_all if self.internal_local else everywhere
        external = own_or_all if self.external_local else everywhere
        yield self._server(self.cluster_ip, self.port, internal)
        for address in self.outside:
            yield self._server(address, self.port, external)
        if self.node_port:
            for address in node_ips:
                if _family(address) == self.family:
                    yield self._server(address, self.node_port, external, node_port=True)

    def _server(self, address: str, port: int, endpoints: frozenset[Endpoint], *, node_port: bool = False) -> WantedServer:
        return WantedServer(ServerKey(self.protocol, address, port), self.owner, self.service, endpoints, self.persistent_s, node_port)


def _ports(service: Mapping[str, Any], port: Mapping[str, Any], slices: Sequence[Mapping[str, Any]]) -> Iterator[_Port]:
    """Yield one port of a Service in each of its address families."""
    spec = service["spec"]
    protocol, name = port.get("protocol") or "TCP", port.get("name") or ""
    persistent = None
    if spec.get("sessionAffinity") == "ClientIP":
        persistent = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds", 10800)
    outside = [_canonical(address) for address in (*(spec.get("externalIPs") or []), *_vips(service))]
    for cluster_ip in map(_canonical, _cluster_ips(spec)):
        family = _family(cluster_ip)
        candidates = tuple(_candidates(slices, name, protocol, f"IPv{family}"))
        hinted = any(item.nodes or item.zones for item in candidates)
        yield _Port(
            owner=f"Service {_name(service)} port {name or port['port']}",
            service=_name(service),
            protocol=protocol,
            port=port["port"],
            node_port=port.get("nodePort") or 0,
            family=family,
            cluster_ip=cluster_ip,
            outside=tuple(address for address in outside if _family(address) == family),
            persistent_s=persistent,
            internal_local=spec.get("internalTrafficPolicy") == "Local",
            # ExternalPolicyLocal (pkg/api/v1/service/util.go) counts only where traffic can come from outside.
            external_local=spec.get("externalTrafficPolicy") == "Local",
            candidates=candidates,
            everywhere=None if hinted else _cluster_endpoints(candidates, "", None),
        )


@dataclass(frozen=True, slots=True)
class _Candidate:
    endpoint: Endpoint
    ready: bool
    draining: bool  # serving and terminating
    home: str | None  # the node it runs on
    nodes: frozenset[str]  # hints
    zones: frozenset[str]


def _candidates(slices: Iterable[Mapping[str, Any]], port_name: str, protocol: str, family: str) -> Iterable[_Candidate]:
    """Return the endpoints behind one port, one per address and port: a running pod's wins over a terminating one's (``addEndpoints``)."""
    found: dict[Endpoint, _Candidate] = {}
    for item in slices:
        if item.get("addressType", "IPv4") != family:
            continue
        for port in item.get("ports") or []:
            if (port.get("name") or "") != port_name or (port.get("protocol") or "TCP") != protocol or port.get("port") is None:
                continue
            for entry in item.get("endpoints") or []:
                if not entry.get("addresses"):
                    continue
                conditions = entry.get("conditions") or {}
                terminating = bool(conditions.get("terminating"))
                hints = entry.get("hints") or {}
                candidate = _Candidate(
                    endpoint=Endpoint(_canonical(entry["addresses"][0]), port["port"]),
                    ready=conditions.get("ready") is not False,
                    draining=conditions.get("serving") is not False and terminating,
                    home=entry.get("nodeName"),
                    nodes=frozenset(hint["name"] for hint in hints.get("forNodes") or []),
                    zones=frozenset(hint["name"] for hint in hints.get("forZones") or []),
                )
                if candidate.endpoint not in found or not terminating:
                    found[candidate.endpoint] = candidate
    return found.values()


def _cluster_endpoints(candidates: Sequence[_Candidate], node: str, zone: str | None) -> frozenset[Endpoint]:
    """Return the ready endpoints after topology hints, else the serving and terminating ones (``CategorizeEndpoints``).

    Hints count only when every ready endpoint has one and one of them is for this node, or this zone (``topologyModeFromHints``).
    """
    ready = [item for item in candidates if item.ready]
    if not ready:
        return frozenset(item.endpoint for item in candidates if item.draining)
    if all(item.nodes for item in ready) and any(node in item.nodes for item in ready):
        ready = [item for item in ready if node in item.nodes]
    elif zone and all(item.zones for item in ready) and any(zone in item.zones for item in ready):
        ready = [item for item in ready if zone in item.zones]
    return frozenset(item.endpoint for item in ready)


def _local_endpoints(candidates: Sequence[_Candidate], node: str) -> frozenset[Endpoint]:
    local = [item for item in candidates if item.home == node]
    return frozenset(item.endpoint for item in local if item.ready) or frozenset(item.endpoint for item in local if item.draining)


def _slices_by_service(endpoint_slices: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    result: dict[str, list[Mapping[str, Any]]] = {}
    for item in endpoint_slices:
        owner = _owner(item)
        if owner is not None and SERVICE_PROXY_NAME not in _labels(item):
            result.setdefault(owner, []).append(item)
    return result


def _owner(endpoint_slice: Mapping[str, Any]) -> str | None:
    service = _labels(endpoint_slice).get(SERVICE_NAME)
    return f"{endpoint_slice['metadata']['namespace']}/{service}" if service else None


def _proxied(service: Mapping[str, Any]) -> bool:
    spec = service["spec"]
    if SERVICE_PROXY_NAME in _labels(service) or spec.get("type") == "ExternalName":
        return False
    return spec.get("clusterIP") not in (None, "", "None")


def _cluster_ips(spec: Mapping[str, Any]) -> Sequence[str]:
    return spec.get("clusterIPs") or [spec["clusterIP"]]


def _vips(service: Mapping[str, Any]) -> list[str]:
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [item["ip"] for item in ingress if item.get("ip") and item.get("ipMode", "VIP") != "Proxy"]


def _addresses(service: Mapping[str, Any]) -> set[str]:
    return {*_own_addresses(service), *map(_canonical, (*(service["spec"].get("externalIPs") or []), *_vips(service)))}


def _own_addresses(service: Mapping[str, Any]) -> set[str]:
    spec = service["spec"]
    return {*map(_canonical, _cluster_ips(spec))} if spec.get("clusterIP") not in (None, "", "None") else set()


def _labels(item: Mapping[str, Any]) -> Mapping[str, str]:
    return item["metadata"].get("labels") or {}


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


@lru_cache(maxsize=4096)
def _canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def _families(addresses: Iterable[str]) -> frozenset[int]:
    return frozenset(map(_family, addresses))
