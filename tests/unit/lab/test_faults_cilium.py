"""When an agent that a fault has started again is awaited no more: pods can be made on its node."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.lab.faults.cilium import runs_in_mode


def told(mode: str, *states: str) -> dict[str, Any]:
    return {"health": {"kube-proxy-replacement": {"mode": mode}}, "endpoints": [{"id": 1, "status": {"state": state}} for state in states]}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (told("True", "ready", "ready"), True),
        (told("False", "ready"), False),
        (told("True", "ready", "regenerating"), False),
        (told("True"), False),
        ({"health": {"kube-proxy-replacement": {"mode": "True"}}, "endpoints": None}, False),
        ({}, False),
    ],
    ids=["ready", "another-mode", "compiles", "no-endpoint-yet", "tells-of-none", "does-not-run"],
)
def test_runs_in_mode(said: dict[str, Any], expected: bool) -> None:
    assert runs_in_mode(said, "True") is expected
