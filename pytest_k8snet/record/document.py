"""One measurement as it is recorded: who was measured, when, how, and the raw values or why there are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pytest_k8snet.errors import K8sNetError, RecordError, UnsupportedError

SCHEMA = 2  # 2: what documents have in common may lie beside them (`pytest_k8snet.record.shared`)
READABLE = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A recorded measurement. Exactly one of `values` and `reason` is set.

    ``kind`` is the measurement's name (``cluster``, ``facts``, ``ipvs``, ``activity``, ``throughput``, ...), ``subject`` is ``cluster``, a
    node's name or a pair ``a:b``, ``started`` is UTC in ISO 8601, ``method`` says how it was taken, ``retried`` what cut the first
    attempt short when this is the second. With ``unsupported`` the way to the node cannot take it at all: nothing is wrong, and what
    needs it is skipped.
    """

    kind: str
    subject: str
    started: str
    duration_s: float
    method: str
    values: Mapping[str, Any] | None = None
    reason: str | None = None
    retried: str | None = None
    unsupported: bool = False
    schema: int = SCHEMA
    pcap: bytes | None = field(default=None, repr=False)  # packets, kept in a file beside it and not read again with it

    @property
    def failed(self) -> bool:
        """Whether the measurement could not be taken."""
        return self.values is None

    @property
    def why(self) -> str:
        """The reason without the subject that it may begin with: messages have named it already."""
        return (self.reason or "no reason recorded").removeprefix(f"{self.subject}: ")

    def no_values(self, what: str) -> K8sNetError:
        """Return the error of a check that needs the values where there are none."""
        if self.unsupported:
            return UnsupportedError(self.why)
        return RecordError(f"{self.subject}: no {what}: {self.why}")

    @contextmanager
    def reading(self, what: str) -> Iterator[Mapping[str, Any]]:
        """Give the values to what reads a typed view of them; `what` they are is said where there are none.

        Raises `RecordError` with the recorded reason when there are none, and when what is read is not as it should be.
        """
        if self.values is None:
            raise self.no_values(what)
        try:
            yield self.values
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise RecordError(f"{self.subject}: the {self.kind} document is damaged: {error!r}") from error

    def to_json(self) -> dict[str, Any]:
        """Return the document as builtin values."""
        return {
            "schema": self.schema,
            "kind": self.kind,
            "subject": self.subject,
            "started": self.started,
            "duration_s": self.duration_s,
            "method": self.method,
            "values": None if self.values is None else dict(self.values),
            "reason": self.reason,
            "retried": self.retried,
            "unsupported": self.unsupported,
        }

    @classmethod
    def from_json(cls, data: Any, *, where: str) -> Document:
        """Read a document; `where` names its place in messages.

        Raises `RecordError` when it is not one, or of a schema this version does not know.
        """
        if not isinstance(data, dict) or "schema" not in data:
            raise RecordError(f"{where}: not a recorded document (no schema)")
        if data["schema"] not in READABLE:
            known = " and ".join(map(str, READABLE))
            raise RecordError(f"{where}: schema {data['schema']}, this version reads {known}; use the version that wrote it")
        try:
            document = cls(**data)
        except TypeError as error:
            raise RecordError(f"{where}: {error}") from error
        if (document.values is None) == (document.reason is None):
            raise RecordError(f"{where}: a document has either values or the reason why there are none")
        return document
