"""Asks DNS servers and says what came back: counts and times, server by server, each question from a socket of its own.

A program of the agent (see agent.py), sent when one of these operations is first asked for:

- ``ask``: ``series`` (``key``, ``address``, ``port``, ``protocol``, ``name``, ``type``, ``count``), ``timeout_s``, ``most_unanswered``,
  ``most_s``; asks all series at once, the questions of one after the other, and ends a series of which so many were not answered or
  that takes so long. Gives for each
  key ``asked``, ``answered``, ``ms`` of each answer, ``addresses`` in them, ``errors`` (reason to count) and ``silent_ports``, the source
  ports of datagrams that were not answered. The protocols ``UDP`` and ``TCP`` ask one question at a time. ``pair`` asks for A and AAAA
  from one UDP socket at once, as glibc does: ``answered`` counts where both answers came, ``missing`` by type which did not come while
  the other one did. ``loopback`` asks a socket of its own on 127.0.0.1: what of the time is the machine's and not the network's
- ``walk``: ``address``, ``port``, ``names``, ``search``, ``ndots``, ``timeout_s``; resolves names as a resolver with this search list
  would, for A and AAAA and again when nothing comes back, and gives for each ``questions``, the ``tried`` names with what came back, and
  ``addresses``
- ``request``: what ``walk`` takes, and ``path``, ``https_port``, ``count``, ``max_s``; resolves each name so, connects to what it is and
  sends an HTTPS request there, again and again. Gives for each name ``requests``, a list of ``resolve_ms``, ``connect_ms`` and
  ``answer_ms`` (of the TLS handshake and the request together), and ``error``, with which it ended early, or null. Any status is an
  answer; certificates are not looked at, and nobody says who he is
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time

from pytest_k8snet.agent.agent import connect_to, in_threads, said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

TYPES = {"A": 1, "AAAA": 28}
RCODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
TIMED_OUT = "timed out"
MOST_ADDRESSES = 8
ATTEMPTS = 3  # of a resolver whose question is not answered


class Bad(Exception):  # noqa: N818 - it is the word for such an answer
    """What came back is no answer to the question."""


def question(number: int, name: str, kind: str) -> bytes:
    """Return a question as it is sent over UDP: recursion desired, one name."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.rstrip(".").split(".") if label)
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", TYPES[kind], 1)


