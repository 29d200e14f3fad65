"""The one place where verdicts become pytest outcomes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_k8snet.cases import Case, Result
from pytest_k8snet.cluster.pairs import pair_nodes
from pytest_k8snet.errors import K8sNetError, UnsupportedError
from pytest_k8snet.judge.model import Finding, Judgement, Verdict, Weight
from pytest_k8snet.markers import case_of
from pytest_k8snet.shown import printable
from pytest_k8snet.state import RUN, SETTINGS_KEY
from pytest_k8snet.suite import packaged_path

if TYPE_CHECKING:
    from pytest_k8snet.run import Run

JUDGEMENT = pytest.StashKey[Judgement]()
IN_CALL = pytest.StashKey[bool]()  # while the test function runs: what is reported then is of a subtest
_WORST = pytest.StashKey[tuple[Result, Judgement | None]]()  # of its subtests: what fails the run before what is excused
_RED = pytest.StashKey[tuple[Verdict, str]]()  # verdict and message that already fail the run

_DECIDING = {Verdict.FAIL: Weight.FAULT, Verdict.ERROR: Weight.ERROR, Verdict.INCONCLUSIVE: Weight.INCONCLUSIVE}


class VerdictOutcome(pytest.fail.Exception):  # type: ignore[name-defined, misc]
    """Ends a test with a verdict. What pytest would show of it is not made: its message says all there is to say."""

    def __init__(self, verdict: Verdict, message: str) -> None:
        super().__init__(message, pytrace=False)
        self.verdict = verdict
        self.message = message


def translate(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Turn the report of a check into what its verdict says, and put verdict and evidence into its properties.

    error and inconclusive become a failed setup: pytest's own word, and JUnit's, for what could not be judged.
    """
    case = case_of(item)
    if case is None:
        return
    result = _result(item, call, report, case)
    if result is None:
        return
    if item.stash.get(IN_CALL, False):
        _keep_worst(item, result)
    elif result.verdict == "pass" and _WORST in item.stash:  # it went on behind the subtest that did not hold
        result, judgement = item.stash[_WORST]
        if judgement is not None:
            item.stash[JUDGEMENT] = judgement
        _shape(item, report, result)
    item.user_properties[:] = _properties(item, result)
    report.user_properties = item.user_properties
    told = result.to_wire()
    if hasattr(item.config, "workerinput"):
        told["case"] = case.to_json()
    report.k8snet = told  # type: ignore[attr-defined]  # crosses the xdist wire: builtin values only


def _result(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport, case: Case) -> Result | None:
    """Return what came of the case, None when this phase does not tell; give the report the outcome, phase and text of its verdict."""
    if hasattr(report, "wasxfail"):
        verdict, message, traceback = Verdict.SKIP if report.skipped else Verdict.PASS, f"xfail: {report.wasxfail}", True
    elif call.when == "teardown":
        if not report.failed or call.excinfo is None:
            return None
        verdict, message = item.stash.get(_RED, (Verdict.ERROR, ""))
        trouble = f"teardown: {type(call.excinfo.value).__name__}: {call.excinfo.value}"
        return _told(item, Result(case, verdict.value, _readable(f"{message}\n{trouble}".strip(), case.subject), plain=True))
    elif call.excinfo is None:
        if call.when != "call":
            return None
        # A failure without an exception is a strict xfail that passed.
        verdict, message, traceback = (Verdict.FAIL, str(report.longrepr).strip(), True) if report.failed else (Verdict.PASS, "", False)
    else:
        verdict, message, traceback = _ended(call.excinfo.value, call.when)
    run = item.config.stash.get(RUN, None)
    excused, message = _excuse(run, item, case, verdict, _readable(message, case.subject))
    if verdict in _DECIDING and excused is None:
        item.stash[_RED] = (verdict, message)
    result = _told(item, Result(case, verdict.value, message, excused, plain=traceback))
    if traceback and excused is None:
        if verdict is Verdict.ERROR:
            report.when = "setup"
        if verdict is Verdict.SKIP and _strict(item) and not hasattr(report, "wasxfail"):
            _forbid(report, result)
    elif verdict is Verdict.SKIP and _strict(item) and _unsupported(item, call):
        _forbid(report, result)
    else:
        _shape(item, report, result)
    return result


