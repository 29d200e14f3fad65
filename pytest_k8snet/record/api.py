"""Typed view of the ``api`` document of a node: whether the API server answered it and its probe pod."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Greeted:
    """An address that was greeted from one place. Times are None where it did not get so far."""

    what: str  # service (kubernetes.default), server (an API server's own address)
    role: str  # host, pod
    address: str
    port: int
    connected_ms: float | None
    answered_ms: float | None
    tries: int
    error: str | None


@dataclass(frozen=True, slots=True)
class ApiRecord:
    """What one node and its probe pod were answered."""

    node: str
    greeted: tuple[Greeted, ...]
    pod_absent: str | None  # why no pod was asked, on purpose

    @classmethod
    def from_document(cls, document: Document) -> ApiRecord:
        """Read the typed view of an ``api`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("answers of the API server") as data:
            return cls(document.subject, tuple(Greeted(**item) for item in data["greeted"]), data["pod_absent"])
