"""Measures times: how long little answers take over open connections, how long connections take to open, and how late this node wakes up.

A program of the agent (see agent.py), sent when one of these operations is first asked for. Its server is that of the program ``pathmtu``.

- ``rtt``: ``address``, ``port``, ``samples``, ``max_s``; sends a few bytes over one TCP connection and waits for them to come back, again
  and again. Gives ``sorted_ms``, the times in their order of size, and ``jitter_ms``, the mean of how much one differs from the one before
- ``connect``: ``address``, ``port``, ``samples``, ``timeout_s``; opens connections one after the other and closes them at once. Gives
  ``sorted_ms``, and ``error`` with which some of them failed, or null
- ``begin``: ``address``, ``port``, ``after_s``, ``max_s``; does as ``rtt`` in the background, every `EVERY_S`, beside whatever else this
  agent is asked for, and counts from ``after_s`` on. Gives ``number``
- ``end``: ``number``; gives ``sorted_ms`` and ``jitter_ms`` of what was begun, and ``error``, which ended it early, or null
- ``echo``: ``address``, ``samples``, ``timeout_s``, ``most_lost``, ``max_s``; sends ICMP echo requests one after the other, by a socket
  for pings or else a raw one, and ends after so many in a row that nobody answers. Gives ``refused``, why this place may have neither, or
  null, ``sorted_ms``, ``jitter_ms`` and ``lost``, how many were not answered
- ``wakeups``: ``seconds``, ``sleep_s``; sleeps again and again, and looks how late it wakes. Gives ``late_ms``, in their order of size, and
  ``processor``, the ticks by use that passed meanwhile
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time

from pytest_k8snet.agent.agent import Failed, connect_to, read, said, ticks_by_processor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

TIMEOUT_S = 5.0
EVERY_S = 0.01  # beside a load that is not to notice
WARM_UP = 5  # answers that are not counted: neighbours are resolved, and both ends are awake afterwards
MESSAGE = b"k8snet latency\n."


def in_order(seconds: Sequence[float]) -> list[float]:
    """Return times in milliseconds, the shortest first."""
    return sorted(round(value * 1000, 3) for value in seconds)


def rtt(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``rtt``."""
    where = (str(params["address"]), int(params["port"]))
    times: list[float] = []
    until = time.monotonic() + float(params["max_s"])
    try:
        with connected(where) as sock:
            for number in range(WARM_UP + int(params["samples"])):
                took_s = answered(sock)
                if number >= WARM_UP:
                    times.append(took_s)
                if time.monotonic() > until and times:
                    break
    except OSError as error:
        raise Failed("failed", f"{where[0]} port {where[1]}: {said(error)}") from error
    return figures(times)


