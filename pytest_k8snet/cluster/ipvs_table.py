"""The IPVS table of a node as the kernel writes it: ``ip_vs_info_seq_show`` in Linux' ``net/netfilter/ipvs/ip_vs_ctl.c``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from pytest_k8snet.errors import RecordError

_SERVICE_LINE = re.compile(r"^(TCP|UDP|SCTP)\s+(?:\[([0-9A-Fa-f:]+)\]|([0-9A-Fa-f]{8})):([0-9A-Fa-f]{4})\s+(\S+)\s*(.*)$")
_MARK_LINE = re.compile(r"^FWM\s")
_REAL_LINE = re.compile(r"^\s*->\s+(?:\[([0-9A-Fa-f:]+)\]|([0-9A-Fa-f]{8})):([0-9A-Fa-f]{4})\s+\S+\s+(-?\d+)(?:\s+\d+\s+\d+)?\s*$")
_BETWEEN = re.compile(r"\n(?! *->)")  # one virtual server with the real ones below it, and the next

#: Ticks a second that kernels are built with (CONFIG_HZ).
CLOCK_RATES = (100, 250, 300, 1000)

#: Virtual servers whose text is remembered. All nodes have most of them in common, and there are thousands on each.
_REMEMBERED = 16384


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


class RealServer(NamedTuple):
    """A destination of a virtual server."""

    endpoint: Endpoint
    weight: int


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """An entry of the IPVS table."""

    key: ServerKey
    scheduler: str
    persistent_s: int | None  # timeout of its session affinity, None without affinity and where the table tells it in ticks
    real: tuple[RealServer, ...]
    endpoints: frozenset[Endpoint]  # of the real servers of weight 1
    persistent_ticks: int | None = None  # the same as IPVS tells it, by a clock whose rate it does not tell

    def keeps_for(self, seconds: int | None) -> bool:
        """Whether this is the timeout of its session affinity; None asks for none."""
        if self.persistent_ticks is None or seconds is None:
            return self.persistent_s == seconds and self.persistent_ticks is None
        return any(self.persistent_ticks == seconds * rate for rate in CLOCK_RATES)

    @property
    def affinity(self) -> str:
        """Its session affinity in words."""
        if self.persistent_ticks is not None:
            return f"ClientIP for {self.persistent_ticks} ticks of the kernel's clock"
        return "none" if self.persistent_s is None else f"ClientIP for {self.persistent_s} s"


@lru_cache(maxsize=2)  # several checks of a node ask for the same text one after the other
def parse_table(text: str) -> tuple[VirtualServer, ...]:
    """Read the text of ``/proc/net/ip_vs``. Its counters of connections are not read.

    Firewall-mark services are left out: kube-proxy makes none. Raises `RecordError` for anything that is not such a table.
    """
    head = text.split("\n", 3)
    if len(head) < 3 or not head[0].startswith("IP Virtual Server version"):
        raise RecordError(f"not a table of /proc/net/ip_vs: it starts with {text[:60]!r}")
    return tuple(filter(None, map(_server, _BETWEEN.split(head[3]) if len(head) == 4 else ())))


@lru_cache(maxsize=_REMEMBERED)
def _server(block: str) -> VirtualServer | None:
    """Read one virtual server and the real ones below it; None for what is none: a firewall mark, an empty line."""
    first, _, rest = block.partition("\n")
    destinations = _destinations(rest)
    match = _SERVICE_LINE.match(first)
    if match is None:
        if first.strip() and not _MARK_LINE.match(first):
            raise _unreadable(first)
        return None
    protocol, v6, v4, port, scheduler, flags = match.groups()
    words = flags.split()
    return VirtualServer(
        key=ServerKey(protocol, _address(v6, v4), int(port, 16)),
        scheduler=scheduler,
        persistent_s=None,
        real=destinations.real,
        endpoints=destinations.endpoints,
        persistent_ticks=int(words[words.index("persistent") + 1]) if "persistent" in words[:-1] else None,
    )


class _Destinations(NamedTuple):
    """The real servers of a virtual server. A Service's NodePorts have the same ones on every node, below addresses of each node's own."""

    real: tuple[RealServer, ...]
    endpoints: frozenset[Endpoint]  # of those of weight 1


@lru_cache(maxsize=_REMEMBERED)
def _destinations(lines: str) -> _Destinations:
    real = tuple(_real(line) for line in lines.splitlines() if line.strip())
    return _Destinations(real, frozenset(server.endpoint for server in real if server.weight == 1))


def _real(line: str) -> RealServer:
    match = _REAL_LINE.match(line)
    if match is None:
        raise _unreadable(line)
    v6, v4, port, weight = match.groups()
    return RealServer(Endpoint(_address(v6, v4), int(port, 16)), int(weight))


def _unreadable(line: str) -> RecordError:
    return RecordError(f"a line of /proc/net/ip_vs is neither a virtual nor a real server: {line!r}")


def _address(v6: str | None, v4: str | None) -> str:
    return str(ipaddress.IPv6Address(v6)) if v6 else ".".join(str(byte) for byte in bytes.fromhex(v4 or ""))
