"""Typed view of the ``blocking`` document: which policies keep packets of the run's probe pods away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_k8snet.cluster.policies.model import Blocked
from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class BlockingRecord:
    """What policies block of the flows of a run, and which kinds of policies could not be read."""

    namespace: str
    blocked: tuple[Blocked, ...]
    unreadable: Mapping[str, str]

    @classmethod
    def from_document(cls, document: Document) -> BlockingRecord:
        """Read the typed view of the document.

        Raises `RecordError` with the recorded reason when the policies could not be read at all, and when the document is damaged.
        """
        with document.reading("policies") as data:
            return cls(
                namespace=data["namespace"],
                blocked=tuple(Blocked(item["flow"], tuple(item["by"]), item["sure"]) for item in data["blocked"]),
                unreadable=dict(data["unreadable"]),
            )