def skip_name(data: bytes, at: int) -> int:
    """Return where the name that begins at `at` ends."""
    while True:
        length = data[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if length == 0:
            return at


def answer(data: bytes) -> tuple[str, list[str]]:
    """Return what an answer says, ``NOERROR`` or the name of its error, and the addresses in it. Raises `Bad` when it cannot be read."""
    try:
        _, flags, questions, answers, _, _ = struct.unpack(">6H", data[:12])
        if flags & 0x0200:
            return "truncated", []
        at = 12
        for _ in range(questions):
            at = skip_name(data, at) + 4
        addresses = []
        for _ in range(answers):
            at = skip_name(data, at)
            kind, _, _, length = struct.unpack(">2HIH", data[at : at + 10])
            value = data[at + 10 : at + 10 + length]
            at += 10 + length
            if kind == TYPES["A"]:
                addresses.append(socket.inet_ntop(socket.AF_INET, value))
            elif kind == TYPES["AAAA"]:
                addresses.append(socket.inet_ntop(socket.AF_INET6, value))
        code = flags & 0x000F
        return RCODES.get(code, "NOERROR" if code == 0 else f"RCODE {code}"), addresses
    except (IndexError, struct.error, ValueError, OSError) as error:
        raise Bad("no DNS answer") from error


def number_of(data: bytes) -> int:
    """Return the number of a message."""
    return int(struct.unpack(">H", data[:2])[0]) if len(data) >= 12 else -1


def fresh_number() -> int:
    """Return a number for a question."""
    return int.from_bytes(os.urandom(2), "big")


def family(address: str) -> int:
    """Return the address family."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def receive(sock: socket.socket, numbers: Mapping[int, str], until: float) -> Iterator[tuple[str, bytes]]:
    """Yield the answers to questions from a UDP socket until each has come or the time is over."""
    waited = dict(numbers)
    while waited:
        left = until - time.monotonic()
        if left <= 0:
            return
        sock.settimeout(left)
        try:
            data = sock.recv(4096)
        except socket.timeout:  # noqa: UP041 - its name before Python 3.10
            return
        kind = waited.pop(number_of(data), None)
        if kind is not None:
            yield kind, data


def by_udp(address: str, port: int, name: str, kind: str, timeout_s: float, silent: list[int]) -> tuple[str, list[str]]:
    """Ask one question over UDP; the source port of one that is not answered is put into `silent`."""
    until = time.monotonic() + timeout_s
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        sock.connect((address, port))
        number = fresh_number()
        sock.send(question(number, name, kind))
        for _, data in receive(sock, {number: kind}, until):
            return answer(data)
        silent.append(sock.getsockname()[1])
    return TIMED_OUT, []


def by_tcp(address: str, port: int, name: str, kind: str, timeout_s: float) -> tuple[str, list[str]]:
    """Ask one question over a TCP connection of its own."""
    until = time.monotonic() + timeout_s
    try:
        with connect_to(address, port, timeout_s) as sock:
            asked = question(fresh_number(), name, kind)
            sock.sendall(struct.pack(">H", len(asked)) + asked)
            data = b""
            while len(data) < 2 or len(data) < 2 + struct.unpack(">H", data[:2])[0]:
                sock.settimeout(max(0.001, until - time.monotonic()))
                part = sock.recv(4096)
                if not part:
                    return "the connection ended", []
                data += part
            return answer(data[2:])
    except socket.timeout:  # noqa: UP041
        return TIMED_OUT, []


def both(address: str, port: int, name: str, timeout_s: float) -> tuple[list[str], list[str], str | None]:
    """Ask for A and AAAA from one socket; return what did not come, addresses, and what was wrong with what came."""
    until = time.monotonic() + timeout_s
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        sock.connect((address, port))
        first = fresh_number()
        numbers = {first: "A", (first + 1) % 65536: "AAAA"}
        for number, kind in numbers.items():
            sock.send(question(number, name, kind))
        missing, found, wrong = ["A", "AAAA"], [], None
        for kind, data in receive(sock, numbers, until):
            missing.remove(kind)
            says, addresses = answer(data)
            found += addresses
            if says != "NOERROR":
                wrong = says
        return missing, found, wrong


class Loopback:
    """Sends back every datagram, from a thread of its own."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.settimeout(0.2)
        self._stopped = False
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped:
            try:
                data, peer = self._sock.recvfrom(4096)
                self._sock.sendto(data, peer)
            except OSError:
                continue

    def stop(self) -> None:
        """End it."""
        self._stopped = True
        self._thread.join(2.0)
        self._sock.close()


def ask(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``ask``."""
    timeout_s, most, most_s = float(params["timeout_s"]), int(params["most_unanswered"]), float(params["most_s"])
    asked = [*params["series"]]
    return in_threads(asked, lambda series: one_series(series, timeout_s, most, most_s), len(asked))


def one_series(series: Mapping[str, Any], timeout_s: float, most_unanswered: int, most_s: float) -> dict[str, Any]:
    """Ask the questions of a series one after the other."""
    result: dict[str, Any] = {"asked": 0, "answered": 0, "ms": [], "addresses": [], "errors": {}, "missing": {}, "silent_ports": []}
    loopback = Loopback() if series["protocol"] == "loopback" else None
    try:
        until = time.monotonic() + most_s
        while result["asked"] < int(series["count"]) and sum(result["errors"].values()) < most_unanswered and time.monotonic() < until:
            result["asked"] += 1
            start = time.monotonic()
            addresses: list[str] = []
            try:
                error, addresses = one_question(series, timeout_s, loopback, result)
            except OSError as failed:
                error = os.strerror(failed.errno) if failed.errno else str(failed)
            except Bad as failed:
                error = str(failed)
            if error is None:
                result["answered"] += 1
                result["ms"].append(round((time.monotonic() - start) * 1000, 2))
            else:
                result["errors"][error] = result["errors"].get(error, 0) + 1
            new = [address for address in addresses if address not in result["addresses"]]
            result["addresses"] = (result["addresses"] + new)[:MOST_ADDRESSES]
    finally:
        if loopback is not None:
            loopback.stop()
    return result


def one_question(
    series: Mapping[str, Any], timeout_s: float, loopback: Loopback | None, result: dict[str, Any]
) -> tuple[str | None, list[str]]:
    """Ask a question of a series; return what was wrong, and the addresses."""
    missing, silent = result["missing"], result["silent_ports"]
    protocol, address, name, kind = series["protocol"], series["address"], series["name"], series["type"]
    port = int(series["port"])
    if loopback is not None:
        says, addresses = by_udp("127.0.0.1", loopback.port, name, kind, timeout_s, silent)
        return (None if says == "NOERROR" else says), addresses
    if protocol == "pair":
        lost, addresses, wrong = both(address, port, name, timeout_s)
        if len(lost) == 1:
            missing[lost[0]] = missing.get(lost[0], 0) + 1
            return "no answer for " + lost[0], addresses
        return (TIMED_OUT if lost else wrong), addresses
    if protocol == "TCP":
        says, addresses = by_tcp(address, port, name, kind, timeout_s)
    else:
        says, addresses = by_udp(address, port, name, kind, timeout_s, silent)
    if says == "NOERROR":
        return (None if addresses else "no address in the answer"), addresses
    return says, addresses


def candidates(name: str, search: list[str], ndots: int) -> list[str]:
    """Return the names that a resolver asks for, in their order (resolv.conf(5))."""
    if name.endswith("."):
        return [name]
    listed = [name + "." + domain for domain in search]
    return [name, *listed] if name.count(".") >= ndots else [*listed, name]


def walk(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``walk``."""
    return {name: walked(params, name) for name in params["names"]}


def walked(params: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Resolve one name as a resolver with a search list does."""
    address, port, timeout_s = params["address"], int(params["port"]), float(params["timeout_s"])
    tried: list[list[str]] = []
    found: list[str] = []
    questions, says = 0, ""
    for candidate in candidates(name, [*params["search"]], int(params["ndots"])):
        for _ in range(ATTEMPTS):
            questions += 2
            lost: list[str] = []
            try:
                lost, found, wrong = both(address, port, candidate, timeout_s)
                says = "no answer for " + " and ".join(lost) if lost else wrong or ("NOERROR" if found else "no address")
            except OSError as failed:
                says = os.strerror(failed.errno) if failed.errno else str(failed)
            except Bad as failed:
                says = str(failed)
            if "A" not in lost:
                break
        tried.append([candidate, says])
        if found:
            break
    return {"questions": questions, "tried": tried, "addresses": found[:MOST_ADDRESSES]}


def request(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``request``."""
    import ssl  # not before it is needed

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    until = time.monotonic() + float(params["max_s"])
    done: dict[str, Any] = {}
    for name in params["names"]:
        times: list[dict[str, float]] = []
        error = None
        while error is None and len(times) < int(params["count"]) and (not times or time.monotonic() < until):
            try:
                times.append(requested(params, name, context))
            except ssl.SSLError as failed:  # an OSError whose number is not the kernel's
                error = "TLS: " + (failed.reason or str(failed))
            except OSError as failed:
                error = said(failed)
        done[name] = {"requests": times, "error": error}
    return done


def requested(params: Mapping[str, Any], name: str, context: Any) -> dict[str, float]:
    """Send one HTTPS request to a name; return how long its parts took. Raises `OSError`."""
    timeout_s = float(params["timeout_s"])
    began = time.perf_counter()
    found = walked(params, name)
    resolved = time.perf_counter()
    if not found["addresses"]:
        raise OSError(f"{name}: {found['tried'][-1][1]}")
    with connect_to(found["addresses"][0], int(params["https_port"]), timeout_s) as plain:
        plain.settimeout(timeout_s)
        connected = time.perf_counter()
        with context.wrap_socket(plain, server_hostname=name.rstrip(".")) as sock:
            asked = "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: pytest-k8snet\r\nConnection: close\r\n\r\n"
            sock.sendall(asked.format(params["path"], name.rstrip(".")).encode("ascii"))
            if not sock.recv(16).startswith(b"HTTP/"):
                raise OSError(f"{name}: what answers there speaks no HTTP")
            answered = time.perf_counter()
    parts = {"resolve_ms": resolved - began, "connect_ms": connected - resolved, "answer_ms": answered - connected}
    return {part: round(seconds * 1000, 3) for part, seconds in parts.items()}


OPERATIONS = {"ask": ask, "walk": walk, "request": request}
