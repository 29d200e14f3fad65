"""The lab's cache: every prepared piece in a folder of its own, named after what it was made from.

A piece is made beside its place and renamed into it, under a lock of its own: a folder that is there is whole, two processes never make
the same piece, and what a killed run left half made is removed by the next one. A piece that nobody asked for in thirty days goes when a
new one is made.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_k8snet.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_KEY_DIGITS = 16
_UNUSED_S = 30 * 24 * 3600.0


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Give the user's cache folder: K8SNET_CACHE, else k8snet in XDG_CACHE_HOME or ~/.cache."""
    env = os.environ if environment is None else environment
    if own := env.get("K8SNET_CACHE"):
        return Path(own).expanduser().absolute()
    base = env.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()).absolute() / "k8snet"


def key_of(*inputs: str | bytes) -> str:
    """Give the key of a piece made from these inputs; order and boundaries count."""
    digest = hashlib.sha256()
    for item in inputs:
        data = item.encode() if isinstance(item, str) else item
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:_KEY_DIGITS]


class Cache:
    """Pieces below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pieces = folder / "pieces"
        self._unfinished = folder / "unfinished"
        self._locks = folder / "locks"

    def find(self, name: str, key: str) -> Path | None:
        """Give the folder of a piece, None when it is not made yet."""
        place = self._pieces / f"{name}-{key}"
        if not place.is_dir():
            return None
        with suppress(OSError):  # a cache that is only readable is fine too
            os.utime(place)
        return place

    def piece(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        """Give the folder of a piece; `make` fills an empty folder when it is not there yet."""
        if found := self.find(name, key):
            return found
        for folder in (self._pieces, self._unfinished, self._locks):
            self._make_folder(folder)
        place = self._pieces / f"{name}-{key}"
        with self._locked(place.name):
            # Another process may have made it while this one waited for the lock.
            if place.is_dir():
                return place
            self._sweep()
            unfinished = self._unfinished / place.name
            _remove(unfinished)
            try:
                unfinished.mkdir()
                make(unfinished)
                os.utime(unfinished)
                unfinished.rename(place)
            except OSError as error:
                _remove(unfinished)
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    raise LabError(self._full(name)) from error
                raise
            except BaseException:
                _remove(unfinished)
                raise
        return place

    def require_space(self, name: str, size_bytes: int) -> None:
        """Raise a LabError when a piece of this size has no room, before minutes are spent on it."""
        self._make_folder(self.folder)
        free = shutil.disk_usage(self.folder).free
        if free < size_bytes:
            message = f"{self._full(name)} ({free / 1e6:.0f} MB free, want {size_bytes / 1e6:.0f} MB)"
            raise LabError(message)

    def _full(self, name: str) -> str:
        return f"{self.folder}: no space left for the lab's {name}; free some, or set K8SNET_CACHE to a folder on a bigger disk"

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{folder}: cannot make the lab's cache folder: {error.strerror}; set K8SNET_CACHE to a folder you may write to"
            raise LabError(message) from error

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self._locks / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _sweep(self) -> None:
        """Remove what killed runs left half made and pieces of old versions, unless somebody holds their lock."""
        now = time.time()
        unused = [place for place in self._pieces.iterdir() if now - place.stat().st_mtime > _UNUSED_S]
        for left in [*self._unfinished.iterdir(), *unused]:
            with (self._locks / f"{left.name}.lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                _remove(left)


def _remove(tree: Path) -> None:
    """Remove a folder if it is there, its unwritable folders too."""
    if not tree.is_dir():
        return
    for folder, names, _ in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(tree)
