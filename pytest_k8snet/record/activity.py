"""What the kernel of a node counts: a first reading is part of its facts, a second one is taken late in the run (document ``activity``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Log:
    """What the kernel's log says of a full connection table. Times are seconds on the log's own clock, which is that of the activity."""

    last_s: float  # of the newest record
    table_full: int  # messages
    table_full_s: tuple[float, ...]  # the times of the last of them
    error: str | None  # why it could not be read


@dataclass(frozen=True, slots=True)
class Activity:
    """One reading of counters that only grow. A part that the kernel has not is None."""

    at_s: float  # since the start of the machine
    processor: Mapping[str, int]  # ticks of all processors together by use (user, idle, steal, ...); online is their number
    softnet: Mapping[str, int] | None  # processed, dropped, time_squeeze
    devices: Mapping[str, Mapping[str, int]]  # hardware and the uplink: rx_packets, rx_errors, rx_dropped, tx_packets, ...
    conntrack: Mapping[str, int] | None  # columns of /proc/net/stat/nf_conntrack
    log: Log

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Activity:
        """Read what the agent's operation ``activity`` gives."""
        log = data["log"]
        return cls(
            at_s=float(data["at_s"]),
            processor=data["processor"],
            softnet=data["softnet"],
            devices=data["devices"],
            conntrack=data["conntrack"],
            log=Log(float(log["last_s"]), int(log["table_full"]), tuple(log["table_full_s"]), log["error"]),
        )

    @classmethod
    def from_document(cls, document: Document) -> Activity:
        """Read an ``activity`` document.

        Raises `RecordError` with the recorded reason when there was no second reading, and when the document is damaged.
        """
        with document.reading("second reading of the counters") as data:
            return cls.from_json(data)


@dataclass(frozen=True, slots=True)
class Grown:
    """What has been counted between two readings of one node."""

    first: Activity
    second: Activity

    @property
    def seconds(self) -> float:
        """How long that was."""
        return self.second.at_s - self.first.at_s

    @property
    def restarted(self) -> bool:
        """Whether the machine has started anew in between: nothing can then be said."""
        return self.seconds < 0

    def of(self, part: str) -> dict[str, int] | None:
        """Return the growth of ``processor``, ``softnet`` or ``conntrack``, None where one of the readings has none."""
        first, second = getattr(self.first, part), getattr(self.second, part)
        return None if first is None or second is None else _grown(first, second)

    def devices(self) -> dict[str, dict[str, int]]:
        """Return the growth of the devices that were there both times."""
        return {name: _grown(item, self.second.devices[name]) for name, item in self.first.devices.items() if name in self.second.devices}


def _grown(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    # A device that was made anew, and a counter that has come round, start below what they were.
    return {name: value - first[name] if value >= first[name] else value for name, value in second.items() if name in first}
