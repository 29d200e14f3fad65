"""Typed view of the ``throughput`` document of a pair: takes over the host path and the pod path, one right after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_k8snet.record.document import Document
from pytest_k8snet.record.processors import Processors


@dataclass(frozen=True, slots=True)
class Wire:
    """Counters of both uplinks over a take: everybody's bytes, not only ours."""

    source_tx_bytes: int
    target_rx_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Answers:
    """How long little answers took over a connection beside a take. Without samples it has no figures."""

    samples: int
    p50_ms: float | None
    p99_ms: float | None
    error: str | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Answers:
        """Read ``rtt`` of a take."""
        if data["samples"] and not isinstance(data["p50_ms"], int | float):
            raise ValueError(f"answers without a p50_ms but {data['p50_ms']!r}")
        return cls(int(data["samples"]), data["p50_ms"], data["p99_ms"], data["error"])


@dataclass(frozen=True, slots=True)
class Take:
    """One run of iperf3. With an error it has no figures."""

    path: Literal["host", "pod"]
    error: str | None
    received_bps: float | None
    received_bytes: int | None
    sent_bytes: int | None
    retransmits: int | None  # None: unknown, not zero
    mss_bytes: int | None
    cpu_sender_percent: float | None
    cpu_receiver_percent: float | None
    iperf3_version: str | None  # "iperf 3.18"
    wire: Wire | None
    answers: Answers | None  # None: of a version that did not measure them, or of a take that went wrong
    source_processors: Processors | None = None  # None: nobody counted
    target_processors: Processors | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Take:
        """Read one element of ``takes``."""
        if data["path"] not in ("host", "pod"):
            raise ValueError(f"path {data['path']!r} is neither host nor pod")
        if data["error"] is None and not isinstance(data["received_bps"], int | float):
            raise ValueError(f"a take without error has no received_bps but {data['received_bps']!r}")
        wire = data.get("wire")
        return cls(
            path=data["path"],
            error=data["error"],
            received_bps=data["received_bps"] if data["error"] is None else None,
            received_bytes=data.get("received_bytes"),
            sent_bytes=data.get("sent_bytes"),
            retransmits=data.get("retransmits"),
            mss_bytes=data.get("mss_bytes"),
            cpu_sender_percent=data.get("cpu_sender_percent"),
            cpu_receiver_percent=data.get("cpu_receiver_percent"),
            iperf3_version=(data.get("iperf3") or {}).get("version"),
            wire=None if wire is None else Wire(wire["source_tx_bytes"], wire["target_rx_bytes"], float(wire["seconds"])),
            answers=None if data.get("rtt") is None or data["error"] is not None else Answers.from_json(data["rtt"]),
            source_processors=Processors.from_json((data.get("processors") or {}).get("source")),
            target_processors=Processors.from_json((data.get("processors") or {}).get("target")),
        )


@dataclass(frozen=True, slots=True)
class Through:
    """What the same pods carried by the ClusterIP of a Service whose only endpoint is the target."""

    error: str | None  # why there is no Service
    absent: str | None  # why there is none on purpose
    address: str | None
    port: int | None
    takes: tuple[Take, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Through:
        """Read ``service`` of a throughput document."""
        takes = tuple(Take.from_json(take) for take in data["takes"])
        if data["absent"] is None and data["error"] is None and not takes:
            raise ValueError("no take through the Service, and no reason")
        return cls(data["error"], data["absent"], data["address"], data["port"], takes)


@dataclass(frozen=True, slots=True)
class ThroughputRecord:
    """What one node sent to another: host path, pod path, host path again."""

    source: str
    target: str
    seconds: float
    omit_s: float
    encapsulated: bool | None  # whether the route to the target's pods leaves by a tunnel; None when it is not known
    takes: tuple[Take, ...]
    streams: int = 1  # of every take
    service: Through | None = None  # None: nobody asked for it, or the takes before went wrong
    bitrate_bps: int | None = None  # that takes were held to; None: as fast as it goes
    pod_absent: str | None = None  # why there are none over the pod path, on purpose

    @property
    def pair(self) -> str:
        """The pair's name."""
        return f"{self.source}:{self.target}"

    def of(self, path: Literal["host", "pod"]) -> tuple[Take, ...]:
        """Return the takes over one path, in their order."""
        return tuple(take for take in self.takes if take.path == path)

    @classmethod
    def from_document(cls, document: Document) -> ThroughputRecord:
        """Read the typed view of a ``throughput`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("throughput") as data:
            return cls(
                source=data["source"],
                target=data["target"],
                seconds=float(data["seconds"]),
                omit_s=float(data["omit_s"]),
                encapsulated=data["encapsulated"],
                takes=tuple(Take.from_json(take) for take in data["takes"]),
                streams=int(data.get("streams", 1)),
                service=None if data.get("service") is None else Through.from_json(data["service"]),
                bitrate_bps=data.get("bitrate_bps"),
                pod_absent=data.get("pod_absent"),
            )
