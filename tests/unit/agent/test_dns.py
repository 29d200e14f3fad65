from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.agent import dns
from tests.unit.certs import Authority

NAME = "kubernetes.default.svc.cluster.local."
Answer = Callable[[str, str], "list[str] | int | None"]  # addresses, an error's code, or silence


def answer(data: bytes, says: Answer) -> bytes | None:
    """Answer a question as a server would: the name in the answer is a pointer to that of the question."""
    end = dns.skip_name(data, 12)
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode())
        at += 1 + data[at]
    kind = {number: name for name, number in dns.TYPES.items()}[struct.unpack(">H", data[end : end + 2])[0]]
    said = says(".".join(labels) + ".", kind)
    if said is None:
        return None
    addresses = said if isinstance(said, list) else []
    code = 0 if isinstance(said, list) else said
    head = data[:2] + struct.pack(">5H", 0x8180 | code, 1, len(addresses), 0, 0)
    family = socket.AF_INET if kind == "A" else socket.AF_INET6
    values = [socket.inet_pton(family, address) for address in addresses]
    records = [struct.pack(">3HIH", 0xC00C, dns.TYPES[kind], 1, 30, len(value)) + value for value in values]
    return head + data[12 : end + 4] + b"".join(records)


class Server:
    """A DNS server on the loopback, over UDP and TCP."""

    def __init__(self) -> None:
        self.says: Answer = lambda name, kind: ["10.96.0.1"] if kind == "A" else []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", self.port))
        for work in (self.by_udp, self.by_tcp):
            threading.Thread(target=work, daemon=True).start()

    def by_udp(self) -> None:
        with suppress(OSError):
            while True:
                data, peer = self.datagrams.recvfrom(4096)
                if (told := answer(data, self.says)) is not None:
                    self.datagrams.sendto(told, peer)

    def by_tcp(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    told = answer(connection.recv(4096)[2:], self.says)
                    if told is not None:
                        connection.sendall(struct.pack(">H", len(told)) + told)

    def series(self, protocol: str, count: int = 3, **changes: Any) -> dict[str, Any]:
        asked = {"key": "a", "address": "127.0.0.1", "port": self.port, "protocol": protocol, "name": NAME, "type": "A", "count": count}
        return {**asked, **changes}


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    yield served
    served.listener.close()
    served.datagrams.close()


def ask(*series: dict[str, Any], timeout_s: float = 5.0, most: int = 3) -> dict[str, Any]:
    return dns.ask({"series": series, "timeout_s": timeout_s, "most_unanswered": most, "most_s": 30})


@pytest.mark.parametrize("protocol", ["UDP", "TCP", "pair"])
def test_answers_are_counted_and_timed(server: Server, protocol: str) -> None:
    result = ask(server.series(protocol))["a"]
    assert (result["asked"], result["answered"], result["errors"], result["missing"]) == (3, 3, {}, {})
    assert result["addresses"] == ["10.96.0.1"]
    assert len(result["ms"]) == 3


def test_the_loopback_answers_itself() -> None:
    loopback = {"key": "l", "address": "127.0.0.1", "port": 0, "protocol": "loopback", "name": NAME, "type": "A", "count": 4}
    result = ask(loopback)["l"]
    assert (result["answered"], result["addresses"], len(result["ms"])) == (4, [], 4)


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
@pytest.mark.parametrize(
    ("said", "error"), [(3, "NXDOMAIN"), (2, "SERVFAIL"), (5, "REFUSED"), (9, "RCODE 9"), ([], "no address in the answer")]
)
def test_answers_that_are_none(server: Server, protocol: str, said: Any, error: str) -> None:
    server.says = lambda name, kind: said
    result = ask(server.series(protocol, 2))["a"]
    assert (result["asked"], result["answered"], result["errors"]) == (2, 0, {error: 2})


def test_silence_ends_a_series_and_tells_the_source_ports(server: Server) -> None:
    server.says = lambda name, kind: None
    result = ask(server.series("UDP", 10), timeout_s=0.05, most=2)["a"]
    assert (result["asked"], result["errors"], len(result["silent_ports"])) == (2, {"timed out": 2}, 2)
    assert ask(server.series("TCP", 1))["a"]["errors"] == {"the connection ended": 1}


def test_a_series_ends_in_time(server: Server) -> None:
    result = dns.ask({"series": [server.series("UDP", 10**6)], "timeout_s": 5, "most_unanswered": 3, "most_s": 0.05})["a"]
    assert 0 < result["asked"] == result["answered"] < 10**6


@pytest.mark.parametrize("lost", ["A", "AAAA"])
def test_a_pair_of_which_one_answer_is_missing(server: Server, lost: str) -> None:
    server.says = lambda name, kind: None if kind == lost else ["10.96.0.1"] if kind == "A" else ["fd00::1"]
    result = ask(server.series("pair", 2), timeout_s=0.1)["a"]
    assert (result["answered"], result["missing"], result["errors"]) == (0, {lost: 2}, {f"no answer for {lost}": 2})
    server.says = lambda name, kind: None
    assert ask(server.series("pair", 1), timeout_s=0.05)["a"]["errors"] == {"timed out": 1}
    server.says = lambda name, kind: 2
    assert ask(server.series("pair", 1))["a"]["errors"] == {"SERVFAIL": 1}


def test_nobody_there_and_nonsense(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for protocol in ("TCP", "UDP", "pair"):
        assert ask(server.series(protocol, 1, port=port))["a"]["errors"] == {"Connection refused": 1}
    for data in (b"", bytes(12)[:11], b"\0\0\x81\x80\0\1\0\1\0\0\0\0\5ab"):
        with pytest.raises(dns.Bad):
            dns.answer(data)
    assert dns.answer(struct.pack(">6H", 1, 0x8380, 0, 0, 0, 0)) == ("truncated", [])


@pytest.fixture
def https(tmp_path: Path) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Yield the port of a TLS server with a certificate that nobody trusts, and what it answers (``said``)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path).issue("nobody"))
    answers = {"said": b"HTTP/1.1 401 Unauthorized\r\n\r\n"}
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def work() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                with suppress(OSError), context.wrap_socket(plain, server_side=True) as sock:
                    sock.recv(4096)
                    sock.sendall(answers["said"])

        threading.Thread(target=work, daemon=True).start()
        yield listener.getsockname()[1], answers


