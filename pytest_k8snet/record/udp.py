"""Typed view of the ``udp`` document of a pair: takes at a given rate over the host path and the pod path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_k8snet.record.document import Document

#: A sender below this share of the rate that was asked for has not sent it.
SENT = 0.95


@dataclass(frozen=True, slots=True)
class Datagrams:
    """One run of iperf3. With an error it has no figures."""

    path: Literal["host", "pod"]
    error: str | None
    sent_bps: float
    packets: int
    lost: int
    overflowed: int  # of the lost: it came, and the receiver's socket had no room for it
    jitter_ms: float | None  # None: nothing arrived
    unseen: int = 0  # sent behind the last one that came, and not counted as lost; an older recording does not tell

    @property
    def ended_early(self) -> bool:
        """Whether more than what is on its way when a take ends was sent behind the last datagram that came."""
        return self.unseen > (1 - SENT) * (self.packets + self.unseen)

    @property
    def share(self) -> float:
        """Which share of the packets was lost on the way."""
        return self.on_the_way / max(1, self.packets)

    @property
    def on_the_way(self) -> int:
        """How many packets never came to the receiver's socket."""
        return self.lost - self.overflowed


@dataclass(frozen=True, slots=True)
class UdpRecord:
    """What one pair's nodes and pods exchanged."""

    pair: str
    rate_bps: int | None  # None: nobody asked for it
    seconds: int
    pod_absent: str | None
    takes: tuple[Datagrams, ...]

    def of(self, path: Literal["host", "pod"]) -> list[Datagrams]:
        """Return the takes of one path."""
        return [take for take in self.takes if take.path == path]

    @classmethod
    def from_document(cls, document: Document) -> UdpRecord:
        """Read the typed view of a ``udp`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("UDP at a given rate") as data:
            takes = tuple(
                Datagrams(
                    path=item["path"],
                    error=item["error"],
                    sent_bps=float(item["sent_bps"] or 0),
                    packets=int(item["packets"] or 0),
                    lost=int(item["lost"] or 0),
                    overflowed=int(item.get("overflowed") or 0),
                    jitter_ms=item["jitter_ms"],
                    unseen=int(item.get("unseen") or 0),
                )
                for item in data["takes"]
            )
            return cls(document.subject, data["rate_bps"], int(data["seconds"]), data["pod_absent"], takes)
