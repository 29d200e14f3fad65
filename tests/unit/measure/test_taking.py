from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_k8snet.errors import AccessError, CommandTimeout, ConnectError, ExecTransportError, ProbeError
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
