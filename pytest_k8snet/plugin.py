"""The pytest plugin: hooks only. Nothing is contacted, and nothing heavy is imported, unless there is a cluster to test."""

from __future__ import annotations

import gc
import inspect
import os
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_k8snet import markers, options
from pytest_k8snet.cases import BY_NAME, Case, Collection
from pytest_k8snet.errors import ConfigurationError, K8sNetError, MeasurementError
from pytest_k8snet.fixtures import (
    NOTHING,
    k8snet_cluster,
    k8snet_documents,
    k8snet_expect,
    k8snet_measure,
    k8snet_node,
    k8snet_pair,
    k8snet_run,
    k8snet_verdict,
)
from pytest_k8snet.markers import case_of
from pytest_k8snet.outcome import IN_CALL, forget, translate
from pytest_k8snet.state import RUN, SETTINGS_KEY

if TYPE_CHECKING:
    from types import TracebackType

    from pytest_k8snet.items import CheckItem
    from pytest_k8snet.run import Run


_MANY = 5_000  # cases
_ALLOCATIONS = 50_000  # between two rounds of the garbage collector; a node's facts are some ten thousand

#: Options with which pytest only shows something.
_LOOKING = ("version", "help", "markers", "showfixtures", "show_fixtures_per_test", "cacheshow")

