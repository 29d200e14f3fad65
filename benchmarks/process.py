"""Programs that are run to see what they cost."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cost:
    """What a program has cost: its wall time, and the processor time of it and of everything it started."""

    wall_s: float
    cpu_s: float
    status: int
    out: str


def run(argv: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a program to its end in `folder`, with compiled modules kept: an environment that forbids that is not what users have."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    log = folder / "output.txt"
    with log.open("wb") as stream:
        started = time.perf_counter()
        process = subprocess.Popen(argv, cwd=folder, env={**kept, **(environment or {})}, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, process.returncode, log.read_text(encoding="utf-8", errors="replace"))
