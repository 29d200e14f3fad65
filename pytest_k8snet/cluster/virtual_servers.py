"""What kube-proxy in ipvs mode has to put into a node's IPVS table, and how a table differs from it.

Pure: objects and text in, differences out. The rules are those of Kubernetes 1.37's ``pkg/proxy/ipvs/proxier.go`` (``syncProxyRules``,
``syncEndpoint``, ``cleanLegacyService``), ``pkg/proxy/topology.go`` (``CategorizeEndpoints``), ``pkg/proxy/endpointslicecache.go`` and
``pkg/proxy/serviceport.go``; the table's format is that of ``ip_vs_info_seq_show`` in Linux' ``net/netfilter/ipvs/ip_vs_ctl.c``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pytest_k8snet.errors import RecordError

#: Slices that a service proxy other than kube-proxy handles carry it; so do headless Services' (``pkg/proxy/util/utils.go``).
SERVICE_PROXY_NAME = "service.kubernetes.io/service-proxy-name"
SERVICE_NAME = "kubernetes.io/service-name"

#: kube-proxy tries out the scheduler with this virtual server at its start (``pkg/proxy/ipvs/supported.go``).
_TRIAL_ADDRESS = "198.51.100.0"

_SERVICE_LINE = re.compile(r"^(TCP|UDP|SCTP)\s+(?:\[([0-9A-Fa-f:]+)\]|([0-9A-Fa-f]{8})):([0-9A-Fa-f]{4})\s+(\S+)\s*(.*)$")
_MARK_LINE = re.compile(r"^FWM\s")
_REAL_LINE = re.compile(r"^\s*->\s+(?:\[([0-9A-Fa-f:]+)\]|([0-9A-Fa-f]{8})):([0-9A-Fa-f]{4})\s+(\S+)\s+(-?\d+)\s+(\d+)\s+(\d+)\s*$")


class Endpoint(NamedTuple):
    """Address and port of a real server; addresses in their shortest notation."""

    address: str
    port: int

    def __str__(self) -> str:
        """Return it as it is written with a port."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class ServerKey(NamedTuple):
    """What tells one virtual server from another."""

    protocol: str  # TCP, UDP, SCTP
    address: str
    port: int

    def __str__(self) -> str:
        """Return it as ``TCP 10.96.0.1:443``."""
        return f"{self.protocol} {Endpoint(self.address, self.port)}"


@dataclass(frozen=True, slots=True)
class RealServer:
    """A destination of a virtual server."""

    address: str
    port: int
    forward: str
    weight: int
    active: int
    inactive: int

    @property
    def endpoint(self) -> Endpoint:
        """Its address and port."""
        return Endpoint(self.address, self.port)


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """An entry of the IPVS table."""

    protocol: str
    address: str
    port: int
    scheduler: str
    flags: str  # the rest of the line: "", "persistent 10800 FFFFFFFF", "ops"
    real: tuple[RealServer, ...]

    @property
    def key(self) -> ServerKey:
        """What tells it from others."""
        return ServerKey(self.protocol, self.address, self.port)

    @property
    def persistent_s(self) -> int | None:
        """Timeout of its session affinity in seconds, None without affinity."""
        words = self.flags.split()
        return int(words[words.index("persistent") + 1]) if "persistent" in words[:-1] else None


@dataclass(frozen=True, slots=True)
class WantedServer:
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


def parse_table(text: str) -> tuple[VirtualServer, ...]:
    """Read the text of ``/proc/net/ip_vs``.

    Firewall-mark services are left out: kube-proxy makes none. Raises `RecordError` for anything that is not such a table.
    """
    lines = text.splitlines()
    if len(lines) < 3 or not lines[0].startswith("IP Virtual Server version"):
        raise RecordError(f"not a table of /proc/net/ip_vs: it starts with {text[:60]!r}")
    servers: list[VirtualServer] = []
    real: list[RealServer] = []
    current: re.Match[str] | None = None

    def finish() -> None:
        if current is not None:
            v6, v4, port, scheduler, flags = current.group(2, 3, 4, 5, 6)
            servers.append(VirtualServer(current.group(1), _address(v6, v4), int(port, 16), scheduler, flags.strip(), tuple(real)))
        real.clear()

    for number, line in enumerate(lines[3:], start=4):
        if match := _SERVICE_LINE.match(line):
            finish()
            current = match
        elif _MARK_LINE.match(line):
            finish()
            current = None
        elif match := _REAL_LINE.match(line):
            v6, v4, port, forward, weight, active, inactive = match.groups()
            real.append(RealServer(_address(v6, v4), int(port, 16), forward, int(weight), int(active), int(inactive)))
        elif line.strip():
            raise RecordError(f"line {number} of /proc/net/ip_vs is neither a virtual nor a real server: {line!r}")
    finish()
    return tuple(servers)


