"""Typed view of the ``reach`` document of a node: whom its pod and its host asked, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_k8snet.record.document import Document

Place = Literal["pod", "host"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one question came to. Without `error`, `server` is the node whose server answered, and `seen` the address it saw.

    A server that says nothing, such as the kubelet's, is not known by name.
    """

    place: Place  # where it was asked from
    target: str  # the node
    to: Place  # whether its pod was asked or its host
    address: str
    port: int
    protocol: Literal["TCP", "UDP"]
    server: str | None
    seen: str | None
    milliseconds: float | None
    tries: int
    error: str | None
    refused: bool  # something answered, if only to refuse

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Answer:
        """Read one element of ``answers``."""
        if data["from"] not in ("pod", "host") or data["to"] not in ("pod", "host"):
            raise ValueError(f"{data['from']!r} to {data['to']!r} is not between pods and hosts")
        silent = bool(data.get("silent"))
        if data["error"] is None and not silent and (not data["name"] or not data["peer"]):
            raise ValueError("an answer without error tells neither name nor peer")
        return cls(
            place=data["from"],
            target=data["target"],
            to=data["to"],
            address=data["address"],
            port=int(data["port"]),
            protocol=data["protocol"],
            server=data["name"] if data["error"] is None else None,
            seen=str(data["peer"][0]) if data["error"] is None and not silent else None,
            milliseconds=data["ms"],
            tries=int(data["tries"]),
            error=data["error"],
            refused=bool(data["refused"]),
        )


@dataclass(frozen=True, slots=True)
class ReachRecord:
    """All answers that a node's pod and host got."""

    node: str
    pod_ips: tuple[str, ...]
    host_ip: str | None
    answers: tuple[Answer, ...]
    unasked: Mapping[str, str]  # nodes that could not be asked, and why

    def of(self, place: Place, to: Place) -> tuple[Answer, ...]:
        """Return the answers to questions from a place to another."""
        return tuple(answer for answer in self.answers if answer.place == place and answer.to == to)

    @classmethod
    def from_document(cls, document: Document) -> ReachRecord:
        """Read a ``reach`` document.

        Raises `RecordError` with the recorded reason when nothing could be asked, and when the document is damaged.
        """
        with document.reading("answers from other nodes") as data:
            return cls(
                node=document.subject,
                pod_ips=tuple(data["pod_ips"]),
                host_ip=data["host_ip"],
                answers=tuple(Answer.from_json(answer) for answer in data["answers"]),
                unasked=dict(data["unasked"]),
            )
