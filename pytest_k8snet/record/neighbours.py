"""Typed view of a part of the ``facts`` document of a node: which hardware addresses it has, and which it sends to."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_k8snet.errors import RecordError
from pytest_k8snet.record.document import Document

VRRP = ("00:00:5e:00:01:", "00:00:5e:00:02:")  # RFC 9568: virtual routers', whichever machine is the master


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the neighbour table, from ``ip -j neigh``."""

    address: str
    mac: str
    permanent: bool  # set by somebody: the kernel never asks whether it is still so


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What one node knows of the machines on the link of its uplink."""

    node: str
    uplink: str | None  # None: no device has the node's InternalIP
    uplink_mac: str | None
    macs: frozenset[str]  # of the node's devices, ends of pods apart
    entries: tuple[Entry, ...]
    total: int  # of entries: as many as there were
    looked_at: int
    routes: tuple[tuple[str, bool], ...]  # ranges, and whether what is in them is a neighbour on the uplink
    gateways: Mapping[str, str]  # hardware addresses by address, of what routes lead through

    def is_neighbour(self, address: str) -> bool:
        """Whether the longest of the routes that hold an address says that it is on the uplink's link."""
        parsed = ipaddress.ip_address(address)
        ranges = ((ipaddress.ip_network(text, strict=False), near) for text, near in self.routes)
        fitting = [(network.prefixlen, near) for network, near in ranges if parsed in network]
        return bool(fitting) and max(fitting, key=lambda item: item[0])[1]

    def of_others(self, owner: Mapping[str, str]) -> Neighbourhood:
        """Return it with no other entries than those for addresses of other nodes: `owner` has the node of each address."""
        return replace(self, entries=tuple(item for item in self.entries if owner.get(item.address, self.node) != self.node))

    @classmethod
    def from_document(cls, document: Document) -> Neighbourhood | None:
        """Read this part of a ``facts`` document; None of one that is older than it.

        Raises `RecordError` with the recorded reason when the facts, or these of them, could not be taken, and when they are damaged.
        """
        with document.reading("facts") as data:
            if "neighbour_entries" not in data:
                return None
            if (why := (data.get("errors") or {}).get("neighbour_entries")) is not None:
                raise RecordError(f"{document.subject}: the neighbour table was not read: {why}")
            return _read(document.subject, data)


def _read(node: str, data: Mapping[str, Any]) -> Neighbourhood:
    uplink, found = data["uplink"], data["neighbour_entries"] or {"total": 0, "entries": []}
    links = [link for link in data["host"]["links"] if "address" in link and link.get("linkinfo", {}).get("info_kind") != "veth"]
    entries = tuple(Entry(item["dst"], item["lladdr"].lower(), "PERMANENT" in item["state"]) for item in found["entries"])
    routes = [route for route in data["host"]["routes"] if "dev" in route]
    gateways = {route["gateway"] for route in routes if "gateway" in route}
    return Neighbourhood(
        node=node,
        uplink=uplink,
        uplink_mac=next((str(link["address"]).lower() for link in links if link["ifname"] == uplink), None),
        macs=frozenset(str(link["address"]).lower() for link in links),
        entries=entries,
        total=int(found["total"]),
        looked_at=len(entries),
        routes=tuple(_range(route, uplink) for route in routes),
        gateways={entry.address: entry.mac for entry in entries if entry.address in gateways},
    )


def _range(route: Mapping[str, Any], uplink: str | None) -> tuple[str, bool]:
    gateway = route.get("gateway") or (route.get("via") or {}).get("host")
    default = "::/0" if ":" in (gateway or "") else "0.0.0.0/0"
    return default if route["dst"] == "default" else route["dst"], gateway is None and route["dev"] == uplink
