from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_k8snet.errors import AccessError, CommandTimeout, ConnectError, ExecTransportError, ProbeError
from pytest_k8snet.measure.answering import Outcomes, documents_of
from pytest_k8snet.measure.taking import take_document


class Measure:
    """Fails with each of `errors`, then gives values."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = [*errors]
        self.calls = 0

    def __call__(self) -> Mapping[str, Any]:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return {"mtu": 1500}


@pytest.mark.parametrize(
    "cut", [ExecTransportError("node-1: the exec stream ended"), ConnectError("node-1: refused")], ids=lambda cut: type(cut).__name__
)
def test_what_was_cut_is_taken_again(cut: Exception) -> None:
    document = take_document("facts", "node-1", "agent", Measure(cut))
    assert (document.values, document.reason, document.retried) == ({"mtu": 1500}, None, str(cut))


def test_only_once() -> None:
    measure = Measure(ExecTransportError("cut"), ExecTransportError("cut again"))
    document = take_document("facts", "node-1", "agent", measure)
    assert (document.values, document.reason, measure.calls) == (None, "cut again", 2)


@pytest.mark.parametrize(
    "error", [CommandTimeout("late"), ProbeError("evicted"), AccessError("no JSON")], ids=["timeout", "evicted", "garbage"]
)
def test_what_was_answered_is_not_taken_again(error: Exception) -> None:
    measure = Measure(error)
    document = take_document("facts", "node-1", "agent", measure)
    assert (document.reason, document.retried, measure.calls) == (str(error), None, 1)


class Together:
    """Looks at several nodes at once, and gives what each of its rounds is told to."""

    def __init__(self, *rounds: Outcomes) -> None:
        self.rounds = [*rounds]

    def __call__(self) -> Outcomes:
        return self.rounds.pop(0)


CUT = ExecTransportError("node-1: the exec stream ended")


def test_of_what_is_measured_together_only_what_was_cut_is_taken_again() -> None:
    measure = Together(
        {"node-1": CUT, "node-2": {"mtu": 1500}, "node-3": AccessError("no JSON")},
        {"node-1": {"mtu": 1450}, "node-2": {"mtu": 9}, "node-3": {"mtu": 9}},
    )
    documents = {item.subject: item for item in documents_of("pathmtu", "datagrams", measure)}
    assert {name: (item.values, item.reason, item.retried) for name, item in documents.items()} == {
        "node-1": ({"mtu": 1450}, None, str(CUT)),
        "node-2": ({"mtu": 1500}, None, None),
        "node-3": (None, "no JSON", None),
    }


def test_what_was_cut_again_is_not_taken_a_third_time() -> None:
    measure = Together({"node-1": CUT}, {"node-1": ExecTransportError("cut again")})
    (document,) = documents_of("pathmtu", "datagrams", measure)
    assert (document.values, document.reason, document.retried, measure.rounds) == (None, "cut again", None, [])


@pytest.mark.parametrize("first", [{"node-1": AccessError("no JSON")}, {"node-1": {"mtu": 1500}}])
def test_nothing_is_taken_again_that_was_not_cut(first: Outcomes) -> None:
    measure = Together(first)
    assert len([*documents_of("pathmtu", "datagrams", measure)]) == 1
    assert measure.rounds == []


def test_what_changes_the_cluster_is_taken_once() -> None:
    measure = Together({"node-1": CUT})
    (document,) = documents_of("scale", "connections", measure, twice=False)
    assert (document.reason, measure.rounds) == (str(CUT), [])
