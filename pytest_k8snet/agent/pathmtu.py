"""Finds out which sizes of packets cross a path: datagrams of exact size that no router may fragment, each way.

A program of the agent (see agent.py), sent when one of these operations is first asked for. It needs no privilege.

- ``serve``: ``port`` (0 takes a free one), ``max_s``, ``toward`` (an address of the family in use, or null), ``secret`` (hex of 8 bytes, or
  null); answers datagrams that have the secret by ones of the size that they ask for, which may be larger: without a secret it takes none,
  as anybody may send some in the name of others. Sends back what comes over TCP. Gives ``number``, ``port`` and ``mtu``, that of the
  route toward there. It ends by itself after ``max_s``
- ``stop``: ``number`` of a server; one that has ended is fine. Gives whether it was there and answering until now
- ``probe``: ``secret`` of the servers, ``targets`` (``key``, ``address``, ``port``, ``mtu`` of the server's route, ``replies``: whether
  large answers are asked for too, and where datagrams alone are wanted ``beyond``: a size up to which others look); asks all of them at
  once. Gives for each key ``own_mtu``, ``size`` (the largest packet that both ends can have, IP header included), ``over`` (what a packet
  of one byte more than the own MTU came to), ``tcp`` (``mss``, ``mtu`` that the kernel takes for the path's, ``timestamps``; None with
  ``beyond``), and of ``requests`` and ``replies`` how many of small packets and of such of full ``size`` were sent and answered, which
  ICMP errors came back, and, where full ones never are and no error says how large they may be, the last size that passes and the first
  that does not; both are None where ``size`` is not beyond ``beyond``
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import struct
import time

from pytest_k8snet.agent.agent import ANY_ERROR, Failed, InThread, connect_to, in_threads, output, said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

SMALL = 128  # bytes, IP header included: passes wherever anything does
TRIES = 10  # of small and full packets each
TRIES_BETWEEN = 3  # of each size in the search for the one that breaks
SIZES_AT_ONCE = 12
WAIT_S = 1.5
WAIT_BETWEEN_S = 0.6
GAP_S = 0.002  # between packets: a burst would overrun a slow line
TCP_S = 3.0
MOST_CONNECTIONS = 200
MOST_ERRORS = 20
MOST_SENDINGS = 5  # of one packet

# linux/in.h, linux/in6.h, linux/errqueue.h, linux/tcp.h
IP_MTU_DISCOVER, IP_RECVERR, IP_MTU = 10, 11, 14
IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVERR = 23, 24, 25
PMTUDISC_DO = 2  # not to be fragmented, and no larger than what is known of the path
PMTUDISC_PROBE = 3  # not to be fragmented, whatever is known of the path
MSG_ERRQUEUE = 0x2000
ORIGINS = {1: "local", 2: "icmp", 3: "icmp"}
TCP_MAXSEG, TCP_INFO = 2, 11
TCPI_OPT_TIMESTAMPS = 1

HEAD = struct.Struct("!4s8sHH")  # magic, token, number, bytes of payload that the answer is to have
SECRET_BYTES = 8  # behind the head of what asks
ASK, ANSWER = b"k8sA", b"k8sR"
TELL = 0xFFFF  # the number of the question which errors the answers ran into


def is_ipv6(address: str) -> bool:
    """Whether an address is one of IPv6."""
    return ":" in address


def headers(address: str) -> int:
    """Return the bytes of IP and UDP headers."""
    return 48 if is_ipv6(address) else 28


def datagrams(ipv6: bool, discover: int) -> socket.socket:
    """Return a socket whose packets are not fragmented, and which keeps the errors that they meet."""
    sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    if ipv6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, discover)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, discover)
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    return sock


def path_errors(sock: socket.socket) -> list[tuple[tuple[str, int], dict[str, Any]]]:
    """Return what the kernel keeps of errors that packets of `sock` met, and where those packets were sent."""
    found: list[tuple[tuple[str, int], dict[str, Any]]] = []
    while True:
        try:
            _, ancillary, _, to = sock.recvmsg(0, 512, MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return found
        for level, kind, data in ancillary:
            if (level, kind) not in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)) or len(data) < 16:
                continue
            number, origin, _, _, _, info, _ = struct.unpack_from("=IBBBBII", data)
            found.append(
                (
                    to[:2],
                    {
                        "error": errno.errorcode.get(number, str(number)),
                        "origin": ORIGINS.get(origin, str(origin)),
                        "mtu": info if number == errno.EMSGSIZE else None,
                        "from": offender(data[16:]),
                    },
                )
            )


def offender(data: bytes) -> str | None:
    """Return the address in a sockaddr: who sent the ICMP error."""
    if len(data) >= 8 and data[:2] == struct.pack("=H", socket.AF_INET):
        return socket.inet_ntop(socket.AF_INET, data[4:8])
    if len(data) >= 24 and data[:2] == struct.pack("=H", socket.AF_INET6):
        return socket.inet_ntop(socket.AF_INET6, data[8:24])
    return None


def route_mtu(address: str) -> tuple[int, int]:
    """Return the MTU of the route to `address` as it is configured, and what the kernel takes for the path's MTU."""
    ipv6 = is_ipv6(address)
    with datagrams(ipv6, PMTUDISC_DO) as sock:
        sock.connect((address, 9))
        known = int(sock.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU) if ipv6 else sock.getsockopt(socket.IPPROTO_IP, IP_MTU))
    family = "-6" if ipv6 else "-4"
    device = json.loads(output(["ip", "-j", family, "route", "get", address]))[0]["dev"]
    mtu = int(json.loads(output(["ip", "-j", "link", "show", "dev", device]))[0]["mtu"])
    if known != mtu:  # by a metric of the route, which counts, or by what has been learnt of the path, which does not
        for route in json.loads(output(["ip", "-j", family, "route", "show", "dev", device]) or "[]"):
            for metric in route.get("metrics", ()):
                if "mtu" in metric and (route["dst"] == "default" or "/" in route["dst"]):
                    mtu = min(mtu, int(metric["mtu"]))
    return mtu, known


