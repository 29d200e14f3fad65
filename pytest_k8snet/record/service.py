"""Typed view of the ``service`` document of a node: who answered its connections to Services' addresses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection: who answered and which source address it saw, or why nobody did."""

    name: str | None
    source: str | None
    ms: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """An address of a Service, asked a few times from one place."""

    path: str  # cluster-ip, node-port, hairpin
    role: str  # host, pod
    address: str
    port: int
    service: str
    endpoint: str  # the node of the only endpoint
    node: str | None  # whose NodePort it is
    waited_s: float  # how long its endpoint ran when it was asked the last time
    connections: tuple[Connection, ...]

    @property
    def fine(self) -> bool:
        """Whether the endpoint answered every connection."""
        return bool(self.connections) and all(item.name == self.endpoint for item in self.connections)

    @property
    def what(self) -> str:
        """What came back instead, and how often."""
        said = Counter(
            f"answered by {item.name}" if item.name is not None else item.error or "nothing"
            for item in self.connections
            if item.name != self.endpoint
        )
        return ", ".join(f"{text} ({count} of {len(self.connections)})" for text, count in said.items()) or "not asked"


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """What one node and its probe pod asked."""

    node: str
    asked: tuple[Asked, ...]
    asked_by: str | None  # the node whose pod asks this one's NodePort
    not_serving: Mapping[str, str]  # nodes whose pods could not be made to answer, and why

    def of(self, path: str) -> tuple[Asked, ...]:
        """Return what was asked over one kind of address."""
        return tuple(item for item in self.asked if item.path == path)

    @classmethod
    def from_document(cls, document: Document) -> ServiceRecord:
        """Read the typed view of a ``service`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("connections to Services") as data:
            return cls(
                node=document.subject,
                asked=tuple(
                    Asked(
                        path=item["path"],
                        role=item["role"],
                        address=item["address"],
                        port=item["port"],
                        service=item["service"],
                        endpoint=item["endpoint"],
                        node=item["node"],
                        waited_s=float(item["waited_s"]),
                        connections=tuple(
                            Connection(answer["name"], (answer["peer"] or [None])[0], answer["ms"], answer["error"])
                            for answer in item["answers"]
                        ),
                    )
                    for item in data["asked"]
                ),
                asked_by=data["asked_by"],
                not_serving=dict(data["not_serving"]),
            )
