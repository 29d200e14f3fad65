"""Values that many documents have in common, stored once per run: `{"$shared": "<SHA-256 of the JSON>"}` stands for one."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from typing import Any

KEY = "$shared"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Shared:
    """Wraps a JSON value that goes into several documents."""

    def __init__(self, value: Any) -> None:
        self.value = value

    @cached_property
    def text(self) -> str:
        """The value as JSON."""
        return json.dumps(self.value)

    @cached_property
    def digest(self) -> str:
        """The name it is stored under."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def file_name(digest: str) -> str:
    """Return the file of a shared value in the run folder.

    Raises `ValueError` for what is no digest: a document may have been made by anybody.
    """
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{KEY} is not a SHA-256: {digest[:80]!r}")
    return f"shared/{digest}.json"
