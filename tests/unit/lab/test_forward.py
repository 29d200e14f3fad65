"""The forwarder as the lab starts it: a process with listening sockets, here with targets on loopback."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.unit.lab.children import PATIENCE_S

BIG = bytes(range(256)) * 8192  # more than all buffers on the way hold


class Forwarder:
    """Its ports, and the sockets they lead to."""

    def __init__(self, ports: dict[str, int], target: socket.socket) -> None:
        self.ports = ports
        self.target = target

    def connect(self, name: str = "target") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[name]), timeout=PATIENCE_S)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Give both ends of a new connection."""
        here = self.connect()
        there, _ = self.target.accept()
        there.settimeout(PATIENCE_S)
        return here, there


@pytest.fixture(scope="module")
def forwarder() -> Iterator[Forwarder]:
    with ExitStack() as opened:
        target = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        target.settimeout(PATIENCE_S)
        # Bound, and nobody listens: connections are refused, and nobody else can get the port meanwhile.
        closed = opened.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        listening = {name: opened.enter_context(socket.create_server(("127.0.0.1", 0))) for name in ("target", "closed")}
        targets = {"target": target, "closed": closed}
        arguments = [f"{listening[name].fileno()}=127.0.0.1:{targets[name].getsockname()[1]}" for name in listening]
        with subprocess.Popen(
            [sys.executable, "-m", "pytest_k8snet.lab.forward", *arguments],
            pass_fds=[known.fileno() for known in listening.values()],
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            ports = {name: known.getsockname()[1] for name, known in listening.items()}
            for known in listening.values():
                known.close()
            try:
                yield Forwarder(ports, target)
            finally:
                process.terminate()
                _, said = process.communicate(timeout=PATIENCE_S)
        assert said == "", "it has nothing to say, whatever its clients do"


def read_all(end: socket.socket) -> bytes:
    data = b""
    while chunk := end.recv(65536):
        data += chunk
    return data


def test_bytes_go_both_ways(forwarder: Forwarder) -> None:
    here, there = forwarder.pair()
    with here, there:
        here.sendall(b"ask")
        assert there.recv(10) == b"ask"
        there.sendall(b"answer")
        assert here.recv(10) == b"answer"


def test_much_arrives_whole_and_in_order_in_both_directions_at_once(forwarder: Forwarder) -> None:
    here, there = forwarder.pair()
    with here, there:
        received: dict[str, bytes] = {}

        def send(end: socket.socket) -> None:
            end.sendall(BIG)
            end.shutdown(socket.SHUT_WR)

        def receive(name: str, end: socket.socket) -> None:
            received[name] = read_all(end)

        threads = [threading.Thread(target=send, args=(end,)) for end in (here, there)]
        threads += [threading.Thread(target=receive, args=item) for item in (("here", here), ("there", there))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert received == {"here": BIG, "there": BIG}


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_side_that_has_said_all_can_still_listen(forwarder: Forwarder, first: str) -> None:
    here, there = forwarder.pair()
    with here, there:
        one, other = (here, there) if first == "client" else (there, here)
        one.sendall(b"all")
        one.shutdown(socket.SHUT_WR)
        assert read_all(other) == b"all"
        other.sendall(b"late")
        other.close()
        assert read_all(one) == b"late"


def test_connections_do_not_wait_for_each_other(forwarder: Forwarder) -> None:
    with ExitStack() as opened:
        pairs = [forwarder.pair() for _ in range(5)]
        for here, there in pairs:
            opened.enter_context(here)
            opened.enter_context(there)
        for number, (here, there) in reversed(list(enumerate(pairs))):
            here.sendall(bytes([number]))
            assert there.recv(1) == bytes([number])


def test_a_target_that_refuses_ends_the_connection(forwarder: Forwarder) -> None:
    with forwarder.connect("closed") as here:
        assert read_all(here) == b""


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_side_that_breaks_off_ends_the_other(forwarder: Forwarder, first: str) -> None:
    here, there = forwarder.pair()
    with here, there:
        here.sendall(b"x")
        assert there.recv(1) == b"x"
        one, other = (here, there) if first == "client" else (there, here)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset instead of an end
        one.close()
        assert read_all(other) == b""
