"""The run folder: one JSON file per document, written whole or not at all. What many documents have in common lies there once."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pydantic_core

from pytest_k8snet.errors import ConfigurationError, RecordError
from pytest_k8snet.json_text import parse_json
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.latest import Latest
from pytest_k8snet.record.lock import hold
from pytest_k8snet.record.redact import Redactor
from pytest_k8snet.record.shared import KEY, Shared, file_name

MARKER = ".k8snet-run"  # only folders that hold it are ever removed
LOCKS = ".locks"
WRITABLE = "writable"  # beside the locks; gone once something could not be written: removing takes no room
_ADVICE = "make room or name another folder with --k8snet-run-dir"

# The files of the run as a whole.
RUN = "run.json"
RUN_SCHEMA = 1
COLLECTION = "collection.json"
PLAN = "plan.json"
PROBES = "probes.json"
PROFILES = "profiles.json"
LEASE = "lease.json"
SERVICES = "services.json"
INGRESSES = "ingresses.json"
POLICY_PODS = "policy_pods.json"
CLUSTER_FILE = "cluster/cluster.json"

_LONGEST_NAME = 200  # bytes; file systems take 255
_KEY = f'"{KEY}"'.encode()
_KEPT_SHARED = 8  # shared values held in memory

# What a run writes: documents by kind, and files of the run as a whole. Locks, temporary files and all that is hidden are no part of it.
_RECORD_NAME = re.compile(r"([a-z0-9][a-z0-9_-]*/)?[A-Za-z0-9_%~-][A-Za-z0-9_.%~-]{0,240}\.(json|pcap)")


class RunFolder:
    """The record of one run. Whatever is written to it goes through `redactor`."""

    def __init__(self, path: Path, redactor: Redactor | None = None) -> None:
        self.path = path
        self._redactor = redactor or Redactor()
        self._shared: Latest[Any] = Latest(_KEPT_SHARED)
        self._failed: str | None = None
        self._written = itertools.count()

    @classmethod
    def create(cls, path: Path, redactor: Redactor | None = None, *, ignored: Path | None = None) -> RunFolder:
        """Make the folder. One of an earlier run is emptied; anything else that is not empty is refused.

        Raises `ConfigurationError` when it cannot be used.
        """
        try:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                if not (path / MARKER).is_file():
                    raise ConfigurationError(f"run folder {path}: is there and not a run of ours; name another one or remove it")
                if not remove_run(path):
                    raise ConfigurationError(f"run folder {path}: another run is using it; name another one")
            (path / LOCKS).mkdir(parents=True, exist_ok=True)
            (path / LOCKS / WRITABLE).touch()
            for folder in (path, *([ignored] if ignored else [])):
                (folder / ".gitignore").write_text("*\n", encoding="utf-8")
            (path / MARKER).touch()
        except OSError as error:
            raise ConfigurationError(
                f"run folder {path}: cannot be made: {error.strerror}; name another one with --k8snet-run-dir"
            ) from error
        return cls(path, redactor)

    @property
    def locks(self) -> Path:
        """The folder of the run's locks."""
        return self.path / LOCKS

    def hold(self) -> int | None:
        """Mark the folder as in use while the returned descriptor is open; None when another run has it."""
        return hold(self.path / MARKER)

    def put(self, document: Document) -> None:
        """Write a document, and before it the packets that belong to it."""
        file = self._file(document.kind, document.subject)
        if document.pcap is not None:
            self._write(file.with_suffix(".pcap"), self._without_secrets(document.pcap))
        self.write_json(file, document.to_json())

    def get(self, kind: str, subject: str) -> Document | None:
        """Return a document, None when there is none.

        Raises `RecordError` when it is damaged.
        """
        file = self._file(kind, subject)
        data = self.read_json(file)
        return None if data is None else Document.from_json(data, where=str(file))

    def write_json(self, name: str | Path, data: Any) -> None:
        """Write a file of the folder whole or not at all.

        Raises `RecordError` when the disk is full or the folder has gone.
        """
        self._write(self.path / name, f"{self._text(data)}\n".encode())

    def _write(self, file: Path, content: bytes) -> None:
        # Not at random: asking the kernel for that takes longer than writing the file.
        temporary = file.parent / f".{os.getpid()}-{threading.get_native_id()}-{next(self._written)}.tmp"
        try:
            try:
                stream = temporary.open("xb")
            except FileNotFoundError:  # not asked before: of each file that would take as long as writing it
                file.parent.mkdir(exist_ok=True)
                stream = temporary.open("xb")
            with stream:
                stream.write(content)
            temporary.replace(file)
        except OSError as error:
            for path in (temporary, self.locks / WRITABLE):
                with contextlib.suppress(OSError):
                    path.unlink()
            self._failed = f"{file}: cannot be written: {error.strerror}; {_ADVICE}"
            raise RecordError(self._failed) from error

    def check(self) -> None:
        """Raise `RecordError` when the folder has gone, or when this process or another of the run could not write to it."""
        if self._failed is not None:
            raise RecordError(self._failed)
        if not self.path.is_dir():
            raise RecordError(f"run folder {self.path}: has gone")
        if not (self.locks / WRITABLE).exists():
            raise RecordError(f"run folder {self.path}: could not be written to; {_ADVICE}")

    def read_json(self, name: str | Path) -> Any:
        """Return a file's content, None when there is no such file."""
        file = self.path / name
        try:
            try:
                text = file.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
            if _KEY in text:
                return json.loads(text, object_hook=self._unshare)
            return parse_json(text)
        except (OSError, ValueError, RecursionError) as error:
            raise RecordError(f"{file}: cannot be read: {error}") from error

    def files(self) -> list[str]:
        """Return the names of the record's files, sorted."""
        found = [path for pattern in ("*", "*/*") for path in self.path.glob(pattern) if path.is_file() and not path.is_symlink()]
        return sorted(name for path in found if is_record_name(name := path.relative_to(self.path).as_posix()))

    def _without_secrets(self, packets: bytes) -> bytes:
        """Return packets as they are: ours hold nothing that could be a secret. Should they all the same, none of them is kept."""
        text = packets.decode("latin-1")
        return packets if self._redactor.text(text) == text else b""

    def _text(self, data: Any) -> str:
        text = self._encoded(data)
        return text if self._redactor.clean(text) else self._encoded(self._redactor.json(data))

    def _encoded(self, data: Any) -> str:
        """Return JSON in ASCII."""
        with contextlib.suppress(ValueError):  # half a surrogate pair, as in a file's name that is no UTF-8
            text = pydantic_core.to_json(data, fallback=self._share)  # four times as quick as the standard library
            if text.isascii():
                return text.decode()
        return json.dumps(data, default=self._share)

    def _share(self, value: object) -> dict[str, str]:
        """Store a shared value, once, and return what stands for it."""
        if not isinstance(value, Shared):
            raise TypeError(f"{type(value).__name__} is no value of JSON")
        if value.digest not in self._shared and not (self.path / file_name(value.digest)).is_file():
            self.write_json(file_name(value.digest), value.value)
        return {KEY: value.digest}

    def _unshare(self, data: dict[str, Any]) -> Any:
        if KEY not in data:
            return data
        digest = str(data[KEY])
        # Documents that share a value get one and the same object: it is not to be changed.
        return self._shared.get(digest, lambda: json.loads((self.path / file_name(digest)).read_bytes()))

    def _file(self, kind: str, subject: str) -> Path:
        return self.path / kind / f"{safe_name(subject)}.json"


