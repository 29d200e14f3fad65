"""Typed view of the ``latency`` document of a node: how long answers of other nodes and of their pods take. Times are milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Take:
    """Some answers over one connection. With an error it has no figures."""

    path: Literal["host", "pod"]
    error: str | None
    closed: bool  # whether the error is that no answer came, and not that nobody was there to give one
    samples: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    jitter_ms: float

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Take:
        """Read one element of ``takes``."""
        if data["path"] not in ("host", "pod"):
            raise ValueError(f"path {data['path']!r} is neither host nor pod")
        keys = ("p50_ms", "p90_ms", "p99_ms", "max_ms", "jitter_ms")
        error = data["error"]
        figures = {key: float("nan") if error is not None else float(data[key]) for key in keys}
        return cls(path=data["path"], error=error, closed=bool(data["closed"]), samples=int(data["samples"]), **figures)


@dataclass(frozen=True, slots=True)
class Echo:
    """ICMP echo by one path. Without answers it has no figures."""

    path: str  # host, pod
    samples: int
    lost: int
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    jitter_ms: float | None
    refused: str | None  # why none was sent: it is not allowed there, or nobody answers it
    error: str | None

    @classmethod
    def from_json(cls, path: str, data: Mapping[str, Any]) -> Echo:
        """Read one element of ``echo``."""
        times = {key: None if data[key] is None else float(data[key]) for key in ("p50_ms", "p90_ms", "p99_ms", "jitter_ms")}
        return cls(path=path, samples=int(data["samples"]), lost=int(data["lost"]), refused=data["refused"], error=data["error"], **times)


@dataclass(frozen=True, slots=True)
class Point:
    """A reference point of the profile, and how long connections to it take to open; None where none did."""

    name: str
    address: str
    port: int
    samples: int  # connections that opened
    p50_ms: float | None
    error: str | None
    asked: int | None = None  # connections that were tried; None in an older recording


@dataclass(frozen=True, slots=True)
class LatencyRecord:
    """What was measured from one node."""

    node: str
    pod_absent: str | None  # why there is no probe pod, on purpose
    targets: Mapping[str, tuple[Take, ...]]
    points: tuple[Point, ...]
    echoes: Mapping[str, tuple[Echo, ...]] = field(default_factory=dict)  # by target

    @classmethod
    def from_document(cls, document: Document) -> LatencyRecord:
        """Read the typed view of a ``latency`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("latency") as data:
            targets = {name: tuple(map(Take.from_json, item["takes"])) for name, item in data["targets"].items()}
            points = tuple(Point(**item) for item in data["points"])
            echoes = {
                name: tuple(Echo.from_json(path, echo) for path, echo in item["echo"].items())
                for name, item in data["targets"].items()
                if item.get("echo")
            }
            return cls(document.subject, data["pod_absent"], targets, points, echoes)
