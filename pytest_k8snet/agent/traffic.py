"""Sends little and says what came back: servers that tell who they are and whom they see, and a client of many of them at once.

A program of the agent (see agent.py), sent when one of these operations is first asked for:

- ``serve``: ``name``, ``port`` (0 takes a free one), ``max_s``, ``connection_s`` (10: of each connection); listens for TCP and UDP on
  every address, gives ``number``, ``port``, ``families``. A connection gets one line of JSON, ``{"name": ..., "peer": [address, port]}``,
  and then what it sends, echoed; a datagram that is no shorter than its answer gets such a line, with ``token``, its own first line, from
  the address it was sent to. It ends by itself after ``max_s``
- ``stop``: ``number`` of a server; one that has ended is fine. Gives whether it was there and answering until now
- ``connect``: ``targets`` (``key``, ``address``, ``port``, ``protocol``, and ``silent`` where a
  connection alone is answer enough, as that server says nothing), ``tries``, ``timeout_s``; asks all of them at once. Gives
  for each key ``name`` and ``peer`` as the server told them, ``ms`` until it had, ``tries`` that it took, and ``error``, with which
  the first two are null. ``refused`` says that something answered, if only to refuse
- ``through``: ``address``, ``port``, ``wanted``, ``targets`` (both as above), ``timeout_s``; lets the pod at that address, which a
  NetworkPolicy selects, ask those that are wanted, and asks the targets itself meanwhile. Gives what ``connect`` does of these as
  ``answers``, and ``through``: the pod's ``name`` and its ``answers``, for each key ``name`` and ``error``; or the ``error`` why it did not
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import struct
import time

from pytest_k8snet.agent.agent import Failed, InThread, connect_to, in_threads, line_of, said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

MOST_CONNECTIONS = 500  # of one server at a time; more are closed at once
CONNECTION_S = 10.0
IP_PKTINFO = 8  # linux/in.h
IPV6_RECVPKTINFO, IPV6_PKTINFO = 49, 50  # linux/in6.h
FREE_PORT_TRIES = 20
QUESTION_BYTES = 512  # of a datagram: room for the answer, which has a node's name in it
SLACK_S = 3.0  # for a pod that is one of many on its node


class Server(InThread):
    """Listens in a thread of its own until it is stopped or its time is over."""

    def __init__(self, name: str, port: int, max_s: float, connection_s: float) -> None:
        self._name = name
        self._connection_s = connection_s
        self._until = time.monotonic() + max_s
        self._listeners: list[socket.socket] = []
        self._datagrams: list[socket.socket] = []
        self._open: dict[socket.socket, float] = {}  # connections, and when they are given up
        self.families: list[str] = []
        self.port = self._bind(port)
        self.start()

    def _bind(self, port: int) -> int:
        for _ in range(FREE_PORT_TRIES):
            try:
                return self._try_port(port)
            except OSError as error:
                self._close()
                if port or error.errno != errno.EADDRINUSE:
                    raise Failed("failed", f"no server on port {port}: {os.strerror(error.errno or 0)}") from error
        raise Failed("failed", "no port is free for TCP and UDP alike")

    def _try_port(self, port: int) -> int:
        for family, name in ((socket.AF_INET, "IPv4"), (socket.AF_INET6, "IPv6")):
            try:
                listener = socket.socket(family, socket.SOCK_STREAM)
            except OSError:
                continue  # a kernel without IPv6
            self._listeners.append(listener)
            datagrams = socket.socket(family, socket.SOCK_DGRAM)
            self._datagrams.append(datagrams)
            for sock in (listener, datagrams):
                # Another process of the same run may serve here at the same time; whichever answers says the same.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Datagrams are answered from the address they came to: a node has several.
            if family == socket.AF_INET:
                datagrams.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            else:
                datagrams.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
            try:
                listener.bind(("::" if family == socket.AF_INET6 else "", port))
            except OSError as error:
                if family == socket.AF_INET6 and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    self._listeners.remove(listener)
                    self._datagrams.remove(datagrams)
                    listener.close()
                    datagrams.close()
                    continue  # IPv6 is disabled here
                raise
            port = listener.getsockname()[1]
            datagrams.bind(("::" if family == socket.AF_INET6 else "", port))
            listener.listen(128)
            for sock in (listener, datagrams):
                sock.setblocking(False)
            self.families.append(name)
        return port

    def run(self) -> None:
        """Answer until it is woken or its time is over."""
        try:
            while True:
                now = time.monotonic()
                for sock in [sock for sock, until in self._open.items() if until < now]:
                    self._drop(sock)
                left = self._until - now
                waited = [self.wake, *self._listeners, *self._datagrams, *self._open]
                ready = select.select(waited, [], [], min(max(left, 0.0), 1.0))[0] if left > 0 else [self.wake]
                if self.wake in ready:
                    return
                for sock in ready:
                    try:
                        self._answer(sock)
                    except OSError:
                        self._drop(sock)
        finally:
            self._close()
            self.wake.close()
            self.waker.close()

    def _answer(self, sock: socket.socket) -> None:
        if sock in self._open:
            data = sock.recv(65536)
            if data:
                sock.send(data)
            else:
                self._drop(sock)
        elif sock in self._datagrams:
            data, ancillary, _, peer = sock.recvmsg(65536, 256)
            if data.startswith(b"{"):
                return  # an answer, sent here in another's name: answered, it would go back and forth between two servers
            token = data.split(b"\n", 1)[0][:100].decode("ascii", "replace")
            line = json.dumps({"name": self._name, "peer": list(peer[:2]), "token": token}).encode() + b"\n"
            if len(line) > len(data):
                return  # not one of ours: whoever forges an address gets no more sent there than they send themselves
            sock.sendmsg([line], [item for item in map(answered_from, ancillary) if item is not None], 0, peer)
        else:
            connection, peer = sock.accept()
            if len(self._open) >= MOST_CONNECTIONS:
                connection.close()
                return
            connection.setblocking(False)
            self._open[connection] = time.monotonic() + self._connection_s
            connection.send(json.dumps({"name": self._name, "peer": list(peer[:2])}).encode() + b"\n")

    def _drop(self, sock: socket.socket) -> None:
        if self._open.pop(sock, None) is not None:
            sock.close()

    def _close(self) -> None:
        for sock in (*self._listeners, *self._datagrams, *self._open):
            sock.close()
        self._listeners, self._datagrams, self._open, self.families = [], [], {}, []


def answered_from(item: tuple[int, int, bytes]) -> tuple[int, int, bytes] | None:
    """Turn what says to which address a datagram came into what sends the answer from it."""
    level, kind, data = item
    if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
        # struct in_pktinfo: index, the local address, the destination address. Where it leaves is for the route to say.
        return level, kind, struct.pack("=i4s4s", 0, data[4:8], bytes(4))
    if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
        link_local = data[0] == 0xFE and data[1] & 0xC0 == 0x80
        return level, kind, data if link_local else data[:16] + bytes(4)
    return None


servers: dict[int, Server] = {}


def serve(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``serve``."""
    server = Server(str(params["name"]), int(params["port"]), float(params["max_s"]), float(params.get("connection_s", CONNECTION_S)))
    number = max(servers, default=0) + 1
    servers[number] = server
    return {"number": number, "port": server.port, "families": server.families}