def forget(item: pytest.Item) -> None:
    """Forget what an earlier run of a test has left: some plugins run one again."""
    keys: tuple[pytest.StashKey[Any], ...] = (JUDGEMENT, _WORST, _RED, IN_CALL)
    for key in keys:
        if key in item.stash:
            del item.stash[key]


def _keep_worst(item: pytest.Item, result: Result) -> None:
    """Keep what came of a subtest for the test that it is a part of, unless an earlier one says as much."""
    judgement = item.stash.get(JUDGEMENT, None)
    if judgement is not None:
        del item.stash[JUDGEMENT]  # the next one may have none
    kept = item.stash[_WORST][0] if _WORST in item.stash else None
    if (result.red and not (kept and kept.red)) or (result.excused is not None and kept is None):
        item.stash[_WORST] = (result, judgement)


def _ended(error: BaseException, when: str) -> tuple[Verdict, str, bool]:
    """Return verdict, message and whether pytest's own representation says more than the message."""
    if isinstance(error, VerdictOutcome):
        return error.verdict, error.message, False
    if isinstance(error, UnsupportedError):
        return Verdict.SKIP, str(error), False
    if isinstance(error, K8sNetError):
        return Verdict.ERROR, str(error) or type(error).__name__, False
    if isinstance(error, pytest.skip.Exception):
        return Verdict.SKIP, str(error.msg), True
    if isinstance(error, AssertionError | pytest.fail.Exception) and when == "call":
        return Verdict.FAIL, _said(error), True
    return Verdict.ERROR, f"{type(error).__name__}: {_said(error)}", True


def _readable(message: str, subject: str) -> str:
    """Return a message whose lines are its own, not those of a node's name, and without characters that a terminal would obey."""
    for name in (subject, *pair_nodes(subject)):
        if printable(name) != name:
            message = message.replace(name, printable(name))
    return printable(message, keep="\n\t")


def _said(error: BaseException) -> str:
    """Return what an exception says; of a failed assertion its own message, or the expression without the lines that compare in detail."""
    if not isinstance(error, AssertionError | pytest.fail.Exception):
        return str(error)
    text = str(error).split("\nassert ")[0].strip()
    return (text.splitlines()[0] if text.startswith("assert ") else text) or "assertion failed"


def _excuse(run: Run | None, item: pytest.Item, case: Case, verdict: Verdict, message: str) -> tuple[tuple[str, str] | None, str]:
    """Return why a verdict does not fail the run, as a word and a reason, and the message."""
    if run is None or verdict not in _DECIDING:
        return None, message
    try:
        waiver = run.expectations.waiver(case.id, case.subject, run.judged_on)
        allowed = run.may_miss(case.subject) if verdict is Verdict.ERROR else None
    except K8sNetError:
        return None, message  # without inventory or profile nothing is excused
    if waiver is not None and not waiver.expired:
        return ("waived", f"{waiver.reason} (until {waiver.expires}, {waiver.origin})"), message
    if waiver is not None:
        message = f"{message}\nits waiver has expired on {waiver.expires} ({waiver.origin}): {waiver.reason}"
    if allowed is not None:
        return ("allowed", allowed), message
    if verdict is Verdict.INCONCLUSIVE and item.config.stash[SETTINGS_KEY].allow_inconclusive:
        return ("allowed", "--k8snet-allow-inconclusive"), message
    return None, message


def _forbid(report: pytest.TestReport, result: Result) -> None:
    """Make a skip fail the run."""
    report.outcome = "failed"
    report.longrepr = f"{result.case.name}: skipped, and --k8snet-strict allows only what does not apply: {result.message}"
    result.plain, result.message, result.strict = False, f"skipped: {result.message}", True


