from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_k8snet.access.client import program_source
from pytest_k8snet.agent import pathmtu
from pytest_k8snet.agent.agent import Failed
from tests.unit.agent.test_agent import LocalAgent

SECRET = "00" * 7 + "01"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pathmtu, "WAIT_S", 0.2)
    monkeypatch.setattr(pathmtu, "WAIT_BETWEEN_S", 0.1)


@pytest.fixture
def server() -> Iterator[dict[str, Any]]:
    served = pathmtu.serve({"port": 0, "max_s": 30, "toward": "127.0.0.1", "secret": SECRET})
    yield served
    assert pathmtu.stop(served) is True
    assert pathmtu.stop(served) is False


def probe(server: dict[str, Any], *, address: str = "127.0.0.1", replies: bool = False, mtu: int = 1500) -> Any:
    target = {"key": "a", "address": address, "port": server["port"], "mtu": mtu, "replies": replies}
    return pathmtu.probe({"secret": SECRET, "targets": [target]})["a"]


def swallow(monkeypatch: pytest.MonkeyPatch, *, requests_from: int = 65536, replies_from: int = 65536) -> None:
    """Let everything vanish that is at least so large (bytes, IP header included)."""
    answer = pathmtu.Server._answer

    class Socket:
        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock

        def recvfrom(self, size: int) -> tuple[bytes, Any]:
            data, peer = self._sock.recvfrom(size)
            return (b"" if len(data) + 28 >= requests_from else data), peer

        def recvmsg(self, *arguments: Any) -> Any:
            return self._sock.recvmsg(*arguments)

        def sendto(self, data: bytes, peer: Any) -> int:
            return len(data) if len(data) + 28 >= replies_from else self._sock.sendto(data, peer)

    monkeypatch.setattr(pathmtu.Server, "_answer", lambda self, sock: answer(self, Socket(sock)))  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_path_that_carries_everything(server: dict[str, Any], address: str) -> None:
    if ":" in address and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    found = probe(server, address=address, replies=True)
    way: dict[str, Any] = {"sent": 10, "small": 10, "full": 10, "passes": None, "breaks": None, "errors": []}
    assert (found["error"], found["size"], found["over"]) == (None, 1500, "refused")
    assert found["requests"] == found["replies"] == way
    assert found["own_mtu"] == server["mtu"] == 65536
    assert found["tcp"]["error"] is None
    assert 0 < found["tcp"]["mss"] <= found["tcp"]["mtu"]


@pytest.mark.parametrize("limit", [1401, 1500, 129, 1372])
def test_a_black_hole_is_measured_to_the_byte(monkeypatch: pytest.MonkeyPatch, server: dict[str, Any], limit: int) -> None:
    swallow(monkeypatch, requests_from=limit)
    way = probe(server)["requests"]
    assert (way["small"], way["full"], way["passes"], way["breaks"]) == (10, 0, limit - 1, limit)


def test_a_black_hole_of_jumbo_frames(monkeypatch: pytest.MonkeyPatch, server: dict[str, Any]) -> None:
    swallow(monkeypatch, requests_from=1501)
    way = probe(server, mtu=9000)["requests"]
    assert (way["passes"], way["breaks"]) == (1500, 1501)


def test_a_black_hole_in_the_other_direction(monkeypatch: pytest.MonkeyPatch, server: dict[str, Any]) -> None:
    swallow(monkeypatch, replies_from=1300)
    found = probe(server, replies=True)
    assert found["requests"]["full"] == 10
    assert (found["replies"]["full"], found["replies"]["passes"], found["replies"]["breaks"]) == (0, 1299, 1300)


def test_a_path_of_which_others_look_at_as_much(monkeypatch: pytest.MonkeyPatch, server: dict[str, Any]) -> None:
    """Between nodes only what is larger than the packets of pods is sent, and no connection is opened."""
    swallow(monkeypatch, requests_from=1501)

    def beyond(size: int) -> Any:
        target = {"key": "a", "address": "127.0.0.1", "port": server["port"], "mtu": 9000, "replies": True, "beyond": size}
        return pathmtu.probe({"secret": SECRET, "targets": [target]})["a"]

    found = beyond(1450)
    assert (found["tcp"], found["requests"]["passes"], found["requests"]["breaks"], found["replies"]["full"]) == (None, 1500, 1501, 10)
    found = beyond(9000)
    assert (found["size"], found["over"], found["tcp"], found["requests"], found["replies"]) == (9000, "refused", None, None, None)


def test_nobody_answers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        found = probe({"port": silent.getsockname()[1]})
    assert (found["requests"]["small"], found["requests"]["full"], found["requests"]["passes"]) == (0, 0, None)
    assert found["tcp"]["error"] == "Connection refused"


def test_what_is_not_ours_is_not_answered(server: dict[str, Any]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server["port"]))
        sock.settimeout(5)
        sock.send(b"x")
        sock.send(b"x" * 100)
        sock.send(pathmtu.HEAD.pack(pathmtu.ANSWER, b"t" * 8, 2, 40) + bytes.fromhex(SECRET))
        sock.send(pathmtu.HEAD.pack(pathmtu.ASK, b"t" * 8, 1, 40) + bytes.fromhex(SECRET))
        assert pathmtu.HEAD.unpack_from(sock.recv(100))[:3] == (pathmtu.ANSWER, b"t" * 8, 1)


