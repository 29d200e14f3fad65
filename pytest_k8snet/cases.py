"""What the cases of a session are, and what came of each. Thousands of nodes make as many of every check: what they share is there once."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

BY_NAME = "-k, -m or --deselect"  # what left cases out


@dataclass(frozen=True, slots=True)
class Check:
    """What all cases of a check have in common."""

    id: str
    area: str
    level: str
    title: str
    fix: str | None  # the check's page


@dataclass(frozen=True, slots=True)
class Case:
    """A check on a subject: what one test item stands for."""

    check: Check
    subject: str
    name: str  # NET-MTU-001[node-2]

    @property
    def id(self) -> str:
        """The check's id."""
        return self.check.id

    @property
    def level(self) -> str:
        """The check's level."""
        return self.check.level

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Case:
        """Read what `to_json` gave."""
        return cls(Check(**data["check"]), data["subject"], data["name"])


@dataclass(frozen=True, slots=True)
class Collection:
    """The cases that are going to be run, by node id."""

    cases: Mapping[str, Case] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)  # how many, by the setting that left them out
    mistake: str | None = None  # why a worker has collected nothing

    def subjects(self, level: str) -> set[str]:
        """Return what checks of a level are judged on."""
        return {case.subject for case in self.cases.values() if case.level == level}

    @property
    def areas(self) -> set[str]:
        """Return the areas that checks are of."""
        return {case.check.area for case in self.cases.values()}

    def has(self, checks: Container[str]) -> bool:
        """Whether one of these checks is going to run."""
        return any(case.id in checks for case in self.cases.values())

    def sends(self, area: str) -> bool:
        """Whether a check of this area sends packets."""
        return any(case.check.area == area and case.check.level != "read" for case in self.cases.values())

    def to_json(self) -> dict[str, Any]:
        """Return builtin values: the content of collection.json."""
        numbers: dict[Check, int] = {}
        cases = {nodeid: [numbers.setdefault(case.check, len(numbers)), case.subject, case.name] for nodeid, case in self.cases.items()}
        checks = [asdict(check) for check in numbers]
        return {"checks": checks, "cases": cases, "left_out": dict(self.left_out), "mistake": self.mistake}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Collection:
        """Read what `to_json` gave; of nothing make an empty one."""
        if data is None:
            return cls()
        checks = [Check(**check) for check in data["checks"]]
        cases = {nodeid: Case(checks[number], subject, name) for nodeid, (number, subject, name) in data["cases"].items()}
        return cls(cases, data["left_out"], data["mistake"])


@dataclass(slots=True)
class Result:
    """What came of a case."""

    case: Case
    verdict: str
    message: str = ""
    excused: tuple[str, str] | None = None  # "waived" or "allowed", and why
    advice: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()  # how it was measured
    plain: bool = False  # pytest's own representation says more than the message
    strict: bool = False  # it was skipped, and fails the run all the same
    ended: bool = False  # its teardown has been reported

    @property
    def red(self) -> bool:
        """Whether it fails the run."""
        return self.strict or (self.verdict in ("fail", "error", "inconclusive") and self.excused is None)

    @property
    def proof(self) -> bool:
        """Whether it says anything of the network: neither a skip does, nor what could not be measured or judged, allowed or not."""
        return self.verdict in ("pass", "fail")

    def to_wire(self) -> dict[str, Any]:
        """Return as builtin values what is not as usual. The case is not among them."""
        return {
            item.name: [*value] if isinstance(value, tuple) else value
            for item in fields(self)
            if item.name != "case" and (value := getattr(self, item.name)) != item.default
        }

    @classmethod
    def from_wire(cls, case: Case, data: Mapping[str, Any]) -> Result:
        """Read what `to_wire` gave."""
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        return cls(case, **values)

    def recorded(self) -> dict[str, Any]:
        """Return what run.json keeps of it."""
        return {
            "check": self.case.id,
            "subject": self.case.subject,
            "verdict": self.verdict,
            "message": self.message,
            "excused": None if self.excused is None else [*self.excused],
            "advice": [*self.advice],
        }
