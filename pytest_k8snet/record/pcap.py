"""Packets as a file that Wireshark and tcpdump read: pcapng, whose sections tell of each node by its devices' names."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping
from typing import Any

_LINKTYPE_LINUX_SLL2 = 276
_SECTION, _DEVICE, _PACKET = 0x0A0D0D0A, 1, 6
_COMMENT, _NAME = 1, 2  # options of a section, of a device


def section(node: str, frames: Iterable[Mapping[str, Any]]) -> bytes:
    """Return a section with the frames of one node, as the agent's program ``wire`` gives them. Sections are put behind each other."""
    frames = list(frames)
    devices = list(dict.fromkeys(frame["device"] for frame in frames))
    blocks = [_block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _option(_COMMENT, node))]
    for device in devices:
        blocks.append(_block(_DEVICE, struct.pack("<HHI", _LINKTYPE_LINUX_SLL2, 0, 0) + _option(_NAME, f"{node} {device}")))
    for frame in frames:
        number, at_us = devices.index(frame["device"]), int(frame["at_s"] * 1e6)
        # The index in here is of a device of the machine that reads it: the section's own names are what counts.
        head = struct.pack(">HHIHBB8x", frame["protocol"], 0, 0, frame["hardware"], frame["direction"], 0)
        data = head + base64.b64decode(frame["data"])
        fixed = struct.pack("<IIIII", number, at_us >> 32, at_us & 0xFFFFFFFF, len(data), len(head) + frame["length"])
        blocks.append(_block(_PACKET, fixed + _padded(data)))
    return b"".join(blocks)


def _option(code: int, text: str) -> bytes:
    data = text.encode()
    return struct.pack("<HH", code, len(data)) + _padded(data) + bytes(4)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length
