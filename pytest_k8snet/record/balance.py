"""Typed view of the ``balance`` document of a node: many connections of its pod to one Service, and what the node's tables had of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Opened:
    """One connection: its own address and port, and who answered or why nobody did."""

    source: tuple[str, int] | None
    name: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a table nat that names the Service's address, and the packets that it counted meanwhile."""

    backend: str  # legacy, nft
    rule: str  # "-A KUBE-SERVICES -d 10.96.1.3/32 ..."
    packets: int

    def __str__(self) -> str:
        """Return it as a reader would say it."""
        return f"{self.rule} (iptables-{self.backend}: {self.packets} packets)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """Connections to the address of one Service."""

    service: str
    address: str
    port: int
    connections: tuple[Opened, ...]

    @property
    def what(self) -> str:
        """The Service, for messages. Its namespace goes with the run."""
        return f"Service {self.service.rpartition('/')[2]} ({self.address} port {self.port})"

    @property
    def shares(self) -> Counter[str]:
        """How many connections each pod answered, by its node."""
        return Counter(item.name for item in self.connections if item.name is not None)

    @property
    def answered(self) -> tuple[Opened, ...]:
        """The connections that somebody answered."""
        return tuple(item for item in self.connections if item.name is not None)

    @property
    def unanswered(self) -> str:
        """What came of the others, and how often; empty when there are none."""
        return self._said(item for item in self.connections if item.name is None)

    def _said(self, unanswered: Iterable[Opened]) -> str:
        said = Counter(item.error or "nothing" for item in unanswered)
        return ", ".join(f"{text} ({count} of {len(self.connections)})" for text, count in said.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread(Connections):
    """Connections that are to be spread, and the tables of the node after them."""

    earlier: tuple[Opened, ...]  # those that nobody answered the first time, before as many were opened once more
    seen: tuple[str, ...]  # nodes whose pods had answered before
    waited_s: float
    ipvs_loaded: bool
    scheduler: str | None  # of the virtual server; None: there is none
    in_ipvs: Mapping[tuple[str, int], tuple[str, int]]  # client to real server
    rules: tuple[Rule, ...]
    errors: Mapping[str, str]  # back ends of iptables that could not be read

    @property
    def unanswered_earlier(self) -> str:
        """What came of those that nobody answered the first time, and how often; empty when there were none."""
        return self._said(self.earlier)


@dataclass(frozen=True, slots=True)
class Noticed:
    """When a node noticed a change of endpoints, in seconds from the change on."""

    until_s: float | None  # when it was seen the last time to do as before; None: never
    since_s: float | None  # from when on it did as it should; None: not in the time it was given
    error: str | None  # why it was not looked at to the end


@dataclass(frozen=True, slots=True)
class Moved:
    """An endpoint that left the Service, and came back."""

    endpoint: str  # its node
    used: bool  # whether this node used it before
    error: str | None  # why it could not be moved
    refused: bool  # because the run has no right to
    left: Noticed | None
    came: Noticed | None
    session: str | None  # what became of a connection to it that was open: "kept", or what went wrong; None: there was none


@dataclass(frozen=True, slots=True)
class BalanceRecord:
    """What one node's probe pod found."""

    node: str
    endpoints: Mapping[str, str]  # nodes whose probe pods answer, to their addresses
    not_serving: Mapping[str, str]  # nodes whose pods could not be made to answer, and why
    spread: Spread
    sticky: Connections  # to a Service that keeps a client with one endpoint
    moved: Moved | None  # None: there is one endpoint

    @classmethod
    def from_document(cls, document: Document) -> BalanceRecord:
        """Read the typed view of a ``balance`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("connections to a Service of several endpoints") as data:
            spread = data["spread"]
            return cls(
                node=document.subject,
                endpoints=dict(data["endpoints"]),
                not_serving=dict(data["not_serving"]),
                moved=_moved(data["moved"]),
                sticky=Connections(**_connections(data["sticky"])),
                spread=Spread(
                    **_connections(spread),
                    earlier=_opened(spread.get("earlier", ())),
                    seen=tuple(spread["seen"]),
                    waited_s=float(spread["waited_s"]),
                    ipvs_loaded=spread["ipvs"]["loaded"],
                    scheduler=spread["ipvs"]["scheduler"],
                    in_ipvs={(item[0], item[1]): (item[2], item[3]) for item in spread["ipvs"]["connections"]},
                    rules=tuple(Rule(item["backend"], item["rule"], item["packets"]) for item in spread["rules"]),
                    errors=dict(spread["errors"]),
                ),
            )


def _connections(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: data[key] for key in ("service", "address", "port")},
        "connections": _opened(data["connections"]),
    }


def _opened(data: Iterable[Mapping[str, Any]]) -> tuple[Opened, ...]:
    return tuple(
        Opened(None if item["source"] is None else (item["source"][0], item["source"][1]), item["name"], item["error"]) for item in data
    )


def _moved(data: Mapping[str, Any] | None) -> Moved | None:
    if data is None:
        return None
    session = data["session"]
    return Moved(
        endpoint=data["endpoint"],
        used=data["used"],
        error=data["error"],
        refused=data["refused"],
        left=_noticed(data["left"]),
        came=_noticed(data["came"]),
        session=None if session is None else "kept" if session["alive"] else session["error"],
    )


def _noticed(data: Mapping[str, Any] | None) -> Noticed | None:
    return None if data is None else Noticed(data["until_s"], data["since_s"], data["error"])
