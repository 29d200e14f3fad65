"""Typed view of the ``balance`` document of a node: many connections of its pod to one Service, and what the node's tables had of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_k8snet.errors import RecordError
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


@dataclass(frozen=True, slots=True)
class Spread:
    """Connections to one address, and the tables of the node after them."""

    service: str
    address: str
    port: int
    seen: tuple[str, ...]  # nodes whose pods had answered before
    waited_s: float
    connections: tuple[Opened, ...]
    ipvs_loaded: bool
    scheduler: str | None  # of the virtual server; None: there is none
    in_ipvs: Mapping[tuple[str, int], tuple[str, int]]  # client to real server
    rules: tuple[Rule, ...]
    errors: Mapping[str, str]  # back ends of iptables that could not be read

    @property
    def what(self) -> str:
        """The Service, for messages."""
        return f"Service {self.service} ({self.address} port {self.port})"

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
        said = Counter(item.error or "nothing" for item in self.connections if item.name is None)
        return ", ".join(f"{text} ({count} of {len(self.connections)})" for text, count in said.items())


@dataclass(frozen=True, slots=True)
class BalanceRecord:
    """What one node's probe pod found."""

    node: str
    endpoints: Mapping[str, str]  # nodes whose probe pods answer, to their addresses
    not_serving: Mapping[str, str]  # nodes whose pods could not be made to answer, and why
    spread: Spread

    @classmethod
    def from_document(cls, document: Document) -> BalanceRecord:
        """Read the typed view of a ``balance`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        if document.values is None:
            raise document.no_values("connections to a Service of several endpoints")
        data = document.values
        try:
            spread = data["spread"]
            return cls(
                node=document.subject,
                endpoints=dict(data["endpoints"]),
                not_serving=dict(data["not_serving"]),
                spread=Spread(
                    service=spread["service"],
                    address=spread["address"],
                    port=spread["port"],
                    seen=tuple(spread["seen"]),
                    waited_s=float(spread["waited_s"]),
                    connections=tuple(
                        Opened(None if item["source"] is None else (item["source"][0], item["source"][1]), item["name"], item["error"])
                        for item in spread["connections"]
                    ),
                    ipvs_loaded=spread["ipvs"]["loaded"],
                    scheduler=spread["ipvs"]["scheduler"],
                    in_ipvs={(item[0], item[1]): (item[2], item[3]) for item in spread["ipvs"]["connections"]},
                    rules=tuple(Rule(item["backend"], item["rule"], item["packets"]) for item in spread["rules"]),
                    errors=dict(spread["errors"]),
                ),
            )
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise RecordError(f"{document.subject}: the balance document is damaged: {error!r}") from error