def is_record_name(name: str) -> bool:
    """Whether a file of this name, relative to the run folder, is one that a run writes."""
    return _RECORD_NAME.fullmatch(name) is not None


def safe_name(subject: str) -> str:
    """Return a file name for a subject, whatever characters it has; different subjects never share one."""
    # Capitals too: there are file systems that take a for A.
    name = "".join(f"%{ord(char):02X}" if "A" <= char <= "Z" else quote(char, safe="", errors="surrogatepass") for char in subject)
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
    return name or "%"


def remove_run(path: Path) -> bool:
    """Remove the folder of a run that nobody uses; return whether it was."""
    marker = path / MARKER
    if path.is_symlink() or not marker.is_file():
        return False
    descriptor = hold(marker)
    if descriptor is None:
        return False
    try:
        shutil.rmtree(path)
    finally:
        os.close(descriptor)
    return True


def remove_older(parent: Path, keep: int) -> list[Path]:
    """Remove all but the newest `keep` runs in `parent`; return what was removed. Folders that are no runs stay."""
    # Runs of one second are in the order in which they began; their names end in a random id.
    runs = sorted(_runs(parent), key=lambda path: (path.name.partition("-")[0], (path / MARKER).stat().st_mtime_ns))
    removed = []
    for path in runs[: max(0, len(runs) - keep)]:
        with contextlib.suppress(OSError):
            if remove_run(path):
                removed.append(path)
    return removed


def _runs(parent: Path) -> Iterator[Path]:
    for path in parent.iterdir():
        if not path.is_symlink() and (path / MARKER).is_file():
            yield path
