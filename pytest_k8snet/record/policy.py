"""Typed view of the ``policy`` document of a node: what connections to a pod there became of, with and without a NetworkPolicy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a connection; with `failed` it could not be tried."""

    answered: bool
    error: str | None
    failed: str | None
    waited_s: float  # how long there had been the policy, or none any more

    @property
    def what(self) -> str:
        """What became of it, in words."""
        return self.failed or ("answered" if self.answered else self.error or "no answer")


@dataclass(frozen=True, slots=True)
class Asked:
    """A port of the pod, asked from the probe pod of `source`; or, outward, the other way."""

    source: str
    outward: bool
    protocol: str  # TCP or UDP
    port: int
    allowed: bool  # by the policy
    before: Answer | None
    during: Answer | None
    after: Answer | None

    @property
    def has_control(self) -> bool:
        """Whether it was answered before there was a policy."""
        return self.before is not None and self.before.answered


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """What was asked of one node's pod; without `pod` nothing was."""

    node: str
    pod: str | None
    policy: str | None
    refused: str | None  # why the run may make no NetworkPolicy
    pod_error: str | None
    asked: tuple[Asked, ...]
    not_serving: Mapping[str, str] = field(default_factory=dict)  # nodes whose probe pods the pod could not ask, as they did not answer

    @classmethod
    def from_document(cls, document: Document) -> PolicyRecord:
        """Read the typed view of a ``policy`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("connections with a NetworkPolicy") as data:
            return cls(
                node=document.subject,
                pod=data["pod"],
                policy=data["policy"],
                refused=data["refused"],
                pod_error=data["pod_error"],
                asked=tuple(
                    Asked(
                        source=item["source"],
                        outward=item.get("direction") == "out",  # an older recording has the other way alone, over TCP
                        protocol=item.get("protocol", "TCP"),
                        port=item["port"],
                        allowed=item["allowed"],
                        before=_answer(item["before"]),
                        during=_answer(item["during"]),
                        after=_answer(item["after"]),
                    )
                    for item in data["asked"]
                ),
                not_serving=dict(data.get("not_serving") or {}),
            )


def _answer(data: Mapping[str, Any] | None) -> Answer | None:
    return None if data is None else Answer(data["answered"], data["error"], data["failed"], float(data["waited_s"]))
