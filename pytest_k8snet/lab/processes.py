"""Processes of a lab: known by their id and start time, so that a number used again is never taken for one of them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROC = Path("/proc")
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """One process; `start_ticks` is when it started, in clock ticks since boot."""

    name: str
    pid: int
    start_ticks: int

    @property
    def is_running(self) -> bool:
        """Whether it is still this process, and not a zombie."""
        found = _stat(self.pid)
        return found is not None and found[1] == self.start_ticks and found[0] not in "ZX"

    def to_json(self) -> dict[str, Any]:
        """Give the reference as JSON values."""
        return {"name": self.name, "pid": self.pid, "start_ticks": self.start_ticks}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> ProcessRef:
        """Read what `to_json` gave."""
        return ProcessRef(values["name"], values["pid"], values["start_ticks"])


def reference(name: str, pid: int) -> ProcessRef | None:
    """Give the reference of a process that runs now, None when it does not."""
    found = _stat(pid)
    return None if found is None else ProcessRef(name, pid, found[1])


def boot_id() -> str:
    """Give the id of this boot of the machine: ids and start times of processes mean nothing in another one."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def running() -> list[ProcessRef]:
    """Give every process of this machine."""
    numbers = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]
    return [process for number in numbers if (process := reference(f"process {number}", number)) and process.is_running]


def in_network_namespace(inode: int) -> list[ProcessRef]:
    """Give every process whose network namespace has this inode."""
    return [process for process in running() if _network_namespace(process) == inode]


def command_line(process: ProcessRef) -> str:
    """Give the words a process was started with; empty when they cannot be read."""
    try:
        return (PROC / str(process.pid) / "cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def _network_namespace(process: ProcessRef) -> int | None:
    try:
        return (PROC / str(process.pid) / "ns/net").stat().st_ino
    except OSError:  # gone, or another user's
        return None


def environment(process: ProcessRef) -> dict[str, str]:
    """Give the environment a process was started with; empty when it cannot be read."""
    try:
        text = (PROC / str(process.pid) / "environ").read_text(errors="replace")
    except OSError:
        return {}
    return dict(item.split("=", 1) for item in text.split("\0") if "=" in item)


def end(processes: Iterable[ProcessRef], *, grace_s: float) -> None:
    """Ask all to end, wait, and kill what is left after `grace_s`; return when none runs."""
    running = _signal(processes, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while running and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        running = [process for process in running if process.is_running]
    running = _signal(running, signal.SIGKILL)
    while running:
        time.sleep(_POLL_S)
        running = [process for process in running if process.is_running]


def _signal(processes: Iterable[ProcessRef], number: signal.Signals) -> list[ProcessRef]:
    signalled = []
    for process in processes:
        # Checked right before; a pidfd would still refer to another process when the number had been used again before it was opened.
        if process.is_running:
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue
            signalled.append(process)
    return signalled


def _stat(pid: int) -> tuple[str, int] | None:
    """Give state and start time of a process."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name is in parentheses and may hold anything, parentheses too.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])
