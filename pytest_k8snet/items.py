"""Cases of the packaged suite as items of our own.

A parametrized test function costs pytest several kilobytes and most of a millisecond a case; sixty checks of a thousand nodes are sixty
thousand cases. These items share with each other what all cases of a check have in common, and call its function with what the same
fixture functions give. A check that uses any other fixture (an autouse one of the user's, an overridden one) stays an ordinary test.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pluggy
import pytest

from pytest_k8snet.cases import Case, Check
from pytest_k8snet.errors import K8sNetError
from pytest_k8snet.markers import SUBJECT_FIXTURES, case_name, check_of, read_mark
from pytest_k8snet.outcome import VerdictOutcome
from pytest_k8snet.suite import area_of

#: What the fixture functions themselves may ask for, and any item can give.
_BUILT_IN = frozenset({"request", "pytestconfig"})


@dataclass
class Shared:
    """What all cases of a check have in common."""

    name: str
    function: Callable[..., object]
    check: Check
    fixture: str  # the one that gives the subject
    fixtures: Mapping[str, tuple[Callable[..., object], tuple[str, ...]]]  # with the names of what they ask for
    fixturenames: tuple[str, ...]
    arguments: tuple[str, ...]
    markers: list[pytest.Mark]
    keywords: dict[str, Any]
    reported: Mapping[str, Literal[1]]  # the keywords as reports have them
    file: str  # from the root folder
    line: int
    hooks: pluggy.HookRelay | None = None


class CheckItem(pytest.Item):
    """A check on one node or pair. Stands in for the request that fixture functions expect, as well."""

    def __init__(self, *, shared: Shared, subject: str, **more: Any) -> None:
        super().__init__(**more)
        self.shared = shared
        self.param = subject
        self.own_markers = shared.markers
        self.keywords = shared.keywords

    # ---- what pytest asks

    @property
    def ihook(self) -> pluggy.HookRelay:  # pytest looks up the folder's conftest files anew, eight times for every item
        """The hooks of this place; they are settled once everything is collected."""
        if not self.session.testscollected:
            return super().ihook
        if self.shared.hooks is None:
            self.shared.hooks = super().ihook
        return self.shared.hooks

    def setup(self) -> None:
        """Get the arguments of the check."""
        self._values: dict[str, object] = {}
        for name in self.shared.arguments:
            self.getfixturevalue(name)

    def runtest(self) -> None:
        """Call the check."""
        self.shared.function(**{name: self._values[name] for name in self.shared.arguments})

    def teardown(self) -> None:
        """Let go of the arguments."""
        del self._values

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the check is."""
        return self.path, self.shared.line, self.name

    @property
    def location(self) -> tuple[str, int | None, str]:  # pytest works it out anew for every item
        """Where the check is, from the root folder."""
        return self.shared.file, self.shared.line, self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the check's own lines and what it called."""
        del style
        if isinstance(excinfo.value, VerdictOutcome | K8sNetError):
            return str(excinfo.value)
        chosen = self.config.getoption("tbstyle", "auto")
        return excinfo.getrepr(
            style="long" if chosen == "auto" else chosen,
            showlocals=self.config.getoption("showlocals", False),
            tbfilter=lambda info: info.traceback.cut(path=self.path).filter(info),
        )

    def add_marker(self, marker: str | pytest.MarkDecorator, append: bool = True) -> None:
        """Mark this case alone."""
        self.own_markers, self.keywords = [*self.own_markers], {**self.keywords}
        super().add_marker(marker, append)

    def listextrakeywords(self) -> set[str]:
        """Let ``-k`` find it by the check's id."""
        return super().listextrakeywords() | {self.shared.check.id}

    def share_keywords(self, report: pytest.TestReport) -> None:
        """Let the reports of all cases have one and the same mapping of keywords."""
        if self.keywords is self.shared.keywords:
            report.keywords = self.shared.reported

    @property
    def is_light(self) -> bool:
        """Whether nobody has marked it, and nothing asks for what the cluster or the way to it must have."""
        return self.keywords is self.shared.keywords and "k8snet_requires" not in self.shared.keywords

    def forget(self) -> None:
        """Let go of what nobody asks for any more when all of its phases are reported."""
        self.stash = self._store = pytest.Stash()

    # ---- what others ask of a test function

    @cached_property
    def k8snet_case(self) -> Case:
        """What it stands for."""
        check = self.shared.check
        return Case(check, self.param, case_name(check.id, self.param))

    @property
    def function(self) -> Callable[..., object]:
        """The function of the check."""
        return self.shared.function

    obj = function

    @property
    def originalname(self) -> str:
        """The function's name."""
        return self.shared.name

    @property
    def fixturenames(self) -> tuple[str, ...]:
        """All fixtures it uses."""
        return self.shared.fixturenames

    # ---- what a fixture function asks of its request

    @property
    def node(self) -> CheckItem:
        """The item."""
        return self

    def getfixturevalue(self, name: str) -> object:
        """Return what a fixture gives for this case."""
        if name in _BUILT_IN:
            return self if name == "request" else self.config
        if name not in self._values:
            function, wanted = self.shared.fixtures[name]
            self._values[name] = function(**{other: self.getfixturevalue(other) for other in wanted})
        return self._values[name]


