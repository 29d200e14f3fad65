"""The table: one row a figure, with its budget where there is one."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured."""

    what: str
    figure: str
    budget: str = ""
    details: str = ""


def as_text(rows: Sequence[Row]) -> str:
    """Return the table for a terminal."""
    return "\n".join(_lines([("what", "figure", "budget", "details"), *_cells(rows)]))


def as_page(rows: Sequence[Row], introduction: str) -> str:
    """Return docs/benchmarks.md."""
    head = ("what", "figure", "budget", "details")
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *_cells(rows))]
    lines.insert(1, "|---|---|---|---|")
    return introduction.format(machine=machine(), date=f"{datetime.now(UTC):%Y-%m-%d}", table="\n".join(lines))


def machine() -> str:
    """Return what the figures were measured on; no names."""
    names = ("pytest", "pytest-xdist", "pytest-k8snet")
    versions = ", ".join(f"{name} {metadata.version(name).partition('+')[0]}" for name in names)
    return f"{os.cpu_count()} cores ({platform.machine()}, Linux), Python {platform.python_version()}, {versions}"


def spread(values: Sequence[float], unit: str = "ms", digits: int = 1) -> str:
    """Return median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return f"{middle:.{digits}f} {unit} (quartiles {low:.{digits}f} to {high:.{digits}f}, {len(values)} times)"


def _cells(rows: Sequence[Row]) -> list[tuple[str, str, str, str]]:
    return [(row.what, row.figure, row.budget, row.details) for row in rows]


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
