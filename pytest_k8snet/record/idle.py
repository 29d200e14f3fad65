"""Typed view of the ``idle`` document of a node: a connection through a Service that nobody used, and one beside it that was used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of the two connections; of each None when it lived on, else how it ended."""

    keepalive_s: int  # after which the pod's kernel would have asked the other side
    expires_s: int | None  # after which IPVS forgets one that is not used, as told when it began; None: not in its table
    waited_s: float  # for which one was not used
    idle: str | None
    used: str | None


@dataclass(frozen=True, slots=True)
class IdleRecord:
    """What one node's probe pod found."""

    node: str
    asked_s: int  # 0: nobody asked for it
    service: str | None
    endpoint: str | None  # the node of the pod that answered; None: there is none on another node
    not_serving: Mapping[str, str]  # nodes whose pods could not be made to answer, and why
    opened: Opened | None  # None: no connection could be opened

    @classmethod
    def from_document(cls, document: Document) -> IdleRecord:
        """Read the typed view of an ``idle`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("idle connections") as data:
            opened = data["opened"]
            return cls(
                node=document.subject,
                asked_s=int(data["asked_s"]),
                service=data["service"],
                endpoint=data["endpoint"],
                not_serving=dict(data["not_serving"]),
                opened=None
                if opened is None
                else Opened(
                    keepalive_s=int(opened["keepalive_s"]),
                    expires_s=opened["expires_s"],
                    waited_s=float(opened["waited_s"]),
                    idle=_ended(opened["idle"]),
                    used=_ended(opened["used"]),
                ),
            )


def _ended(state: Mapping[str, object]) -> str | None:
    return None if state["alive"] else str(state["error"])