def make_items(
    module: pytest.Module, name: str, function: Callable[..., object], subjects: Callable[[str, str], Sequence[str]]
) -> list[CheckItem] | None:
    """Return the cases of a check, None when it has to be an ordinary test function. `subjects` takes its fixture and its level."""
    shared = _shared(module, name, function)
    names = () if shared is None else subjects(shared.fixture, shared.check.level)
    # pytest knows a case of the last run (--lf) by its name parted into function and parameters, which it would not do with ours by itself.
    cases = [f"{name}[{subject}]" for subject in names]
    return [
        CheckItem.from_parent(module, name=case, nodeid=f"{module.nodeid}::{case}", shared=shared, subject=subject)
        for case, subject in zip(cases, names, strict=True)
    ] or None


def by_subject(items: list[pytest.Item], turns: Mapping[str, int], together: int) -> None:
    """Bring the cases of `together` subjects together, in the places that `CheckItem`s have: their facts are then read once.

    Among them the cases of a check stay together: pytest sets up its module, and the packages that it is in, anew for each change. Those of
    checks that have a turn come behind all that have none, or an earlier one.
    """
    places = [place for place, item in enumerate(items) if isinstance(item, CheckItem)]
    numbers: dict[tuple[str, str], int] = {}
    groups: dict[tuple[int, int], list[pytest.Item]] = {}
    for item in items:
        if isinstance(item, CheckItem):
            number = numbers.setdefault((item.shared.fixture, item.param), len(numbers))
            groups.setdefault((turns.get(item.shared.check.id, 0), number // together), []).append(item)
    ordered = [item for group in sorted(groups) for item in groups[group]]
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


def _shared(module: pytest.Module, name: str, function: Callable[..., object]) -> Shared | None:
    marks = _marks(function)
    mark = next((mark for mark in marks if mark.name == "k8snet_check"), None)
    area = area_of(module.path)
    if mark is None or area is None or any(mark.name in ("parametrize", "usefixtures") for mark in (*marks, *module.iter_markers())):
        return None
    check = check_of(read_mark(mark, f"{module.nodeid}::{name}"), area, packaged=True)
    # Not public: which functions stand behind the names of fixtures, for this module.
    manager: Any = module.session._fixturemanager
    info = manager.getfixtureinfo(node=module, func=function, cls=None)
    fixture = next((fixture for fixture in SUBJECT_FIXTURES if fixture in info.names_closure), None)
    definitions = {wanted: info.name2fixturedefs[wanted][-1] for wanted in info.names_closure if info.name2fixturedefs.get(wanted)}
    fixtures = {wanted: definition.func for wanted, definition in definitions.items() if wanted not in _BUILT_IN}
    if fixture is None or {*info.names_closure} - {*fixtures} - _BUILT_IN or not all(map(_is_ours, fixtures.values())):
        return None
    keywords = {**module.keywords, **{mark.name: mark for mark in marks}, name: True}
    code: Any = function
    return Shared(
        name=name,
        function=function,
        check=check,
        fixture=fixture,
        fixtures={wanted: (function, _parameters(function)) for wanted, function in fixtures.items()},
        fixturenames=tuple(info.names_closure),
        arguments=tuple(info.argnames),
        markers=marks,
        keywords=keywords,
        reported=dict.fromkeys(keywords, 1),
        file=os.path.relpath(module.path, module.config.rootpath),
        line=code.__code__.co_firstlineno - 1,
    )


def _marks(function: object) -> list[pytest.Mark]:
    marks: Iterable[pytest.Mark | pytest.MarkDecorator] = getattr(function, "pytestmark", ())
    return [mark.mark if isinstance(mark, pytest.MarkDecorator) else mark for mark in marks]


def _is_ours(function: Callable[..., object]) -> bool:
    from pytest_k8snet import fixtures
    from pytest_k8snet.catalogue import suite_folder

    if inspect.isgeneratorfunction(function):
        return False
    path = Path(inspect.getfile(function))
    return path == Path(fixtures.__file__) or path == suite_folder() / "conftest.py"


def _parameters(function: Callable[..., object]) -> tuple[str, ...]:
    code: Any = function
    names: tuple[str, ...] = code.__code__.co_varnames[: code.__code__.co_argcount]
    return names
