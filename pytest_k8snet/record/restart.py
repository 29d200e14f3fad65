"""Typed view of a rolling restart behind Ingresses: what came of requests while one pod took over from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests of one client at a steady pace, and how many of them the new pod saw."""

    asked: int
    answered: int
    others: Mapping[str, int]  # what else came of requests (status or error), to count
    failed_s: tuple[float, ...]  # when requests were sent that failed, in seconds from the beginning on
    seen: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stream:
        """Read one stream."""
        failed_s = tuple(map(float, data["failed_s"]))
        return cls(int(data["asked"]), int(data["answered"]), dict(data["others"]), failed_s, int(data.get("seen", 0)))


@dataclass(frozen=True, slots=True)
class Restart:
    """What was done, and what came of it through each route."""

    new: str | None  # node of the pod that took over; None where there is none that could
    drain_s: float  # how long the old one went on
    changed_s: float  # when the new one took over, in seconds from the beginning on
    refused: str | None  # why the run may not do it
    control: Stream | None  # straight to the old pod, before
    routes: Mapping[str, Stream]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Restart:
        """Read it."""
        if data["new"] is None:
            return cls(None, 0.0, 0.0, None, None, {})
        return cls(
            new=data["new"],
            drain_s=float(data["drain_s"]),
            changed_s=float(data["changed_s"]),
            refused=data["refused"],
            control=None if data.get("control") is None else Stream.from_json(data["control"]),
            routes={name: Stream.from_json(stream) for name, stream in data["routes"].items()},
        )