__all__ = [
    "k8snet_cluster",
    "k8snet_documents",
    "k8snet_expect",
    "k8snet_measure",
    "k8snet_node",
    "k8snet_pair",
    "k8snet_run",
    "k8snet_verdict",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the settings."""
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hook that gives the fake access its cluster."""
    from pytest_k8snet import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Resolve the settings, open what they name, and add the packaged suite."""
    for line in markers.MARKERS:
        config.addinivalue_line("markers", line)
    try:
        settings = options.resolve(config)
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[SETTINGS_KEY] = settings
    if any(config.getoption(name, False) for name in _LOOKING):
        return
    if not settings.active:
        if settings.sources["save_bundle"] == options.COMMAND_LINE:
            raise pytest.UsageError("--k8snet-save-bundle: no cluster is tested; name one with --k8snet-kubeconfig")
        return
    if settings.asked_for and not settings.no_suite and config.args_source is not pytest.Config.ArgsSource.ARGS:
        _add_suite(config)
    from pytest_k8snet import junit
    from pytest_k8snet.opening import join_run, open_run, remove_earlier_bundle
    from pytest_k8snet.protocol import LightProtocol
    from pytest_k8snet.record.redact import Redactor, secrets_of
    from pytest_k8snet.redacting import Redacting
    from pytest_k8snet.run import ControllerRun
    from pytest_k8snet.shown import shown

    told: dict[str, Any] | None = getattr(config, "workerinput", {}).get("k8snet")
    redactor = Redactor(secrets_of(os.environ))
    config.pluginmanager.register(Redacting(config, redactor), "k8snet-redacting")
    if settings.asked_for and told is None:
        junit.remove_earlier(config)
        remove_earlier_bundle(config, settings)
    try:
        run = open_run(config, settings, redactor) if told is None else join_run(config, settings, redactor, told)
        config.stash[RUN] = run
        config.stash[SETTINGS_KEY] = run.settings  # a replay's are those of its recording
        if settings.asked_for:
            _ = run.backend  # a kubeconfig that cannot be used is told here, in one line
            if told is None:
                junit.check_target(config)
    except K8sNetError as error:
        raise pytest.UsageError(shown(str(error), redactor)) from error
    if isinstance(run, ControllerRun):
        from pytest_k8snet.controller import Controller

        if settings.dry_run:
            config.option.dist = "no"  # the plan is printed from what one process collects
            config.option.tx = []
        config.pluginmanager.register(Controller(config, run), "k8snet-controller")
    config.pluginmanager.register(LightProtocol(config), "k8snet-protocol")


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what a worker has opened; the controller ends its own."""
    run = config.stash.get(RUN, None)
    if run is not None and hasattr(config, "workerinput"):
        run.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one case per node or pair."""
    run = metafunc.config.stash.get(RUN, None)
    fixture = next((name for name in markers.SUBJECT_FIXTURES if name in metafunc.fixturenames), None)
    if run is None or fixture is None:
        return
    mark = next(metafunc.definition.iter_markers("k8snet_check"), None)
    level = None if mark is None else mark.kwargs.get("level")
    names = _subjects(run, fixture, level) or [NOTHING]
    metafunc.parametrize(fixture, names, ids=names, scope="session", indirect=True)


def _subjects(run: Run, fixture: str, level: str | None) -> list[str]:
    try:
        if fixture == "k8snet_node":
            return [*run.plan.nodes]
        return [*(run.plan.load_pairs if level == "load" else run.plan.pairs)]
    except K8sNetError:
        return []  # the fixture says why there is no inventory: here it would be a traceback for every module


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Make the suite's files modules of its own, named where they lie outside the root folder: pytest would give all the empty name."""
    if parent.config.stash.get(RUN, None) is None:
        return None
    from pytest_k8snet.suite import SuiteModule, packaged_path

    nodeid = packaged_path(module_path)
    if nodeid is None:
        return None
    named: dict[str, Any] = {} if module_path.is_relative_to(parent.config.rootpath) else {"nodeid": nodeid}
    module: pytest.Module = SuiteModule.from_parent(parent, path=module_path, **named)
    return module


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> list[CheckItem] | None:
    """Make light cases of the packaged suite's checks: a large cluster has tens of thousands of them."""
    run = collector.config.stash.get(RUN, None)
    if run is None or not isinstance(collector, pytest.Module) or not inspect.isfunction(obj) or not collector.istestfunction(obj, name):
        return None
    from pytest_k8snet.items import make_items

    try:
        return make_items(collector, name, obj, partial(_subjects, run))
    except ConfigurationError:
        return None  # of the marker; told when all are read


@pytest.hookimpl(trylast=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Let ``-k`` find a check by its id."""
    mark = item.get_closest_marker("k8snet_check")
    if mark is not None and isinstance(mark.kwargs.get("id"), str) and mark.kwargs["id"] not in item.listextrakeywords():
        item.extra_keyword_matches.add(mark.kwargs["id"])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every check its identity, and leave out what the settings leave out."""
    run = config.stash.get(RUN, None)
    try:
        ids = _read_cases(items)
        if run is not None and run.settings.checks and not session.testsfailed:  # what could not be read has checks that nobody knows
            from pytest_k8snet.asked import see_that_all_are_there

            see_that_all_are_there(run.settings, ids)
    except ConfigurationError as error:
        items.clear()  # none of them is to have a result
        if not hasattr(config, "workerinput"):
            raise pytest.UsageError(str(error)) from error
        # xdist has no way for a worker to say this: the controller finds it in the run folder.
        config.stash[MISTAKE] = str(error)
    if run is None:
        return
    from pytest_k8snet.items import by_subject
    from pytest_k8snet.measure.registry import MEASUREMENTS, is_of_shard
    from pytest_k8snet.plan import matches
    from pytest_k8snet.run import KEPT

    settings = run.settings
    kept, by_check, by_level, by_shard = [], [], [], []
    for item in items:
        case = case_of(item)
        if case is not None and not matches(case.id, settings.checks):
            by_check.append(item)
        elif case is not None and not settings.allows(case.level):
            by_level.append(item)
        elif case is not None and case.subject == "cluster" and settings.shard is not None and not is_of_shard(case.id, settings.shard):
            by_shard.append(item)
        else:
            kept.append(item)
    reasons = ("--k8snet-checks", f"--k8snet-level={settings.level}", f"--k8snet-shard={settings.shard}, which has not all nodes")
    for left_out, reason in zip((by_check, by_level, by_shard), reasons, strict=True):
        if left_out:
            config.stash.setdefault(LEFT_OUT, {})[reason] = len(left_out)
            config.stash[COUNTING] = False
            config.hook.pytest_deselected(items=left_out)
            config.stash[COUNTING] = True
    config.stash[CHOSEN] = [item for item in kept if case_of(item) is not None]
    by_subject(kept, {check: 2 if measurement.breaks else 1 for measurement in MEASUREMENTS.values() for check in measurement.last}, KEPT)
    items[:] = kept


LEFT_OUT = pytest.StashKey[dict[str, int]]()
COUNTING = pytest.StashKey[bool]()
CHOSEN = pytest.StashKey[list[pytest.Item]]()  # until others have left out what they do
UNCHOSEN = pytest.StashKey[set[pytest.Item]]()  # of these, what they have told pytest of
MISTAKE = pytest.StashKey[str]()


def pytest_deselected(config: pytest.Config | None = None, items: list[pytest.Item] | None = None) -> None:
    """Count the checks that others leave out (``-k``, ``-m``, ``--deselect``)."""
    for item in items or ():
        if case_of(item) is not None and item.config.stash.get(COUNTING, True):
            counts = item.config.stash.setdefault(LEFT_OUT, {})
            counts[BY_NAME] = counts.get(BY_NAME, 0) + 1
            item.config.stash.setdefault(UNCHOSEN, set()).add(item)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave word of what is going to be run: the controller proves at the end that nothing was lost."""
    run = session.config.stash.get(RUN, None)
    if run is None:
        return
    stash = session.config.stash
    left_out: dict[str, int] = stash.get(LEFT_OUT, {})
    there = {*session.items, *stash.get(UNCHOSEN, ())}
    if silently := sum(item not in there for item in stash.get(CHOSEN, ())):
        left_out = {**left_out, "a conftest.py or a plugin (pytest_collection_modifyitems)": silently}
    stash[CHOSEN], stash[UNCHOSEN] = [], set()
    collection = Collection(
        cases={item.nodeid: case for item in session.items if (case := case_of(item)) is not None},
        left_out=left_out,
        mistake=session.config.stash.get(MISTAKE, None),
    )
    controller = session.config.pluginmanager.get_plugin("k8snet-controller")
    if controller is not None:
        controller.collection = collection
    if run.recording:
        from pytest_k8snet.record.store import COLLECTION

        try:
            run.folder.write_json(COLLECTION, collection.to_json())
        except K8sNetError as error:
            if controller is not None:
                raise pytest.UsageError(run.shown(str(error))) from error
            # The controller finds that nothing is known of what was collected, and ends red.


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Keep the garbage collector from going through a hundred thousand items and reports again and again: they stay to the end anyway.

    What is read between them is large, holds no cycles, and is let go of at once: reading it is no reason to look for garbage so often.
    """
    if session.config.stash.get(RUN, None) is None or len(session.items) < _MANY:
        return (yield)
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, *thresholds[1:])
    try:
        return (yield)
    finally:
        gc.set_threshold(*thresholds)
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let Ctrl-C be shown wherever it strikes: CPython 3.11 has instructions of no line, and pytest fails on a traceback with one."""
    try:
        result = yield
        if (forget := getattr(item, "forget", None)) is not None:
            forget()
        return result
    except KeyboardInterrupt as interrupt:
        lines = [entry.tb_lineno for entry in _entries(interrupt.__traceback__)]
        if None in lines:
            raise interrupt.with_traceback(None) from None
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Translate verdicts."""
    report = yield
    if (share := getattr(item, "share_keywords", None)) is not None:
        share(report)
    translate(item, call, report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Know reports of subtests, which are made meanwhile, from that of the test."""
    item.stash[IN_CALL] = True
    try:
        return (yield)
    finally:
        item.stash[IN_CALL] = False


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Apply ``k8snet_requires``, and keep a user's own load from running beside another run's."""
    forget(item)
    mark = item.get_closest_marker("k8snet_requires")
    run = item.config.stash.get(RUN, None)
    case = case_of(item)
    # The suite's own load is refused where it is measured, so that the record has the reason.
    own = case is not None and case.level == "load" and not case.id.startswith(markers.RESERVED)
    if run is not None and own and (problem := run.load_problem()) is not None:
        raise MeasurementError(problem)
    if mark is not None and run is not None:
        from pytest_k8snet.requires import unmet

        reason = unmet(mark, run)
        if reason is not None:
            from pytest_k8snet.judge.model import Verdict
            from pytest_k8snet.outcome import VerdictOutcome

            raise VerdictOutcome(Verdict.SKIP, reason)


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _add_suite(config: pytest.Config) -> None:
    from pytest_k8snet.suite import suite_files

    try:
        files = [str(path) for path in suite_files()]
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from error
    own = config.args if config.args_source is pytest.Config.ArgsSource.TESTPATHS else []
    config.args = [*own, *files]


def _read_cases(items: list[pytest.Item]) -> set[str]:
    """Set the case of every check, and return their ids. Ids are names for ever, so two checks with one are a mistake."""
    owners: dict[str, str] = {}
    names: set[str] = set()
    for item in items:
        case = case_of(item) or _read_case(item)
        if case is None:
            continue
        function = markers.check_of_function(item)
        if owners.setdefault(case.id, function) != function:
            raise ConfigurationError(f"check {case.id} is there twice: {owners[case.id]} and {function}")
        if case.name in names:
            raise ConfigurationError(f"{item.nodeid}: case {case.name} is there twice; give its parameters different ids")
        names.add(case.name)
    return {*owners}


def _read_case(item: pytest.Item) -> Case | None:
    from pytest_k8snet.suite import area_of

    if item.get_closest_marker("k8snet_check") is None and not markers.FIXTURES & set(getattr(item, "fixturenames", ())):
        return None
    case = markers.read_case(item, area_of(item.path))
    if case is not None:
        item.stash[markers.CASE] = case
    return case
