"""How a measurement becomes a document: with its time, and with the reason when there are no values."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pytest_k8snet.errors import AccessError, ClusterError, MeasurementError, RecordError
from pytest_k8snet.record.document import Document

MEASURE_ERRORS = (AccessError, ClusterError, MeasurementError, RecordError)


def now() -> str:
    """Return the time as documents hold it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def take_document(kind: str, subject: str, method: str, measure: Callable[[], Mapping[str, Any]]) -> Document:
    """Call `measure` and make a document of its values, or of the reason why there are none."""
    started, start = now(), time.monotonic()
    values: Mapping[str, Any] | None = None
    reason: str | None = None
    try:
        values = measure()
    except MEASURE_ERRORS as error:
        reason = str(error) or type(error).__name__
    return Document(
        kind=kind,
        subject=subject,
        started=started,
        duration_s=round(time.monotonic() - start, 3),
        method=method,
        values=values,
        reason=reason,
    )
