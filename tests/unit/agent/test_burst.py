from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.agent import burst, traffic
from pytest_k8snet.agent.agent import Failed
from pytest_k8snet.lab.faults.polling import wait_until


@pytest.fixture
def port() -> Iterator[int]:
    server = traffic.serve({"name": "node-2", "port": 0, "max_s": 60})
    yield server["port"]
    traffic.stop({"number": server["number"]})


def opened(port: int, count: int = 1, max_s: float = 30.0) -> dict[str, Any]:
    return burst.opened({"address": "127.0.0.1", "port": port, "count": count, "together": 8, "timeout_s": 5, "max_s": max_s})


def test_short_connections(port: int) -> None:
    found = opened(port, 100)
    assert (found["tried"], found["opened"], found["failed"]) == (100, 100, {})
    low, high = (int(word) for word in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert found["range"] == [low, high]
    assert low <= found["ports"][0] < found["ports"][1] <= high
    assert found["seconds"] >= 0


def test_the_client_is_the_one_that_waits(port: int) -> None:
    """Its port is then not used again for a while: a server that waits would prove nothing of that."""
    before = waiting(port)
    opened(port, 3)
    wait_until(lambda: waiting(port)[0] - before[0] == 3, "the clients' sides to wait", timeout_s=10)  # until the server has closed, too
    assert waiting(port)[1] == 0


def waiting(port: int) -> tuple[int, int]:
    """Return how many connections wait for their end on the client's side of a server, and on its own; one before may have had its port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "06"]
    remote, local = (sum(words[column].endswith(f":{port:04X}") for words in rows) for column in (2, 1))
    return remote, local


def test_nobody_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        found = opened(sock.getsockname()[1], 5)
    assert (found["tried"], found["opened"], found["failed"], found["ports"]) == (5, 0, {"ECONNREFUSED": 5}, None)


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        params = {"address": "127.0.0.1", "port": silent.getsockname()[1], "count": 2, "together": 2, "timeout_s": 0.05, "max_s": 5}
        assert burst.opened(params)["failed"] == {"ETIMEDOUT": 2}


def test_no_time(port: int) -> None:
    found = opened(port, 10, max_s=-1)
    assert (found["tried"], found["opened"], found["failed"]) == (0, 0, {})


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (OSError(errno.EADDRNOTAVAIL, "x"), "EADDRNOTAVAIL"),
        (TimeoutError(), "ETIMEDOUT"),
        (ValueError("the connection ended"), "closed"),
        (OSError(9999, "x"), "9999"),
    ],
)
def test_names_of_errors(error: Exception, name: str) -> None:
    assert burst.name_of(error) == name


def test_the_entries_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([100, 900, *[300] * 1000])
    monkeypatch.setattr(burst, "conntrack", lambda: {"count": next(counts), "max": 1000, "buckets": 1})
    monkeypatch.setattr(burst, "EVERY_S", 0.001)
    began = burst.begin({"max_s": 30})
    assert (began["count"], began["max"]) == (100, 1000)
    watch = burst.WATCHES[began["number"]]
    while watch.peak != 900:
        assert watch.thread.is_alive()
    assert burst.end({"number": began["number"]}) == {"peak": 900, "count": 300, "grown": 800}


def test_what_expires_meanwhile_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([2093, *([1900, 2172] * 3), 1610])
    monkeypatch.setattr(burst, "conntrack", lambda: {"count": next(counts, 1610), "max": 131072, "buckets": 1})
    monkeypatch.setattr(burst, "EVERY_S", 0.001)
    began = burst.begin({"max_s": 30})
    watch = burst.WATCHES[began["number"]]
    while watch.last != 1610:
        assert watch.thread.is_alive()
    assert burst.end({"number": began["number"]}) == {"peak": 2172, "count": 1610, "grown": 3 * 272}


def test_connections_are_not_tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burst, "conntrack", lambda: {"count": None, "max": None, "buckets": None})
    began = burst.begin({"max_s": 30})
    assert (began["count"], began["max"]) == (None, None)
    assert burst.end({"number": began["number"]}) == {"peak": None, "count": None, "grown": None}


def again(port: int, most: int) -> dict[str, Any]:
    return burst.again({"address": "127.0.0.1", "port": port, "most": most, "after_s": 0, "timeout_s": 5})


def test_ports_that_never_run_out(port: int) -> None:
    found = again(port, 4)
    assert (found["held"], found["over"], found["reused"], found["timestamps"]) == (5, None, 5, True)
    assert found["tcp_tw_reuse"] == Path("/proc/sys/net/ipv4/tcp_tw_reuse").read_text().strip()


def test_ports_that_run_out(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = burst.connection, iter([True] * 4 + [False] + [True, False, True, False])

    def connection(*where: Any) -> socket.socket:
        if next(left):
            return real(*where)
        raise OSError(errno.EADDRNOTAVAIL, "x")

    monkeypatch.setattr(burst, "connection", connection)
    found = again(port, 16)
    assert (found["held"], found["over"], found["reused"], found["failed"]) == (4, "EADDRNOTAVAIL", 2, {"EADDRNOTAVAIL": 2})


def test_a_pod_is_left_with_few_ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    namespace = Path("/proc/self/ns/net").readlink()
    monkeypatch.setattr(burst, "running_pods", lambda _: {"k8snet-1/probe-a": (str(os.getpid()), str(namespace))})
    monkeypatch.setattr(burst, "enter_net_namespace", lambda descriptor: None)
    monkeypatch.setattr(burst, "RANGE_FILE", str(tmp_path / "range"))
    burst.narrow({"pod": "k8snet-1/probe-a", "range": [65520, 65535]})
    assert (tmp_path / "range").read_text() == "65520 65535"
    with pytest.raises(Failed, match="k8snet-1/probe-b: its network namespace was not found"):
        burst.narrow({"pod": "k8snet-1/probe-b", "range": [1, 2]})
    monkeypatch.setattr(burst, "running_pods", lambda _: {"k8snet-1/probe-a": (str(os.getpid()), "net:[1]")})
    with pytest.raises(Failed, match="the pod has ended"):
        burst.narrow({"pod": "k8snet-1/probe-a", "range": [65520, 65535]})
