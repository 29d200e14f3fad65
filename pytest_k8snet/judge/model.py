"""Verdicts, findings and the judgement they add up to."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import Any


class Verdict(enum.StrEnum):
    """How a check ended on one subject."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    ERROR = "error"
    SKIP = "skip"
    INCONCLUSIVE = "inconclusive"


class Weight(enum.StrEnum):
    """What a finding means for the verdict. Remarks and advice never change it."""

    FAULT = "fault"
    ERROR = "error"
    INCONCLUSIVE = "inconclusive"
    ADVICE = "advice"
    REMARK = "remark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was noticed: a message that needs no second look, and what it rests on."""

    weight: Weight
    message: str
    measured: str | None = None
    wanted: str | None = None
    command: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """Return builtin values only: evidence crosses the xdist wire and lands in JUnit."""
        return {
            "weight": self.weight.value,
            "message": self.message,
            "measured": self.measured,
            "wanted": self.wanted,
            "command": self.command,
        }


@dataclass(slots=True)
class Judgement:
    """The findings of one check on one subject. A judgement that checked nothing is an error, never a pass.

    ``want`` says in words what was expected and where that comes from; ``evidence`` holds figures worth keeping beside the verdict
    (builtin values only).
    """

    want: str | None = None
    findings: list[Finding] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    checked: int = 0
    skip_reason: str | None = None
    unsupported: bool = False  # whether it is the way to the nodes that cannot tell, and not the cluster that has no such thing

    def check(
        self,
        ok: bool,
        message: str,
        *,
        measured: object = None,
        wanted: object = None,
        command: str | None = None,
    ) -> bool:
        """Count one thing checked; when it does not hold, `message` becomes a fault. Return `ok`."""
        self.checked += 1
        if not ok:
            self.add(Weight.FAULT, message, measured=measured, wanted=wanted, command=command)
        return ok

    def hold(self, count: int) -> None:
        """Count things checked of which each is as it should be."""
        self.checked += count

    def error(self, message: str, *, command: str | None = None) -> None:
        """Note that something could not be measured."""
        self.add(Weight.ERROR, message, command=command)

    def inconclusive(self, message: str, *, measured: object = None, wanted: object = None, command: str | None = None) -> None:
        """Note that what was measured cannot carry a verdict."""
        self.add(Weight.INCONCLUSIVE, message, measured=measured, wanted=wanted, command=command)

    def advise(self, message: str, *, measured: object = None, wanted: object = None, command: str | None = None) -> None:
        """Note something that would be better otherwise, but breaks no expectation."""
        self.add(Weight.ADVICE, message, measured=measured, wanted=wanted, command=command)

    def remark(self, message: str, *, measured: object = None, wanted: object = None, command: str | None = None) -> None:
        """Note something a reader should know."""
        self.add(Weight.REMARK, message, measured=measured, wanted=wanted, command=command)

    def add(self, weight: Weight, message: str, *, measured: object = None, wanted: object = None, command: str | None = None) -> None:
        """Note a finding of any weight."""
        self.findings.append(
            Finding(
                weight=weight,
                message=message,
                measured=None if measured is None else str(measured),
                wanted=None if wanted is None else str(wanted),
                command=command,
            )
        )

    def only_advice(self, reason: str) -> Judgement:
        """Make advice of every fault, drop what could not be measured, and skip with `reason`: nobody asked for this."""
        kept = [finding for finding in self.findings if finding.weight not in (Weight.ERROR, Weight.INCONCLUSIVE)]
        self.findings = [replace(finding, weight=Weight.ADVICE) if finding.weight is Weight.FAULT else finding for finding in kept]
        self.skip_reason = reason
        return self

    @classmethod
    def skipped(cls, reason: str) -> Judgement:
        """Return the judgement of a check that does not apply here."""
        return cls(skip_reason=reason)

    @classmethod
    def beyond_reach(cls, reason: str) -> Judgement:
        """Return the judgement of a check that would apply, and that the way to the nodes cannot serve."""
        return cls(skip_reason=reason, unsupported=True)

    @property
    def verdict(self) -> Verdict:
        """A proven fault outweighs what could not be measured; that outweighs what cannot be told."""
        weights = {finding.weight for finding in self.findings}
        for weight, verdict in (
            (Weight.FAULT, Verdict.FAIL),
            (Weight.ERROR, Verdict.ERROR),
            (Weight.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        ):
            if weight in weights:
                return verdict
        if self.skip_reason is not None:
            return Verdict.SKIP
        return Verdict.PASS if self.checked else Verdict.ERROR

    @property
    def message(self) -> str:
        """The findings that made the verdict, one a line; for a skip its reason."""
        deciding = {
            Verdict.FAIL: Weight.FAULT,
            Verdict.ERROR: Weight.ERROR,
            Verdict.INCONCLUSIVE: Weight.INCONCLUSIVE,
        }.get(self.verdict)
        if deciding is None:
            return self.skip_reason or ""
        lines = [
            finding.message if finding.command is None else f"{finding.message} ({finding.command})"
            for finding in self.findings
            if finding.weight is deciding
        ]
        return "\n".join(lines) or "nothing was checked"