def wanted(
    services: Iterable[Mapping[str, Any]],
    endpoint_slices: Iterable[Mapping[str, Any]],
    *,
    node: str,
    node_ips: Sequence[str],
    zone: str | None = None,
) -> dict[ServerKey, WantedServer]:
    """Return the virtual servers that the node called `node` has to have.

    `node_ips` are the node's addresses that NodePorts are wanted on, `zone` is its label ``topology.kubernetes.io/zone``. Only address
    families of `node_ips` are looked at: kube-proxy runs no proxier for another.

    Left out, as kube-proxy does: headless and ExternalName Services (``ShouldSkipService``), those another proxy claims by the label
    ``service.kubernetes.io/service-proxy-name``, and ``ipMode: Proxy`` addresses of load balancers (``IsVIPMode``).
    """
    slices_of = _slices_by_service(endpoint_slices)
    families = {ipaddress.ip_address(address).version for address in node_ips}
    result: dict[ServerKey, WantedServer] = {}
    for service in services:
        if not _proxied(service):
            continue
        name = _name(service)
        for port in service["spec"].get("ports") or []:
            for server in _servers(service, port, slices_of.get(name, []), node, node_ips, zone):
                if ipaddress.ip_address(server.key.address).version in families:
                    result[server.key] = server
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
) -> tuple[Difference, ...]:
    """Return how the table differs from what Services and EndpointSlices ask for, in the order of the virtual servers.

    `changed` names the objects (``Service ns/name``, ``EndpointSlice ns/name``) that changed while the table was read: nothing that
    depends on them is judged. Neither is a TCP server at weight 0 that no endpoint stands for: it drains, kube-proxy deletes it when
    its last connection has ended (``pkg/proxy/ipvs/graceful_termination.go``). A wanted server at weight 0 is a difference.
    Virtual servers in the ranges `exclude` (excludeCIDRs) that no Service asks for are somebody else's: kube-vip's, say.
    """
    families = {ipaddress.ip_address(address).version for address in node_ips}
    have = {
        server.key: server
        for server in table
        if server.address != _TRIAL_ADDRESS and ipaddress.ip_address(server.address).version in families
    }
    want = wanted(services, endpoint_slices, node=node, node_ips=node_ips, zone=zone)
    unsettled = _Unsettled(changed, services, endpoint_slices)
    restricted = _restricted_addresses(have, want, node_ips)
    found: list[Difference] = []
    for key in sorted({*have, *want}):
        server = want.get(key) or _node_port_elsewhere(key, want, services)
        if server is None:
            if not unsettled.may_own(key) and not is_excluded(key.address, exclude):
                found.append(Difference(key, f"{key}: no Service asks for this virtual server"))
        elif server.service not in unsettled.services:
            if key in have:
                found.extend(_compare(have[key], server))
            elif key.address not in restricted:
                found.append(Difference(key, f"{key}: no virtual server, {server.owner} wants one"))
    return tuple(found)


def is_excluded(address: str, ranges: Iterable[str]) -> bool:
    """Whether an address is in one of the ranges that kube-proxy was told to leave alone."""
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(cidr, strict=False) for cidr in ranges)


def _compare(have: VirtualServer, want: WantedServer) -> Iterable[Difference]:
    key = have.key
    real = {server.endpoint: server for server in have.real}
    for endpoint in sorted(want.endpoints - real.keys()):
        yield Difference(key, f"{key}: no real server {endpoint}, an endpoint of {want.owner}")
    for endpoint, server in sorted(real.items()):
        if endpoint in want.endpoints:
            if server.weight != 1:
                yield Difference(key, f"{key}: real server {endpoint} has weight {server.weight}, want 1 ({want.owner})")
        elif server.weight != 0 or key.protocol != "TCP":
            yield Difference(key, f"{key}: real server {endpoint} is no endpoint of {want.owner}")
    if have.persistent_s != want.persistent_s:
        yield Difference(key, f"{key}: session affinity {_affinity(have.persistent_s)}, want {_affinity(want.persistent_s)} ({want.owner})")


def _affinity(timeout_s: int | None) -> str:
    return "none" if timeout_s is None else f"ClientIP for {timeout_s} s"


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


def _node_port_elsewhere(
    key: ServerKey, want: Mapping[ServerKey, WantedServer], services: Iterable[Mapping[str, Any]]
) -> WantedServer | None:
    """Return the NodePort that `key` serves on an address of the node that is not among those asked for (of a bridge, say)."""
    taken = {address for service in services for address in _addresses(service)}
    if key.address in taken:
        return None
    for server in want.values():
        same_port = (server.key.protocol, server.key.port) == (key.protocol, key.port)
        if server.node_port and same_port and (":" in server.key.address) == (":" in key.address):
            return server
    return None


