"""How a measurement becomes a document: with its time, and with the reason when there are no values.

One that was cut off is taken again, once: its way broke, which says nothing about what it looks at. The document says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from pytest_k8snet.errors import TRANSPORT_ERRORS, AccessError, ClusterError, MeasurementError, RecordError, UnsupportedError
from pytest_k8snet.record.document import Document

_T = TypeVar("_T")

MEASURE_ERRORS = (AccessError, ClusterError, MeasurementError, RecordError)


def now() -> str:
    """Return the time as documents hold it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def again(measure: Callable[[], _T]) -> tuple[_T, str | None]:
    """Call `measure`, and once more when its way breaks; return its value, and what cut the first attempt short."""
    try:
        return measure(), None
    except TRANSPORT_ERRORS as cut:
        return measure(), str(cut) or type(cut).__name__


def take_document(kind: str, subject: str, method: str, measure: Callable[[], Mapping[str, Any]]) -> Document:
    """Call `measure` and make a document of its values, or of the reason why there are none."""
    started, start = now(), time.monotonic()
    values: Mapping[str, Any] | None = None
    reason: str | None = None
    retried: str | None = None
    unsupported = False
    try:
        values, retried = again(measure)
    except MEASURE_ERRORS as error:
        reason = str(error) or type(error).__name__
        unsupported = isinstance(error, UnsupportedError)
    return Document(
        kind=kind,
        subject=subject,
        started=started,
        duration_s=round(time.monotonic() - start, 3),
        method=method,
        values=values,
        reason=reason,
        retried=retried,
        unsupported=unsupported,
    )
