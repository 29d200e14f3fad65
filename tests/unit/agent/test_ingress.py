from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.access.client import program_source
from pytest_k8snet.agent import ingress
from pytest_k8snet.agent.agent import Failed
from pytest_k8snet.lab.pki import Authority
from tests.unit.agent.test_agent import LocalAgent

HOST = "ingress-1.r1.k8snet.invalid"


@pytest.fixture
def server() -> Iterator[dict[str, Any]]:
    served = ingress.serve({"port": 0, "max_s": 30})
    yield served
    ingress.stop(served)
    ingress.stop(served)


def ask(port: int, word: str = "t", requests: int = 1, **changes: Any) -> dict[str, Any]:
    params = {"address": "127.0.0.1", "port": port, "tls": False, "host": HOST, "token": word, "requests": requests}
    return ingress.ask({**params, "send_bytes": 0, "return_bytes": 0, "timeout_s": 2.0, "max_s": 20.0, **changes})


def seen(server: dict[str, Any], word: str = "t") -> dict[str, Any]:
    return ingress.seen({"number": server["number"], "token": word})


def test_one_connection_carries_all_requests_and_is_counted_once(server: dict[str, Any]) -> None:
    found = ask(server["port"], requests=50)
    assert found.pop("ms") > 0
    assert found == {"asked": 50, "answered": 50, "opened": 1, "closed_after": [], "others": {}, "hsts": None}
    assert seen(server) == {
        "requests": 50,
        "connections": 1,
        "sources": {"127.0.0.1": 50},
        "protocols": {"HTTP/1.1": 50},
        "connection": {"": 50},
        "header_bytes": 0,
    }


def test_each_connection_is_counted_and_others_requests_are_not(server: dict[str, Any]) -> None:
    for _ in range(3):
        ask(server["port"])
    ask(server["port"], "other", requests=4)
    assert (seen(server)["requests"], seen(server)["connections"]) == (3, 3)
    assert (seen(server, "other")["requests"], seen(server, "nobody")["requests"]) == (4, 0)


def test_large_headers_both_ways(server: dict[str, Any]) -> None:
    found = ask(server["port"], send_bytes=12288, return_bytes=12288)
    assert (found["answered"], found["others"]) == (1, {})
    assert seen(server)["header_bytes"] == 12288


