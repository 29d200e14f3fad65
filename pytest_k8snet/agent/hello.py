"""Greets TLS servers and says whether they answered: a connection, a ClientHello, and what came back.

A program of the agent (see agent.py), sent when this operation is first asked for:

- ``greet``: ``targets`` (``key``, ``address``, ``port``), ``tries``, ``timeout_s``, ``settle_s`` (for so long
  it tries on whatever the number of tries); greets all of them at once. Gives for each key
  ``connected_ms``, ``answered_ms`` (null: not so far), ``tries`` that it took, and ``error``. No handshake is completed and nothing is
  authenticated: an alert is an answer as well
"""

from __future__ import annotations

import os
import socket
import struct
import time

from pytest_k8snet.agent.agent import connect_to, in_threads, said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HANDSHAKE, ALERT = 22, 21
BETWEEN_S = 2.0  # tries, when the first ones were in vain
CIPHERS = (0x1301, 0x1302, 0x1303, 0xC02F, 0xC02B, 0xC030, 0xC02C, 0x009C)
GROUPS = (29, 23, 24)
SIGNATURES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0603, 0x0806, 0x0601)


def sized(data: bytes, width: int) -> bytes:
    """Return data behind its length."""
    return len(data).to_bytes(width, "big") + data


def numbers(values: tuple[int, ...]) -> bytes:
    """Return numbers of two bytes."""
    return b"".join(struct.pack(">H", value) for value in values)


def client_hello() -> bytes:
    """Return a ClientHello for TLS 1.2 and 1.3 without a name (RFC 8446, 4.1.2)."""
    extensions = {
        10: sized(numbers(GROUPS), 2),
        13: sized(numbers(SIGNATURES), 2),
        43: sized(numbers((0x0304, 0x0303)), 1),
        51: sized(numbers((29,)) + sized(os.urandom(32), 2), 2),
    }
    listed = b"".join(struct.pack(">H", number) + sized(data, 2) for number, data in extensions.items())
    body = b"\x03\x03" + os.urandom(32) + sized(os.urandom(32), 1) + sized(numbers(CIPHERS), 2) + b"\x01\x00" + sized(listed, 2)
    message = b"\x01" + sized(body, 3)
    return b"\x16\x03\x01" + sized(message, 2)


def greet(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``greet``."""
    tries, timeout_s, settle_s = int(params["tries"]), float(params["timeout_s"]), float(params.get("settle_s", 0.0))
    return in_threads([*params["targets"]], lambda target: greeted(target["address"], int(target["port"]), tries, timeout_s, settle_s))


def greeted(address: str, port: int, tries: int, timeout_s: float, settle_s: float) -> dict[str, Any]:
    """Greet one server, again when it does not answer: so many times, and for `settle_s`."""
    result: dict[str, Any] = {}
    begun = time.monotonic()
    number = 0
    while number < tries or time.monotonic() - begun < settle_s:
        number += 1
        if number > tries:
            time.sleep(BETWEEN_S)
        result = {"connected_ms": None, "answered_ms": None, "tries": number, "error": None}
        start = time.monotonic()
        try:
            with connect_to(address, port, timeout_s) as sock:
                result["connected_ms"] = round((time.monotonic() - start) * 1000, 2)
                sock.sendall(client_hello())
                data = b""
                while len(data) < 5:
                    sock.settimeout(max(0.001, start + timeout_s - time.monotonic()))
                    part = sock.recv(4096)
                    if not part:
                        break
                    data += part
            if len(data) < 5:
                result["error"] = "the connection ended without an answer to the TLS hello"
            elif data[0] not in (HANDSHAKE, ALERT) or data[1] != 3:
                result["error"] = "what answers there speaks no TLS"
            else:
                result["answered_ms"] = round((time.monotonic() - start) * 1000, 2)
                break
        except socket.timeout:  # noqa: UP041 - its name before Python 3.10
            result["error"] = "timed out" if result["connected_ms"] is None else "connected, but the TLS hello was not answered"
        except OSError as error:
            result["error"] = said(error)
    return result


OPERATIONS = {"greet": greet}
