"""The tables that kube-proxy keeps in nftables mode, read as virtual servers: ``pkg/proxy/nftables/proxier.go`` (``syncProxyRules``).

A Service's address and port are a key of the map ``service-ips`` (NodePorts: ``service-nodeports``) that leads to a chain, or of
``no-endpoint-services`` when it has no endpoint; the chain, or one that it leads to, has the endpoints as DNAT.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pytest_k8snet.cluster.ipvs_table import Endpoint, RealServer, ServerKey, VirtualServer
from pytest_k8snet.errors import RecordError

TABLE = "kube-proxy"

SERVICE_MAPS = ("service-ips", "no-endpoint-services")
NODE_PORT_MAPS = ("service-nodeports", "no-endpoint-nodeports")
NODE_PORT_ADDRESSES = "nodeport-ips"
_CHAINS = ("service-", "local-", "external-", "endpoint-")
_AFFINITY = "affinity-"


def trimmed(listing: str) -> dict[str, Any]:
    """Return what ``nft -j list table ip kube-proxy`` printed without what no judge looks at: handles, comments, all other chains.

    Raises `RecordError` when it is no such listing.
    """
    try:
        items = json.loads(listing)["nftables"]
        elements: dict[str, Any] = {}
        chains: dict[str, Any] = {}
        affinity_s: dict[str, int] = {}
        for kind, item in (pair for entry in items for pair in entry.items()):
            if kind in ("map", "set") and item["name"] in (*SERVICE_MAPS, *NODE_PORT_MAPS, NODE_PORT_ADDRESSES):
                elements[item["name"]] = [_without_comment(element) for element in item.get("elem", ())]
            elif kind == "set" and item["name"].startswith(_AFFINITY):
                affinity_s[item["name"]] = item["timeout"]
            elif kind == "rule" and item["chain"].startswith(_CHAINS):
                chains.setdefault(item["chain"], []).append(item["expr"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"not a listing of nft: {error!r} in {listing[:60]!r}") from error
    if missing := sorted({*SERVICE_MAPS, *NODE_PORT_MAPS, NODE_PORT_ADDRESSES} - elements.keys()):
        raise RecordError(f"the table {TABLE} has no {', '.join(missing)}; this is not how kube-proxy 1.31 to 1.37 lays it out")
    return {"elements": elements, "chains": chains, "affinity_s": affinity_s}


def servers(tables: Iterable[Mapping[str, Any]]) -> tuple[VirtualServer, ...]:
    """Return what the trimmed tables of the address families serve. `RecordError` for rules that this does not know how to read."""
    found: dict[ServerKey, VirtualServer] = {}
    for table in tables:
        for key, chain in _entries(table["elements"]):
            reached = dict(_reached(table, chain)) if chain else {}
            known = found.get(key)
            endpoints = frozenset(reached) | (known.endpoints if known else frozenset())
            persistent = {seconds for seconds in reached.values() if seconds is not None}
            found[key] = VirtualServer(
                key=key,
                scheduler="",
                persistent_s=max(persistent) if persistent else known.persistent_s if known else None,
                real=tuple(RealServer(endpoint, 1) for endpoint in sorted(endpoints)),
                endpoints=endpoints,
            )
    return tuple(found.values())


def node_port_addresses(tables: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the node's addresses that NodePorts are served on."""
    return [str(address) for table in tables for address in table["elements"][NODE_PORT_ADDRESSES]]


def _without_comment(element: Any) -> Any:
    """Return an element of a set, or key and value of a map's, without the comment that kube-proxy gives some."""
    if isinstance(element, list):
        return [_without_comment(part) for part in element]
    return element["elem"]["val"] if isinstance(element, dict) and "elem" in element else element


def _entries(elements: Mapping[str, Sequence[Any]]) -> Iterator[tuple[ServerKey, str | None]]:
    """Yield each address and port with the chain that serves it, None for what is refused or dropped as it has no endpoint."""
    for name in SERVICE_MAPS:
        for key, value in elements[name]:
            address, protocol, port = _concatenated(key, 3)
            yield ServerKey(str(protocol).upper(), str(address), int(port)), _chain(value) if name == SERVICE_MAPS[0] else None
    for name in NODE_PORT_MAPS:
        for key, value in elements[name]:
            protocol, port = _concatenated(key, 2)
            for address in elements[NODE_PORT_ADDRESSES]:
                yield ServerKey(str(protocol).upper(), str(address), int(port)), _chain(value) if name == NODE_PORT_MAPS[0] else None


def _reached(table: Mapping[str, Any], chain: str, seen: tuple[str, ...] = ()) -> Iterator[tuple[Endpoint, int | None]]:
    """Yield the endpoints that a packet from anywhere may be sent to from a chain, and for how long its sender stays with them.

    Rules for some senders alone (pods, the node itself, those that an affinity is kept for) lead to what other chains have as well.
    """
    affinity: int | None = None
    for rule in table["chains"].get(chain, ()):
        if any(_is_of_some(part) for part in rule):
            continue
        for part in rule:
            (kind, value), *_ = part.items()
            if kind == "set" and value["op"] in ("update", "add"):
                affinity = table["affinity_s"].get(value["set"].lstrip("@"))
            elif kind in ("goto", "jump"):
                if value["target"] not in seen and value["target"].startswith(_CHAINS):
                    yield from _reached(table, value["target"], (*seen, chain))
            elif kind == "vmap":
                for _, verdict in value["data"]["set"]:
                    yield from _reached(table, _chain(verdict), (*seen, chain))
            elif kind == "dnat":
                for endpoint in _destinations(value):
                    yield endpoint, affinity


def _is_of_some(part: Mapping[str, Any]) -> bool:
    match = part.get("match")
    return match is not None and match["left"] != {"meta": {"key": "l4proto"}}


def _destinations(dnat: Mapping[str, Any]) -> Iterator[Endpoint]:
    address = dnat["addr"]
    if isinstance(address, str):
        yield Endpoint(address, int(dnat["port"]))
        return
    try:
        pairs = address["map"]["data"]["set"]
    except (KeyError, TypeError) as error:
        raise RecordError(f"a DNAT of the table {TABLE} is not one that kube-proxy writes: {dnat}") from error
    for _, value in pairs:
        to, port = _concatenated(value, 2)
        yield Endpoint(str(to), int(port))


def _chain(verdict: Mapping[str, Any]) -> str:
    try:
        return str((verdict.get("goto") or verdict["jump"])["target"])
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"a verdict of the table {TABLE} leads to no chain: {verdict}") from error


def _concatenated(value: Mapping[str, Any], count: int) -> Sequence[Any]:
    parts = value.get("concat") if isinstance(value, Mapping) else None
    if not isinstance(parts, list) or len(parts) != count:
        raise RecordError(f"a key of the table {TABLE} is not one that kube-proxy writes: {value}")
    return parts
