"""A run that is over, in its folder or in a bundle: what a replay starts from. It is read and never written."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pytest_k8snet.errors import RecordError
from pytest_k8snet.record.bundle import extract_bundle, read_bundle
from pytest_k8snet.record.lock import hold
from pytest_k8snet.record.schema import PACKAGE, check_schema
from pytest_k8snet.record.store import CLUSTER_FILE, COLLECTION, LEASE, MARKER, PLAN, PROBES, PROFILES, RUN, RUN_SCHEMA, RunFolder

#: What runs measured whose run.json does not say what they knew how to measure.
FIRST_MEASUREMENTS = ("activity", "facts", "ipvs", "throughput")

_OF_THE_RUN = (RUN, COLLECTION, LEASE)  # a replay writes its own


@dataclass(frozen=True, slots=True)
class Recorded:
    """The run that measured, as its run.json tells. A replay of a replay is one of that run as well."""

    id: str
    started: str  # UTC, ISO 8601
    version: str | None  # of the package
    settings: Mapping[str, str]  # values by name, as `Settings.to_json` writes them
    measurements: tuple[str, ...] = FIRST_MEASUREMENTS  # the kinds that it knew

    @property
    def at(self) -> datetime.datetime:
        """When it began; its waivers are judged as of that day."""
        at = datetime.datetime.fromisoformat(self.started)
        return at.replace(tzinfo=datetime.UTC) if at.tzinfo is None else at.astimezone(datetime.UTC)

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return {
            "id": self.id,
            "started": self.started,
            "version": self.version,
            "settings": dict(self.settings),
            "measurements": list(self.measurements),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recorded:
        """Read what `to_json` gave."""
        return cls(**{**data, "measurements": tuple(data["measurements"])})

    @classmethod
    def from_run(cls, data: Any, *, where: str) -> Recorded:
        """Read a run.json.

        Raises `RecordError` when it is damaged, or of a schema this version does not know.
        """
        versions = data.get("versions") if isinstance(data, dict) else None
        version = versions.get(PACKAGE) if isinstance(versions, dict) else None
        run = check_schema(data, RUN_SCHEMA, where=where, writer=version)
        try:
            measured = run.get("measured_by") or {"id": run["id"], "started": run["started"], "version": version}
            settings = {str(name): str(item["value"]) for name, item in run["settings"].items()}
            kinds = tuple(map(str, run.get("measurements") or FIRST_MEASUREMENTS))
            recorded = cls(str(measured["id"]), str(measured["started"]), measured["version"], settings, kinds)
            _ = recorded.at
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RecordError(f"{where}: damaged: {error!r}") from error
        return recorded


class Recording(Protocol):
    """Where the measurements of a replay come from."""

    path: Path
    run: Recorded

    def read_json(self, name: str) -> Any:
        """Return the content of one of the run's files, None when there is no such file."""

    def copy_into(self, folder: RunFolder) -> None:
        """Put its documents into a new run folder, in which they may be replaced but never changed.

        Raises `RecordError`; what is there by then is for the caller to remove.
        """

    def close(self) -> None:
        """Let go of it; it may be called twice."""


class RecordedFolder(Recording):
    """A run folder, which stays in use until it is closed: no other run removes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = RunFolder(path)
        run = self._folder.read_json(RUN)
        if run is None:
            inside = sorted(item.parent.name for item in path.glob(f"*/{RUN}"))
            hint = f"; name one of the runs in it, the last one is {path / inside[-1]}" if inside else ""
            raise RecordError(f"{path}: not the folder of a run: it has no {RUN}{hint}")
        self.run = Recorded.from_run(run, where=str(path / RUN))
        self._held = self._hold()

    def read_json(self, name: str) -> Any:
        """Return a file's content."""
        return self._folder.read_json(name)

    def copy_into(self, folder: RunFolder) -> None:
        """Link the files where the file system can."""
        for name in self._folder.files():
            if name in _OF_THE_RUN:
                continue
            source, target = self.path / name, folder.path / name
            try:
                target.parent.mkdir(exist_ok=True)
                try:
                    os.link(source, target)
                except OSError:  # another file system, or one without links
                    shutil.copyfile(source, target)
            except OSError as error:
                raise RecordError(f"{source}: cannot be copied to {target}: {error.strerror}") from error

    def close(self) -> None:
        """Let other runs remove it."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def _hold(self) -> int | None:
        marker = self.path / MARKER
        if not marker.is_file():
            return None  # a copy that somebody has made
        try:
            held = hold(marker, shared=True)
        except OSError as error:
            raise RecordError(f"{marker}: cannot be read: {error.strerror}") from error
        if held is None:
            raise RecordError(f"{self.path}: its run is still going on; wait for its end")
        return held


class RecordedBundle(Recording):
    """A bundle. All of it is read once before anything is believed."""

    _HEAD = (RUN, PLAN, PROBES, PROFILES, CLUSTER_FILE)

    def __init__(self, path: Path) -> None:
        self.path = path
        _, self._files = read_bundle(path, self._HEAD)
        if RUN not in self._files:
            raise RecordError(f"{path}: it has no {RUN}")
        self.run = Recorded.from_run(self.read_json(RUN), where=f"{path}: {RUN}")

    def read_json(self, name: str) -> Any:
        """Return a member's content."""
        if name not in self._files:
            return None
        try:
            return json.loads(self._files[name])
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{self.path}: {name}: cannot be read: {error}") from error

    def copy_into(self, folder: RunFolder) -> None:
        """Unpack it."""
        extract_bundle(self.path, folder, leave_out=_OF_THE_RUN)

    def close(self) -> None:
        """Nothing is open."""


def open_recording(path: Path) -> Recording:
    """Return the recording at `path`, a run folder or a bundle.

    Raises `RecordError` that names the path and what is wrong with it.
    """
    if not path.exists():
        raise RecordError(f"{path}: there is no such file or folder")
    return RecordedFolder(path) if path.is_dir() else RecordedBundle(path)
