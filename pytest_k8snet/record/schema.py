"""Schema versions of what is recorded, and what is said of one that this version does not know."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

from pytest_k8snet.errors import RecordError

PACKAGE = "pytest-k8snet"


def version_of(package: str) -> str | None:
    """Return the version of an installed package, None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check_schema(data: Any, known: int, *, where: str, writer: Any) -> Mapping[str, Any]:
    """Return `data`, a recorded object whose ``schema`` is `known`. `where` names its place, `writer` the version that wrote it.

    Raises `RecordError` that names both versions when the schema is another one.
    """
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise RecordError(f"{where}: not what {PACKAGE} writes (no schema)")
    if data["schema"] != known:
        raise RecordError(
            f"{where}: schema {data['schema']}, written by {PACKAGE} {writer if isinstance(writer, str) else 'of unknown version'}; "
            f"this is {PACKAGE} {version_of(PACKAGE)}, which reads schema {known}: use the version that wrote it"
        )
    return data