@pytest.mark.parametrize("number", [1, pathmtu.TELL])
@pytest.mark.parametrize("behind", ["", "00" * 8, "00" * 7, "00" * 7 + "02", "01" + "00" * 7, "ff" * 1000])
def test_who_has_no_secret_gets_no_answer(server: dict[str, Any], behind: str, number: int) -> None:
    """Nobody can make it send large answers to somebody in whose name a small datagram came."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server["port"]))
        sock.settimeout(5)
        sock.send(pathmtu.HEAD.pack(pathmtu.ASK, b"t" * 8, number, 1400) + bytes.fromhex(behind))
        sock.send(pathmtu.HEAD.pack(pathmtu.ASK, b"t" * 8, 7, 0) + bytes.fromhex(SECRET))
        assert pathmtu.HEAD.unpack_from(sock.recv(2000))[2] == 7, "what came first is answered first"


@pytest.mark.parametrize("secret", ["", "00", "00" * 9, "xx" * 8])
def test_no_secret(secret: str) -> None:
    for ask, params in ((pathmtu.serve, {"port": 0, "max_s": 30}), (pathmtu.probe, {"targets": []})):
        with pytest.raises((Failed, ValueError)):
            ask({**params, "secret": secret})
    with pytest.raises(Failed, match="without a secret no server answers"):
        pathmtu.probe({"targets": []})


def test_another_run_s_secret(server: dict[str, Any]) -> None:
    target = {"key": "a", "address": "127.0.0.1", "port": server["port"], "mtu": 1500, "replies": True}
    found = pathmtu.probe({"secret": "00" * 7 + "02", "targets": [target]})["a"]
    assert (found["requests"]["small"], found["replies"]["small"]) == (0, 0)


def test_errors_are_told_with_who_sent_them() -> None:
    """A port on which nobody listens: the ICMP error comes with the address of who sent it."""
    with pathmtu.datagrams(False, pathmtu.PMTUDISC_PROBE) as sock:
        sock.connect(("127.0.0.1", 9))
        sock.send(b"x")
        ((to, met),) = pathmtu.path_errors(sock)
    assert to == ("127.0.0.1", 9)
    assert met == {"error": "ECONNREFUSED", "origin": "icmp", "mtu": None, "from": "127.0.0.1"}


def test_who_sent_an_error() -> None:
    ipv6 = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, "fd00::1"), 0)
    assert pathmtu.offender(ipv6) == "fd00::1"
    assert pathmtu.offender(b"") is None


@pytest.mark.parametrize(
    ("known", "routes", "mtu"),
    [
        (1500, [], 1500),
        (1450, [{"dst": "default", "metrics": [{"mtu": 1450}]}], 1450),  # Cilium lowers the route
        (1400, [{"dst": "default"}], 1500),  # learnt of the path: what the route says counts
        (1280, [{"dst": "10.0.0.1", "metrics": [{"mtu": 1280}]}, {"dst": "10.0.0.0/8", "metrics": [{"mtu": 1450}]}], 1450),
    ],
)
def test_the_mtu_of_a_route(monkeypatch: pytest.MonkeyPatch, known: int, routes: list[dict[str, Any]], mtu: int) -> None:
    class Socket:
        def __enter__(self) -> Socket:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def connect(self, address: tuple[str, int]) -> None:
            assert address == ("10.0.0.7", 9)

        def getsockopt(self, level: int, name: int) -> int:
            return known

    said = {"get": [{"dev": "eth0"}], "link": [{"mtu": 1500}], "show": routes}
    monkeypatch.setattr(pathmtu, "datagrams", lambda *_: Socket())
    monkeypatch.setattr(
        pathmtu, "output", lambda argv: json.dumps(said["link" if "link" in argv else next(word for word in said if word in argv)])
    )
    assert pathmtu.route_mtu("10.0.0.7") == (mtu, known)


def test_a_server_that_takes_no_datagrams() -> None:
    served = pathmtu.serve({"port": 0, "max_s": 30})
    try:
        with socket.create_connection(("127.0.0.1", served["port"]), timeout=5) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", served["port"]))
            sock.settimeout(5)
            sock.send(b"x" * 100)
            with pytest.raises(ConnectionRefusedError):
                sock.recv(1)
    finally:
        pathmtu.stop(served)


def test_a_port_that_another_one_has(server: dict[str, Any]) -> None:
    second = pathmtu.serve({"port": server["port"], "max_s": 30})
    assert second["port"] != server["port"]
    assert second["mtu"] is None
    pathmtu.stop(second)


def test_it_ends_by_itself() -> None:
    served = pathmtu.serve({"port": 0, "max_s": 0})
    pathmtu.servers[served["number"]].thread.join(5)
    assert not pathmtu.servers[served["number"]].thread.is_alive()
    assert pathmtu.stop(served) is False


def test_as_a_program_of_the_agent() -> None:
    agent = LocalAgent()
    with agent.process:
        assert agent.ask("load", name="pathmtu", source=program_source("pathmtu"))["result"] is None
        server = agent.ask("pathmtu.serve", port=0, max_s=30, toward="127.0.0.1", secret=SECRET)["result"]
        target = {"key": "node-2", "address": "127.0.0.1", "port": server["port"], "mtu": 1500, "replies": False}
        found = agent.ask("pathmtu.probe", secret=SECRET, targets=[target])["result"]
        assert found["node-2"]["requests"]["full"] == 10
        assert agent.ask("pathmtu.stop", number=server["number"])["result"] is True
        assert agent.process.stdin is not None
        agent.process.stdin.close()
        assert agent.process.wait(10) == 0