def _unsupported(item: pytest.Item, call: pytest.CallInfo[None]) -> bool:
    """Whether a check was skipped that would apply, and that the way to the nodes cannot serve."""
    judgement = item.stash.get(JUDGEMENT, None)
    return (judgement is not None and judgement.unsupported) or (
        call.excinfo is not None and isinstance(call.excinfo.value, UnsupportedError)
    )


def _strict(item: pytest.Item) -> bool:
    settings = item.config.stash.get(SETTINGS_KEY, None)
    return settings is not None and settings.strict


def _told(item: pytest.Item, result: Result) -> Result:
    """Add what the judgement says beside its message."""
    judgement = item.stash.get(JUDGEMENT, None)
    if judgement is not None:
        subject = result.case.subject
        result.advice = tuple(_readable(finding.message, subject) for finding in judgement.findings if finding.weight is Weight.ADVICE)
        result.commands = tuple(_unique([finding.command for finding in _deciding(judgement, result)]))
    return result


def _deciding(judgement: Judgement, result: Result) -> list[Finding]:
    weight = _DECIDING.get(Verdict(result.verdict))
    return [finding for finding in judgement.findings if finding.weight is weight]


def _properties(item: pytest.Item, result: Result) -> list[tuple[str, object]]:
    """Return the properties of the JUnit case. What passed has few: there are tens of thousands of those on a large cluster."""
    case = result.case
    properties = {
        "k8snet_check": case.id,
        "k8snet_subject": case.subject,
        "k8snet_verdict": result.verdict,
    }
    if result.verdict != "pass":
        properties.update(k8snet_title=case.check.title, k8snet_message=result.message, k8snet_fix=case.check.fix or "")
    if result.excused is not None:
        properties[f"k8snet_{result.excused[0]}"] = result.excused[1]
    judgement = item.stash.get(JUDGEMENT, None)
    if judgement is not None:
        findings = _deciding(judgement, result)
        wanted = "; ".join(_unique([finding.wanted for finding in findings])) or judgement.want or ""
        properties["k8snet_wanted"] = wanted
        if result.verdict != "pass":
            origin = _origin(wanted) or _origin(judgement.want or "")
            properties["k8snet_measured"] = "; ".join(_unique([finding.measured for finding in findings]))
            properties["k8snet_origin"] = origin
            properties["k8snet_command"] = "; ".join(result.commands)
        properties["k8snet_advice"] = "; ".join(result.advice)
        properties["k8snet_evidence"] = json.dumps(judgement.evidence, default=str, sort_keys=True) if judgement.evidence else ""
    kept = [(name, value) for name, value in item.user_properties if not name.startswith("k8snet_")]
    return kept + [(name, value) for name, value in properties.items() if value]


def _origin(want: str) -> str:
    """Return what is in the brackets at the end of what is wanted, which may have brackets itself; nothing when there are none."""
    depth = 0
    for index in range(len(want) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(want[index], 0)
        if depth == 0:
            return want[index + 1 : -1] if want[index] == "(" else ""
    return ""


def _shape(item: pytest.Item, report: pytest.TestReport, result: Result) -> None:
    """Give the report outcome, phase and text."""
    if result.verdict == "pass":
        return
    if not result.red:
        reason = result.message
        if result.excused is not None:
            reason = f"{result.verdict}, {result.excused[0]}: {reason} [{result.excused[1]}]"
        report.outcome = "skipped"
        file, line, _ = item.location
        report.longrepr = (packaged_path(item.path) or file, (line or 0) + 1, f"Skipped: {reason}")
        return
    report.outcome = "failed"
    report.when = "call" if result.verdict == "fail" else "setup"
    report.longrepr = "\n".join([result.message, *remedy(result)])


def remedy(result: Result) -> list[str]:
    """Return the line that says how it was measured, unless the message does, and where the remedy is written."""
    parts = []
    if commands := [command for command in result.commands if command not in result.message]:
        parts.append("measured: " + "; ".join(commands))
    if result.case.check.fix:
        parts.append(f"fix: {result.case.check.fix}")
    return ["    ".join(parts)] if parts else []


def _unique(values: list[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))
