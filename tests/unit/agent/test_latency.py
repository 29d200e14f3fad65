from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
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


class Pinged:
    """A socket for ICMP whose other end is a function of the requests; None is silence."""

    def __init__(self, kind: int, answer: Callable[[bytes], bytes | OSError | None]) -> None:
        self.kind = kind
        self.answer = answer
        self.asked: list[bytes] = []
        self.closed = False

    def connect(self, where: tuple[str, int]) -> None:
        assert where == ("10.244.2.5", 0)

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def send(self, data: bytes) -> None:
        self.asked.append(data)
        if self.kind == socket.SOCK_RAW:
            assert latency.checksum(data) == 0, "with its own checksum the sum is nothing"

    def recv(self, length: int) -> bytes:
        said = self.answer(self.asked[-1])
        if isinstance(said, OSError):
            raise said
        if said is None:
            raise TimeoutError
        head = bytes([0x46, *[0] * 23]) if self.kind == socket.SOCK_RAW else b""  # with an option
        return head + said

    def close(self) -> None:
        self.closed = True


def reply(asked: bytes) -> bytes:
    return b"\0" + asked[1:]


@pytest.fixture
def pinged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Pinged]]:
    """Let sockets of some kinds be had, with such an answer; the list is of those that were."""

    def let(answer: Callable[[bytes], bytes | OSError | None], *kinds: int) -> list[Pinged]:
        had: list[Pinged] = []

        def fake(family: int, kind: int, protocol: int) -> Pinged:
            assert (family, protocol) == (socket.AF_INET, socket.IPPROTO_ICMP)
            if kind not in kinds:
                raise PermissionError(1, "Operation not permitted")
            had.append(Pinged(kind, answer))
            return had[-1]

        monkeypatch.setattr(socket, "socket", fake)
        return had

    return let


def echo(**changes: Any) -> dict[str, Any]:
    return latency.echo({"address": "10.244.2.5", "samples": 3, "timeout_s": 0.05, "most_lost": 2, "max_s": 5, **changes})


@pytest.mark.parametrize("kinds", [(socket.SOCK_DGRAM, socket.SOCK_RAW), (socket.SOCK_RAW,)], ids=["for-pings", "raw"])
def test_echoes(pinged: Callable[..., list[Pinged]], kinds: tuple[int, ...]) -> None:
    had = pinged(reply, *kinds)
    found = echo()
    assert (len(found["sorted_ms"]), found["lost"], found["refused"]) == (3, 0, None)
    assert found["sorted_ms"] == sorted(found["sorted_ms"])
    (sock,) = had
    assert sock.kind == kinds[0]
    assert sock.closed
    assert [struct.unpack(">H", data[6:8])[0] for data in sock.asked] == [*range(1, latency.WARM_UP + 4)]
    assert len(echo(samples=9, max_s=0)["sorted_ms"]) == 1


def test_who_may_not_send_echoes_is_told_why(pinged: Callable[..., list[Pinged]], monkeypatch: pytest.MonkeyPatch) -> None:
    pinged(reply)
    monkeypatch.setattr(latency, "read", lambda path: "1\t0\n")
    assert echo() == {
        "refused": "net.ipv4.ping_group_range is 1 0, and there is no CAP_NET_RAW",
        "sorted_ms": [],
        "jitter_ms": 0.0,
        "lost": 0,
    }


@pytest.mark.parametrize("answer", [lambda asked: None, lambda asked: asked, lambda asked: b"\0" * 16], ids=["silence", "own", "others"])
def test_what_is_no_answer(pinged: Callable[..., list[Pinged]], answer: Callable[[bytes], bytes | None]) -> None:
    pinged(answer, socket.SOCK_DGRAM)
    assert echo() == {"refused": None, "sorted_ms": [], "jitter_ms": 0.0, "lost": 2}


def test_one_that_is_lost_among_others(pinged: Callable[..., list[Pinged]]) -> None:
    pinged(lambda asked: None if asked[7] % 2 else reply(asked), socket.SOCK_DGRAM)
    found = echo()
    assert (len(found["sorted_ms"]), found["lost"]) == (4, 4), "too few to leave the first ones out"


def test_a_host_that_is_not_there(pinged: Callable[..., list[Pinged]]) -> None:
    had = pinged(lambda asked: OSError(113, "No route to host"), socket.SOCK_DGRAM)
    with pytest.raises(Failed, match=r"10\.244\.2\.5 by ICMP: No route to host"):
        echo()
    assert had[0].closed


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_kernel_answers(address: str) -> None:
    try:
        found = echo(address=address, timeout_s=2.0)
    except Failed as failed:
        pytest.skip(str(failed))  # no IPv6 here
    if found["refused"] is not None:
        pytest.skip(found["refused"])
    assert (len(found["sorted_ms"]), found["lost"]) == (3, 0)