def connected(where: tuple[str, int]) -> socket.socket:
    """Return a connection whose little messages go at once."""
    sock = connect_to(*where, TIMEOUT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def answered(sock: socket.socket) -> float:
    """Send a few bytes and wait for them to come back; return the seconds that took."""
    start = time.perf_counter()
    sock.sendall(MESSAGE)
    missing = len(MESSAGE)
    while missing:
        data = sock.recv(missing)
        if not data:
            raise Failed("failed", "the connection was closed")
        missing -= len(data)
    return time.perf_counter() - start


def figures(times: Sequence[float]) -> dict[str, Any]:
    """Return what is given of times in seconds, in the order they were taken in."""
    steps = [abs(later - earlier) for earlier, later in zip(times, times[1:])]  # noqa: B905, RUF007 - python 3.7 has neither
    return {"sorted_ms": in_order(times), "jitter_ms": round(sum(steps) * 1000 / max(1, len(steps)), 3)}


class Beside:
    """Round trips in the background."""

    def __init__(self, where: tuple[str, int], after_s: float, max_s: float) -> None:
        self.where = where
        self.begun = time.monotonic()
        self.from_on = self.begun + after_s
        self.until = self.begun + max_s
        self.times: list[float] = []
        self.error: str | None = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        """Take the times until it is over."""
        try:
            with connected(self.where) as sock:
                while time.monotonic() < self.until and not self.over.wait(EVERY_S):
                    took_s = answered(sock)
                    if time.monotonic() >= self.from_on:
                        self.times.append(took_s)
        except OSError as error:
            self.error = f"{self.where[0]} port {self.where[1]}: {said(error)}"
        except Failed as error:
            self.error = f"{self.where[0]} port {self.where[1]}: {error}"


BESIDE: dict[int, Beside] = {}


def begin(params: Mapping[str, Any]) -> dict[str, int]:
    """Operation ``begin``."""
    number = max(BESIDE, default=0) + 1
    BESIDE[number] = Beside((str(params["address"]), int(params["port"])), float(params["after_s"]), float(params["max_s"]))
    return {"number": number}


def end(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``end``."""
    beside = BESIDE.pop(int(params["number"]))
    beside.over.set()
    beside.thread.join(TIMEOUT_S + 1)
    return {**figures([*beside.times]), "error": beside.error}


def connect(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``connect``."""
    where = (str(params["address"]), int(params["port"]))
    times: list[float] = []
    problem: str | None = None
    for _ in range(int(params["samples"])):
        start = time.perf_counter()
        try:
            with connect_to(*where, float(params["timeout_s"])):
                times.append(time.perf_counter() - start)
        except OSError as error:
            problem = said(error)
            if not times:
                break  # nobody is there: the others would take as long
    return {"sorted_ms": in_order(times), "error": problem}


class Echo:
    """A socket for ICMP echo requests to one address: the kernel's for pings (icmp(7)), or a raw one where that is not allowed."""

    def __init__(self, address: str) -> None:
        self.six = ":" in address
        family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if self.six else (socket.AF_INET, socket.IPPROTO_ICMP)
        self.request, self.reply = (128, 129) if self.six else (8, 0)
        self.number = 0
        self.token = os.urandom(8)
        self.raw = False
        try:
            self.sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
        except OSError:  # not of net.ipv4.ping_group_range, or of a kernel without such sockets
            self.sock = socket.socket(family, socket.SOCK_RAW, protocol)
            self.raw = True
        try:
            self.sock.connect((address, 0))
        except OSError:
            self.sock.close()
            raise

    def answered(self, timeout_s: float) -> float | None:
        """Send one request; return the seconds until its answer, None when none comes. Raises `OSError`."""
        self.number = (self.number + 1) % 65536
        identity = os.getpid() % 65536  # the kernel puts its own there, but for raw sockets
        message = struct.pack(">BBHHH", self.request, 0, 0, identity, self.number) + self.token
        if self.raw and not self.six:
            message = message[:2] + struct.pack(">H", checksum(message)) + message[4:]
        start = time.perf_counter()
        self.sock.send(message)
        until = start + timeout_s
        while True:
            left = until - time.perf_counter()
            if left <= 0:
                return None
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(2048)
            except socket.timeout:  # noqa: UP041 - its name before Python 3.10
                return None
            took_s = time.perf_counter() - start
            if self.raw and not self.six:
                data = data[(data[0] & 15) * 4 :]  # behind the header of IPv4
            if data[:1] == bytes([self.reply]) and data[6:16] == struct.pack(">H", self.number) + self.token:
                return took_s

    def close(self) -> None:
        """Close it."""
        self.sock.close()


def checksum(data: bytes) -> int:
    """Return the checksum of the Internet (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``echo``."""
    address, timeout_s, most_lost = str(params["address"]), float(params["timeout_s"]), int(params["most_lost"])
    try:
        asking = Echo(address)
    except PermissionError:
        allowed = " ".join(read("/proc/sys/net/ipv4/ping_group_range").split())
        return {"refused": "net.ipv4.ping_group_range is " + allowed + ", and there is no CAP_NET_RAW", **figures([]), "lost": 0}
    except OSError as error:
        raise Failed("failed", f"{address} by ICMP: {said(error)}") from error
    times: list[float] = []
    lost = in_a_row = 0
    until = time.monotonic() + float(params["max_s"])
    try:
        while len(times) + lost < WARM_UP + int(params["samples"]) and in_a_row < most_lost and (not times or time.monotonic() < until):
            took_s = asking.answered(timeout_s)
            if took_s is None:
                lost, in_a_row = lost + 1, in_a_row + 1
            else:
                times.append(took_s)
                in_a_row = 0
    except OSError as error:
        raise Failed("failed", f"{address} by ICMP: {said(error)}") from error
    finally:
        asking.close()
    return {"refused": None, **figures(times[WARM_UP:] or times), "lost": lost}


def wakeups(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``wakeups``."""
    sleep_s = float(params["sleep_s"])
    before = ticks_by_processor(read("/proc/stat"))["cpu"]
    late: list[float] = []
    now = time.monotonic()
    until = now + float(params["seconds"])
    while now < until:
        due = now + sleep_s
        time.sleep(sleep_s)
        now = time.monotonic()
        late.append(max(0.0, now - due))
    after = ticks_by_processor(read("/proc/stat"))["cpu"]
    return {"late_ms": in_order(late), "processor": {use: after[use] - before[use] for use in after}}


OPERATIONS = {"rtt": rtt, "begin": begin, "end": end, "connect": connect, "echo": echo, "wakeups": wakeups}
