"""Asks over HTTP and answers: a client that keeps its connection for as long as it may, and a server that counts the connections it gets.

A program of the agent (see agent.py), sent when one of these operations is first asked for:

- ``serve``: ``port`` (0 takes a free one), ``max_s``; listens for HTTP/1.1 on every address and keeps connections. Gives ``number`` and
  ``port``. An answer to ``/k8snet/TOKEN`` has the token in a header; with ``?header=N`` it has a header of N bytes as well
- ``seen``: ``number``, ``token``; what that server was asked with this token: ``requests``, ``connections``, ``sources`` (addresses, to
  count), ``protocols`` and ``connection`` (what the requests said of themselves, to count), ``header_bytes``, the longest of the headers
  sent for their length
- ``stop``: ``number``; one that has ended is fine
- ``ask``: ``address``, ``port``, ``tls``, ``host``, ``token``, ``requests``, ``send_bytes``, ``return_bytes`` (of a header of a request and
  of an answer), ``timeout_s``, ``max_s``; sends requests one after the other over one connection, and over a new one when it is closed.
  Gives ``asked``, ``answered`` (by such a server, with the token), ``opened`` connections, ``closed_after`` (how many requests were
  answered on each connection that was closed), ``others`` (what else came of requests, to count), ``hsts`` (of the last answer), ``ms``
- ``stream``: ``series`` (each what ``ask`` takes, but ``requests`` and ``max_s``, and a ``key``), ``every_s``, ``for_s``; sends requests at
  that pace, in all series at the same time, whatever comes of them. Gives for each key ``asked``, ``answered`` and ``others`` like ``ask``,
  and ``failed_s``: when requests were sent that were not answered, in seconds
"""

from __future__ import annotations

import http.client
import select
import socket
import threading
import time

from pytest_k8snet.agent.agent import Failed, InThread, connect_to, in_threads, said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PATH = "/k8snet/"
TOKEN = "X-K8snet-Token"  # noqa: S105 - the name of a header
PADDING = "X-K8snet-Padding"
GREETING = "k8snet\n"  # what every answer says
MOST_CONNECTIONS = 500  # of a server at a time; more are closed at once
MOST_BYTES = 131072  # of a request
IDLE_S = 60.0
MOST_FAILED = 3  # requests in a row, after which the others are not sent
MOST_TOKENS = 1000


class Seen:
    """What was asked with one token."""

    def __init__(self) -> None:
        self.requests = 0
        self.connections: set[int] = set()
        self.sources: dict[str, int] = {}
        self.protocols: dict[str, int] = {}
        self.connection: dict[str, int] = {}
        self.header_bytes = 0

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return {
            "requests": self.requests,
            "connections": len(self.connections),
            "sources": self.sources,
            "protocols": self.protocols,
            "connection": self.connection,
            "header_bytes": self.header_bytes,
        }


class Connection:
    """One that a client has opened: what came of a request that is not whole yet, and until when it may be idle."""

    def __init__(self, number: int, source: str) -> None:
        self.number = number
        self.source = source
        self.data = b""
        self.until = time.monotonic() + IDLE_S


