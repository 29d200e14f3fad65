"""Loses frames on a node's wire: a classic BPF program at the node's tap decides which of those that are sent to the node get there.

The program is attached by the tap's own descriptor, borrowed from the node's process. Unlike a queueing discipline it needs no module, and
the node itself sees nothing of it. It runs in the lab's namespaces, as ``python -m pytest_k8snet.lab.tap_filter PID TAP [PROGRAM]``.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import struct
import sys
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

Instruction = tuple[int, int, int, int]
"""Code, jump if so, jump if not, value (linux/filter.h)."""

_ATTACH, _DETACH = 0x401054D5, 0x401054D6  # linux/if_tun.h: TUNATTACHFILTER, TUNDETACHFILTER
_PIDFD_GETFD = 438
_ALL, _NOTHING = 0xFFFFFFFF, 0


def one_in(number: int, source: IPv4Network, length_bytes: int) -> list[Instruction]:
    """Return a program that drops one in `number` UDP packets of that length, as IP has it, from `source`, at random."""
    tests = [
        ((0x28, 0, 0, 12), 0x0800),  # Ethernet's type
        ((0x30, 0, 0, 23), 17),
        ((0x28, 0, 0, 16), length_bytes),
        ((0x20, 0, 0, 26), int(source.network_address)),
    ]
    program: list[Instruction] = []
    for load, value in tests:
        program.append(load)
        if load[3] == 26:
            program.append((0x54, 0, 0, int(source.netmask)))
        program.append((0x15, 0, -1, value))
    program += [
        (0x20, 0, 0, 0xFFFFF000 + 56),  # a random number
        (0x94, 0, 0, number),  # the rest of its division
        (0x15, 0, 1, 0),
        (0x06, 0, 0, _NOTHING),
        (0x06, 0, 0, _ALL),
    ]
    last = len(program) - 1
    return [(code, so, last - place - 1 if other < 0 else other, value) for place, (code, so, other, value) in enumerate(program)]


def set_filter(pid: int, tap: str, program: Sequence[Instruction] | None) -> None:
    """Attach a program to a tap that the process `pid` has open, or take the one away that is there.

    Raises `OSError` when the process may not be borrowed from, `LookupError` when it has no such tap.
    """
    descriptor = _borrow(pid, tap)
    try:
        if program is None:
            fcntl.ioctl(descriptor, _DETACH, bytes(16))
        else:
            code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
            fcntl.ioctl(descriptor, _ATTACH, struct.pack("HL", len(program), ctypes.addressof(code)))
    finally:
        os.close(descriptor)


def _borrow(pid: int, tap: str) -> int:
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        if f"iff:\t{tap}\n" in _text(info):
            holder = os.pidfd_open(pid)
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                borrowed: int = libc.syscall(_PIDFD_GETFD, holder, int(info.name), 0)
                if borrowed < 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                return borrowed
            finally:
                os.close(holder)
    raise LookupError(f"process {pid} has no tap {tap}")


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # closed meanwhile
        return ""


if __name__ == "__main__":
    set_filter(int(sys.argv[1]), sys.argv[2], [tuple(line) for line in json.loads(sys.argv[3])] if len(sys.argv) > 3 else None)
