"""Measures what the project costs, prints one table, and writes docs/benchmarks.md on request."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import reach, scale, startup
from benchmarks.scale import Scale
from benchmarks.table import Row, as_page, as_text, machine

SCALES = {
    "1000": Scale(1000),
    "1000x3": Scale(1000, times=3),
    "1000-n2": Scale(1000, workers=2),
    "3000": Scale(3000),
}


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scale", action="append", choices=SCALES, help="simulated clusters to run on (all of them by default)")
    parser.add_argument("--no-startup", action="store_true", help="leave out what the plugin costs other runs of pytest")
    parser.add_argument("--lab", metavar="NAME", help="a lab that is up (k8snet lab up --name NAME), for what needs real nodes")
    parser.add_argument("--times", type=int, default=15, help="how often short runs are repeated, by turns (default: 15)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page as well, docs/benchmarks.md")
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="k8snet-benchmark-") as name:
        for row in _rows(given, Path(name)):
            print(f"{row.what}: {row.figure}", flush=True)
            rows.append(row)
    print(f"\n{as_text(rows)}\n\n{machine()}")
    if given.write is not None:
        introduction = (Path(__file__).parent / "page.md").read_text(encoding="utf-8")
        given.write.write_text(as_page(rows, introduction), encoding="utf-8")


def _rows(given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    if not given.no_startup:
        yield from startup.rows(folder, given.times)
    if given.lab is not None:
        from benchmarks import lab

        yield from lab.rows(given.lab, folder, max(1, given.times // 3))
    yield from reach.rows()
    yield from scale.rows([SCALES[name] for name in given.scale or SCALES])


if __name__ == "__main__":
    main()
