"""What gets to a node is chosen by a program at its tap: here by the kernel of this machine, on a socket."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from pytest_k8snet.agent.wire import attach
from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.running import RunningLab
from pytest_k8snet.lab.settings import LabSettings
from pytest_k8snet.lab.tap_filter import one_in, set_filter
from tests.unit.lab.samples import running

SOURCE = IPv4Network("10.200.1.0/24")


def frame(length: int = 128, source: str = "10.200.1.3", protocol: int = 17, ethertype: int = 0x0800) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, length, 0, 0, 64, protocol, 0) + socket.inet_aton(source) + socket.inet_aton("10.200.2.3")
    return bytes(12) + struct.pack(">H", ethertype) + head + bytes(length - 20)


def passed(number: int, frames: list[bytes]) -> int:
    """Return how many frames get through the program."""
    into, out = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with into, out:
        attach(out, one_in(number, SOURCE, 128))
        out.setblocking(False)
        count = 0
        for item in frames:
            into.send(item)
            with contextlib.suppress(BlockingIOError):
                count += len(out.recv(2000)) == len(item)
        return count


@pytest.mark.parametrize(
    "other", [frame(129), frame(source="10.200.2.3"), frame(protocol=6), frame(ethertype=0x86DD)], ids=["length", "source", "tcp", "ipv6"]
)
def test_other_frames_pass(other: bytes) -> None:
    assert passed(1, [other]) == 1


def test_of_the_chosen_ones_some_are_lost() -> None:
    assert passed(1, [frame()] * 10) == 0
    assert 100 < passed(2, [frame()] * 400) < 300


def test_a_process_without_the_tap() -> None:
    with pytest.raises(LookupError, match=f"process {os.getpid()} has no tap tap-node-1"):
        set_filter(os.getpid(), "tap-node-1", None)


def test_a_node_that_is_not_there(tmp_path: Path) -> None:
    lab = RunningLab.find(running(tmp_path, LabSettings(name="mine"), ports={"api": 4001, "node-1": 4002}))
    with pytest.raises(LabError, match="lab mine has no node node-9"):
        lab.filter_wire("node-9", None)
