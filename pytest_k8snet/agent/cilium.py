"""Reads Cilium's maps of Services out of the kernel: what packets to a Service meet there, whatever the agent believes.

A program of the agent (see agent.py), sent when its operation is first asked for:

- ``maps``: by address family (``4``, ``6``) the maps of ``services`` and ``backends`` that are pinned there, None for one that is not.
  Of each its ``key_bytes``, ``value_bytes``, and ``entries``: of all keys and values, one after the other, the text in base 64.
  ``big_endian`` says how the node writes numbers

Maps are opened for reading only. Those of a node with thousands of Services take a system call or two for each entry.
"""
# pathlib is not imported on nodes: starting fast matters there.

from __future__ import annotations

import base64
import ctypes
import os
import platform
import struct
import sys

from pytest_k8snet.agent.agent import HOST_ROOT, Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    Bpf = Callable[[int, bytes], int]

MAPS = "/sys/fs/bpf/tc/globals/"  # where Cilium pins its maps (pkg/bpf/bpffs_linux.go)
NAMES = {"4": ("cilium_lb4_services_v2", "cilium_lb4_backends_v3"), "6": ("cilium_lb6_services_v2", "cilium_lb6_backends_v3")}
MOST_ENTRIES = 1_000_000  # a map that changes while it is read begins again: not for ever

# linux/bpf.h
NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}  # of the system call
BPF_MAP_LOOKUP_ELEM, BPF_MAP_GET_NEXT_KEY, BPF_OBJ_GET, BPF_OBJ_GET_INFO_BY_FD = 1, 4, 7, 15
BPF_F_RDONLY = 1 << 3
INFO_BYTES = 80
ENOENT = 2


def maps(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``maps``."""
    del params
    found: dict[str, Any] = {"big_endian": sys.byteorder == "big"}
    bpf = system_call()
    for family, names in NAMES.items():
        services, backends = [read_map(bpf, HOST_ROOT + MAPS + name) for name in names]
        found[family] = None if services is None else {"services": services, "backends": backends}
    return found


def system_call() -> Bpf:
    """Return what makes the system call bpf(2)."""
    number = NUMBERS.get(platform.machine())
    if number is None:
        raise Failed("tool", f"{platform.machine()}: the number of bpf(2) on this processor is not known")
    library = ctypes.CDLL(None, use_errno=True)

    def bpf(command: int, attributes: bytes) -> int:
        result = library.syscall(ctypes.c_long(number), ctypes.c_int(command), ctypes.c_char_p(attributes), ctypes.c_uint(len(attributes)))
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return int(result)

    return bpf


def read_map(bpf: Bpf, path: str) -> dict[str, Any] | None:
    """Return a pinned map, None where there is none."""
    name = ctypes.create_string_buffer(path.encode())
    try:
        descriptor = bpf(BPF_OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, BPF_F_RDONLY))
    except OSError as error:
        if error.errno == ENOENT:
            return None
        raise Failed("failed", f"{path}: {error.strerror}") from error
    try:
        info = ctypes.create_string_buffer(INFO_BYTES)
        bpf(BPF_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", descriptor, INFO_BYTES, ctypes.addressof(info)))
        key_bytes, value_bytes = struct.unpack_from("=II", info.raw, 8)  # after type and id
        entries = b"".join(read_entries(bpf, descriptor, key_bytes, value_bytes))
    except OSError as error:
        raise Failed("failed", f"{path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return {"key_bytes": key_bytes, "value_bytes": value_bytes, "entries": base64.b64encode(entries).decode()}


def read_entries(bpf: Bpf, descriptor: int, key_bytes: int, value_bytes: int) -> Iterator[bytes]:
    """Yield each key with its value, once: when a key goes meanwhile the kernel begins again."""
    key, value = ctypes.create_string_buffer(key_bytes), ctypes.create_string_buffer(value_bytes)
    lookup = struct.pack("=IIQQQ", descriptor, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
    next_key = struct.pack("=IIQQQ", descriptor, 0, ctypes.addressof(key), ctypes.addressof(key), 0)
    first_key = struct.pack("=IIQQQ", descriptor, 0, 0, ctypes.addressof(key), 0)
    seen = set()
    for number in range(MOST_ENTRIES):
        try:
            bpf(BPF_MAP_GET_NEXT_KEY, next_key if number else first_key)
        except OSError as error:
            if error.errno == ENOENT:
                return
            raise
        if key.raw in seen:
            continue
        seen.add(key.raw)
        try:
            bpf(BPF_MAP_LOOKUP_ELEM, lookup)
        except OSError as error:
            if error.errno == ENOENT:
                continue
            raise
        yield key.raw + value.raw
    raise Failed("failed", f"a map of Cilium's changes faster than it can be read: {MOST_ENTRIES} entries were")


OPERATIONS = {"maps": maps}
