from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.errors import ClusterError
from pytest_k8snet.measure import distress, throughput
from pytest_k8snet.measure.distress import Watch
from pytest_k8snet.measure.registry import MEASUREMENTS
from tests.unit.measure.faked import context

GONE = ClusterError("https://192.168.10.11:6443: connection refused")


@pytest.fixture
def taking(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[], None]]:
    """Give an API server whose answers take as long as is said, one after the other, by a clock of its own."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def api(*answers: float | Exception) -> Callable[[], None]:
        left: Iterator[float | Exception] = iter(answers)

        def ask() -> None:
            answer = next(left)
            if isinstance(answer, Exception):
                raise answer
            clock[0] += answer

        return ask

    return api


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        pytest.param((0.1, 0.2), None, id="quick"),
        pytest.param((0.1, 4.9), None, id="slower"),
        pytest.param((0.1, 9.0, 0.1), None, id="one-slow-answer"),
        pytest.param((3.0, 8.0), None, id="slow-before"),
        pytest.param((0.1, 9.0, 7.0), "the API server took 7.0 s to answer a small request, 0.10 s before it", id="late"),
        pytest.param((GONE, 9.0, 7.0), "the API server took 7.0 s to answer a small request, nothing before it", id="gone-before"),
        pytest.param((0.1, GONE, 0.1), None, id="gone-for-a-moment"),
        pytest.param((0.1, 9.0, GONE), f"the API server did not answer a small request ({GONE})", id="gone"),
    ],
)
def test_distress(taking: Callable[..., Callable[[], None]], answers: tuple[Any, ...], told: str | None) -> None:
    waited: list[float] = []
    assert Watch.begin(taking(*answers)).distress(waited.append) == told
    assert waited == [2.0] * (len(answers) - 2)


@pytest.mark.parametrize(("kind", "after"), [("throughput", "after the load on"), ("udp", "after UDP between")])
def test_load_ends_where_the_api_server_is_gone(monkeypatch: pytest.MonkeyPatch, kind: str, after: str) -> None:
    monkeypatch.setattr(distress, "_BETWEEN_S", 0.0)
    fake = FakeCluster(["node-1", "node-2", "node-3"])
    fake.api_error = GONE
    given = replace(context(fake, take_s=1, omit_s=0), ask_api=fake.ask_api, udp_bps=10**7)
    first, *others = MEASUREMENTS[kind].take(given, ["node-1:node-2", "node-2:node-3", "node-3:node-1"])
    assert first.values is not None
    why = (
        f"not measured, to spare the cluster: {after} node-1:node-2 the API server did not answer a small request ({GONE}); "
        "--k8snet-bitrate would send less"
    )
    assert [(item.subject, item.values, item.reason) for item in others] == [("node-2:node-3", None, why), ("node-3:node-1", None, why)]


def test_one_pair_is_nobody_s_distress() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.api_error = GONE
    (document,) = throughput.take(replace(context(fake, take_s=1, omit_s=0), ask_api=fake.ask_api), ["node-1:node-2"])
    assert document.values is not None
