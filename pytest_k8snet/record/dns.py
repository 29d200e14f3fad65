"""Typed view of the ``dns`` document of a node: what DNS servers answered its probe pod, series by series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Round:
    """A number of questions, one after the other. Times are in milliseconds, None when nothing was answered."""

    asked: int
    answered: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    addresses: tuple[str, ...]
    errors: Mapping[str, int]  # what came instead of an answer, and how often
    missing: Mapping[str, int]  # of pairs: the type whose answer did not come while the other one's did


@dataclass(frozen=True, slots=True)
class Series:
    """The same question to the same server, in as many rounds as it took to be sure."""

    what: str  # service, cache (NodeLocal DNSCache), cloud (Cloud DNS), server (one of CoreDNS), outside (a name of the profile), loopback
    server: str  # name of Service or pod
    node: str | None  # the server's
    address: str
    port: int
    protocol: str  # UDP, TCP, pair, loopback
    name: str
    rounds: tuple[Round, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """How a short name was found by the search list."""

    name: str
    questions: int  # A and AAAA are two
    tried: tuple[tuple[str, str], ...]  # names asked for, and what came back
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Requested:
    """HTTPS requests to a Service by one of its names: medians of the parts of their time, None where none was answered."""

    name: str
    requests: int  # answered
    resolve_ms: float | None
    connect_ms: float | None
    answer_ms: float | None  # TLS handshake and request
    share: float | None  # of the whole, that resolution takes
    error: str | None  # with which they ended early


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """What one node's probe pod was answered. With `absent` nobody was asked, for that reason."""

    node: str
    absent: str | None
    domain: str
    domain_from: str  # profile, Corefile, assumed
    want: tuple[str, ...]  # the addresses that kubernetes.default has
    series: tuple[Series, ...]
    servers_total: int  # there are; a node asks a few of many
    search: tuple[str, ...]
    walks: tuple[Walk, ...]
    requested: tuple[Requested, ...] = ()
    unread: bool = False  # whether `absent` is that the cluster's DNS could not be read

    def of(self, *what: str, protocols: tuple[str, ...] = ("UDP", "TCP")) -> tuple[Series, ...]:
        """Return the series of some kinds of server."""
        return tuple(series for series in self.series if series.what in what and series.protocol in protocols)

    @classmethod
    def from_document(cls, document: Document) -> DnsRecord:
        """Read the typed view of a ``dns`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("DNS") as data:
            if data.get("absent") is not None:
                return cls(document.subject, str(data["absent"]), "", "", (), (), 0, (), (), unread=bool(data.get("unread")))
            search = data["search"] or {"search": [], "names": {}}
            return cls(
                node=document.subject,
                absent=None,
                domain=data["domain"],
                domain_from=data["domain_from"],
                want=tuple(data["want"]),
                series=tuple(_series(item) for item in data["series"]),
                servers_total=data["servers_total"],
                search=tuple(search["search"]),
                walks=tuple(
                    Walk(name, walk["questions"], tuple((tried, says) for tried, says in walk["tried"]), tuple(walk["addresses"]))
                    for name, walk in search["names"].items()
                ),
                requested=tuple(Requested(**item) for item in data.get("requests") or ()),
            )


def _series(data: Mapping[str, Any]) -> Series:
    return Series(
        what=data["what"],
        server=data["server"],
        node=data["node"],
        address=data["address"],
        port=data["port"],
        protocol=data["protocol"],
        name=data["name"],
        rounds=tuple(
            Round(
                asked=item["asked"],
                answered=item["answered"],
                p50_ms=item["p50_ms"],
                p99_ms=item["p99_ms"],
                max_ms=item["max_ms"],
                addresses=tuple(item["addresses"]),
                errors=dict(item["errors"]),
                missing=dict(item["missing"]),
            )
            for item in data["rounds"]
        ),
    )
