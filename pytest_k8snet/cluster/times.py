"""Times as the API writes them."""

from __future__ import annotations

from datetime import datetime


def read_time(text: object) -> datetime | None:
    """Return a time (RFC 3339, with its zone), None for anything else."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
