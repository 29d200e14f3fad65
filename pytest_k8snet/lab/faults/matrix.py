"""What runs on broken labs gave: which faults at a time, on which lab, how long it took, and whether exactly the declared cases turned."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
Case = tuple[str, str, str]  # check, subject, verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run of the suite on a lab with one or more faults."""

    faults: Mapping[str, str]
    """Name of each to the node that it was put on."""
    network: str
    proxy_mode: str
    ip_family: str
    node_kernel: str  # uml or qemu
    nodes: int
    level: str
    """Of the run: read, probe or load."""
    day: str  # YYYY-MM-DD, UTC
    apply_s: float
    run_s: float
    revert_s: float
    turned: int
    """Cases that were neither pass nor skip."""
    missing: tuple[Case, ...]
    """Declared, and not turned."""
    beyond: tuple[Case, ...]
    """Turned, and not declared."""

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two rows the same group on the same lab: the later one replaces the other."""
        return (frozenset(self.faults), self.network, self.proxy_mode, self.ip_family)

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """Read what `to_json` gave."""
        cases = {name: tuple((check, subject, verdict) for check, subject, verdict in data[name]) for name in ("missing", "beyond")}
        return cls(**{**data, **cases})


def read_rows(file: Path) -> tuple[Row, ...]:
    """Read a matrix; none when there is no such file. Raise `LabError` for one that is not of this version."""
    if not file.exists():
        return ()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise LabError(f"{file}: a matrix of version {content['version']}; this is of version {VERSION}")
        return tuple(Row.from_json(item) for item in content["rows"])
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{file}: no matrix of faults: {error!r}") from error


def write_rows(file: Path, rows: Iterable[Row]) -> None:
    """Write a matrix."""
    content = {"version": VERSION, "rows": [row.to_json() for row in rows]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def merged(known: Iterable[Row], newer: Iterable[Row], *, faults: Collection[str]) -> tuple[Row, ...]:
    """Put newer rows in the place of those of the same group and lab; leave out those with faults that are not among `faults`."""
    rows = {row.key: row for row in (*known, *newer)}
    return tuple(row for row in rows.values() if row.faults.keys() <= {*faults})
