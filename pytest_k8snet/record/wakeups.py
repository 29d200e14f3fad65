"""Typed view of the ``wakeups`` document of a node: how late it wakes up from short sleeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_k8snet.record.document import Document
from pytest_k8snet.record.processors import share_of


@dataclass(frozen=True, slots=True)
class Take:
    """A second of sleeps. A gap is a wake-up that was late by more than a scheduler's ticks."""

    samples: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    gaps: int
    late_share: float  # of the time, in gaps
    processor: Mapping[str, int]  # ticks of all processors together, by use

    @property
    def steal_share(self) -> float | None:
        """Share of the processors' time that the hypervisor took, None where nothing was counted."""
        return share_of(self.processor, "steal") if sum(self.processor.values()) else None


@dataclass(frozen=True, slots=True)
class WakeupsRecord:
    """What was measured on one node."""

    node: str
    seconds: float  # of each take
    takes: tuple[Take, ...]

    @property
    def best(self) -> Take:
        """The take with the least in gaps: what passes is not counted."""
        return min(self.takes, key=lambda take: take.late_share)

    @classmethod
    def from_document(cls, document: Document) -> WakeupsRecord:
        """Read the typed view of a ``wakeups`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("wake-ups") as data:
            keys = ("samples", "p50_ms", "p99_ms", "max_ms", "gaps", "late_share", "processor")
            takes = tuple(Take(**{key: take[key] for key in keys}) for take in data["takes"])
            if not takes:
                raise ValueError("no take")
            return cls(document.subject, float(data["seconds"]), takes)