class Server(InThread):
    """Listens in a thread of its own until it is stopped or its time is over."""

    def __init__(self, port: int, max_s: float) -> None:
        self._until = time.monotonic() + max_s
        self._listeners: list[socket.socket] = []
        self._open: dict[socket.socket, Connection] = {}
        self._accepted = 0
        self._seen: dict[str, Seen] = {}
        self._lock = threading.Lock()
        self.port = self._bind(port)
        self.start()

    def seen(self, token: str) -> dict[str, Any]:
        """Return what was asked with a token."""
        with self._lock:
            return self._seen.get(token, Seen()).to_json()

    def _bind(self, port: int) -> int:
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                listener = socket.socket(family, socket.SOCK_STREAM)
            except OSError:
                continue  # a kernel without IPv6
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(("::" if family == socket.AF_INET6 else "", port))
            except OSError as error:
                listener.close()
                if family == socket.AF_INET6 and self._listeners:
                    continue  # IPv6 is disabled here
                raise Failed("failed", f"no server on port {port}: {said(error)}") from error
            listener.listen(128)
            listener.setblocking(False)
            self._listeners.append(listener)
            port = listener.getsockname()[1]
        return port

    def run(self) -> None:
        """Answer until it is woken or its time is over."""
        try:
            while True:
                now = time.monotonic()
                for sock in [sock for sock, connection in self._open.items() if connection.until < now]:
                    self._drop(sock)
                left = self._until - now
                waited = [self.wake, *self._listeners, *self._open]
                ready = select.select(waited, [], [], min(max(left, 0.0), 1.0))[0] if left > 0 else [self.wake]
                if self.wake in ready:
                    return
                for sock in ready:
                    try:
                        if sock in self._open:
                            self._read(sock)
                        else:
                            self._accept(sock)
                    except OSError:
                        self._drop(sock)
        finally:
            for sock in (*self._listeners, *self._open, self.wake, self.waker):
                sock.close()

    def _accept(self, listener: socket.socket) -> None:
        sock, peer = listener.accept()
        if len(self._open) >= MOST_CONNECTIONS:
            sock.close()
            return
        sock.settimeout(5.0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepted += 1
        self._open[sock] = Connection(self._accepted, str(peer[0]))

    def _read(self, sock: socket.socket) -> None:
        connection = self._open[sock]
        data = sock.recv(65536)
        connection.data += data
        connection.until = time.monotonic() + IDLE_S
        if not data or len(connection.data) > MOST_BYTES:
            self._drop(sock)
        while b"\r\n\r\n" in connection.data and sock in self._open:
            head, connection.data = connection.data.split(b"\r\n\r\n", 1)
            answer, keep = self._answer(connection, head.decode("latin-1"))
            sock.sendall(answer)
            if not keep:
                self._drop(sock)

    def _answer(self, connection: Connection, head: str) -> tuple[bytes, bool]:
        """Return the answer to a request, and whether its connection is kept."""
        first, *lines = head.split("\r\n")
        words = first.split(" ")
        target, protocol = (words[1], words[2]) if len(words) == 3 else ("/", "HTTP/1.0")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        asked = headers.get("connection", "").lower()
        keep = "keep-alive" in asked if protocol == "HTTP/1.0" else "close" not in asked
        path, _, query = target.partition("?")
        extra = []
        if path.startswith(PATH):
            token = path[len(PATH) :]
            self._note(token, connection, protocol, asked, len(headers.get(PADDING.lower(), "")))
            length = query.partition("header=")[2]
            extra = [f"{TOKEN}: {token}", *([f"{PADDING}: {'x' * min(int(length), MOST_BYTES)}"] if length.isdigit() else [])]
        told = [
            "HTTP/1.1 200 OK",
            "Content-Type: text/plain",
            f"Content-Length: {len(GREETING)}",
            *extra,
            f"Connection: {'keep-alive' if keep else 'close'}",
        ]
        return ("\r\n".join(told) + "\r\n\r\n" + GREETING).encode("latin-1"), keep

    def _note(self, token: str, connection: Connection, protocol: str, asked: str, header_bytes: int) -> None:
        with self._lock:
            if token not in self._seen and len(self._seen) >= MOST_TOKENS:
                return
            seen = self._seen.setdefault(token, Seen())
            seen.requests += 1
            seen.connections.add(connection.number)
            seen.sources[connection.source] = seen.sources.get(connection.source, 0) + 1
            seen.protocols[protocol] = seen.protocols.get(protocol, 0) + 1
            seen.connection[asked] = seen.connection.get(asked, 0) + 1
            seen.header_bytes = max(seen.header_bytes, header_bytes)

    def _drop(self, sock: socket.socket) -> None:
        if self._open.pop(sock, None) is not None:
            sock.close()


servers: dict[int, Server] = {}


def serve(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``serve``."""
    server = Server(int(params["port"]), float(params["max_s"]))
    number = max(servers, default=0) + 1
    servers[number] = server
    return {"number": number, "port": server.port}


def seen(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``seen``."""
    server = servers.get(int(params["number"]))
    if server is None:
        raise Failed("failed", "the server has ended")
    return server.seen(str(params["token"]))


def stop(params: Mapping[str, Any]) -> None:
    """Operation ``stop``."""
    server = servers.pop(int(params["number"]), None)
    if server is not None:
        server.stop()


def opened(params: Mapping[str, Any]) -> http.client.HTTPConnection:
    """Open a connection, encrypted on request: whose certificate that is, is nobody's concern here."""
    timeout_s = float(params["timeout_s"])
    sock = connect_to(params["address"], int(params["port"]), timeout_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if params["tls"]:
        import ssl  # slow to import

        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            sock = context.wrap_socket(sock, server_hostname=params["host"])
        except OSError:
            sock.close()
            raise
    connection = http.client.HTTPConnection(params["address"], int(params["port"]), timeout=timeout_s)
    connection.sock = sock
    connection.auto_open = 0
    return connection


def told(error: Exception) -> str:
    """Say what went wrong with a request."""
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(error, http.client.HTTPException):
        return "no answer in HTTP: " + type(error).__name__
    reason = getattr(error, "reason", None)  # of TLS, whose numbers are not the kernel's
    if reason is not None:
        return "TLS: " + str(reason)
    return said(error) if isinstance(error, OSError) else str(error)


class Asking:
    """A series of requests."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self._connection: http.client.HTTPConnection | None = None
        self._on_this = 0  # requests answered on the connection
        self._target = PATH + params["token"] + (f"?header={params['return_bytes']}" if params["return_bytes"] else "")
        self._headers = {"Host": params["host"], **({PADDING: "x" * params["send_bytes"]} if params["send_bytes"] else {})}
        self.asked = self.answered = self.opened = 0
        self.closed_after: list[int] = []
        self.others: dict[str, int] = {}
        self.hsts: str | None = None

    def one(self) -> bool:
        """Send one request; return whether it was answered at all."""
        self.asked += 1
        try:
            answer = self._answer()
        except (OSError, http.client.HTTPException) as error:
            what = told(error)
            self.others[what] = self.others.get(what, 0) + 1
            self.close()
            return False
        if answer.getheader(TOKEN) == self._params["token"] and answer.status == 200:
            self.answered += 1
        else:
            self.others[str(answer.status)] = self.others.get(str(answer.status), 0) + 1
        self.hsts = answer.getheader("Strict-Transport-Security")
        self._on_this += 1
        if answer.will_close:
            self.closed_after.append(self._on_this)
            self.close()
        return True

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._on_this = None, 0

    def _answer(self) -> http.client.HTTPResponse:
        if self._connection is not None:
            try:
                return self._exchange(self._connection)
            except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
                # It was closed while nothing was under way, which this client has not noticed.
                self.closed_after.append(self._on_this)
                self.close()
        self._connection = opened(self._params)
        self.opened += 1
        return self._exchange(self._connection)

    def _exchange(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        connection.request("GET", self._target, headers=self._headers)
        answer = connection.getresponse()
        answer.read(MOST_BYTES)
        return answer


def ask(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``ask``."""
    asking = Asking(params)
    start = time.monotonic()
    failed = 0
    for _ in range(int(params["requests"])):
        failed = 0 if asking.one() else failed + 1
        if failed >= MOST_FAILED or time.monotonic() - start > float(params["max_s"]):
            break
    asking.close()
    return {
        "asked": asking.asked,
        "answered": asking.answered,
        "opened": asking.opened,
        "closed_after": asking.closed_after,
        "others": asking.others,
        "hsts": asking.hsts,
        "ms": round((time.monotonic() - start) * 1000, 1),
    }


def stream(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``stream``."""
    return in_threads([*params["series"]], lambda series: streamed(series, float(params["every_s"]), float(params["for_s"])))


def streamed(series: Mapping[str, Any], every_s: float, for_s: float) -> dict[str, Any]:
    """Send requests at a steady pace."""
    asking = Asking(series)
    start = time.monotonic()
    failed_s = []
    while (sent_s := time.monotonic() - start) < for_s:
        before = asking.answered
        asking.one()
        if asking.answered == before:
            failed_s.append(round(sent_s, 2))
        time.sleep(max(0.0, sent_s + every_s - (time.monotonic() - start)))
    asking.close()
    return {"asked": asking.asked, "answered": asking.answered, "others": asking.others, "failed_s": failed_s}


OPERATIONS = {"serve": serve, "seen": seen, "stop": stop, "ask": ask, "stream": stream}
