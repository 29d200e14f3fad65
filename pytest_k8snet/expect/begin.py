"""Begin a profile: write down what the nodes of a cluster are like, where they agree, and say where they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_k8snet.expect.source import Location
from pytest_k8snet.expect.written import scalar
from pytest_k8snet.shown import printable

if TYPE_CHECKING:
    from pytest_k8snet.cluster.model import Claim

_NAMED = 5  # nodes that are named one by one

#: What a value may be; a reason stands for one that was not read.
_Value = str | int | bool


@dataclass(slots=True)
class Readings:
    """What was read at one key: nodes by value, and nodes by the reason why there is none."""

    values: dict[_Value, list[str]] = field(default_factory=dict)
    unread: dict[str, list[str]] = field(default_factory=dict)

    def add(self, node: str, value: _Value) -> None:
        """Note the value of a node."""
        self.values.setdefault(value, []).append(node)

    def miss(self, node: str, why: str) -> None:
        """Note that a node's was not read."""
        self.unread.setdefault(why, []).append(node)


def begun_text(
    head: Sequence[str],
    name: str,
    readings: Mapping[Location, Readings],
    claims: Mapping[str, Claim],
    nodes: int,
    hints: Mapping[Location, str],
) -> str:
    """Return the text of a profile.

    `head` are lines of comment for its beginning, `nodes` is how many were looked at, `hints` are said where a value was not read.
    """
    lines = [*(f"# {printable(line)}" for line in head), f"name: {scalar(name)}"]
    above: Location = ()
    for at, found in readings.items():
        section = at[:-1]
        common = 0
        while common < min(len(section), len(above)) and section[common] == above[common]:
            common += 1
        if not section or common == 0:
            lines.append("")
        lines += [f"{'  ' * depth}{scalar(section[depth])}:" for depth in range(common, len(section))]
        above = section
        lines += [f"{'  ' * len(section)}{line}" for line in _lines(str(at[-1]), found, claims.get(_claim(at)), nodes, hints.get(at))]
    return "\n".join(lines) + "\n"


def _lines(key: str, found: Readings, claim: Claim | None, nodes: int, hint: str | None) -> Iterator[str]:
    missing = "; ".join(f"not read on {_names(names, nodes)}: {why}" for why, names in found.unread.items())
    missing = "; ".join(part for part in (missing, hint if not found.values else None) if part)
    if not found.values:
        yield f"# {key}: {printable(missing)}"
        return
    if len(found.values) > 1:
        yield f"# nodes disagree about {key}; take one, or make them agree"
    for value, names in sorted(found.values.items(), key=lambda item: -len(item[1])):
        line = f"{scalar(key)}: {scalar(value)}  # {_names(names, nodes)}"
        if claim is not None and claim.value is not None and str(claim.value).lower() != str(value).lower():
            line += f"; the cluster claims {claim.value} ({claim.source})"
        yield printable(f"# {line}" if len(found.values) > 1 else f"{line}; {missing}" if missing else line)
    if len(found.values) > 1 and missing:
        yield f"# {printable(missing)}"


def _names(names: Sequence[str], nodes: int) -> str:
    if len(names) == nodes > _NAMED:
        return f"all {nodes} nodes"
    few = ", ".join(names[:_NAMED])
    return few if len(names) <= _NAMED else f"{few} and {len(names) - _NAMED} more"


def _claim(at: Location) -> str:
    return ".".join(str(part) for part in at)
