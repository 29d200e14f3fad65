"""Opens many short connections to one place, counts what the connection table makes of them, and sees which source ports are used again.

A program of the agent (see agent.py), sent when one of these operations is first asked for. The other side is a server of the program
``traffic``, which says a line: the client has read all there is when it closes, so that its side is the one that waits (TIME_WAIT).

- ``begin``: ``max_s``; in the node's network namespace: looks again and again how many connections are tracked. Gives ``number``, the
  ``count`` now and the ``max`` of the table, both null where connections are not tracked
- ``end``: ``number``; gives the ``peak`` since, the ``count`` now, and by how much it has ``grown``, what it shrank by meanwhile not
  taken off
- ``open``: ``address``, ``port``, ``count``, ``together``, ``timeout_s``, ``max_s``; opens and closes so many connections. Gives how many
  were ``tried`` and ``opened``, ``failed`` by the error's name, how many were ``late`` (their first packet was not answered), the
  ``seconds`` it took, the ``ports`` [lowest, highest] that the kernel chose and the ``range`` that it was to choose from
- ``narrow``: ``pod`` (namespace/name), ``range``; in the node's own namespaces: gives new connections of that pod these ports alone
- ``again``: ``address``, ``port``, ``most``, ``after_s``, ``timeout_s``; holds connections until no port is left, ``held`` of them and
  ``most`` at most; ``over`` is the error's name of one more, null when it was opened. Closes them, waits, and says how many could be
  opened then (``reused``) and ``failed``; ``timestamps``: whether both sides had them, and the pod's ``tcp_tw_reuse``, ``tcp_timestamps``
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time

from pytest_k8snet.agent.agent import (
    Failed,
    connect_to,
    conntrack,
    enter_net_namespace,
    in_child,
    in_threads,
    line_of,
    read_sysctl,
    running_pods,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

EVERY_S = 0.02
LATE_S = 0.9  # the kernel sends the first packet again after a second
ENTER_S = 10.0
RANGE = "net.ipv4.ip_local_port_range"
RANGE_FILE = "/proc/sys/net/ipv4/ip_local_port_range"
TCPI_OPT_TIMESTAMPS = 1  # linux/tcp.h


class Watch:
    """Looks at the number of tracked connections in the background."""

    def __init__(self, max_s: float) -> None:
        self.until = time.monotonic() + max_s
        first = conntrack()
        self.count, self.max = first["count"], first["max"]
        self.last = self.peak = self.count
        self.grown = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        """Keep the highest number, and add up what it grows by: entries of others that expire hide it from who looks at both ends alone."""
        while self.peak is not None and time.monotonic() < self.until and not self.over.wait(EVERY_S):
            self.note(conntrack()["count"] or 0)

    def note(self, count: int) -> None:
        """Take one more number into account."""
        if self.peak is not None and self.last is not None:
            self.peak = max(self.peak, count)
            self.grown += max(0, count - self.last)
            self.last = count


WATCHES: dict[int, Watch] = {}


def begin(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``begin``."""
    number = max(WATCHES, default=0) + 1
    watch = WATCHES[number] = Watch(float(params["max_s"]))
    return {"number": number, "count": watch.count, "max": watch.max}


def end(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``end``."""
    watch = WATCHES.pop(int(params["number"]))
    watch.over.set()
    watch.thread.join()
    count = conntrack()["count"]
    if watch.peak is None or count is None:
        return {"peak": None, "count": count, "grown": None}
    watch.note(count)
    return {"peak": watch.peak, "count": count, "grown": watch.grown}


def name_of(error: Exception) -> str:
    """Return the name of what went wrong with a connection."""
    if isinstance(error, socket.timeout):
        return "ETIMEDOUT"
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "closed"


def connection(address: str, port: int, timeout_s: float) -> socket.socket:
    """Return a connection whose server has said its line."""
    sock = connect_to(address, port, timeout_s)
    try:
        line_of(sock, time.monotonic() + timeout_s)
    except (OSError, ValueError):
        sock.close()
        raise
    return sock


def opened(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``open``."""
    address, port, timeout_s = str(params["address"]), int(params["port"]), float(params["timeout_s"])
    left = int(params["count"])
    start = time.monotonic()
    until = start + float(params["max_s"])
    ports: list[int] = []
    failed: dict[str, int] = {}
    late = 0
    lock = threading.Lock()

    def work(_: Mapping[str, Any]) -> None:
        nonlocal left, late
        while True:
            with lock:
                if not left or time.monotonic() > until:
                    return
                left -= 1
            begun = time.monotonic()
            try:
                with connection(address, port, timeout_s) as sock:
                    source = int(sock.getsockname()[1])
            except (OSError, ValueError) as error:
                with lock:
                    failed[name_of(error)] = failed.get(name_of(error), 0) + 1
                continue
            with lock:
                ports.append(source)
                late += time.monotonic() - begun > LATE_S

    in_threads([{"key": str(number)} for number in range(int(params["together"]))], work, int(params["together"]))
    return {
        "tried": int(params["count"]) - left,
        "opened": len(ports),
        "failed": failed,
        "late": late,
        "seconds": round(time.monotonic() - start, 2),
        "ports": [min(ports), max(ports)] if ports else None,
        "range": [int(word) for word in (read_sysctl(RANGE) or "").split()],
    }


def narrow(params: Mapping[str, Any]) -> None:
    """Operation ``narrow``."""
    found = running_pods(None).get(str(params["pod"]))
    if found is None:
        raise Failed("failed", f"{params['pod']}: its network namespace was not found")
    pid, namespace = found

    def write() -> None:
        descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        if os.readlink(f"/proc/self/fd/{descriptor}") != namespace:  # noqa: PTH115
            raise OSError(errno.ESRCH, "the pod has ended")
        enter_net_namespace(descriptor)
        with open(RANGE_FILE, "w") as file:  # noqa: PTH123 - pathlib is not imported on nodes
            file.write("{} {}".format(*params["range"]))

    in_child(write, ENTER_S)


def again(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``again``."""
    where = (str(params["address"]), int(params["port"]), float(params["timeout_s"]))
    held: list[socket.socket] = []
    over: str | None = None
    timestamps = False
    try:
        while over is None and len(held) <= int(params["most"]):
            try:
                held.append(connection(*where))
            except (OSError, ValueError) as error:
                over = name_of(error)
        if held:
            timestamps = bool(held[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5] & TCPI_OPT_TIMESTAMPS)
    finally:
        for sock in held:
            sock.close()
    time.sleep(float(params["after_s"]))
    failed: dict[str, int] = {}
    for _ in held:
        try:
            connection(*where).close()
        except (OSError, ValueError) as error:
            failed[name_of(error)] = failed.get(name_of(error), 0) + 1
    return {
        "held": len(held),
        "over": over,
        "reused": len(held) - sum(failed.values()),
        "failed": failed,
        "timestamps": timestamps,
        "tcp_tw_reuse": read_sysctl("net.ipv4.tcp_tw_reuse"),
        "tcp_timestamps": read_sysctl("net.ipv4.tcp_timestamps"),
    }


OPERATIONS = {"begin": begin, "end": end, "open": opened, "narrow": narrow, "again": again}
