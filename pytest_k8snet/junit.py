"""What pytest's JUnit report says of checks: names that do not depend on where the suite is installed, in an order that xdist keeps."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from _pytest import junitxml
from _pytest.junitxml import xml_key  # names and order of cases can be set nowhere else

from pytest_k8snet.errors import ConfigurationError

if TYPE_CHECKING:
    from pytest_k8snet.cases import Case


def check_target(config: pytest.Config) -> None:
    """Make sure that a report that is asked for can be written, before anything is measured for it: pytest finds out at the end.

    Raises `ConfigurationError` that says why it cannot.
    """
    path = _target(config)
    if path is None:
        return
    there = next(folder for folder in path.parents if folder.exists())  # it makes what is missing below that
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ConfigurationError(f"--junitxml: {path}: cannot be written: {there}: {error.strerror}") from error


def remove_earlier(config: pytest.Config) -> None:
    """Remove the report of an earlier run: one that ends before it has begun writes none, and a pipeline would take that for its own."""
    path = _target(config)
    if path is not None:
        with suppress(OSError):  # told by `check_target`
            if path.is_file():
                path.unlink()


def _target(config: pytest.Config) -> Path | None:
    given = config.getoption("xmlpath", None)  # pytest's reporter is not there yet
    return Path(os.path.expandvars(given)).expanduser().absolute() if given else None  # as it does


class JUnit:
    """The report of a session, if it has one. `collected` gives the node ids of the checks, in the order of their collection."""

    def __init__(self, config: pytest.Config, collected: Callable[[], Iterable[str]]) -> None:
        self._config = config
        self._collected = collected
        self._nodeids: dict[int, str] = {}  # by the identity of pytest's reporter of a case

    def name(self, report: pytest.TestReport, case: Case, *, properties: Iterable[tuple[str, object]] = ()) -> None:
        """Name a case; `properties` are those of a test whose worker has crashed: they are otherwise written with the teardown."""
        xml = self._config.stash.get(xml_key, None)
        if xml is None:
            return
        reporter = xml.node_reporter(report)
        reporter.add_attribute("classname", f"k8snet.{case.check.area}")
        reporter.add_attribute("name", case.name)
        self._nodeids[id(reporter)] = report.nodeid
        for name, value in properties:
            reporter.add_property(name, str(value))

    def add_lost(self, lost: Mapping[str, Case], why: str) -> None:
        """Add cases by node id that have no result as errors: a report of what has passed alone would be read as green."""
        xml = self._config.stash.get(xml_key, None)
        if xml is None:
            return
        begun = {str(nodeid): worker for nodeid, worker in xml.node_reporters}
        for nodeid, case in lost.items():
            report = pytest.TestReport(
                nodeid=nodeid, location=("", None, case.name), keywords={}, outcome="failed", longrepr=why, when="setup"
            )
            if begun.get(nodeid) is not None:
                report.node = begun[nodeid]  # type: ignore[attr-defined]  # xdist's: by it pytest finds what it has of the case
            xml.pytest_runtest_logreport(report)
            self.name(report, case, properties=[("k8snet_check", case.id), ("k8snet_subject", case.subject), ("k8snet_message", why)])

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Put the checks into the order of their collection before the report is written; other tests stay behind their neighbours."""
        xml = self._config.stash.get(xml_key, None)
        if xml is None:
            return
        order = {nodeid: number for number, nodeid in enumerate(self._collected())}
        place, places = -1, {}
        for reporter in xml.node_reporters_ordered:
            place = order.get(self._nodeids.get(id(reporter), ""), place)
            places[id(reporter)] = place
        xml.node_reporters_ordered.sort(key=lambda reporter: places[id(reporter)])

    def failed(self, error: BaseException) -> str | None:
        """Return why the report could not be written when that is what the error says, and leave no half of one.

        pytest's own plugin would end everything by it, with a traceback and without the results on the terminal.
        """
        xml = self._config.stash.get(xml_key, None)
        frames = traceback.walk_tb(error.__traceback__)
        if xml is None or not isinstance(error, OSError) or not any(frame.f_code.co_filename == junitxml.__file__ for frame, _ in frames):
            return None
        del self._config.stash[xml_key]
        self._config.pluginmanager.unregister(xml)  # it would say that there is one
        path = Path(xml.logfile)
        with suppress(OSError):
            if path.is_file():
                path.unlink()
        return f"--junitxml: {path}: cannot be written: {error.strerror}"
