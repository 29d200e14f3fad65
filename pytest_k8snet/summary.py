"""What the terminal shows: the header, the plan of a dry run, and the verdicts at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_k8snet.outcome import remedy
from pytest_k8snet.plan import (
    CONNECTION_BYTES,
    FEW,
    HOST_TAKES,
    MOST_UDP_TAKES,
    NODE_BYTES,
    OMIT_S,
    PAIR_BYTES,
    TAKES,
    Load,
    matches,
    some,
)
from pytest_k8snet.shown import printable

if TYPE_CHECKING:
    from pytest_k8snet.cases import Result
    from pytest_k8snet.controller import Controller
    from pytest_k8snet.options import Settings
    from pytest_k8snet.run import ControllerRun, Run

_SUBJECT = "\0"  # stands for a case's own subject, where cases are compared
_ORDER = ("pass", "fail", "error", "inconclusive", "skip")


def status(result: Result | None) -> tuple[str, str, str] | None:
    """Return category, letter and word for results that pytest has no word for."""
    if result is None:
        return None
    if result.excused is not None:
        word = result.excused[0]
        return (word, word[0], word.upper())
    if result.verdict == "inconclusive":
        return ("inconclusive", "I", "INCONCLUSIVE")
    return None


def idle_header(run: ControllerRun) -> list[str]:
    """Return the header of a run that leaves the cluster alone until a check asks for it."""
    if run.settings.asked_for:
        return []
    left_alone = "cluster" if run.recorded is None else "recording"
    return [f"k8snet: {_settings(run)}; the {left_alone} is left alone until a check asks for it"]


def header(run: ControllerRun, *, load: bool) -> list[str]:
    """Return the header: cluster, nodes, settings with their sources, run folder; with `load` the traffic that is planned."""
    from pytest_k8snet.measure.registry import BURST_CHECKS, UDP_CHECKS

    cluster, plan = run.cluster, run.plan
    lines = [f"k8snet: Kubernetes {cluster.version}, CNI {cluster.cni or 'unknown'} ({run.backend.origin})"]
    if run.recorded is not None:
        lines.append(f"k8snet: replay of run {run.recorded.id} of {run.recorded.at:%Y-%m-%d %H:%M} UTC; nothing is contacted")
    lines.append(f"k8snet: {counted(len(plan.nodes), 'node')}: {some(plan.nodes)}")
    if plan.partners:
        lines.append(f"k8snet: other shards' nodes that pairs lead to: {some(plan.partners)}")
    lines += [f"k8snet: {item.node} cannot be measured: {item.reason}" for item in plan.absent]
    if plan.left_out:
        lines.append("k8snet: left out: " + some([f"{item.node} ({item.reason})" for item in plan.left_out]))
    if (way := run.backend.way(cluster, plan.nodes)) is not None:
        lines.append(f"k8snet: {way}")
    if run.settings.makes_pods and run.recorded is None and (asked := [item for item in cluster.webhooks or () if item.asked_about_probes]):
        told = some([f"{item.name} ({'refuses' if item.fail else 'lets through'} when nobody answers)" for item in asked])
        lines.append(f"k8snet: admission webhooks decide about the probe pods: {told}")
    lines += [f"k8snet: {note}" for note in plan.notes]
    lines.append(f"k8snet: {_settings(run)}")
    if load and run.recorded is None and run.settings.makes_pods and _has("probe", run.settings):
        lines.append(f"k8snet: {small_line(run)}")
        lines += [f"k8snet: {line}"] if (line := burst_line(run)) is not None and _asks_for(run.settings, BURST_CHECKS) else []
    if load and _has("load", run.settings):
        line = load_line(run, run.plan.load_pairs)
        lines += [] if line is None else [f"k8snet: {line}"]
        line = udp_line(run, run.plan.load_pairs)
        lines += [f"k8snet: {line}"] if line is not None and _asks_for(run.settings, UDP_CHECKS) else []
    if run.recording:
        lines.append(f"k8snet: run folder {run.folder.path}")
    return lines


def _settings(run: Run) -> str:
    return ", ".join(f"{name} {value} ({source})" for name, value, source in run.settings.shown())


def load_line(run: Run, pairs: Sequence[str]) -> str | None:
    """Return the traffic that load on `pairs` makes, None when there is none."""
    if not pairs or run.recorded is not None:
        return None
    load = Load.of(pairs, run.settings)
    takes = f"{load.takes} takes of {load.take_s} s" + (f" (up to {load.most_takes_of_pair} if they disagree)" if load.pods else "")
    at_once = "one at a time" if load.together == 1 else f"up to {load.together} at the same time"
    line = f"load: {counted(load.pairs, 'pair')} of nodes, {at_once}, {takes}"
    rate, cap = run.expectations.common.throughput.line_rate_bps, run.settings.bitrate
    if cap is not None:
        return f"{line}, at most {_size(load.most_bytes(cap.bps if rate is None else rate.value))} at {cap}"
    if rate is None:
        return f"{line}; the line rate is not known, at 10 Gbit/s it would be {_size(load.most_bytes(10**10))}"
    return f"{line}, at most {_size(load.most_bytes(rate.value))} at the line rate"


def small_line(run: Run) -> str:
    """Return what checks of level probe send."""
    pairs, nodes = len(run.plan.pairs), len(run.plan.nodes)
    return f"small packets: {counted(pairs, 'pair')} of nodes, about {_size(pairs * PAIR_BYTES + nodes * NODE_BYTES)} in all"


def udp_line(run: Run, pairs: Sequence[str]) -> str | None:
    """Return what UDP at a given rate comes to, None when there is none."""
    rate = run.settings.udp
    if rate is None or not pairs or run.recorded is not None:
        return None
    takes, most = (TAKES, MOST_UDP_TAKES) if run.settings.makes_pods else (HOST_TAKES, HOST_TAKES)
    more = f" (up to {most} where pods lose more than their nodes)" if most > takes else ""
    take_s = run.settings.take_seconds + OMIT_S
    volume = f"at most {_size(len(pairs) * most * take_s * rate.bps // 8)} in all"
    return f"udp: {counted(len(pairs), 'pair')} of nodes, one at a time, {takes} takes of {take_s} s{more} at {rate}, {volume}"


def _asks_for(settings: Settings, checks: Sequence[str]) -> bool:
    return any(matches(check, settings.checks) for check in checks)


def burst_line(run: Run) -> str | None:
    """Return what a burst of connections comes to, None when there is none."""
    count, nodes = run.settings.conntrack_burst, len(run.plan.nodes)
    if not count or nodes < 2 or not run.settings.makes_pods or run.recorded is not None:
        return None
    each = f"{count} connections from the pod of each of {counted(nodes, 'node')} to that of the next one"
    return f"burst: {each}, about {_size(nodes * count * CONNECTION_BYTES)} in all, {2 * count} entries in each connection table"


def _has(level: str, settings: Settings) -> bool:
    from pytest_k8snet.catalogue import checks

    return settings.allows(level) and any(check.level == level and matches(check.id, settings.checks) for check in checks())


class Shown:
    """A terminal that shows nothing secret, and obeys nothing in what it is given."""

    def __init__(self, terminal: pytest.TerminalReporter, run: Run) -> None:
        self._terminal = terminal
        self._shown = run.shown

    def write(self, text: str, **markup: bool) -> None:
        """Write words within a line."""
        self._terminal.write(self._shown(text, keep="\t"), **markup)

    def write_line(self, line: str, **markup: bool) -> None:
        """Write a line."""
        self._terminal.write_line(self._shown(line, keep="\t"), **markup)

    def write_sep(self, sep: str, title: str) -> None:
        """Write a line with a title in it."""
        self._terminal.write_sep(sep, title)


@contextmanager
def set_aside(terminal: pytest.TerminalReporter) -> Iterator[None]:
    """Take the results that `write` shows out of pytest's own sections, and put them back for its last line."""
    kept = {category: [*reports] for category, reports in terminal.stats.items()}
    for category, reports in kept.items():
        if category in ("failed", "error", "skipped"):
            terminal.stats[category] = [report for report in reports if not _ours(report)]
    try:
        yield
    finally:
        for category, reports in kept.items():
            known = {*map(id, reports)}
            terminal.stats[category] = [*reports, *(item for item in terminal.stats.get(category, []) if id(item) not in known)]


