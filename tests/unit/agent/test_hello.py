from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from pytest_k8snet.agent import hello


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen on the loopback, and do to every connection what `answer` does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    answer(connection)

    threading.Thread(target=work, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def greet(port: int, tries: int = 1, timeout_s: float = 5.0) -> dict[str, Any]:
    targets = [{"key": "a", "address": "127.0.0.1", "port": port}]
    result: dict[str, Any] = hello.greet({"targets": targets, "tries": tries, "timeout_s": timeout_s})["a"]
    return result


def test_a_real_tls_server_answers() -> None:
    """Without a certificate it can only send an alert, once it has understood the hello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    errors: list[str] = []
    ended = threading.Event()

    def tls(connection: socket.socket) -> None:
        try:
            context.wrap_socket(connection, server_side=True)
        except ssl.SSLError as error:
            errors.append(str(error))
        ended.set()

    with server(tls) as port:
        result = greet(port)
        assert ended.wait(10)
    assert (result["error"], result["tries"]) == (None, 1)
    assert 0 < result["connected_ms"] <= result["answered_ms"]
    assert "NO_SHARED_CIPHER" in errors[0] or "no suitable signature algorithm" in errors[0].lower(), "the hello itself was understood"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "what answers there speaks no TLS"),
        (b"", "the connection ended without an answer to the TLS hello"),
    ],
)
def test_something_else_answers(data: bytes, error: str) -> None:
    def other(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(data)

    with server(other) as port:
        result = greet(port, tries=2)
    assert (result["error"], result["tries"], result["answered_ms"]) == (error, 2, None)


def test_a_server_that_says_nothing_and_nobody() -> None:
    def silent(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.recv(4096)

    with server(silent) as port:
        result = greet(port, timeout_s=0.1)
    assert result["error"] == "connected, but the TLS hello was not answered"
    assert result["connected_ms"] > 0
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert greet(port)["error"] == "Connection refused"


def test_the_second_try_counts() -> None:
    seen: list[int] = []

    def later(connection: socket.socket) -> None:
        connection.recv(4096)
        seen.append(1)
        if len(seen) > 1:
            connection.sendall(b"\x15\x03\x03\x00\x02\x02\x28")

    with server(later) as port:
        result = greet(port, tries=3)
    assert (result["error"], result["tries"]) == (None, 2)


def test_who_may_only_just_begin_is_greeted_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hello, "BETWEEN_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    targets = [{"key": "a", "address": "127.0.0.1", "port": port}]
    result = hello.greet({"targets": targets, "tries": 1, "timeout_s": 1.0, "settle_s": 0.1})["a"]
    assert result["error"] == "Connection refused"
    assert result["tries"] > 1
