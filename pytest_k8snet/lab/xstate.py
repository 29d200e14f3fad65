"""Whether User-Mode Linux needs help on this processor, and the small library that gives it (components/xstate)."""

from __future__ import annotations

import re
import subprocess
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_k8snet.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = files("pytest_k8snet.lab").joinpath("components", "xstate", "xstate.c")
_FLAGS = re.compile(r"^flags\s*:.*\bamx_tile\b", re.MULTILINE)


def is_needed(cpuinfo: str | None = None) -> bool:
    """Say whether the processor has state that User-Mode Linux 6.1 does not know (AMX)."""
    text = Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo
    return _FLAGS.search(text) is not None


def build(target: Path, run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> None:
    """Compile the library into the folder, as xstate.so."""
    with as_file(SOURCE) as source:
        command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(target / "xstate.so"), str(source), "-ldl"]
        done = run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"the library that User-Mode Linux needs on this processor does not compile:\n{done.stderr.strip()[-1000:]}")
