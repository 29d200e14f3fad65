from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.errors import AccessError, ClusterError, CommandTimeout, ConnectError, ExecTransportError, ProbeError
from pytest_k8snet.measure.answering import Outcomes, documents_of
from pytest_k8snet.measure.taking import take_document
from pytest_k8snet.record.document import Document
from tests.unit.measure.faked import context


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

    def __init__(self, *rounds: Outcomes | Exception) -> None:
        self.rounds = [*rounds]
        self.asked: list[Sequence[str]] = []

    def __call__(self, names: Sequence[str]) -> Outcomes:
        self.asked.append(names)
        outcome = self.rounds.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


CUT = ExecTransportError("node-1: the exec stream ended")


def documents(measure: Together, nodes: Sequence[str] = ("node-1",), *, stopped: bool = False, **how: Any) -> dict[str, Document]:
    given = context(FakeCluster(["node-1"]))
    if stopped:
        given.stopped.set()
    return {item.subject: item for item in documents_of(given, "pathmtu", "datagrams", nodes, measure, **how)}


def test_of_what_is_measured_together_only_what_was_cut_is_taken_again() -> None:
    measure = Together(
        {"node-1": CUT, "node-2": {"mtu": 1500}, "node-3": AccessError("no JSON")},
        {"node-1": {"mtu": 1450}, "node-2": {"mtu": 9}, "node-3": {"mtu": 9}},
    )
    found = documents(measure, ("node-1", "node-2", "node-3"))
    assert measure.asked == [("node-1", "node-2", "node-3"), ["node-1"]]
    assert {name: (item.values, item.reason, item.retried) for name, item in found.items()} == {
        "node-1": ({"mtu": 1450}, None, str(CUT)),
        "node-2": ({"mtu": 1500}, None, None),
        "node-3": (None, "no JSON", None),
    }


def test_what_was_cut_again_is_not_taken_a_third_time() -> None:
    measure = Together({"node-1": CUT}, {"node-1": ExecTransportError("cut again")})
    (document,) = documents(measure).values()
    assert (document.values, document.reason, document.retried, measure.rounds) == (None, "cut again", None, [])


@pytest.mark.parametrize("first", [{"node-1": AccessError("no JSON")}, {"node-1": {"mtu": 1500}}])
def test_nothing_is_taken_again_that_was_not_cut(first: Outcomes) -> None:
    measure = Together(first)
    assert len(documents(measure)) == 1
    assert measure.rounds == []


def test_what_changes_the_cluster_is_taken_once() -> None:
    measure = Together({"node-1": CUT})
    (document,) = documents(measure, twice=False).values()
    assert (document.reason, measure.rounds) == (str(CUT), [])


def test_what_keeps_all_from_being_measured_is_the_reason_of_each() -> None:
    nodes = ("node-1", "node-2")
    assert {item.reason for item in documents(Together(AccessError("no JSON")), nodes).values()} == {"no JSON"}
    measure = Together(CUT, {name: {"mtu": 1500} for name in nodes})
    assert {(item.failed, item.retried) for item in documents(measure, nodes).values()} == {(False, str(CUT))}


def test_nothing_is_taken_again_when_nobody_waits_for_it() -> None:
    measure = Together({"node-1": CUT})
    (document,) = documents(measure, stopped=True).values()
    assert (document.reason, measure.rounds) == (str(CUT), [])


def test_what_was_changed_is_put_back_before_it_is_taken_again() -> None:
    order: list[str] = []
    measure = Together({"node-1": CUT}, {"node-1": {"mtu": 1500}})
    (document,) = documents(measure, restore=lambda: order.append(f"after {len(measure.asked)}")).values()
    assert (document.failed, document.retried, order) == (False, str(CUT), ["after 1"])
    assert not documents(Together({"node-1": {"mtu": 1500}}), restore=lambda: order.append("for nothing"))["node-1"].failed
    assert order == ["after 1"]


def test_what_cannot_be_put_back_is_not_taken_again() -> None:
    def restore() -> None:
        raise ClusterError("no answer")

    measure = Together({"node-1": CUT}, {"node-1": {"mtu": 1500}})
    (document,) = documents(measure, restore=restore).values()
    assert (document.reason, document.retried, len(measure.asked)) == ("no answer", None, 1)
