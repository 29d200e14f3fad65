"""Locks between the processes of a run. The kernel frees them when a process dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_k8snet.errors import RecordError


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock `path`; wait until it is free."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RecordError(f"{path}: cannot be made: {error.strerror}; make room or name another folder with --k8snet-run-dir") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def measuring(folder: Path, kind: str, *, alone: bool) -> Iterator[None]:
    """Hold what it takes to measure `kind`: nobody else measures the same, and nobody measures anything beside what is to be `alone`."""
    with locked(folder / f"{kind}.lock"), locked(folder / "measuring.lock", shared=not alone):
        yield


def hold(path: Path, *, shared: bool = False) -> int | None:
    """Take the lock `path` for as long as the returned descriptor is open; None when another process holds it.

    A `shared` one is for readers: it needs no right to write, and there may be several.
    """
    descriptor = os.open(path, os.O_CLOEXEC | (os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT), 0o644)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