def stop(params: Mapping[str, Any]) -> bool:
    """Operation ``stop``."""
    server = servers.pop(int(params["number"]), None)
    if server is None:
        return False
    answering = server.thread.is_alive()
    server.stop()
    return answering


def connect(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``connect``."""
    return in_threads([*params["targets"]], lambda target: ask(target, int(params["tries"]), float(params["timeout_s"])))


def ask(target: Mapping[str, Any], tries: int, timeout_s: float) -> dict[str, Any]:
    """Ask one server; what goes wrong is the answer's error."""
    asking: Callable[[str, int, float], Mapping[str, Any]] = by_tcp if target["protocol"] == "TCP" else by_udp
    if target.get("silent"):
        asking = connected
    answer: dict[str, Any] = {"name": None, "peer": None, "ms": None, "tries": 0, "error": None, "refused": False}
    for number in range(1, tries + 1):
        start = time.monotonic()
        try:
            told = asking(target["address"], int(target["port"]), timeout_s)
            answer.update(name=told["name"], peer=told["peer"], error=None)
        except OSError as error:
            answer.update(error=said(error), refused=error.errno == errno.ECONNREFUSED)
        except (KeyError, TypeError, ValueError):
            answer.update(error="something else answers there", refused=False)
        answer.update(ms=round((time.monotonic() - start) * 1000, 2), tries=number)
        if answer["error"] is None:
            break
    return answer


def by_tcp(address: str, port: int, timeout_s: float) -> Mapping[str, Any]:
    """Open a connection and read what the server tells."""
    with connect_to(address, port, timeout_s) as sock:
        return told(sock, timeout_s)


def connected(address: str, port: int, timeout_s: float) -> Mapping[str, Any]:
    """Open a connection to a server that says nothing."""
    with connect_to(address, port, timeout_s):
        return {"name": None, "peer": None}


def by_udp(address: str, port: int, timeout_s: float) -> Mapping[str, Any]:
    """Send a datagram and wait for the answer to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    token = os.urandom(8).hex()
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((address, port))
        sock.send((token.encode() + b"\n").ljust(QUESTION_BYTES, b"\0"))
        answer = told(sock, timeout_s)
        if answer["token"] != token:
            raise ValueError("an answer to something else")
        return answer


def told(sock: socket.socket, timeout_s: float) -> Mapping[str, Any]:
    """Return what the server tells."""
    answer: Mapping[str, Any] = json.loads(line_of(sock, time.monotonic() + timeout_s))
    return {"name": answer["name"], "peer": answer["peer"], "token": answer.get("token")}


def through(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``through``."""
    timeout_s = float(params["timeout_s"])
    relay = {"key": "", "address": params["address"], "port": params["port"], "wanted": params["wanted"]}

    def one(target: Mapping[str, Any]) -> dict[str, Any]:
        return asked_through(target, timeout_s) if target is relay else ask(target, 1, timeout_s)

    answers = in_threads([relay, *params["targets"]], one)
    return {"through": answers.pop(""), "answers": answers}


def asked_through(relay: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """Let a pod ask; what goes wrong is the answer's error."""
    wish = {"targets": relay["wanted"], "timeout_s": timeout_s}
    answer: dict[str, Any] = {"name": None, "answers": {}, "error": None}
    try:
        with connect_to(relay["address"], int(relay["port"]), timeout_s) as sock:
            sock.sendall(json.dumps(wish).encode() + b"\n")
            told = json.loads(line_of(sock, time.monotonic() + timeout_s + SLACK_S))  # it asks all of them at once
        answer.update(name=told["name"], answers=dict(told["answers"]))
    except OSError as error:
        answer.update(error=said(error))
    except (KeyError, TypeError, ValueError):
        answer.update(error="something else answers there")
    return answer


OPERATIONS = {"serve": serve, "stop": stop, "connect": connect, "through": through}
