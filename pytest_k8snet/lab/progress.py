"""Says what the lab is doing and for how long: live lines on a terminal, plain lines elsewhere.

A step has a name and an elapsed time; several steps may run at once, in threads.

    with progress.step("node root file system") as step:
        step.note("unpacking")
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from rich.progress import Progress as RichBars


class Step(Protocol):
    """One running step."""

    def note(self, detail: str) -> None:
        """Say what the step is at: shown live behind its name, not kept."""


class Progress(Protocol):
    """Where the lab says what it does."""

    def step(self, name: str) -> AbstractContextManager[Step]:
        """Show a step with its elapsed time until the block ends; a block that raises is shown as failed."""

    def say(self, message: str) -> None:
        """Print one line that stays."""


class _NoNote:
    """A step whose details nobody sees."""

    def note(self, detail: str) -> None:
        """Drop the detail."""


class SilentProgress:
    """Shows nothing: for tests and for programs that only want the result."""

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Show nothing."""
        yield _NoNote()

    def say(self, message: str) -> None:
        """Print nothing."""


class PlainProgress:
    """One line when a step starts and one when it ends: for pipelines and log files."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Print a line now and one when the block ends."""
        started = self._clock()
        self.say(f"{name} ...")
        try:
            yield _NoNote()
        except BaseException:
            self.say(f"{name}: failed after {self._clock() - started:.1f} s")
            raise
        self.say(f"{name}: {self._clock() - started:.1f} s")

    def say(self, message: str) -> None:
        """Print one line."""
        with self._lock:
            print(message, file=self._stream, flush=True)


class _BarStep:
    def __init__(self, bars: RichBars, name: str) -> None:
        self._bars = bars
        self._task = bars.add_task(name, total=None, detail="")

    def note(self, detail: str) -> None:
        """Show the detail behind the step's name."""
        self._bars.update(self._task, detail=detail)

    def end(self) -> None:
        """Take the live line away."""
        self._bars.remove_task(self._task)


class TerminalProgress:
    """Live lines with a running clock; each finished step leaves one line. Use as a context manager."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import Progress as RichBars
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        self._bars = RichBars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}", markup=True),
            console=Console(file=stream),
            transient=True,
        )

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Show a live line until the block ends."""
        started = time.monotonic()
        bar = _BarStep(self._bars, name)
        try:
            yield bar
        except BaseException:
            bar.end()
            self._bars.console.print(f"[red]✗[/] {name}: failed after {time.monotonic() - started:.1f} s", highlight=False)
            raise
        bar.end()
        self._bars.console.print(f"[green]✓[/] {name}: {time.monotonic() - started:.1f} s", highlight=False)

    def say(self, message: str) -> None:
        """Print one line above the live ones."""
        self._bars.console.print(message, highlight=False, markup=False)


@contextmanager
def open_progress(stream: TextIO | None = None) -> Iterator[Progress]:
    """Give the progress that suits the stream (standard error by default): live on a terminal, plain lines elsewhere."""
    out = sys.stderr if stream is None else stream
    if out.isatty():
        with TerminalProgress(out) as live:
            yield live
    else:
        yield PlainProgress(out)
