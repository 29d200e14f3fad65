"""The markers: what they take, and what the plugin makes of them for every case."""

from __future__ import annotations

import inspect
import re
from dataclasses import asdict, dataclass
from typing import Any

import pytest

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


@dataclass(frozen=True, slots=True)
class Case:
    """A check on a subject: what one test item stands for."""

    check: str
    subject: str
    area: str
    level: str
    title: str
    fix: str | None  # the check's page
    name: str  # NET-MTU-001[node-2]

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return asdict(self)


CASE = pytest.StashKey[Case]()


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
    if mark is None:
        return None
    where = f"{item.nodeid}: @pytest.mark.k8snet_check"
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
        fix = mark.doc or (f"docs/checks/{mark.id}" if packaged else None)
        return Case(check, subject, area, mark.level, mark.title, fix, f"{check}[{printable(shown)}]")
    title = (inspect.getdoc(getattr(item, "function", None)) or function).splitlines()[0]
    return Case(check, subject, area, "probe", title, None, f"{check}[{printable(shown)}]")


def check_of_function(item: pytest.Item) -> str:
    """Return what must not share an id with another: the function, wherever it is parametrized to."""
    owner = getattr(item, "cls", None)
    names = [*([owner.__qualname__] if owner is not None else []), getattr(item, "originalname", None) or item.name]
    return "::".join([str(item.path), *names])