class Server(InThread):
    """Answers in a thread of its own until it is stopped or its time is over."""

    def __init__(self, port: int, max_s: float, secret: bytes | None) -> None:
        self._until = time.monotonic() + max_s
        self._secret = secret
        self._listeners: list[socket.socket] = []
        self._datagrams: list[socket.socket] = []
        self._open: list[socket.socket] = []
        self._met: dict[tuple[str, int], list[dict[str, Any]]] = {}  # errors, by whom the answer was for
        self.port = port
        try:
            for ipv6 in (False, True):
                self._bind(ipv6)
        except OSError as error:
            for sock in (*self._listeners, *self._datagrams):
                sock.close()
            raise Failed("failed", f"no server on port {port}: {os.strerror(error.errno or 0)}") from error
        self.start()

    def _bind(self, ipv6: bool) -> None:
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        any_address = "::" if ipv6 else ""
        made: list[socket.socket] = []
        try:
            listener = socket.socket(family, socket.SOCK_STREAM)
            made.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if ipv6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((any_address, self.port))
            listener.listen(64)
            port = listener.getsockname()[1]
            if self._secret is not None:
                receiver = datagrams(ipv6, PMTUDISC_PROBE)
                made.append(receiver)
                receiver.bind((any_address, port))
        except OSError as error:
            for sock in made:
                sock.close()
            if ipv6 and error.errno != errno.EADDRINUSE:
                return  # there is no IPv6 here
            raise
        for sock in made:
            sock.setblocking(False)
        self.port = port
        self._listeners += made[:1]
        self._datagrams += made[1:]

    def run(self) -> None:
        """Answer until it is woken or its time is over."""
        try:
            while True:
                left = self._until - time.monotonic()
                waited = [self.wake, *self._listeners, *self._datagrams, *self._open]
                ready = select.select(waited, [], [], min(left, 5.0))[0] if left > 0 else [self.wake]
                if self.wake in ready:
                    return
                for sock in ready:
                    self._serve(sock)
        finally:
            for sock in (*self._listeners, *self._datagrams, *self._open, self.wake, self.waker):
                sock.close()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if sock in self._datagrams:
                self._answer(sock)
            elif sock in self._listeners:
                connection, _ = sock.accept()
                if len(self._open) >= MOST_CONNECTIONS:
                    connection.close()
                    return
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(connection)
            else:
                data = sock.recv(65536)
                if not data:
                    raise OSError("closed")
                sock.send(data)
        except OSError:
            if sock in self._open:
                self._open.remove(sock)
                sock.close()

    def _answer(self, sock: socket.socket) -> None:
        self._note(sock)
        data, peer = sock.recvfrom(65536)
        if len(data) < HEAD.size + SECRET_BYTES:
            return
        magic, token, number, length = HEAD.unpack_from(data)
        if magic != ASK or data[HEAD.size : HEAD.size + SECRET_BYTES] != self._secret:
            return
        head = HEAD.pack(ANSWER, token, number, len(data) & 0xFFFF)
        told = json.dumps(self._met.get(peer[:2], [])[:3]).encode()
        answer = head + (told if number == TELL else bytes(max(0, length - HEAD.size)))
        for _ in range(MOST_SENDINGS):  # an error that an earlier packet has met is told at the next sending, which then has not happened
            try:
                sock.sendto(answer, peer)
                return
            except OSError:
                self._note(sock)

    def _note(self, sock: socket.socket) -> None:
        for to, met in path_errors(sock):
            known = self._met.setdefault(to, []) if len(self._met) < 1000 or to in self._met else []
            if met not in known and len(known) < MOST_ERRORS:
                known.append(met)


