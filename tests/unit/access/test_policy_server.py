"""The program of the pods that a NetworkPolicy selects, run as they run it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from pytest_k8snet.access import policy_server, probe_policies
from pytest_k8snet.agent.traffic import ask, through


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    with socket.socket() as one, socket.socket() as other, socket.socket() as relay:
        for sock in (one, other, relay):
            sock.bind(("127.0.0.1", 0))
        free = (one.getsockname()[1], other.getsockname()[1])
        monkeypatch.setattr(probe_policies, "RELAY_PORT", relay.getsockname()[1])
    monkeypatch.setattr(probe_policies, "PORTS", free)
    _, *arguments = probe_policies.command("policy-node-1")
    with subprocess.Popen([sys.executable, *arguments]) as server:
        try:
            yield free
        finally:
            server.kill()


def asked(port: int, protocol: str = "TCP") -> dict[str, object]:
    return ask({"address": "127.0.0.1", "port": port, "protocol": protocol}, 1, 5.0)


def wait_for(port: int) -> None:
    until = time.monotonic() + 20
    while asked(port)["error"] is not None and time.monotonic() < until:
        time.sleep(0.05)


def test_each_port_says_whose_it_is_and_whom_it_sees(ports: tuple[int, int]) -> None:
    wait_for(ports[-1])
    for port in ports:
        answer = asked(port)
        assert (answer["name"], answer["error"]) == ("policy-node-1", None)
        assert isinstance(answer["peer"], list)
        assert answer["peer"][0] == "127.0.0.1", "as an address of IPv4, whatever the socket is"


def test_datagrams_are_answered_as_well(ports: tuple[int, int]) -> None:
    wait_for(ports[-1])
    answer = asked(ports[0], "UDP")
    assert (answer["name"], answer["error"]) == ("policy-node-1", None)
    assert isinstance(answer["peer"], list)
    assert answer["peer"][0] == "127.0.0.1"


def test_an_answer_is_not_answered(ports: tuple[int, int]) -> None:
    """Sent in another server's name it would go back and forth between the two."""
    wait_for(ports[-1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", ports[0]))
        sock.settimeout(5)
        sock.send(b"first\n".ljust(512))
        answer = sock.recv(1000)
        assert b"first" in answer
        sock.send(answer)
        sock.send(b"second\n".ljust(512))
        assert b"second" in sock.recv(1000)


def test_a_question_shorter_than_its_answer_is_none(ports: tuple[int, int]) -> None:
    """Its sender's address may be forged: nobody is sent more than came in their name."""
    wait_for(ports[-1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", ports[0]))
        sock.settimeout(5)
        sock.send(b"short\n")
        question = b"long\n".ljust(512)
        sock.send(question)
        answer = sock.recv(1000)
        assert b"long" in answer
        assert len(answer) <= len(question)
        sock.send(b"exact\n".ljust(len(answer) + 1))
        assert b"exact" in sock.recv(1000)


def test_it_asks_whom_it_is_told_to_and_on_its_own_ports_alone(ports: tuple[int, int]) -> None:
    wait_for(ports[-1])
    here = {"address": "127.0.0.1"}
    wanted = [
        {**here, "key": "tcp", "port": ports[0], "protocol": "TCP"},
        {**here, "key": "udp", "port": ports[1], "protocol": "UDP"},
        {**here, "key": "elsewhere", "port": 22, "protocol": "TCP"},
        {"address": "127.0.0.2", "key": "nonsense", "port": ports[0], "protocol": "TCP", "more": None},
    ]
    relay = {"address": "127.0.0.1", "port": probe_policies.RELAY_PORT, "wanted": wanted, "timeout_s": 5}
    answer = through({**relay, "targets": [{**here, "key": "0", "port": ports[0], "protocol": "TCP"}]})
    assert answer["through"]["answers"].keys() == {"tcp", "udp", "nonsense"}
    told = {"name": "policy-node-1", "error": None}
    assert answer["through"] == {"name": "policy-node-1", "error": None, "answers": dict.fromkeys(("tcp", "udp", "nonsense"), told)}
    assert answer["answers"]["0"]["name"] == "policy-node-1"


def test_what_is_no_wish_is_not_answered(ports: tuple[int, int]) -> None:
    wait_for(ports[-1])
    with socket.create_connection(("127.0.0.1", probe_policies.RELAY_PORT), timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert sock.recv(100) == b""
    assert asked(ports[0])["name"] == "policy-node-1", "and the next one is"


def test_what_goes_wrong_on_the_way_to_it_is_told() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        relay = {"address": "127.0.0.1", "port": closed.getsockname()[1], "wanted": [], "targets": [], "timeout_s": 1}
        assert through(relay) == {"through": {"name": None, "answers": {}, "error": "Connection refused"}, "answers": {}}
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay["port"] = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert through(relay)["through"]["error"] == "something else answers there"
        thread.join()


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ({"address": "127.0.0.1", "port": 1, "protocol": "TCP"}, "Connection refused"),
        ({"address": "127.0.0.1", "port": 1, "protocol": "UDP"}, "Connection refused"),
        ({"address": "127.0.0.1", "port": 1}, "something else answers there"),
    ],
)
def test_errors_of_what_it_asks(target: dict[str, object], error: str) -> None:
    assert policy_server.ask(target, 1.0) == {"name": None, "error": error}


def test_what_does_not_answer_in_time() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        target = {"address": "127.0.0.1", "port": silent.getsockname()[1], "protocol": "UDP"}
        assert policy_server.ask(target, 0.1) == {"name": None, "error": "timed out"}


def test_the_program_needs_nothing_but_python() -> None:
    python, isolated, _, source, name, *numbers = probe_policies.command("policy-node-1")
    assert (python, isolated, name) == ("python3", "-I", "policy-node-1")
    assert numbers == ["8726", "8722", "8723", "8724", "8725"]
    assert "pytest_k8snet" not in source
