"""The controller's side of a session: start, results, completeness, removal. Registered in one process only."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.junitxml import xml_key  # names of cases can be set nowhere else

from pytest_k8snet import summary
from pytest_k8snet.errors import ConfigurationError, K8sNetError
from pytest_k8snet.run import COLLECTION

if TYPE_CHECKING:
    from pytest_k8snet.run import ControllerRun

TERMINATED = 128 + signal.SIGTERM


class Controller:
    """Hooks of the process that plans the run and owns its objects."""

    def __init__(self, config: pytest.Config, run: ControllerRun) -> None:
        self._config = config
        self._run = run
        self.collection: Mapping[str, Any] | None = None  # of this process; with xdist it is in the run folder
        self.results: dict[str, dict[str, Any]] = {}  # verdicts by node id
        self._ended: set[str] = set()
        self.lost: list[str] = []
        self.trouble: list[str] = []
        self._old_handler: Any = None
        self._closed = False
        self._handle_sigterm()

    # ---- start

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionstart(self, session: pytest.Session) -> Generator[None, object, object]:
        """Read the inventory before the header is printed and before workers start.

        A cluster that only the environment or an ini file names is left alone until a check asks for it.
        """
        distributed = self._config.getoption("dist", "no") != "no"
        if (self._run.settings.asked_for or distributed) and not self._config.getoption("collectonly", False):
            self._start()
        return (yield)

    def _start(self) -> None:
        try:
            self._run.start()
        except ConfigurationError as error:
            raise pytest.UsageError(str(error)) from error
        except K8sNetError as error:
            pytest.exit(f"k8snet: {error}", returncode=pytest.ExitCode.TESTS_FAILED)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where the run folder is."""
        node.workerinput["k8snet"] = {"id": self._run.id, "folder": str(self._run.folder.path)}

    def pytest_report_header(self) -> list[str]:
        """Say what is tested, with which settings and from where."""
        return summary.header(self._run) if self._run.started else []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """With ``--k8snet-dry-run`` print the plan instead."""
        if not self._run.settings.dry_run:
            return None
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            raise session.Interrupted(f"{session.testsfailed} error(s) during collection")
        terminal = session.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and self.collection is not None:
            for line in summary.dry_run(self._run, self.collection):
                terminal.write_line(line)
        return True

    # ---- results

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect verdicts, and give JUnit names that do not depend on where the suite is installed."""
        told: dict[str, Any] | None = getattr(report, "k8snet", None)
        if told is None:
            return
        if told["verdict"] is not None:
            self.results[report.nodeid] = told
        if report.when == "teardown":
            self._ended.add(report.nodeid)
        xml = self._config.stash.get(xml_key, None)
        if xml is not None:
            reporter = xml.node_reporter(report)
            reporter.add_attribute("classname", f"k8snet.{told['area']}")
            reporter.add_attribute("name", told["name"])

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Count inconclusive and waived results as what they are."""
        return summary.status(getattr(report, "k8snet", None)) if isinstance(report, pytest.TestReport) else None

    # ---- end

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Prove that every case has its result, remove what was created, write the results."""
        self._close()
        if not self._run.started or self._run.settings.dry_run or self._config.getoption("collectonly", False):
            return
        self._complete(session)
        counts = Counter(str(told["verdict"]) for told in self.results.values())
        try:
            self._run.write_summary(
                {
                    "exit_status": int(session.exitstatus),
                    "verdicts": dict(counts),
                    "cases": {told["name"]: summary.recorded(told) for told in self.results.values()},
                    "lost": self.lost,
                    "left_out": (self.collection or {}).get("left_out", {}),
                }
            )
        except K8sNetError as error:
            self.trouble.append(str(error))
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _complete(self, session: pytest.Session) -> None:
        if self.collection is None:
            try:
                self.collection = self._run.folder.read_json(COLLECTION)
            except K8sNetError as error:
                self.trouble.append(str(error))
        cases: Mapping[str, Any] = (self.collection or {}).get("cases", {})
        self.lost = [case["name"] for nodeid, case in cases.items() if nodeid not in self._ended or nodeid not in self.results]
        red = any(summary.is_red(told) for told in self.results.values())
        green = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if (self.lost or red) and session.exitstatus in green:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif not cases and self._run.settings.asked_for and session.exitstatus in green:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
            self.trouble.append("no check was collected: nothing was proved")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        """Show verdicts our way: pytest's own sections keep only what has a traceback worth reading."""
        with summary.set_aside(terminalreporter):
            yield
            if self._run.started and not self._run.settings.dry_run:
                summary.write(terminalreporter, self._run, self)

    def pytest_unconfigure(self) -> None:
        """Remove what an early end has left, and give signals back."""
        self._close()
        for line in self.trouble_unsaid:
            print(line)
        if self._old_handler is not None:
            signal.signal(signal.SIGTERM, self._old_handler)

    @property
    def trouble_unsaid(self) -> list[str]:
        """What went wrong after the summary was written."""
        return []

    def _close(self) -> None:
        """Remove the probe pods. Signals wait: an impatient second one would leave them behind."""
        if self._closed:
            return
        self._closed = True
        with _signals_ignored():
            problem = self._run.remove_probes()
            if problem is not None:
                self.trouble.append(problem)
            self._run.close()

    def _handle_sigterm(self) -> None:
        """Make a cancelled pipeline end as Ctrl-C does: through the hooks that clean up."""
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(_number: int, _frame: FrameType | None) -> None:
            pytest.exit("SIGTERM", returncode=TERMINATED)

        self._old_handler = signal.signal(signal.SIGTERM, stop)


@contextmanager
def _signals_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
