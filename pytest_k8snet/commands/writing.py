"""What commands that write a file have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say as one message why a file, or something in a folder, could not be written."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be written: {error.strerror}") from error
