"""The markers: what they take, and what the plugin makes of them for every case."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_k8snet.cases import Case, Check
from pytest_k8snet.errors import ConfigurationError
from pytest_k8snet.options import LEVELS
from pytest_k8snet.shown import printable

MARKERS = (
    "k8snet_check(id, level, title, doc=None): a check's identity; level is read, probe or load",
    "k8snet_requires(proxy_mode=None, encapsulation=None, nodes=1): skip the check where the cluster is not like that",
)

RESERVED = "NET-"
CLUSTER = "cluster"
SUBJECT_FIXTURES = ("k8snet_pair", "k8snet_node")  # a pair's nodes are no subjects of their own
#: The fixtures that make a test a check, marked or not.
FIXTURES = frozenset({*SUBJECT_FIXTURES, "k8snet_cluster", "k8snet_expect", "k8snet_measure", "k8snet_documents", "k8snet_verdict"})

_ID = re.compile(r"[A-Z][A-Z0-9]*(-[A-Z0-9]+)+")


CASE = pytest.StashKey[Case]()


def case_of(item: pytest.Item) -> Case | None:
    """Return what an item stands for, None for one that is no check."""
    case: Case | None = getattr(item, "k8snet_case", None)
    return case if case is not None else item.stash.get(CASE, None)


@dataclass(frozen=True, slots=True)
class CheckMark:
    """The arguments of ``k8snet_check``."""

    id: str
    level: str
    title: str
    doc: str | None = None


def check_mark(item: pytest.Item) -> CheckMark | None:
    """Return the validated marker of a test, None when it has none.

    Raises `ConfigurationError` that names the test.
    """
    mark = item.get_closest_marker("k8snet_check")
    return None if mark is None else read_mark(mark, item.nodeid)


def read_mark(mark: pytest.Mark, test: str) -> CheckMark:
    """Return the validated marker of the test called `test`.

    Raises `ConfigurationError` that names it.
    """
    where = f"{test}: @pytest.mark.k8snet_check"
    if mark.args:
        raise ConfigurationError(f"{where}: takes keywords only: id=, level=, title=, doc=")
    unknown = set(mark.kwargs) - {"id", "level", "title", "doc"}
    absent = {"id", "level", "title"} - set(mark.kwargs)
    if unknown or absent:
        wrong = [f"unknown {', '.join(sorted(unknown))}"] * bool(unknown) + [f"missing {', '.join(sorted(absent))}"] * bool(absent)
        raise ConfigurationError(f"{where}: {'; '.join(wrong)}; want id=, level=, title= and perhaps doc=")
    check = CheckMark(**mark.kwargs)
    if not isinstance(check.id, str) or not _ID.fullmatch(check.id):
        raise ConfigurationError(f"{where}: got id={check.id!r}, want capitals and digits in parts joined by '-', such as ACME-MTU-001")
    if check.level not in LEVELS:
        raise ConfigurationError(f"{where}: got level={check.level!r}, want one of {', '.join(LEVELS)}")
    if not isinstance(check.title, str) or not check.title:
        raise ConfigurationError(f"{where}: got title={check.title!r}, want a sentence")
    return check


def read_case(item: pytest.Item, area: str | None) -> Case | None:
    """Return what an item stands for, None for a test that is none of ours. `area` is set for tests of the packaged suite.

    Raises `ConfigurationError` for a marker that is not valid or an id that is reserved.
    """
    mark = check_mark(item)
    fixtures = set(getattr(item, "fixturenames", ()))
    if mark is None and not fixtures & FIXTURES:
        return None
    packaged = area is not None
    if mark is not None and not packaged and mark.id.startswith(RESERVED):
        raise ConfigurationError(
            f"{item.nodeid}: id {mark.id}: ids that begin with {RESERVED} are those of the packaged suite; take another prefix"
        )
    module = getattr(getattr(item, "module", None), "__name__", item.path.stem)
    owner = getattr(item, "cls", None)
    function = getattr(item, "originalname", None) or item.name
    callspec = getattr(item, "callspec", None)
    params: dict[str, Any] = callspec.params if callspec is not None else {}
    subject = next((params[name] for name in SUBJECT_FIXTURES if name in params), CLUSTER)
    # Without an id the full name has to do: modules of different packages may share their last part.
    check = mark.id if mark is not None else ".".join([module, *([owner.__qualname__] if owner is not None else []), function])
    area = area or module.rpartition(".")[2]
    shown = subject
    if callspec is not None and set(params) - set(SUBJECT_FIXTURES):
        shown = callspec.id if subject != CLUSTER else f"{CLUSTER}-{callspec.id}"
    if mark is not None:
        return Case(check_of(mark, area, packaged=packaged), subject, case_name(check, shown))
    title = (inspect.getdoc(getattr(item, "function", None)) or function).splitlines()[0]
    return Case(Check(check, area, "probe", title, None), subject, case_name(check, shown))


def check_of(mark: CheckMark, area: str, *, packaged: bool) -> Check:
    """Return the check that a marker makes of a test."""
    return Check(mark.id, area, mark.level, mark.title, mark.doc or (f"docs/checks/{mark.id}" if packaged else None))


def case_name(check: str, shown: str) -> str:
    """Return the name of a case."""
    return f"{check}[{printable(shown)}]"


def check_of_function(item: pytest.Item) -> str:
    """Return what must not share an id with another: the function, wherever it is parametrized to."""
    owner = getattr(item, "cls", None)
    names = [*([owner.__qualname__] if owner is not None else []), getattr(item, "originalname", None) or item.name]
    return "::".join([str(item.path), *names])