class _Unsettled:
    """The Services that cannot be judged because something of theirs changed while the table was read."""

    def __init__(self, changed: Iterable[str], services: Sequence[Mapping[str, Any]], endpoint_slices: Iterable[Mapping[str, Any]]) -> None:
        slice_owner = {_name(item): _owner(item) for item in endpoint_slices}
        names = {_name(service) for service in services}
        gone = {entry.removeprefix("Service ") for entry in changed if entry.startswith("Service ")}
        self.services = set(gone)
        for name in (entry.removeprefix("EndpointSlice ") for entry in changed if entry.startswith("EndpointSlice ")):
            if owner := slice_owner.get(name):
                self.services.add(owner)
            else:
                # The slice is gone. Its controller named it after the Service and a random suffix (generateName).
                self.services.update(service for service in names if name.startswith(f"{service}-"))
        self._service_changed = bool(gone)
        self._settled_addresses = {address for service in services if _name(service) not in gone for address in _addresses(service)}

    def may_own(self, key: ServerKey) -> bool:
        """Whether a virtual server nobody asks for may be what a changed or deleted Service asked for before."""
        return self._service_changed and key.address not in self._settled_addresses


def _servers(
    service: Mapping[str, Any],
    port: Mapping[str, Any],
    slices: Sequence[Mapping[str, Any]],
    node: str,
    node_ips: Sequence[str],
    zone: str | None,
) -> Iterable[WantedServer]:
    spec = service["spec"]
    protocol = port.get("protocol") or "TCP"
    name = port.get("name") or ""
    owner = f"Service {_name(service)} port {name or port['port']}"
    persistent = None
    if spec.get("sessionAffinity") == "ClientIP":
        persistent = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds", 10800)
    node_port = port.get("nodePort") or 0
    outside = [_canonical(address) for address in (*(spec.get("externalIPs") or []), *_vips(service))]
    cluster_ips = [_canonical(address) for address in _cluster_ips(spec)]
    internal_local = spec.get("internalTrafficPolicy") == "Local"
    # ExternalPolicyLocal (pkg/api/v1/service/util.go) counts only where traffic can come from outside.
    external_local = spec.get("externalTrafficPolicy") == "Local"

    for cluster_ip in cluster_ips:
        v6 = ":" in cluster_ip
        outside_here = [address for address in outside if (":" in address) == v6]
        endpoints = _endpoints(slices, name, protocol, "IPv6" if v6 else "IPv4", node)
        # UsesClusterEndpoints (pkg/proxy/serviceport.go): a Service that is only internal and Local has no other endpoints to fall back to.
        everywhere = _cluster_endpoints(endpoints, node, zone) if not internal_local or node_port or outside_here else frozenset()
        own = _local_endpoints(endpoints)
        internal = (own or everywhere) if internal_local else everywhere
        external = (own or everywhere) if external_local else everywhere
        yield WantedServer(ServerKey(protocol, cluster_ip, port["port"]), owner, _name(service), internal, persistent, False)
        for address in outside_here:
            yield WantedServer(ServerKey(protocol, address, port["port"]), owner, _name(service), external, persistent, False)
        if node_port:
            for address in map(_canonical, node_ips):
                if (":" in address) == v6:
                    yield WantedServer(ServerKey(protocol, address, node_port), owner, _name(service), external, persistent, True)


@dataclass(frozen=True, slots=True)
class _Candidate:
    endpoint: Endpoint
    ready: bool
    draining: bool  # serving and terminating
    local: bool
    nodes: frozenset[str]  # hints
    zones: frozenset[str]


def _endpoints(slices: Iterable[Mapping[str, Any]], port_name: str, protocol: str, family: str, node: str) -> list[_Candidate]:
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
                    local=entry.get("nodeName") == node,
                    nodes=frozenset(hint["name"] for hint in hints.get("forNodes") or []),
                    zones=frozenset(hint["name"] for hint in hints.get("forZones") or []),
                )
                if candidate.endpoint not in found or not terminating:
                    found[candidate.endpoint] = candidate
    return list(found.values())


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


def _local_endpoints(candidates: Sequence[_Candidate]) -> frozenset[Endpoint]:
    local = [item for item in candidates if item.local]
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
    spec = service["spec"]
    cluster_ips = _cluster_ips(spec) if spec.get("clusterIP") not in (None, "", "None") else []
    return {_canonical(address) for address in (*cluster_ips, *(spec.get("externalIPs") or []), *_vips(service))}


def _labels(item: Mapping[str, Any]) -> Mapping[str, str]:
    return item["metadata"].get("labels") or {}


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _address(v6: str | None, v4: str | None) -> str:
    return str(ipaddress.IPv6Address(v6)) if v6 else str(ipaddress.IPv4Address(int(v4 or "", 16)))


def _canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))
