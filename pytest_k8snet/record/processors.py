"""Typed view of what the processors of a node did while something was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Processors:
    """Ticks by what they were spent on, over some seconds: of all processors together, and of the busiest one."""

    online: int
    together: Mapping[str, int]
    busiest: Mapping[str, int]

    @property
    def busy(self) -> float:
        """Share of all processors' time in which they were not idle, or not there."""
        return busy_share(self.together)

    @property
    def stolen(self) -> float:
        """Share of all processors' time that the hypervisor took."""
        return share_of(self.together, "steal")

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Processors | None:
        """Read ``source`` or ``target`` of a take's ``processors``; None where nothing was counted."""
        if data is None or not sum(data["together"].values()):
            return None
        return cls(int(data["online"]), dict(data["together"]), dict(data["busiest"]))


def share_of(ticks: Mapping[str, int], use: str) -> float:
    """Return the share of the time that went to one use; 0 where nothing was counted."""
    total = sum(ticks.values())
    return ticks.get(use, 0) / total if total else 0.0


def busy_share(ticks: Mapping[str, int]) -> float:
    """Return the share of the time in which there was something to do, or the hypervisor gave none."""
    return 1.0 - share_of(ticks, "idle") - share_of(ticks, "iowait") if sum(ticks.values()) else 0.0
