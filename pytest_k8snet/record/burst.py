"""Typed view of the ``burst`` document of a node: many short connections to another node's pod, and what the table made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_k8snet.record.activity import Activity, Grown
from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Table:
    """Entries of the connection table: as many as it may have, and as many as it had."""

    max: int
    before: int
    peak: int
    after: int
    grown: int | None = None  # by how much in all, while others' entries may have gone; None: not told by the version that measured


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of the connections."""

    tried: int
    opened: int
    failed: Mapping[str, int]  # by the name of the error: EADDRNOTAVAIL, ETIMEDOUT
    late: int  # of those that were opened, how many after their first packet had to be sent again
    seconds: float
    ports: tuple[int, int] | None  # lowest and highest that the kernel chose
    range: tuple[int, int] | None  # that it was to choose from


@dataclass(frozen=True, slots=True)
class Again:
    """Whether source ports toward one place are used again while connections that had them wait for their end."""

    waited_s: float
    held: int  # connections at a time, with as many ports
    over: str | None  # why there was not one more; None: there was
    reused: int
    timestamps: bool  # on both sides
    tcp_tw_reuse: str | None
    tcp_timestamps: str | None


@dataclass(frozen=True, slots=True)
class Burst:
    """What one pod did."""

    opened: Opened
    table: Table | None  # None: connections are not tracked
    grown: Grown  # what the node's kernel counted meanwhile
    again: Again | str  # or why that was not seen


@dataclass(frozen=True, slots=True)
class BurstRecord:
    """What one node's probe pod found."""

    node: str
    asked: int  # connections; 0: nobody asked for them
    endpoint: str | None  # the node whose pod was asked; None: there is none on another node
    not_serving: Mapping[str, str]  # nodes whose pods could not be made to answer, and why
    found: Burst | None

    @classmethod
    def from_document(cls, document: Document) -> BurstRecord:
        """Read the typed view of a ``burst`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("burst of connections") as data:
            found = data["found"]
            return cls(
                node=document.subject,
                asked=int(data["asked"]),
                endpoint=data["endpoint"],
                not_serving=dict(data["not_serving"]),
                found=None if found is None else _burst(found),
            )


def _burst(data: Mapping[str, Mapping[str, object]]) -> Burst:
    opened, table, again = data["opened"], data["table"], data["again"]
    return Burst(
        opened=Opened(**{**opened, "ports": _both(opened["ports"]), "range": _both(opened["range"])}),  # type: ignore[arg-type]
        table=None if table["max"] is None or table["peak"] is None else Table(**table),  # type: ignore[arg-type]
        grown=Grown(Activity.from_json(data["before"]), Activity.from_json(data["after"])),
        again=str(again["error"]) if again["error"] is not None else _again(again),
    )


def _again(data: Mapping[str, object]) -> Again:
    return Again(**{name: data[name] for name in Again.__slots__})  # type: ignore[arg-type]


def _both(ports: object) -> tuple[int, int] | None:
    return (ports[0], ports[1]) if isinstance(ports, list) and len(ports) == 2 else None
