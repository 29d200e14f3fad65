"""Cilium's maps of Services, read as virtual servers: ``struct lb4_key`` and its like in Cilium's ``bpf/lib/common.h``, 1.13 to 1.18.

The map of services has a frontend (address, port, scope) at slot 0, which says how many slots follow, and in each of those the number of a
backend; the map of backends has address and port of each. Until 1.17 the protocol is in neither: a frontend is that of all protocols.
"""

from __future__ import annotations

import base64
import ipaddress
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_k8snet.cluster import virtual_servers
from pytest_k8snet.cluster.ipvs_table import Endpoint, RealServer, ServerKey, VirtualServer
from pytest_k8snet.errors import RecordError

ANY_PROTOCOL = "ANY"
_PROTOCOLS = {0: ANY_PROTOCOL, 6: "TCP", 17: "UDP", 132: "SCTP"}
_ADDRESS_BYTES = {"4": 4, "6": 16}
_EXTERNAL = 0
"""The scope that clients outside use, and all others where a frontend has no second one."""

_GLOBAL = ("service.cilium.io/global", "io.cilium/global-service")
"""Annotations of Services that other clusters of a mesh have endpoints of, too."""

_OF_SOME = ("service.cilium.io/node", "service.cilium.io/node-selector", "service.cilium.io/type")
"""Annotations of Services that only some nodes, or only some kinds of addresses, serve."""

_NO_BACKEND = 0
_HOST_PORT, _AFFINITY = 1 << 3, 1 << 4  # of the first flags
_LOCAL_REDIRECT, _L7 = 1 << 0, 1 << 2  # of the second ones


