from __future__ import annotations

import json
import pkgutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet import agent
from pytest_k8snet.access.client import program_source
from pytest_k8snet.agent import traffic
from pytest_k8snet.agent.agent import connect_to
from tests.unit.agent.test_agent import LocalAgent


@pytest.fixture
def server() -> Iterator[dict[str, Any]]:
    served = traffic.serve({"name": "node-1", "port": 0, "max_s": 30})
    yield served
    traffic.stop(served)
    assert traffic.stop(served) is False


def target(server: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"key": "a", "address": "127.0.0.1", "port": server["port"], "protocol": "TCP", **changes}


def ask(*targets: dict[str, Any], timeout_s: float = 5.0, tries: int = 1) -> dict[str, Any]:
    return traffic.connect({"targets": targets, "tries": tries, "timeout_s": timeout_s})


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "::1"])
def test_servers_tell_who_they_are_and_whom_they_see(server: dict[str, Any], protocol: str, address: str) -> None:
    """A datagram is answered from the address it came to: a socket that is connected takes no other."""
    if ":" in address and "IPv6" not in server["families"]:
        pytest.skip("no IPv6 here")
    answer = ask(target(server, protocol=protocol, address=address))["a"]
    assert (answer["name"], answer["error"], answer["tries"], answer["refused"]) == ("node-1", None, 1, False)
    assert answer["peer"][0] == ("::1" if ":" in address else "127.0.0.1")
    assert answer["ms"] > 0


def test_an_answer_is_not_answered(server: dict[str, Any]) -> None:
    """Sent in another server's name it would go back and forth between the two."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server["port"]))
        sock.settimeout(5)
        sock.send(b"first\n".ljust(512))
        answer = sock.recv(1000)
        assert b"first" in answer
        sock.send(answer)
        sock.send(b"second\n".ljust(512))
        assert b"second" in sock.recv(1000)


def test_a_question_shorter_than_its_answer_is_none(server: dict[str, Any]) -> None:
    """Its sender's address may be forged: nobody is sent more than came in their name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server["port"]))
        sock.settimeout(5)
        sock.send(b"short\n")
        question = b"long\n".ljust(512)
        sock.send(question)
        answer = sock.recv(1000)
        assert b"long" in answer
        assert len(answer) <= len(question)
        sock.send(b"exact\n".ljust(len(answer) + 1))
        assert b"exact" in sock.recv(1000)


def test_many_at_once(server: dict[str, Any]) -> None:
    asked = [target(server, key=str(number), protocol=protocol) for number, protocol in enumerate(("TCP", "UDP") * 40)]
    answers = ask(*asked)
    assert sorted(answers, key=int) == [str(number) for number in range(80)]
    assert {answer["error"] for answer in answers.values()} == {None}


def test_a_connection_is_echoed(server: dict[str, Any]) -> None:
    with socket.create_connection(("127.0.0.1", server["port"]), timeout=5) as sock:
        stream = sock.makefile("rwb")
        assert json.loads(stream.readline())["name"] == "node-1"
        stream.write(b"hello\n")
        stream.flush()
        assert stream.readline() == b"hello\n"


def test_two_servers_of_a_run_on_one_port(server: dict[str, Any]) -> None:
    second = traffic.serve({"name": "node-1", "port": server["port"], "max_s": 30})
    traffic.stop(server)
    assert ask(target(second))["a"]["name"] == "node-1"
    traffic.stop(second)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_nobody_listens(server: dict[str, Any], protocol: str) -> None:
    traffic.stop(server)
    answer = ask(target(server, protocol=protocol), tries=2)["a"]
    assert (answer["name"], answer["error"], answer["refused"], answer["tries"]) == (None, "Connection refused", True, 2)


def test_server_ends_by_itself() -> None:
    served = traffic.serve({"name": "node-1", "port": 0, "max_s": 0.0})
    traffic.servers[served["number"]].thread.join(10)
    assert ask(target(served))["a"]["error"] == "Connection refused"
    traffic.stop(served)


@pytest.mark.parametrize(("protocol", "says"), [("TCP", b"220 smtp\r\n"), ("TCP", b""), ("UDP", b'{"name": 1, "peer": 2, "token": "x"}\n')])
def test_something_else_answers(protocol: str, says: bytes) -> None:
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if protocol == "TCP":
            sock.listen()

        def answer() -> None:
            if protocol == "TCP":
                connection, _ = sock.accept()
                with connection:
                    connection.sendall(says)
            else:
                _, peer = sock.recvfrom(100)
                sock.sendto(says, peer)

        thread = threading.Thread(target=answer)
        thread.start()
        got = ask(target({"port": sock.getsockname()[1]}, protocol=protocol))["a"]
        thread.join(10)
    assert (got["name"], got["error"]) == (None, "something else answers there")


def test_a_server_begins_on_a_port_that_a_connection_came_from() -> None:
    """Where ip_local_port_range begins at 1024 that may be any port; the kernel remembers the connection for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        with connect_to("localhost", elsewhere.getsockname()[1], 5.0) as sock:
            port = sock.getsockname()[1]
            taken, _ = elsewhere.accept()
        with taken:
            assert taken.recv(1) == b"", "the side that closes first is the one that remembers"
    served = traffic.serve({"name": "node-1", "port": port, "max_s": 30})
    assert served["port"] == port
    traffic.stop({"number": served["number"]})


def test_what_connects_lets_its_port_be_used_again() -> None:
    """A program that connects by another way would take the port of a server that is to begin later."""
    for program in pkgutil.iter_modules(agent.__path__):
        assert "create_connection" not in Path(agent.__path__[0], f"{program.name}.py").read_text(), program.name


def test_nobody_answers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        answer = ask(target({"port": silent.getsockname()[1]}, protocol="UDP"), timeout_s=0.05, tries=3)["a"]
    assert (answer["error"], answer["tries"], answer["refused"]) == ("timed out", 3, False)


def test_as_a_program_of_the_agent() -> None:
    agent = LocalAgent()
    with agent.process:
        assert agent.ask("load", name="traffic", source=program_source("traffic"))["result"] is None
        served = agent.ask("traffic.serve", name="node-1", port=0, max_s=30)["result"]
        answers = agent.ask("traffic.connect", targets=[target(served)], tries=1, timeout_s=5)["result"]
        assert answers["a"]["name"] == "node-1"
        port = served["port"]
        agent.ask("traffic.stop", number=served["number"])
        assert agent.ask("traffic.serve", name="node-1", port=port, max_s=30)["result"]["port"] == port
        with socket.create_server(("127.0.0.1", 0)) as foreign:
            taken = agent.ask("traffic.serve", name="node-1", port=foreign.getsockname()[1], max_s=30)
        assert taken["error"]["message"].endswith(": Address already in use")
        assert agent.process.stdin is not None
        agent.process.stdin.close()
        assert agent.process.wait(10) == 0
