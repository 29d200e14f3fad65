"""Typed view of the ``ingress`` document: what came of requests sent through ways into the cluster, and straight to the same pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.record.document import Document
from pytest_k8snet.record.restart import Restart


@dataclass(frozen=True, slots=True)
class Series:
    """Requests of one client, one after the other, and what the pod saw of them."""

    asked: int
    answered: int  # by the pod
    opened: int  # connections of the client
    closed_after: tuple[int, ...]  # requests answered on each connection that was closed before the client had done
    others: Mapping[str, int]  # what else came of requests (status or error), to count
    hsts: str | None
    seen_requests: int
    seen_connections: int
    seen_protocols: Mapping[str, int]
    seen_connection: Mapping[str, int]  # the header of that name
    seen_header_bytes: int

    @property
    def complete(self) -> bool:
        """Whether the pod answered all of them."""
        return 0 < self.asked == self.answered

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Series:
        """Read one series."""
        seen = data["seen"]
        return cls(
            asked=int(data["asked"]),
            answered=int(data["answered"]),
            opened=int(data["opened"]),
            closed_after=tuple(map(int, data["closed_after"])),
            others=dict(data["others"]),
            hsts=data["hsts"],
            seen_requests=int(seen["requests"]),
            seen_connections=int(seen["connections"]),
            seen_protocols=dict(seen["protocols"]),
            seen_connection=dict(seen["connection"]),
            seen_header_bytes=int(seen["header_bytes"]),
        )


@dataclass(frozen=True, slots=True)
class RouteRecord:
    """What was measured of one route. Without an answer of the pod there is nothing but the control."""

    name: str
    url: str
    host: str
    waited_s: float  # until the pod answered through it, or for as long as it did not
    first: str | None  # what came instead of the pod's answer when it never did
    header_bytes: int
    control: Series
    through: Series | None  # the best take: what closed a connection once has passed
    sent: Series | None  # a request with a header of `header_bytes`
    returned: Series | None  # an answer with one
    control_sent: Series
    control_returned: Series
    incomplete: tuple[Series, ...] = ()  # other takes of `through` in which requests were not answered


@dataclass(frozen=True, slots=True)
class IngressRecord:
    """What was measured."""

    absent: str | None  # why nothing was, on purpose
    beyond: bool  # whether that is because of how the run was made
    client: str  # node of the pod that asked
    backend: str  # node of the pod that answered
    routes: tuple[RouteRecord, ...]
    restart: Restart | None = None  # None where it was not measured

    @classmethod
    def from_document(cls, document: Document) -> IngressRecord:
        """Read the typed view of an ``ingress`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("requests through the ingress") as data:
            if data["absent"] is not None:
                return cls(str(data["absent"]), bool(data["beyond"]), "", "", ())
            restart = None if data.get("restart") is None else Restart.from_json(data["restart"])
            return cls(None, False, data["client"], data["backend"], tuple(map(_route, data["routes"])), restart)


def _route(data: Mapping[str, Any]) -> RouteRecord:
    def best(key: str) -> Series | None:
        return min(map(Series.from_json, data[key]), key=lambda take: (take.asked - take.answered, len(take.closed_after)), default=None)

    through = best("through")
    others = (take for take in map(Series.from_json, data["through"]) if through is not None and through.complete and not take.complete)
    return RouteRecord(
        name=data["name"],
        url=data["url"],
        host=data["host"],
        waited_s=float(data["waited_s"]),
        first=data["first"],
        header_bytes=int(data["header_bytes"]),
        control=Series.from_json(data["control"]),
        through=through,
        sent=best("sent"),
        returned=best("returned"),
        control_sent=Series.from_json(data["control_sent"]),
        control_returned=Series.from_json(data["control_returned"]),
        incomplete=tuple(others),
    )
