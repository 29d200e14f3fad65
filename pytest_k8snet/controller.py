"""The controller's side of a session: start, results, completeness, removal. Registered in one process only."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_k8snet import summary
from pytest_k8snet.cases import BY_NAME, Case, Collection, Result
from pytest_k8snet.cluster.pairs import pair_nodes
from pytest_k8snet.errors import ConfigurationError, K8sNetError
from pytest_k8snet.junit import JUnit
from pytest_k8snet.options import COMMAND_LINE
from pytest_k8snet.plan import some
from pytest_k8snet.record.store import COLLECTION

if TYPE_CHECKING:
    from pytest_k8snet.run import ControllerRun

TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM came. No ``except Exception``, not even that of pytest's collection, takes it for an error of a test."""


class Controller:
    """Hooks of the process that plans the run and owns its objects."""

    def __init__(self, config: pytest.Config, run: ControllerRun) -> None:
        self._config = config
        self._run = run
        self.collection: Collection | None = None  # of this process; with xdist it is in the run folder
        self.results: dict[str, Result] = {}  # by node id
        self.lost: list[str] = []
        self.stopped: str | None = None  # why pytest did not run all cases
        self.trouble: list[str] = []
        self._load_left: set[str] | None = None  # cases under load that have not ended
        self._waiting: list[str] = []  # lines to be shown when a test waits
        run.on_wait = self._say_waiting
        self.saved: Path | None = None  # the bundle
        self._old_handler: Any = None
        self._junit = JUnit(config, lambda: self.collected.cases)
        config.pluginmanager.register(self._junit, "k8snet-junit")
        self._closed = False
        self._terminated = False
        self._handle_sigterm()

    # ---- start

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionstart(self, session: pytest.Session) -> Generator[None, object, object]:
        """Read the inventory before the header is printed and before workers start.

        A cluster that only the environment or an ini file names is left alone until a check asks for it.
        """
        try:
            self._start()
            return (yield)
        except Terminated:
            pytest.exit("SIGTERM", returncode=TERMINATED)  # a session that has not started gets no other chance to name its status

    def _start(self) -> None:
        if self._run.settings.asked_for:
            try:
                self._run.start()
            except ConfigurationError as error:
                raise pytest.UsageError(self._run.shown(str(error))) from error
            except K8sNetError as error:
                pytest.exit(f"k8snet: {self._run.shown(str(error))}", returncode=pytest.ExitCode.TESTS_FAILED)
        elif self._distributed:
            # Workers need the inventory to collect. Whether a check is among their tests, and needs probe pods, is known afterwards.
            with contextlib.suppress(K8sNetError):
                self._run.start(probes=False)

    @property
    def _distributed(self) -> bool:
        return self._config.getoption("dist", "no") != "no" and not self._config.getoption("collectonly", False)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where the run folder is, or why there is none."""
        run = self._run
        told: dict[str, Any] = {"id": run.id, "folder": None, "failure": None, "judged_on": run.judged_on.isoformat()}
        told["recorded"] = None if run.recorded is None else run.recorded.to_json()
        try:
            told["folder"] = str(run.folder.path)
        except K8sNetError as error:
            told["failure"] = str(error)
        node.workerinput["k8snet"] = told

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """Start the probe pods that `pytest_sessionstart` has not started, when there is a check to run."""
        if self._run.started and self.collected.cases:
            self._run.start_probes()
        self._take_lease()

    def _take_lease(self) -> None:
        if "service" in self.collected.areas and not self._run.plan_only:
            self._run.make_services()
        if self.collected.sends("ingress") and not self._run.plan_only:
            self._run.make_ingresses()
        if self.collected.sends("policy") and not self._run.plan_only:
            self._run.make_policy_pods()
        if self.collected.subjects("load") and not self._run.plan_only:
            self._run.take_lease(self._say if self._distributed else self._waiting.append)

    def _say(self, line: str) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(self._run.shown(f"k8snet: {line}"), yellow=True)

    def _say_waiting(self) -> None:
        """Say what a test that waits is waiting for: what it writes itself is captured."""
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        while self._waiting:
            with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
                self._say(self._waiting.pop(0))

    def pytest_report_header(self) -> list[str]:
        """Say what is tested, with which settings and from where."""
        lines = summary.header(self._run, load=self._distributed) if self._run.started else summary.idle_header(self._run)
        return [self._run.shown(line, keep="\t") for line in lines]

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say how much traffic there will be, now that the cases are known; workers' collections come without this hook."""
        if self.collection is None or not self._run.started or self._run.plan_only or self._run.recorded is not None:
            return []
        from pytest_k8snet.measure.registry import BURST_CHECKS, UDP_CHECKS

        collected = self.collection.subjects("load")
        pairs = [pair for pair in self._run.plan.load_pairs if pair in collected]
        load = summary.load_line(self._run, pairs)
        udp = summary.udp_line(self._run, pairs) if self.collection.has(UDP_CHECKS) else None
        small = summary.small_line(self._run) if self._run.settings.makes_pods and self.collection.subjects("probe") else None
        burst = summary.burst_line(self._run) if self.collection.has(BURST_CHECKS) else None
        return [f"k8snet: {line}" for line in (small, burst, load, udp) if line is not None]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Take what measuring load needs; with ``--k8snet-dry-run`` print the plan instead."""
        broken = session.testsfailed and not session.config.option.continue_on_collection_errors
        if not self._run.settings.dry_run:
            if not broken and not self._distributed:  # workers' collections come later
                self._take_lease()
            return None
        if broken:
            raise session.Interrupted(f"{session.testsfailed} error(s) during collection")
        terminal = session.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and self.collection is not None:
            from pytest_k8snet.dry_run import dry_run

            for line in dry_run(self._run, self.collection):
                terminal.write_line(self._run.shown(line, keep="\t"))
        return True

    # ---- results

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """Collect results, and give JUnit names that do not depend on where the suite is installed."""
        told: dict[str, Any] | None = getattr(report, "k8snet", None)
        if told is not None:
            self._take_result(report, told)
        elif report.failed and (crashed := self.collected.cases.get(report.nodeid)) is not None:
            self._take_crash(report, crashed)
        result = self.results.get(report.nodeid)
        if result is not None and report.when == "teardown":
            result.ended = True
            if result.case.level == "load":
                self._end_load(report.nodeid)
        outcome = yield
        if result is not None or report.nodeid in self.collected.cases:
            self._forget(report)
        return outcome

    def _take_result(self, report: pytest.TestReport, told: dict[str, Any]) -> None:
        sent = told.pop("case", None)
        case = self.collected.cases[report.nodeid] if sent is None else Case.from_json(sent)
        result = self.results[report.nodeid] = Result.from_wire(case, told)
        self._junit.name(report, result.case)

    def _take_crash(self, report: pytest.TestReport, case: Case) -> None:
        """Take the report that xdist makes for a worker that died."""
        result = self.results[report.nodeid] = Result(case, "error", str(report.longrepr), ended=True)
        report.k8snet = result.to_wire()  # type: ignore[attr-defined]
        report.when = "setup"
        report.user_properties = [("k8snet_check", case.id), ("k8snet_subject", case.subject), ("k8snet_verdict", "error")]
        self._junit.name(report, case, properties=report.user_properties)

    def _forget(self, report: pytest.TestReport) -> None:
        """Let the terminal not hold what it never shows: three reports a case are most of the memory of a large run."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        unshown = [] if terminal is None or self._config.getoption("durations", None) is not None else terminal.stats.get("", [])
        if unshown and unshown[-1] is report:
            unshown.pop()

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Count inconclusive and waived results as what they are."""
        return summary.status(self.results.get(report.nodeid)) if hasattr(report, "k8snet") else None

    # ---- end

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """Prove that every case has its result, remove what was created, write the results."""
        try:
            self._report_lost(session)
            yield
        except OSError as error:
            if (trouble := self._junit.failed(error)) is None:
                raise
            self._fail(session, trouble)
        self._close()
        if self._terminated:
            session.exitstatus = TERMINATED
        if self._run.plan_only:
            return
        if self._run.started:
            self._complete(session)
            with _signals_ignored():
                self._record(session)
        elif self._run.bundle is not None and self._run.settings.sources["save_bundle"] == COMMAND_LINE:
            self._fail(session, f"{self._run.bundle}: not written, because nothing was recorded")

    def _record(self, session: pytest.Session) -> None:
        try:
            self._write_results(session)
            self.saved = self._run.save_bundle()
        except K8sNetError as error:
            self._fail(session, str(error))
            with contextlib.suppress(K8sNetError):  # it has been said
                self._write_results(session)

    def _write_results(self, session: pytest.Session) -> None:
        counts = Counter(result.verdict for result in self.results.values())
        self._run.write_summary(
            {
                "exit_status": int(session.exitstatus),
                "verdicts": dict(counts),
                "cases": {result.case.name: result.recorded() for result in self.results.values()},
                "lost": self.lost,
                "left_out": dict(self.collected.left_out),
            }
        )

    def _fail(self, session: pytest.Session, trouble: str) -> None:
        self.trouble.append(trouble)
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @property
    def collected(self) -> Collection:
        """What is to be run; with xdist workers have left it in the run folder."""
        if self.collection is None and self._run.recording:
            try:
                data = self._run.folder.read_json(COLLECTION)
            except K8sNetError as error:
                data = {"checks": [], "cases": {}, "left_out": {}, "mistake": None}
                self.trouble.append(str(error))
            if data is not None:
                self.collection = Collection.from_json(data)
        return self.collection or Collection()

    def _end_load(self, nodeid: str) -> None:
        """Let other runs measure load as soon as the last case of it has ended."""
        if self._load_left is None:
            self._load_left = {name for name, case in self.collected.cases.items() if case.level == "load"}
        self._load_left.discard(nodeid)
        if not self._load_left:
            self._run.release_lease()

    def _report_lost(self, session: pytest.Session) -> None:
        """Put into JUnit what has no result, unless pytest was told to stop at a failure, which is in there."""
        if not self._run.started or self._run.plan_only:
            return
        stopped = self._why_stopped(session)
        if stopped is None or not session.testsfailed:
            lost = {nodeid: case for nodeid, case in self.collected.cases.items() if nodeid not in self.results}
            self._junit.add_lost(lost, "no result: it was collected and never ended" if stopped is None else f"not run: {stopped}")

    def _why_stopped(self, session: pytest.Session) -> str | None:
        stop = session.shouldfail or session.shouldstop
        interrupted = "SIGTERM" if self._terminated else "interrupted" if session.exitstatus == pytest.ExitCode.INTERRUPTED else None
        return str(stop) if stop else interrupted

    def _has_ended(self, nodeid: str) -> bool:
        return nodeid in self.results and self.results[nodeid].ended

    def _complete(self, session: pytest.Session) -> None:
        cases = self.collected.cases
        self.lost = [case.name for nodeid, case in cases.items() if not self._has_ended(nodeid)]
        self.stopped = self._why_stopped(session)
        red = any(result.red for result in self.results.values())
        green = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if (mistake := self.collected.mistake) is not None:
            self.trouble.append(f"ERROR: {mistake}")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        elif (self.lost or red) and session.exitstatus in green:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif self._run.settings.asked_for and session.exitstatus in green and not any(result.proof for result in self.results.values()):
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
            what = (
                "no check was collected"
                if not cases
                else "not one check could be judged: all were skipped or inconclusive, or could not be measured"
            )
            self.trouble.append(f"{what}: nothing was proved")
        elif self._run.settings.asked_for and session.exitstatus in green and (unjudged := self._unjudged()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            more = f"more nodes are missing than --k8snet-allow-missing accepts ({self._run.settings.allow_missing})"
            self.trouble.append(f"{more}, and no pair was judged with {some(unjudged)}")

    def _unjudged(self) -> list[str]:
        """Return missing nodes that nothing was judged of, when they are more than may be: pairs are chosen of Ready nodes alone.

        Checks of nodes are errors on those themselves. Who runs cases of the cluster alone, or picks some by name, does not ask for them.
        """
        cases = self.collected.cases.values()
        if BY_NAME in self.collected.left_out or all(pair_nodes(case.subject) == (case.subject,) for case in cases):
            return []
        missing = self._run.missing()
        if len(missing) <= self._run.settings.allow_missing.of(len(self._run.plan.nodes)):
            return []
        judged = {name for result in self.results.values() if result.proof for name in pair_nodes(result.case.subject)}
        return [name for name in missing if name not in judged]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        """Show verdicts our way: pytest's own sections keep only what has a traceback worth reading."""
        if not self._run.started or self._run.plan_only:
            return (yield)
        with summary.set_aside(terminalreporter):
            yield
            summary.write(summary.Shown(terminalreporter, self._run), self._run, self)

    def pytest_unconfigure(self) -> None:
        """Remove what an early end has left, say what the summary could not say, and give signals back."""
        self._close()
        for line in self.trouble:  # pytest writes no summary after an internal error
            print(self._run.shown(f"k8snet: {line}"))
        if self._old_handler is not None:
            signal.signal(signal.SIGTERM, self._old_handler)

    def _close(self) -> None:
        """Remove what was created. Signals wait: an impatient second one would leave it behind."""
        with _signals_ignored():
            if self._closed:
                return
            self._closed = True
            self.trouble += self._run.remove_objects()
            self._run.close()

    def _handle_sigterm(self) -> None:
        """Make a cancelled pipeline end as Ctrl-C does: through the hooks that clean up."""
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._terminated = True
            raise Terminated("SIGTERM")

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