def write(terminal: Shown, run: ControllerRun, controller: Controller) -> None:
    """Write the verdicts: what is red with its remedy, what was excused, what did not apply, and the counts."""
    results = sorted(controller.results.values(), key=lambda result: result.case.name)
    terminal.write_sep("=", "k8snet")
    _write_red(terminal, [result for result in results if result.red])
    for result in results:
        if result.excused is not None:
            word, reason = result.excused
            first, *more = result.message.splitlines() or ["no message"]
            terminal.write_line(f"{word.upper()} {result.case.name} ({result.verdict}) - {first} [{reason}]", yellow=True)
            for line in more:
                terminal.write_line(f"    {line}")
    _write_grouped(terminal, "SKIPPED", [(result, result.message) for result in results if result.verdict == "skip" and not result.red])
    _write_grouped(terminal, "ADVICE", [(result, advice) for result in results for advice in result.advice])
    if controller.lost and controller.stopped is not None:
        terminal.write_line(f"NOT RUN {counted(len(controller.lost), 'case')}: {controller.stopped}: {some(controller.lost)}", red=True)
    else:
        for name in controller.lost[:FEW]:
            terminal.write_line(f"NO RESULT {name} - it was collected and never ended", red=True)
        if len(controller.lost) > FEW:
            terminal.write_line(f"NO RESULT for {len(controller.lost) - FEW} more", red=True)
    for reason, count in controller.collected.left_out.items():
        terminal.write_line(f"{counted(count, 'case')} left out by {reason}")
    for line in _waivers(run, results):
        terminal.write_line(line, yellow=True)
    for node, reason in run.missing().items():
        terminal.write_line(f"missing: {node}: {reason.removeprefix(f'{node}: ')}", yellow=True)
    for left in run.swept:
        terminal.write_line(f"removed what a killed run had left: {left}", yellow=True)
    for line in controller.trouble:
        terminal.write_line(line, red=True)
    controller.trouble.clear()
    counts = Counter(result.verdict for result in results)
    words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _ORDER if counts[verdict]) or "none"
    waived = sum(1 for result in results if result.excused is not None)
    terminal.write_line(f"verdicts: {words}" + (f" (of these {waived} waived or allowed)" if waived else ""))
    terminal.write_line(f"run folder: {run.folder.path}")
    if controller.saved is not None:
        terminal.write_line(f"bundle: {controller.saved} ({_size(controller.saved.stat().st_size)})")