servers: dict[int, Server] = {}


def serve(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``serve``."""
    toward = params.get("toward")
    mtu = None if toward is None else route_mtu(toward)[0]
    max_s, secret = float(params["max_s"]), secret_of(params)
    try:
        server = Server(int(params["port"]), max_s, secret)
    except Failed:
        server = Server(0, max_s, secret)
    number = max(servers, default=0) + 1
    servers[number] = server
    return {"number": number, "port": server.port, "mtu": mtu}


def secret_of(params: Mapping[str, Any]) -> bytes | None:
    """Return what datagrams are to have, None where none are taken."""
    if params.get("secret") is None:
        return None
    secret = bytes.fromhex(str(params["secret"]))
    if len(secret) != SECRET_BYTES:
        raise Failed("failed", f"a secret of {len(secret)} bytes, want {SECRET_BYTES}")
    return secret


def stop(params: Mapping[str, Any]) -> bool:
    """Operation ``stop``."""
    server = servers.pop(int(params["number"]), None)
    if server is None:
        return False
    answering = server.thread.is_alive()
    server.stop()
    return answering


class Path:
    """Exchanges datagrams with one server."""

    def __init__(self, address: str, port: int, secret: bytes) -> None:
        self._secret = secret
        self._headers = headers(address)
        self._sock = datagrams(is_ipv6(address), PMTUDISC_PROBE)
        self._sock.connect((address, port))
        self._sock.setblocking(False)
        self._token = os.urandom(8)
        self._number = 0
        self.errors: list[dict[str, Any]] = []

    def close(self) -> None:
        """Close its socket."""
        self._sock.close()

    def volley(self, sizes: Sequence[int], tries: int, wait_s: float, *, replies: bool) -> dict[int, int]:
        """Send each size `tries` times, in turns, as requests or, with `replies`, as answers to small ones; return how many came back."""
        waiting: dict[int, int] = {}
        answered = dict.fromkeys(sizes, 0)
        for _ in range(tries):
            for size in sizes:
                self._number += 1
                waiting[self._number] = size
                self._send(self._number, SMALL if replies else size, size if replies else SMALL)
                self._collect(waiting, answered, GAP_S)
        until = time.monotonic() + wait_s
        while waiting and time.monotonic() < until:
            self._collect(waiting, answered, min(0.05, max(0.0, until - time.monotonic())))
        return answered

    def tell(self) -> list[dict[str, Any]]:
        """Return which errors the server's answers met."""
        for _ in range(3):
            self._send(TELL, SMALL, SMALL)
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                for data in self._received(until - time.monotonic()):
                    if HEAD.unpack_from(data)[2] == TELL:
                        told: list[dict[str, Any]] = json.loads(data[HEAD.size :].decode())
                        return told
        return []

    def _send(self, number: int, size: int, reply_size: int) -> None:
        payload = size - self._headers
        head = HEAD.pack(ASK, self._token, number, reply_size - self._headers) + self._secret
        data = head + bytes(max(0, payload - len(head)))
        for _ in range(MOST_SENDINGS):  # an error that an earlier packet has met is told at the next sending, which then has not happened
            try:
                self._sock.send(data)
                return
            except OSError as error:
                self._note()
                if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                    time.sleep(GAP_S)

    def _collect(self, waiting: dict[int, int], answered: dict[int, int], wait_s: float) -> None:
        for data in self._received(wait_s):
            size = waiting.pop(HEAD.unpack_from(data)[2], None)
            if size is not None:
                answered[size] += 1

    def _received(self, wait_s: float) -> list[bytes]:
        """Return the answers that arrive at least until the first one does; errors are noted."""
        until = time.monotonic() + wait_s
        found: list[bytes] = []
        while not found:
            ready = select.select([self._sock], [], [], max(0.0, until - time.monotonic()))[0]
            self._note()
            while ready:
                try:
                    data = self._sock.recv(65536)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # an error that has been noted
                if len(data) >= HEAD.size and data[:4] == ANSWER and data[4:12] == self._token:
                    found.append(data)
            if time.monotonic() >= until:
                break
        return found

    def _note(self) -> None:
        for _, met in path_errors(self._sock):
            if met not in self.errors and len(self.errors) < MOST_ERRORS:
                self.errors.append(met)


def way(path: Path, size: int, *, replies: bool) -> dict[str, Any]:
    """Find out whether packets of `size` pass in one direction, and where none of them does, which do."""
    answered = path.volley([SMALL, size], TRIES, WAIT_S, replies=replies)
    result: dict[str, Any] = {"sent": TRIES, "small": answered[SMALL], "full": answered[size], "passes": None, "breaks": None}
    result["errors"] = path.tell() if replies else [*path.errors]
    told = any(met["mtu"] is not None for met in result["errors"])
    if answered[SMALL] * 2 >= TRIES and not answered[size] and not told:
        result["passes"], result["breaks"] = search(path, SMALL, size, replies=replies)
    return result


def search(path: Path, passes: int, breaks: int, *, replies: bool) -> tuple[int, int]:
    """Return the largest size that passes and the smallest that does not, both in bytes; `passes` does, `breaks` does not."""
    while breaks - passes > 1:
        step = max(1, (breaks - passes) // (SIZES_AT_ONCE + 1))
        sizes = [*range(passes + step, breaks, step)][:SIZES_AT_ONCE]
        answered = path.volley(sizes, TRIES_BETWEEN, WAIT_BETWEEN_S, replies=replies)
        passes = max([size for size in sizes if answered[size]], default=passes)
        breaks = min([size for size in sizes if size > passes], default=breaks)
    return passes, breaks


def one_more(address: str, port: int, mtu: int) -> str:
    """Say what becomes of a packet that is one byte larger than the route's MTU: ``refused``, ``sent``, or another error's name."""
    with datagrams(is_ipv6(address), PMTUDISC_DO) as sock:
        sock.connect((address, port))
        try:
            sock.send(bytes(mtu + 1 - headers(address)))
        except OSError as error:
            return "refused" if error.errno == errno.EMSGSIZE else errno.errorcode.get(error.errno or 0, str(error))
    return "sent"


def segments(address: str, port: int) -> dict[str, Any]:
    """Open a connection, send a little over it, and return what the kernel makes of its segments (bytes)."""
    try:
        with connect_to(address, port, TCP_S) as sock:
            sock.sendall(b"k8snet\n")
            if not sock.recv(16):
                return {"error": "the connection was closed", "mss": None, "mtu": None, "timestamps": None}
            info = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 104)
            return {
                "error": None,
                "mss": struct.unpack_from("=I", info, 16)[0],  # tcpi_snd_mss: payload of a full segment, options taken off
                "mtu": struct.unpack_from("=I", info, 60)[0],  # tcpi_pmtu
                "timestamps": bool(info[5] & TCPI_OPT_TIMESTAMPS),
            }
    except OSError as error:
        return {"error": said(error), "mss": None, "mtu": None, "timestamps": None}


def probe_one(target: Mapping[str, Any], secret: bytes) -> dict[str, Any]:
    """Look at one path. TCP first: what large datagrams teach the kernel of the path would lower its segments."""
    address, port = str(target["address"]), int(target["port"])
    own, known = route_mtu(address)
    size = min(own, int(target["mtu"]), 65535)
    result: dict[str, Any] = {"error": None, "own_mtu": own, "known_mtu": known, "size": size, "over": one_more(address, port, own)}
    beyond = target.get("beyond")
    if beyond is not None and size <= int(beyond):
        return dict(result, tcp=None, requests=None, replies=None)
    result["tcp"] = segments(address, port) if beyond is None else None
    path = Path(address, port, secret)
    try:
        result["requests"] = way(path, size, replies=False)
        result["replies"] = way(path, size, replies=True) if target["replies"] else None
    finally:
        path.close()
    return result


def probe(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``probe``."""
    secret = secret_of(params)
    if secret is None:
        raise Failed("failed", "without a secret no server answers")

    def safely(target: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return probe_one(target, secret)
        except (*ANY_ERROR, Failed) as error:
            return {"error": str(error) or repr(error)}

    return in_threads([*params["targets"]], safely)


OPERATIONS = {"serve": serve, "stop": stop, "probe": probe}
