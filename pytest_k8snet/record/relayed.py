"""Typed view of the ``relayed`` document of a node: what the API server reached there by connections of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Relayed:
    """What came of a request that the API server passes on."""

    status: int | None  # of HTTP; None: the API server itself did not answer
    said: str  # the answer, or the error in its words
    ms: float  # of the last try
    tries: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Relayed:
        """Read one of them."""
        status = data["status"]
        return cls(None if status is None else int(status), str(data["said"]), float(data["ms"]), int(data["tries"]))


@dataclass(frozen=True, slots=True)
class RelayedToPod:
    """One to a pod, and what the pod knows of it."""

    answer: Relayed
    address: str
    port: int
    ours: bool  # whether the answer is the pod's
    seen: int  # requests that got there
    sources: tuple[str, ...]  # addresses that they came from, as the pod saw them


@dataclass(frozen=True, slots=True)
class RelayedRecord:
    """What the API server reached on one node."""

    node: str
    kubelet: Relayed
    pod: RelayedToPod | None
    not_serving: str | None  # why no pod was asked
    others_asked: int  # nodes whose pods it was to reach beside this one
    others_answered: int

    @classmethod
    def from_document(cls, document: Document) -> RelayedRecord:
        """Read the typed view of a ``relayed`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("answer of what the API server was to reach") as data:
            pod = data["pod"]
            return cls(
                node=document.subject,
                kubelet=Relayed.from_json(data["kubelet"]),
                pod=None if pod is None else _pod(pod),
                not_serving=data["not_serving"],
                others_asked=int(data["others_asked"]),
                others_answered=int(data["others_answered"]),
            )


def _pod(data: Mapping[str, Any]) -> RelayedToPod:
    return RelayedToPod(
        answer=Relayed.from_json(data),
        address=str(data["address"]),
        port=int(data["port"]),
        ours=bool(data["ours"]),
        seen=int(data["seen"]),
        sources=tuple(data["sources"]),
    )
