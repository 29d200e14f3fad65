"""What pytest's JUnit report says of checks: names that do not depend on where the suite is installed, in an order that xdist keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pytest
from _pytest.junitxml import xml_key  # names and order of cases can be set nowhere else

if TYPE_CHECKING:
    from pytest_k8snet.cases import Case


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
