from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_k8snet.access.client import program_source
from pytest_k8snet.agent import agent, latency, pathmtu
from pytest_k8snet.agent.agent import Failed
from tests.unit.agent.test_agent import LocalAgent


@pytest.fixture
def server() -> Iterator[dict[str, Any]]:
    served = pathmtu.serve({"port": 0, "max_s": 30})
    yield served
    pathmtu.stop(served)


@pytest.fixture
def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_round_trips(server: dict[str, Any]) -> None:
    found = latency.rtt({"address": "127.0.0.1", "port": server["port"], "samples": 20, "max_s": 10})
    assert len(found["sorted_ms"]) == 20
    assert found["sorted_ms"] == sorted(found["sorted_ms"])
    assert found["sorted_ms"][0] > 0
    assert found["jitter_ms"] >= 0


def test_slow_answers_end_a_take_in_time(server: dict[str, Any]) -> None:
    assert len(latency.rtt({"address": "127.0.0.1", "port": server["port"], "samples": 10000, "max_s": 0})["sorted_ms"]) == 1


def test_round_trips_in_the_background(server: dict[str, Any]) -> None:
    begun = [latency.begin({"address": "127.0.0.1", "port": server["port"], "after_s": after_s, "max_s": 30}) for after_s in (0, 20)]
    until = time.monotonic() + 20
    while len(latency.BESIDE[begun[0]["number"]].times) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    counted, not_yet = map(latency.end, begun)
    assert (len(counted["sorted_ms"]) >= 3, counted["error"]) == (True, None)
    assert (not_yet["sorted_ms"], not_yet["error"]) == ([], None), "what iperf3 leaves out is not counted here either"
    assert not latency.BESIDE


def test_in_the_background_nobody_listens(closed: int) -> None:
    begun = latency.begin({"address": "127.0.0.1", "port": closed, "after_s": 0, "max_s": 5})
    latency.BESIDE[begun["number"]].thread.join(5)
    assert latency.end(begun) == {"sorted_ms": [], "jitter_ms": 0.0, "error": f"127.0.0.1 port {closed}: Connection refused"}


def test_nobody_listens(closed: int) -> None:
    with pytest.raises(Failed, match=f"127.0.0.1 port {closed}: Connection refused"):
        latency.rtt({"address": "127.0.0.1", "port": closed, "samples": 1, "max_s": 1})
    assert latency.connect({"address": "127.0.0.1", "port": closed, "samples": 3, "timeout_s": 1}) == {
        "sorted_ms": [],
        "error": "Connection refused",
    }


def test_a_server_that_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        client = LocalAgent()
        with client.process:
            client.ask("load", name="latency", source=program_source("latency"))
            port = listener.getsockname()[1]
            client.write(
                b'{"id": 1, "op": "latency.rtt", "params": {"address": "127.0.0.1", "port": %d, "samples": 1, "max_s": 1}}\n' % port
            )
            connection = listener.accept()[0]
            connection.recv(16)
            connection.close()
            assert client.read()["error"]["message"] == "the connection was closed"
            assert client.process.stdin is not None
            client.process.stdin.close()


def test_connections(server: dict[str, Any]) -> None:
    found = latency.connect({"address": "127.0.0.1", "port": server["port"], "samples": 7, "timeout_s": 5})
    assert found["error"] is None
    assert len(found["sorted_ms"]) == 7


def test_wakeups() -> None:
    found = latency.wakeups({"seconds": 0.1, "sleep_s": 0.001})
    assert 0 < len(found["late_ms"]) <= 100
    assert found["late_ms"] == sorted(found["late_ms"])
    assert set(found["processor"]) == set(agent.USES)
    assert all(value >= 0 for use, value in found["processor"].items() if use not in ("idle", "iowait"))


def test_a_late_wakeup_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.001, 10.042, 10.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    found = latency.wakeups({"seconds": 0.4, "sleep_s": 0.001})
    assert found["late_ms"] == [0.0, 40.0, 457.0]