def _waivers(run: Run, results: Sequence[Result]) -> list[str]:
    waivers = run.expectations.waivers
    if not waivers:
        return []
    from pytest_k8snet.expect.waivers import remarks

    judged = [(result.case.id, result.case.subject, result.verdict != "pass") for result in results if result.verdict != "skip"]
    return remarks(waivers, judged, run.cluster, run.judged_on)


def _write_red(terminal: Shown, results: Sequence[Result]) -> None:
    """Write what fails the run. Cases that one thing keeps from being measured (a node without probe pods) share their lines."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        same = "" if result.verdict == "error" else result.case.name
        groups.setdefault((same, result.message), []).append(result)
    for result, *others in groups.values():
        word = {"fail": "FAILED", "error": "ERROR", "inconclusive": "INCONCLUSIVE"}.get(result.verdict, "FAILED")
        first, *more = (result.message or "no message").splitlines()
        terminal.write(word, red=True)
        terminal.write_line(f" {result.case.name}{f' and {len(others)} more' if others else ''} - {first}")
        for line in [*more, *([f"also: {some([other.case.name for other in others])}"] if others else remedy(result))]:
            terminal.write_line(f"    {line}")


def _write_grouped(terminal: Shown, word: str, lines: Sequence[tuple[Result, str]]) -> None:
    """Write one line for all subjects on which a check says the same."""
    subjects: dict[tuple[str, str], list[str]] = {}
    for result, text in lines:
        check, subject = result.case.id, result.case.subject
        message = text.replace(printable(subject), _SUBJECT) if subject not in ("cluster", "") else text
        subjects.setdefault((check, message), []).append(subject)
    for (check, message), names in subjects.items():
        text = message.replace(_SUBJECT, printable(names[0]) if len(names) == 1 else "...")
        terminal.write_line(f"{word} {check}[{some(names)}] - {text}")


def _ours(report: object) -> bool:
    told: Mapping[str, Any] | None = getattr(report, "k8snet", None)
    return told is not None and not (told.get("plain") and told["verdict"] in ("fail", "error"))


def counted(number: int, word: str) -> str:
    """Return a number of things in words."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def _size(number: int) -> str:
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
