"""Reading Cilium's maps: with a kernel of our own in bpf(2)'s place."""

from __future__ import annotations

import base64
import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.agent import cilium
from pytest_k8snet.agent.agent import HOST_ROOT, Failed

SERVICES = f"{HOST_ROOT}{cilium.MAPS}cilium_lb4_services_v2"
BACKENDS = f"{HOST_ROOT}{cilium.MAPS}cilium_lb4_backends_v3"


class Kernel:
    """bpf(2) with maps of two-byte keys and one-byte values."""

    def __init__(self, folder: Path, maps: dict[str, dict[bytes, bytes]]) -> None:
        self.maps = maps
        self.opened: dict[int, str] = {}
        self.flags: set[int] = set()
        self.lost: set[bytes] = set()
        self._folder = folder

    def __call__(self, command: int, attributes: bytes) -> int:
        if command == cilium.BPF_OBJ_GET:
            pointer, _, flags = struct.unpack("=QII", attributes)
            path = ctypes.string_at(pointer).decode()
            if path not in self.maps:
                raise OSError(errno.ENOENT, "No such file or directory")
            self.flags.add(flags)
            descriptor = os.open(self._folder, os.O_RDONLY)
            self.opened[descriptor] = path
            return descriptor
        if command == cilium.BPF_OBJ_GET_INFO_BY_FD:
            _, _, pointer = struct.unpack("=IIQ", attributes)
            ctypes.memmove(pointer, struct.pack("=IIII", 1, 7, 2, 1), 16)
            return 0
        descriptor, _, key, value, _ = struct.unpack("=IIQQQ", attributes)
        entries = self.maps[self.opened[descriptor]]
        wanted = ctypes.string_at(key, 2) if key else None
        if command == cilium.BPF_MAP_LOOKUP_ELEM:
            assert wanted is not None
            if wanted in self.lost:
                raise OSError(errno.ENOENT, "No such file or directory")
            ctypes.memmove(value, entries[wanted], 1)
            return 0
        assert command == cilium.BPF_MAP_GET_NEXT_KEY
        keys = [*entries]
        following = keys[keys.index(wanted) + 1 :] if wanted is not None else keys
        if not following:
            raise OSError(errno.ENOENT, "No such file or directory")
        ctypes.memmove(value, following[0], 2)
        return 0


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    made = Kernel(tmp_path, {SERVICES: {b"aa": b"1", b"bb": b"2"}, BACKENDS: {}})
    monkeypatch.setattr(cilium, "system_call", lambda: made)
    yield made
    for descriptor in made.opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def entries(answer: dict[str, Any]) -> bytes:
    return base64.b64decode(answer["4"]["services"]["entries"])


def test_maps_are_opened_for_reading_and_read_whole(kernel: Kernel) -> None:
    answer = cilium.maps({})
    assert answer["4"]["services"] == {"key_bytes": 2, "value_bytes": 1, "entries": base64.b64encode(b"aa1bb2").decode()}
    assert answer["4"]["backends"]["entries"] == ""
    assert answer["6"] is None, "a cluster without IPv6 has no such map"
    assert answer["big_endian"] is False
    assert kernel.flags == {cilium.BPF_F_RDONLY}


def test_a_key_that_goes_meanwhile_is_left_out(kernel: Kernel) -> None:
    kernel.lost = {b"aa"}
    assert entries(cilium.maps({})) == b"bb2"


def test_a_map_that_changes_all_the_time_is_an_error(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cilium, "MOST_ENTRIES", 2)
    kernel.maps[SERVICES][b"cc"] = b"3"
    with pytest.raises(Failed, match="changes faster than it can be read: 2 entries"):
        cilium.maps({})


def test_a_map_that_may_not_be_opened_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(command: int, attributes: bytes) -> int:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(cilium, "system_call", lambda: refuse)
    with pytest.raises(Failed, match="cilium_lb4_services_v2: Operation not permitted"):
        cilium.maps({})


def test_a_processor_whose_system_calls_are_not_known_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    with pytest.raises(Failed, match=r"vax: the number of bpf\(2\) on this processor is not known"):
        cilium.system_call()


def test_the_system_call_tells_its_error() -> None:
    with pytest.raises(OSError, match=r"."):
        cilium.system_call()(cilium.BPF_MAP_LOOKUP_ELEM, bytes(32))