def request(server: Server, port: int, *names: str, **changes: Any) -> dict[str, Any]:
    resolving = {"address": "127.0.0.1", "port": server.port, "names": names, "search": ["a.c", "c"], "ndots": 5, "timeout_s": 2.0}
    return dns.request({**resolving, "path": "/version", "https_port": port, "count": 2, "max_s": 30, **changes})


def test_requests_by_name_are_timed_in_parts(server: Server, https: tuple[int, dict[str, bytes]]) -> None:
    port, answers = https
    server.says = lambda name, kind: (["127.0.0.1"] if kind == "A" else []) if name == "k.c." else 3
    done = request(server, port, "k", "k.c.")
    assert {name: (len(item["requests"]), item["error"]) for name, item in done.items()} == {"k": (2, None), "k.c.": (2, None)}
    assert {part for item in done["k"]["requests"] for part in item} == {"resolve_ms", "connect_ms", "answer_ms"}
    assert all(value > 0 for item in done["k"]["requests"] for value in item.values())
    assert len(request(server, port, "k", count=9, max_s=0)["k"]["requests"]) == 1
    answers["said"] = b"220 no web server\r\n"
    assert request(server, port, "k")["k"] == {"requests": [], "error": "k: what answers there speaks no HTTP"}


def test_requests_that_do_not_get_there(server: Server) -> None:
    server.says = lambda name, kind: 3
    assert request(server, 1, "k")["k"] == {"requests": [], "error": "k: NXDOMAIN"}
    server.says = lambda name, kind: ["127.0.0.1"] if kind == "A" else []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    assert request(server, closed, "k")["k"] == {"requests": [], "error": "Connection refused"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = listener.getsockname()[1]
        assert request(server, silent, "k", timeout_s=0.2)["k"] == {"requests": [], "error": "timed out"}


def test_requests_to_what_speaks_no_tls(server: Server) -> None:
    server.says = lambda name, kind: ["127.0.0.1"] if kind == "A" else []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def work() -> None:
            plain, _ = listener.accept()
            with plain:
                plain.recv(4096)
                plain.sendall(b"220 no TLS here\r\n" * 10)

        threading.Thread(target=work, daemon=True).start()
        assert request(server, listener.getsockname()[1], "k")["k"] == {"requests": [], "error": "TLS: WRONG_VERSION_NUMBER"}


def walk(server: Server, name: str, ndots: int = 5) -> dict[str, Any]:
    params = {"address": "127.0.0.1", "port": server.port, "names": [name], "search": ["a.svc.c", "svc.c", "c"], "ndots": ndots}
    answers: dict[str, Any] = dns.walk({**params, "timeout_s": 0.1})[name]
    return answers


def test_names_are_found_by_the_search_list(server: Server) -> None:
    server.says = lambda name, kind: (["10.96.0.1"] if kind == "A" else []) if name == "k.d.svc.c." else 3
    assert walk(server, "k.d.svc") == {
        "questions": 6,
        "tried": [["k.d.svc.a.svc.c", "NXDOMAIN"], ["k.d.svc.svc.c", "NXDOMAIN"], ["k.d.svc.c", "NOERROR"]],
        "addresses": ["10.96.0.1"],
    }
    assert walk(server, "k.d.svc.c", ndots=3)["questions"] == walk(server, "k.d.svc.c.")["questions"] == 2


def test_what_nobody_answers_is_asked_again(server: Server) -> None:
    silent = {"k.a.svc.c."}
    server.says = lambda name, kind: None if name in silent else ["10.96.0.1"] if kind == "A" else None
    found = walk(server, "k")
    assert found["tried"] == [["k.a.svc.c", "no answer for A and AAAA"], ["k.svc.c", "no answer for AAAA"]]
    assert found["questions"] == 2 * dns.ATTEMPTS + 2
