"""Typed view of the ``pathmtu`` document of a node: which sizes of packets cross the paths from its probe pod and from itself to others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class PathError:
    """An error that a packet met on its way. Without `sender` the kernel it was sent from said so."""

    error: str  # EMSGSIZE: larger than `mtu`
    mtu: int | None
    sender: str | None


@dataclass(frozen=True, slots=True)
class Way:
    """Small packets and such of full size in one direction. Sizes are bytes, IP header included."""

    sent: int  # of each
    small: int  # that were answered
    full: int
    passes: int | None  # the largest that passes and the smallest that does not, where none of full size does
    breaks: int | None
    errors: tuple[PathError, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Way:
        """Read ``requests`` or ``replies``."""
        errors = tuple(PathError(item["error"], item["mtu"], item["from"]) for item in data["errors"])
        return cls(int(data["sent"]), int(data["small"]), int(data["full"]), data["passes"], data["breaks"], errors)

    @property
    def narrowest(self) -> PathError | None:
        """The error that names the smallest MTU, None when none came."""
        told = [error for error in self.errors if error.mtu is not None]
        return min(told, key=lambda error: error.mtu or 0, default=None)


@dataclass(frozen=True, slots=True)
class Segments:
    """TCP on that path as the sender's kernel sees it, in bytes."""

    error: str | None
    mss: int | None  # payload of a full segment, options taken off
    mtu: int | None  # what it takes for the path's MTU
    timestamps: bool | None


@dataclass(frozen=True, slots=True)
class Path:
    """The path to the probe pod of another node, or to that node; with an error nothing is known of it."""

    target: str
    address: str | None
    error: str | None
    own_mtu: int  # of the route from here
    size: int  # the largest packet that both ends can have
    over: str  # what became of one byte more than the own MTU: refused, sent
    requests: Way | None  # None: between nodes, where the packets of pods are as large
    replies: Way | None  # None: the other node looks at that direction
    segments: Segments | None  # None: between nodes

    @classmethod
    def from_json(cls, target: str, data: Mapping[str, Any]) -> Path:
        """Read one of ``targets``."""
        if data["error"] is not None:
            return cls(target, data["address"], str(data["error"]), 0, 0, "", None, None, None)
        tcp, requests = data["tcp"], data["requests"]
        return cls(
            target=target,
            address=data["address"],
            error=None,
            own_mtu=int(data["own_mtu"]),
            size=int(data["size"]),
            over=str(data["over"]),
            requests=None if requests is None else Way.from_json(requests),
            replies=None if data["replies"] is None else Way.from_json(data["replies"]),
            segments=None if tcp is None else Segments(tcp["error"], tcp["mss"], tcp["mtu"], tcp["timestamps"]),
        )


@dataclass(frozen=True, slots=True)
class PathMtuRecord:
    """The paths from one node's probe pod, and from the node itself."""

    node: str
    pod_absent: str | None  # why there is no probe pod, on purpose
    paths: tuple[Path, ...]
    host_paths: tuple[Path, ...] = ()  # by the nodes' own addresses; of an earlier version there are none
    hosts_unsupported: str | None = None  # why this way to the nodes does not look at those

    @classmethod
    def from_document(cls, document: Document) -> PathMtuRecord:
        """Read the typed view of a ``pathmtu`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("path MTU") as data:
            # The second ones are of the other address family; runs of earlier versions have none.
            found = (data["targets"], data.get("second_targets") or {})
            of_hosts = (data.get("host_targets") or {}, data.get("second_host_targets") or {})
            paths, host_paths = (
                tuple(Path.from_json(name, item) for targets in those for name, item in targets.items()) for those in (found, of_hosts)
            )
            return cls(document.subject, data["pod_absent"], paths, host_paths, data.get("hosts_unsupported"))