def frontends(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the frontends in what the agent's operation ``cilium.maps`` gave, sorted, each with its backends as ``address:port``.

    Left out are hostPorts of pods, frontends of the address 0.0.0.0 or ::, which stand for all of the node's, and the second scope of
    Services with a Local policy, by which clients inside reach what others do not. `RecordError` for maps that are laid out otherwise.
    """
    order = ">" if answer["big_endian"] else "<"
    found = []
    for family in ("4", "6"):
        maps = answer.get(family)
        if maps is None:
            continue
        if maps["backends"] is None:
            raise RecordError(f"Cilium's map of backends (IPv{family}) is not there: this is not how Cilium 1.13 to 1.18 lays them out")
        found += _frontends(maps["services"], _backends(maps["backends"], family, order), family, order)
    return sorted(found, key=lambda item: (item["address"], item["port"], item["protocol"]))


def servers(known: Iterable[Mapping[str, Any]], services: Sequence[Mapping[str, Any]]) -> tuple[VirtualServer, ...]:
    """Return frontends as virtual servers. One without a protocol stands for those that Services ask for at its address and port."""
    asked = _protocols(services)
    found = []
    for item in known:
        key, node_port = (item["address"], item["port"]), (None, item["port"])
        protocols = [item["protocol"]] if item["protocol"] != ANY_PROTOCOL else sorted(asked.get(key) or asked.get(node_port) or {"TCP"})
        endpoints = frozenset(_endpoint(backend) for backend in item["backends"])
        found += [
            VirtualServer(
                key=ServerKey(protocol, item["address"], item["port"]),
                scheduler="",
                persistent_s=item["affinity_s"],
                real=tuple(RealServer(endpoint, 1) for endpoint in sorted(endpoints)),
                endpoints=endpoints,
            )
            for protocol in protocols
        ]
    return tuple(found)


def differences(
    known: Sequence[Mapping[str, Any]],
    services: Sequence[Mapping[str, Any]],
    endpoint_slices: Sequence[Mapping[str, Any]],
    changed: Sequence[str],
    *,
    node: str,
    node_ips: Sequence[str],
    zone: str | None,
) -> tuple[virtual_servers.Difference, ...]:
    """Return how the frontends differ from what Services and EndpointSlices ask for; see `virtual_servers.differences`.

    Not judged are frontends that something of Cilium's leads elsewhere on purpose, Services that also have endpoints in other clusters or
    are for some nodes alone, and those that nobody has given an EndpointSlice: Cilium waits for one (``correlateEndpoints``,
    pkg/k8s/service_cache.go). Topology hints may be heeded (``enable-service-topology``) or not.
    """
    elsewhere = redirected(known)
    owners = {_owner(item) for item in endpoint_slices}
    unsettled = [*changed, *(f"Service {name}" for service in services if (name := _name(service)) not in owners or _is_special(service))]
    table = servers(known, services)
    found: list[tuple[virtual_servers.Difference, ...]] = []
    for backend in (virtual_servers.CILIUM, replace(virtual_servers.CILIUM, takes_hints=True)):
        differing = virtual_servers.differences(
            table, services, endpoint_slices, unsettled, node=node, node_ips=node_ips, zone=zone, backend=backend
        )
        found.append(tuple(item for item in differing if (item.key.address, item.key.port) not in elsewhere))
    return min(found, key=len)


def redirected(known: Iterable[Mapping[str, Any]]) -> frozenset[tuple[str, int]]:
    """Return address and port of frontends that a CiliumLocalRedirectPolicy or a proxy for HTTP leads elsewhere on purpose."""
    return frozenset((item["address"], item["port"]) for item in known if item["redirected"])


def _frontends(services: Mapping[str, Any], backends: Mapping[int, str], family: str, order: str) -> list[dict[str, Any]]:
    size = _ADDRESS_BYTES[family]
    heads: dict[tuple[bytes, int, int, int], tuple[int, int, int, int]] = {}
    slots: dict[tuple[bytes, int, int, int], dict[int, int]] = {}
    for key, value in _entries(services, size + 8, 12, f"services (IPv{family})"):
        address = key[:size]
        (port,) = struct.unpack_from(">H", key, size)
        slot, protocol, scope = struct.unpack_from(f"{order}HBB", key, size + 2)
        number, count, _, flags, more = struct.unpack_from(f"{order}IHHBB", value)
        which = (address, port, protocol, scope)
        if slot == 0:
            heads[which] = (number, count, flags, more)
        else:
            slots.setdefault(which, {})[slot] = number
    found = []
    for which, (number, count, flags, more) in heads.items():
        address, port, protocol, scope = which
        if scope != _EXTERNAL or port == 0 or flags & _HOST_PORT or not any(address):
            continue
        told = [backends.get(slots.get(which, {}).get(slot, _NO_BACKEND)) for slot in range(1, count + 1)]
        found.append(
            {
                "address": str(ipaddress.ip_address(address)),
                "port": port,
                "protocol": _PROTOCOLS.get(protocol, str(protocol)),
                "affinity_s": number if flags & _AFFINITY else None,
                "redirected": bool(more & (_LOCAL_REDIRECT | _L7)),
                "backends": sorted({backend for backend in told if backend is not None}),
                # A slot that is empty, or names a backend that is not there: what is sent to it is dropped.
                "lost_slots": told.count(None),
            }
        )
    return found


def _backends(backends: Mapping[str, Any], family: str, order: str) -> dict[int, str]:
    size = _ADDRESS_BYTES[family]
    found = {}
    for key, value in _entries(backends, 4, size + 8, f"backends (IPv{family})"):
        (port,) = struct.unpack_from(">H", value, size)
        found[struct.unpack(f"{order}I", key)[0]] = str(Endpoint(str(ipaddress.ip_address(value[:size])), port))
    return found


def _entries(table: Mapping[str, Any], key_bytes: int, value_bytes: int, name: str) -> Iterable[tuple[bytes, bytes]]:
    if (table["key_bytes"], table["value_bytes"]) != (key_bytes, value_bytes):
        raise RecordError(
            f"Cilium's map of {name} has keys of {table['key_bytes']} and values of {table['value_bytes']} bytes, those of Cilium 1.13 to "
            f"1.18 have {key_bytes} and {value_bytes}: what they mean is not known"
        )
    raw, size = base64.b64decode(table["entries"]), key_bytes + value_bytes
    for start in range(0, len(raw), size):
        yield raw[start : start + key_bytes], raw[start + key_bytes : start + size]


def _protocols(services: Iterable[Mapping[str, Any]]) -> dict[tuple[str | None, int], set[str]]:
    """Return the protocols that Services ask for, by address and port, and for NodePorts by the port alone."""
    asked: dict[tuple[str | None, int], set[str]] = {}
    for service in services:
        spec = service["spec"]
        status = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        addresses = [*(spec.get("clusterIPs") or [spec.get("clusterIP")]), *(spec.get("externalIPs") or [])]
        addresses += [item["ip"] for item in status if item.get("ip")]
        for port in spec.get("ports") or []:
            protocol = port.get("protocol") or "TCP"
            for address in addresses:
                if address and address != "None":
                    asked.setdefault((str(ipaddress.ip_address(address)), port["port"]), set()).add(protocol)
            if port.get("nodePort"):
                asked.setdefault((None, port["nodePort"]), set()).add(protocol)
    return asked


def _is_special(service: Mapping[str, Any]) -> bool:
    annotations = service["metadata"].get("annotations") or {}
    return any(str(annotations.get(name)).lower() == "true" for name in _GLOBAL) or any(name in annotations for name in _OF_SOME)


def _owner(endpoint_slice: Mapping[str, Any]) -> str:
    metadata = endpoint_slice["metadata"]
    return f"{metadata['namespace']}/{(metadata.get('labels') or {}).get(virtual_servers.SERVICE_NAME)}"


def _name(service: Mapping[str, Any]) -> str:
    return f"{service['metadata']['namespace']}/{service['metadata']['name']}"


def _endpoint(text: str) -> Endpoint:
    address, _, port = text.rpartition(":")
    return Endpoint(address.strip("[]"), int(port))
