"""How light cases are run: as pytest runs any test, without what stands idle around each of its three phases.

Around every setup, call and teardown pytest resumes and suspends capturing and logging, and asks some thirty hooks: it takes a third of a
millisecond a case, of tens of thousands that compare what is on record. A case between two others of its module has nothing to set up or to
tear down but itself, and writes nothing: it is called, reported and let go of. The first and the last of them, and all cases where anybody
else watches phases (another plugin, a debugger), are run by pytest's own protocol, with the same reports and those of setups that passed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

from pytest_k8snet.items import CheckItem

_HOOKS = tuple(
    f"pytest_runtest_{name}" for name in ("protocol", "setup", "call", "teardown", "makereport", "logstart", "logreport", "logfinish")
)
_WATCHED = (*_HOOKS, "pytest_exception_interact")
#: Packages whose hooks need no setup's report and nothing around phases; xdist's worker is a module that execnet names so.
_KNOWN = frozenset({"_pytest", "pytest_k8snet", "xdist", "__channelexec__"})
_SHOWING = ("usepdb", "trace", "setuponly", "setupshow", "setupplan", "durations")  # options that show phases, or stop in them


class LightProtocol:
    """Runs the cases that need no more than themselves."""

    def __init__(self, config: pytest.Config) -> None:
        self._shows = any(config.getoption(name, None) for name in _SHOWING)
        self._watched: dict[pytest.Collector | None, bool] = {}  # by module

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run the case, or leave it to pytest."""
        if not isinstance(item, CheckItem) or not _within(item, nextitem) or not item.is_light or self._is_watched(item):
            return None
        hook, at = item.ihook, {"nodeid": item.nodeid, "location": item.location}
        hook.pytest_runtest_logstart(**at)
        phase: Literal["setup", "call"] = "setup"

        def judge() -> None:
            nonlocal phase
            item.setup()
            phase = "call"
            item.runtest()

        _report(item, judge, lambda: phase)
        _report(item, item.teardown, lambda: "teardown")
        hook.pytest_runtest_logfinish(**at)
        return True

    def _is_watched(self, item: CheckItem) -> bool:
        """Whether anybody expects to be asked about every phase; that is settled once everything is collected."""
        if item.parent not in self._watched:
            asked = (impl for name in _WATCHED for impl in getattr(item.ihook, name).get_hookimpls())
            self._watched[item.parent] = self._shows or any(impl.function.__module__.partition(".")[0] not in _KNOWN for impl in asked)
        return self._watched[item.parent]


def _within(item: CheckItem, nextitem: pytest.Item | None) -> bool:
    """Whether all that is around the case is set up, and stays for the next one."""
    if not isinstance(nextitem, CheckItem) or nextitem.parent is not item.parent:
        return False
    state: Any = item.session._setupstate  # not public: what pytest has set up, each with the exception that this has raised
    _, raised = state.stack.get(item.parent, (None, True))
    return raised is None


def _report(item: CheckItem, body: Callable[[], None], phase: Callable[[], Literal["setup", "call", "teardown"]]) -> None:
    call = pytest.CallInfo.from_call(body, "call", reraise=(pytest.exit.Exception, KeyboardInterrupt))
    call.when = phase()
    report = item.ihook.pytest_runtest_makereport(item=item, call=call)
    item.ihook.pytest_runtest_logreport(report=report)
