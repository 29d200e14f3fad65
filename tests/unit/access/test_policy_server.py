"""The program of the pods that a NetworkPolicy selects, run as they run it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pytest_k8snet.access import probe_policies
from pytest_k8snet.agent.traffic import ask


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    with socket.socket() as one, socket.socket() as other:
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
        free = (one.getsockname()[1], other.getsockname()[1])
    monkeypatch.setattr(probe_policies, "PORTS", free)
    _, *arguments = probe_policies.command("policy-node-1")
    with subprocess.Popen([sys.executable, *arguments]) as server:
        try:
            yield free
        finally:
            server.kill()


def asked(port: int) -> dict[str, object]:
    return ask({"address": "127.0.0.1", "port": port, "protocol": "TCP"}, 1, 5.0)


def test_each_port_says_whose_it_is_and_whom_it_sees(ports: tuple[int, int]) -> None:
    until = time.monotonic() + 20
    while asked(ports[0])["error"] is not None and time.monotonic() < until:
        time.sleep(0.05)
    for port in ports:
        answer = asked(port)
        assert (answer["name"], answer["error"]) == ("policy-node-1", None)
        assert isinstance(answer["peer"], list)
        assert answer["peer"][0] == "127.0.0.1", "as an address of IPv4, whatever the socket is"


def test_the_program_needs_nothing_but_python() -> None:
    python, isolated, _, source, name, *numbers = probe_policies.command("policy-node-1")
    assert (python, isolated, name) == ("python3", "-I", "policy-node-1")
    assert numbers == ["8722", "8723", "8724"]
    assert "pytest_k8snet" not in source
