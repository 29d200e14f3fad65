"""What is to be said of waivers beside the verdicts that they excuse: those that end soon, have ended, or speak of nothing."""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pytest_k8snet.asked import meant
from pytest_k8snet.catalogue import checks
from pytest_k8snet.expect.validate import quoted

if TYPE_CHECKING:
    from pytest_k8snet.cluster.model import Cluster
    from pytest_k8snet.expect.resolve import Waiver
    from pytest_k8snet.expect.source import Draft

#: From how many days before its end on a waiver is spoken of.
SOON_DAYS = 14

_OURS = "NET-"  # checks of one's own have other ids
_CASE = re.compile(r"(.+)\[([^\[\]]*)\]")


def unknown_checks(draft: Draft) -> list[str]:
    """Return as problems a file's waivers of packaged checks that there are not. Those of one's own are not known before a run."""
    ids = [check.id for check in checks()]
    problems = []
    given = draft.values["waivers"]
    for index, waiver in enumerate(given if isinstance(given, list) else ()):
        pattern = waiver.get("check") if isinstance(waiver, dict) else None
        if not isinstance(pattern, str) or not pattern.upper().startswith(_OURS) or any(fnmatchcase(check_id, pattern) for check_id in ids):
            continue
        at = f"{draft.marks[('waivers', index, 'check')]}: waivers.{index}.check"
        case = _CASE.fullmatch(pattern)
        if case is not None and case[1] in ids:
            hint = f"write check: {case[1]} and nodes: [{quoted(case[2])}]"
        elif "," in pattern:
            hint = "a waiver has one id or pattern; write one waiver for each"
        else:
            hint = meant(pattern, ids)
        problems.append(f"{at}: {quoted(pattern)} is no check; {hint}")
    return problems


def remarks(
    waivers: Sequence[Waiver],
    judged: Iterable[tuple[str, str, bool]],
    cluster: Cluster,
    today: datetime.date,
) -> list[str]:
    """Return what a run says of its waivers, one line each at most. `judged` are check, subject and whether that is not as expected."""
    cases = [*judged]
    known = {check.id for check in checks()}.union(check_id for check_id, _, _ in cases)
    nodes = [node.name for node in cluster.nodes]
    told = (_remark(waiver, cases, known, nodes, today) for waiver in waivers)
    return [f"waiver of {waiver.check} ({waiver.origin}) {text}" for waiver, text in zip(waivers, told, strict=True) if text is not None]


def ending(waivers: Sequence[Waiver], today: datetime.date) -> list[str]:
    """Return which waivers have ended or do so soon, whatever a run says of them."""
    told = ((waiver, _end(waiver, today)) for waiver in waivers)
    return [f"waiver of {waiver.check} ({waiver.origin}) {text}" for waiver, text in told if text is not None]


def _remark(
    waiver: Waiver, cases: Sequence[tuple[str, str, bool]], known: Collection[str], nodes: Sequence[str], today: datetime.date
) -> str | None:
    end = _end(waiver, today)
    if end is not None and waiver.expires < today:
        return end
    if not any(fnmatchcase(check_id, waiver.check) for check_id in known):
        return "is of no check that this run has"
    if not _speaks_of_anything(waiver, nodes, cases):
        return f"is of no node of this cluster: {', '.join(waiver.nodes)}"
    if end is not None:
        return end
    covered = [bad for check_id, subject, bad in cases if waiver.covers(check_id, subject)]
    return "was not needed: all that it covers in this run is as expected" if covered and not any(covered) else None


def _end(waiver: Waiver, today: datetime.date) -> str | None:
    left = (waiver.expires - today).days
    if left < 0:
        return f"ended on {waiver.expires}: it excuses nothing any more; remove or renew it: {waiver.reason}"
    if left > SOON_DAYS:
        return None
    when = "today" if left == 0 else "tomorrow" if left == 1 else f"in {left} days"
    return f"ends {when}, on {waiver.expires}: {waiver.reason}"


def _speaks_of_anything(waiver: Waiver, nodes: Sequence[str], cases: Sequence[tuple[str, str, bool]]) -> bool:
    subjects = {"cluster", *nodes}
    return any(fnmatchcase(name, pattern) for name in subjects for pattern in waiver.nodes) or any(
        waiver.covers(check_id, subject) for check_id, subject, _ in cases
    )