def test_requests_as_proxies_without_kept_connections_send_them(server: dict[str, Any]) -> None:
    """Nginx by default: HTTP/1.0 and Connection: close; the answer comes, and the connection ends."""
    with socket.create_connection(("127.0.0.1", server["port"]), timeout=5) as sock:
        sock.sendall(b"GET /k8snet/old HTTP/1.0\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"X-K8snet-Token: old\r\n" in answer
    assert (seen(server, "old")["protocols"], seen(server, "old")["connection"]) == ({"HTTP/1.0": 1}, {"close": 1})


def test_health_checks_are_answered_and_not_counted(server: dict[str, Any]) -> None:
    with socket.create_connection(("127.0.0.1", server["port"]), timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


class Proxy:
    """Answers in the place of an ingress: `answer` gets the number of the connection and of the request on it."""

    def __init__(self, answer: Callable[[int, int], bytes | None], context: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _run(self) -> None:
        number = 0
        while True:
            try:
                sock, _ = self._listener.accept()
                number += 1
                sock.settimeout(5)
                sock = sock if self._context is None else self._context.wrap_socket(sock, server_side=True)
                self._serve(sock, number)
            except OSError:
                if self._listener.fileno() < 0:
                    return

    def _serve(self, sock: socket.socket, number: int) -> None:
        request = 0
        with sock:
            while True:
                data = b""
                while b"\r\n\r\n" not in data:
                    part = sock.recv(65536)
                    if not part:
                        return
                    data += part
                request += 1
                answer = self._answer(number, request)
                if answer is None:
                    return
                sock.sendall(answer)


@pytest.fixture
def proxy() -> Iterator[Callable[..., Proxy]]:
    made: list[Proxy] = []

    def make(*arguments: Any) -> Proxy:
        made.append(Proxy(*arguments))
        return made[-1]

    yield make
    for item in made:
        item.close()


def http(status: str = "200 OK", *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", *headers, "", ""]).encode()


OURS = "X-K8snet-Token: t"


def test_connections_that_are_closed_with_notice_and_without(proxy: Callable[..., Proxy]) -> None:
    def answer(connection: int, request: int) -> bytes | None:
        if connection == 1:
            return http("200 OK", OURS, *(["Connection: close"] if request == 3 else []))
        return http("200 OK", OURS) if connection != 2 or request <= 2 else None

    found = ask(proxy(answer).port, requests=10)
    assert (found["answered"], found["opened"], found["closed_after"], found["others"]) == (10, 3, [3, 2], {})


def test_answers_that_are_not_the_pods(proxy: Callable[..., Proxy]) -> None:
    answers = {1: http("502 Bad Gateway"), 2: http("200 OK"), 3: http("200 OK", "X-K8snet-Token: another"), 4: http("200 OK", OURS)}
    found = ask(proxy(lambda _, request: answers[request]).port, requests=4)
    assert (found["asked"], found["answered"], found["others"]) == (4, 1, {"502": 1, "200": 2})


@pytest.mark.parametrize(
    ("answer", "what"),
    [(None, "the connection was closed without an answer"), (b"SSH-2.0-OpenSSH\r\n", "no answer in HTTP: BadStatusLine")],
)
def test_no_answers(proxy: Callable[..., Proxy], answer: bytes | None, what: str) -> None:
    """After three in a row that failed the others are not sent."""
    found = ask(proxy(lambda *_: answer).port, requests=50)
    assert (found["asked"], found["answered"], found["others"]) == (3, 0, {what: 3})


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert ask(port, requests=9)["others"] == {"Connection refused": 3}


def test_time_out(proxy: Callable[..., Proxy]) -> None:
    event = threading.Event()
    found = ask(proxy(lambda *_: event.wait(5) and None).port, timeout_s=0.05)
    event.set()
    assert found["others"] == {"timed out": 1}


def test_over_tls_by_the_name_and_with_what_the_header_says(proxy: Callable[..., Proxy], tmp_path: Path) -> None:
    Authority("test").issue("x", dns=["x.invalid"]).write(tmp_path, "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    found = ask(proxy(lambda *_: http("200 OK", OURS, "Strict-Transport-Security: max-age=5"), context).port, requests=3, tls=True)
    assert (found["answered"], found["opened"], found["hsts"], names) == (3, 1, "max-age=5", [HOST])


def test_tls_where_there_is_none(server: dict[str, Any]) -> None:
    (what,) = ask(server["port"], tls=True)["others"]
    assert what.startswith(("TLS: ", "timed out", "Connection reset")), what


def test_a_port_that_is_taken_and_a_server_that_has_ended(server: dict[str, Any]) -> None:
    with pytest.raises(Failed, match=f"no server on port {server['port']}: Address already in use"):
        ingress.serve({"port": server["port"], "max_s": 1})
    with pytest.raises(Failed, match="the server has ended"):
        ingress.seen({"number": 99, "token": "t"})


def test_servers_end_by_themselves() -> None:
    served = ingress.serve({"port": 0, "max_s": 0.05})
    ingress.servers[served["number"]].thread.join(10)
    assert ask(served["port"])["others"] == {"Connection refused": 1}


def test_a_stream_goes_on_whatever_comes(server: dict[str, Any]) -> None:
    other = ingress.serve({"port": 0, "max_s": 30})
    where = {"address": "127.0.0.1", "tls": False, "host": HOST, "send_bytes": 0, "return_bytes": 0, "timeout_s": 2.0}
    series = [{**where, "key": str(item["port"]), "port": item["port"], "token": "s"} for item in (server, other)]
    threading.Timer(0.3, ingress.stop, [other]).start()
    found = ingress.stream({"series": series, "every_s": 0.02, "for_s": 0.9})
    whole, broken = found[str(server["port"])], found[str(other["port"])]
    assert 0 < whole["asked"] == whole["answered"] <= 46
    assert (whole["others"], whole["failed_s"]) == ({}, [])
    assert set(broken["others"]) <= {"Connection refused", "the connection was closed without an answer", "Connection reset by peer"}
    assert len(broken["failed_s"]) == sum(broken["others"].values()) == broken["asked"] - broken["answered"] > 3
    assert broken["failed_s"][0] > 0.2
    assert ingress.seen({"number": server["number"], "token": "s"})["requests"] == whole["asked"]


def test_as_a_program_of_the_agent() -> None:
    agent = LocalAgent()
    with agent.process:
        assert agent.ask("load", name="ingress", source=program_source("ingress"))["result"] is None
        served = agent.ask("ingress.serve", port=0, max_s=20)["result"]
        params = {"address": "127.0.0.1", "port": served["port"], "tls": False, "host": HOST, "token": "t", "requests": 5}
        answer = agent.ask("ingress.ask", **params, send_bytes=100, return_bytes=0, timeout_s=5, max_s=20)["result"]
        assert answer["answered"] == 5
        which = {"number": served["number"], "token": "t"}
        assert agent.ask("ingress.seen", **which)["result"]["header_bytes"] == 100
        assert agent.ask("ingress.stop", number=served["number"])["result"] is None
        assert agent.process.stdin is not None
        agent.process.stdin.close()
        assert agent.process.wait(10) == 0
