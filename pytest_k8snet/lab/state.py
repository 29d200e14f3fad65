"""The folder of a lab: what it was asked to be, and every process it consists of.

The folder is locked while a command changes the lab. A lab that is *starting* without a holder of that lock was left by a killed process.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.processes import ProcessRef, boot_id
from pytest_k8snet.lab.settings import LabSettings, check_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA = 1
_FILE = "state.json"
_LOOK_S = 0.5

Phase = Literal["starting", "running"]
Condition = Literal["starting", "running", "broken"]


@dataclass(frozen=True, slots=True)
class LabState:
    """What is recorded of a lab."""

    settings: LabSettings
    boot_id: str
    phase: Phase = "starting"
    network_namespace: int = 0
    """Inode of the lab's network namespace."""
    processes: tuple[ProcessRef, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    """Ports on 127.0.0.1: `api`, and one per node for SSH."""
    images: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give the state as JSON values."""
        return {
            "schema": SCHEMA,
            "settings": self.settings.to_json(),
            "boot_id": self.boot_id,
            "phase": self.phase,
            "network_namespace": self.network_namespace,
            "processes": [process.to_json() for process in self.processes],
            "ports": dict(self.ports),
            "images": dict(self.images),
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> LabState:
        """Read what `to_json` gave."""
        return LabState(
            settings=LabSettings.from_json(values["settings"]),
            boot_id=values["boot_id"],
            phase=values["phase"],
            network_namespace=values["network_namespace"],
            processes=tuple(ProcessRef.from_json(item) for item in values["processes"]),
            ports=values["ports"],
            images=values["images"],
        )


def labs_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Give the folder that holds one folder per lab: k8snet/labs in XDG_STATE_HOME or ~/.local/state."""
    env = os.environ if environment is None else environment
    base = env.get("XDG_STATE_HOME")
    return (Path(base) if base else Path("~/.local/state").expanduser()).absolute() / "k8snet" / "labs"


class LabFolder:
    """The folder of one lab and what is in it."""

    def __init__(self, name: str, labs: Path | None = None) -> None:
        check_name(name)
        self.name = name
        self.path = (labs_folder() if labs is None else labs) / name

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig for users on this machine."""
        return self.path / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Certificates and keys of the control plane."""
        return self.path / "pki"

    @property
    def ssh(self) -> Path:
        """Key, known hosts and configuration of ssh."""
        return self.path / "ssh"

    @property
    def logs(self) -> Path:
        """What the lab's programs on this machine said, the nodes' consoles too."""
        return self.path / "logs"

    def node(self, name: str) -> Path:
        """Give the folder that a node sees as /k8snet/node."""
        return self.path / "nodes" / name

    def all_logs(self) -> dict[str, Path]:
        """Give every log by its name: those of this machine (kube-apiserver, node-2) and those that nodes write (node-2/kubelet)."""
        found = {path.stem: path for path in sorted(self.logs.glob("*.log"))}
        return found | {f"{path.parts[-3]}/{path.stem}": path for path in sorted(self.path.glob("nodes/*/log/*.log"))}

    @property
    def exists(self) -> bool:
        """Whether there is anything of this lab."""
        return self.path.is_dir()

    @property
    def has_state(self) -> bool:
        """Whether a start has got as far as writing down what it starts."""
        return (self.path / _FILE).is_file()

    def read(self) -> LabState:
        """Read the state; raise a LabError when there is no such lab or its state cannot be read."""
        try:
            values = json.loads((self.path / _FILE).read_text())
        except FileNotFoundError:
            raise LabError(_unknown(self)) from None
        except (OSError, ValueError) as error:
            raise LabError(f"{self.path / _FILE}: not readable: {error}") from error
        if isinstance(values, dict) and values.get("schema") != SCHEMA:
            raise LabError(f"{self.path / _FILE}: schema {values.get('schema')}, this version reads {SCHEMA}")
        try:
            return LabState.from_json(values)
        except (KeyError, TypeError) as error:
            raise LabError(f"{self.path / _FILE}: not the state of a lab: {error}") from error

    def write(self, state: LabState) -> None:
        """Replace the state."""
        fresh = self.path / f"{_FILE}.new"
        fresh.write_text(json.dumps(state.to_json(), indent=1))
        fresh.replace(self.path / _FILE)

    def condition(self, state: LabState) -> Condition:
        """Say how the lab is: `broken` when a process of it has ended or its start was killed."""
        if state.boot_id != boot_id():
            return "broken"
        if state.phase == "starting":
            return "starting" if self._is_locked() else "broken"
        return "running" if all(process.is_running for process in state.processes) else "broken"

    def clear(self) -> None:
        """Remove everything in the folder; the folder itself stays, and locked."""
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def remove(self) -> None:
        """Remove every file of the lab."""
        shutil.rmtree(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lab for a command that changes it, in a folder that is made when it is not there."""
        while True:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # removed again meanwhile
            try:
                if not _flocked(handle):
                    raise LabError(f"lab {self.name}: another `k8snet lab` command is starting or stopping it; wait for that one")
                if self.path.exists() and self.path.stat().st_ino == os.fstat(handle).st_ino:
                    yield
                    return
                # The one who held the lock before removed the folder: this lock is of nothing.
            finally:
                os.close(handle)

    def _is_locked(self) -> bool:
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False


class Recorder:
    """Writes down each process of a lab as soon as it runs."""

    def __init__(self, folder: LabFolder, settings: LabSettings) -> None:
        self._folder = folder
        self.state = LabState(settings=settings, boot_id=boot_id())
        folder.write(self.state)

    def add(self, process: ProcessRef) -> None:
        """Record one more process."""
        self.update(processes=(*self.state.processes, process))

    def update(self, **changes: Any) -> None:
        """Record other changes."""
        self.state = replace(self.state, **changes)
        self._folder.write(self.state)


def _flocked(handle: int) -> bool:
    """Lock a folder; False when somebody holds it for longer than the moment it takes to look."""
    deadline = time.monotonic() + _LOOK_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def all_labs(labs: Path | None = None) -> list[LabFolder]:
    """Give the folders of all labs of this user."""
    folder = labs_folder() if labs is None else labs
    if not folder.is_dir():
        return []
    return [LabFolder(path.name, folder) for path in sorted(folder.iterdir()) if (path / _FILE).is_file()]


def _unknown(folder: LabFolder) -> str:
    names = [known.name for known in all_labs(folder.path.parent)]
    known = f"there is {', '.join(names)}" if names else "there is none"
    return f"no lab is called {folder.name} ({known}); start one: k8snet lab up --name {folder.name}"
