"""Ranges of addresses, and who says that they are for pods or Services."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Range:
    """A range and who says so."""

    use: str  # pods, services
    cidr: str
    source: str

    @property
    def network(self) -> Network:
        """The range. Raises `ValueError` when it is none."""
        return ipaddress.ip_network(self.cidr, strict=False)

    def to_json(self) -> dict[str, str]:
        """Return builtin values."""
        return {"use": self.use, "cidr": self.cidr, "source": self.source}


def of_services(ranges: Iterable[Range]) -> list[Network]:
    """Return the ranges of Services."""
    return [item.network for item in ranges if item.use == "services"]


def networks(cidrs: Iterable[str]) -> list[Network]:
    """Return those ranges that are ones."""
    found = []
    for cidr in cidrs:
        try:
            found.append(ipaddress.ip_network(cidr, strict=False))
        except ValueError:
            continue
    return found


def ranges_from_json(data: Sequence[Mapping[str, Any]] | None) -> tuple[Range, ...] | None:
    """Read what `Range.to_json` gave."""
    return None if data is None else tuple(Range(**item) for item in data)
