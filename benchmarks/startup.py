"""What the plugin costs those who test no cluster: it installed, and with ``-p no:k8snet``, by turns."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.process import run
from benchmarks.table import Row, spread

_WITHOUT = ("-p", "no:k8snet")
_RUNS = {
    "pytest --version": ("--version",),
    "a run of one test that is none of ours": ("-q", "test_plain.py"),
}


def rows(folder: Path, times: int) -> Iterator[Row]:
    """Measure."""
    (folder / "test_plain.py").write_text("def test_it():\n    assert True\n")
    for what, arguments in _RUNS.items():
        taken: dict[bool, list[float]] = {True: [], False: []}
        for number in range(2 * times + 2):
            with_plugin = number % 2 == 0
            line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(() if with_plugin else _WITHOUT), *arguments]
            cost = run(line, folder)
            if cost.status != 0:
                raise SystemExit(f"{' '.join(line)}: {cost.out}")
            if number >= 2:  # the first two fill caches
                taken[with_plugin].append(cost.wall_s * 1000)
        more = statistics.median(taken[True]) - statistics.median(taken[False])
        yield Row(f"plugin installed: {what}", f"{more:+.1f} ms", "<= 20 ms", f"with {spread(taken[True])}; without {spread(taken[False])}")
