"""A small API server on loopback: answers from a table, remembers what it was asked, and runs exec as local processes."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from pytest_k8snet.cluster.lease import LEASES, NAME

Answer = tuple[int, Any]
Route = Answer | Callable[[str, dict[str, str], Any], Answer]


def status(code: int, reason: str, message: str) -> Answer:
    return code, {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}


class FakeApiServer:
    """`routes` maps (method, path) to an answer or a function of path, query and body; anything else is 404."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.delay_s = 0.0  # before every answer
        self.headers: dict[str, str] = {}  # of every answer
        self.routes: dict[tuple[str, str], Route] = {}
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.content_types: dict[str, set[str | None]] = {}  # by method
        self.exec: Callable[[socket.socket, list[str]], None] = run_locally
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes: the second one would wait 40 ms for the client

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

            def _serve(self) -> None:
                parts = urlsplit(self.path)
                pairs = parse_qsl(parts.query)
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                outer.content_types.setdefault(self.command, set()).add(self.headers.get("Content-Type"))
                outer.requests.append((self.command, parts.path, dict(pairs), body))
                time.sleep(outer.delay_s)
                route = outer.routes.get((self.command, parts.path))
                if route is None and self.headers.get("Upgrade", "").lower() == "websocket":
                    self._upgrade([value for key, value in pairs if key == "command"])
                    return
                code, answer = (
                    status(404, "NotFound", f"{parts.path} not found")
                    if route is None
                    else route(parts.path, dict(pairs), body)
                    if callable(route)
                    else route
                )
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response_only(code)
                self.send_header("Date", outer.headers.get("Date") or self.date_time_string())
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for header, value in outer.headers.items():
                    if header != "Date":
                        self.send_header(header, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

            def _upgrade(self, argv: list[str]) -> None:
                key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
                accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()  # noqa: S324
                self.send_response(101)
                self.send_header("Upgrade", "websocket")
                self.send_header("Connection", "Upgrade")
                self.send_header("Sec-WebSocket-Accept", accept)
                self.send_header("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
                self.end_headers()
                self.wfile.flush()
                self.close_connection = True
                outer.exec(self.connection, argv)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def items(self, path: str, *objects: Any) -> None:
        self.routes["GET", path] = (200, {"items": list(objects), "metadata": {}})

    def asked(self, method: str) -> list[str]:
        return [path for verb, path, _, _ in self.requests if verb == method]


@contextmanager
def fake_api(tls: ssl.SSLContext | None = None) -> Iterator[FakeApiServer]:
    server = FakeApiServer(tls)
    try:
        yield server
    finally:
        server.close()


def write_kubeconfig(path: Path, url: str, user: dict[str, Any] | None = None) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "lab",
                "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
                "clusters": [{"name": "lab", "cluster": {"server": url}}],
                "users": [{"name": "me", "user": user if user is not None else {"token": "top-secret"}}],
            }
        )
    )
    return path


def send_frame(sock: socket.socket, data: bytes, opcode: int = 2) -> None:
    length = len(data)
    if length < 126:
        size = bytes([length])
    elif length < 65536:
        size = bytes([126]) + struct.pack(">H", length)
    else:
        size = bytes([127]) + struct.pack(">Q", length)
    head = bytes([0x80 | opcode]) + size
    sock.sendall(head + data)


def read_frame(sock: socket.socket) -> tuple[int, bytes]:
    head = _exactly(sock, 2)
    length = head[1] & 0x7F
    if length == 126:
        length = struct.unpack(">H", _exactly(sock, 2))[0]
    elif length == 127:
        length = struct.unpack(">Q", _exactly(sock, 8))[0]
    mask = _exactly(sock, 4)
    data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(_exactly(sock, length)))
    return head[0] & 0x0F, data


def read_program(sock: socket.socket) -> bytes:
    """Read what the bootstrap reads."""
    data = read_frame(sock)[1][1:]
    while len(data) < 8 + int(data[:8]):
        data += read_frame(sock)[1][1:]
    return data[8:]


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise ConnectionError
        data += chunk
    return data


def run_locally(sock: socket.socket, argv: list[str]) -> None:
    """Run the command of an exec here, and tell its exit status as a kubelet does."""
    program = [sys.executable, *argv[1:]] if argv[0] == "python3" else argv
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        stdin = process.stdin
        assert stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None

        def pump(channel: int, stream: Any) -> None:
            while data := stream.read1(65536):
                send_frame(sock, bytes([channel]) + data)

        def feed() -> None:
            try:
                while True:
                    opcode, data = read_frame(sock)
                    if opcode == 8:
                        break
                    if opcode == 2 and data[:1] == b"\0":
                        stdin.write(data[1:])
                        stdin.flush()
            except (OSError, ValueError):
                pass
            with suppress(OSError):
                stdin.close()

        threads = [threading.Thread(target=pump, args=item, daemon=True) for item in ((1, process.stdout), (2, process.stderr))]
        threading.Thread(target=feed, daemon=True).start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        code = process.wait()
    answer: dict[str, Any] = {"status": "Success"}
    if code != 0:
        answer = {
            "status": "Failure",
            "message": f"command terminated with non-zero exit code {code}",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    try:
        send_frame(sock, b"\3" + json.dumps(answer).encode())
        send_frame(sock, struct.pack(">H", 1000), opcode=8)
    except OSError:
        pass


class LeaseCell:
    """The Lease of a fake API server: it has versions, and refuses to replace or delete another one than is named."""

    def __init__(self, server: FakeApiServer) -> None:
        self.record: dict[str, Any] | None = None
        self.failure: Answer | None = None  # what every request is answered with
        self.lost_answers = 0  # of how many writes to come the answer is lost, and not the write
        self.history: list[str] = []
        self._version = 0
        self._lock = threading.Lock()
        path = f"{LEASES}/{NAME}"
        served = {("GET", path): self._get, ("POST", LEASES): self._post, ("PUT", path): self._put, ("DELETE", path): self._delete}
        server.routes |= {key: partial(self._serve, serve) for key, serve in served.items()}

    @property
    def holder(self) -> str | None:
        return None if self.record is None else self.record["spec"].get("holderIdentity")

    def put(self, holder: str, *, renewed: str = "2999-01-01T00:00:00.000000Z", duration_s: int = 30) -> None:
        """Let somebody hold it."""
        spec = {"holderIdentity": holder, "acquireTime": "2026-06-01T12:03:11.000000Z", "renewTime": renewed}
        with self._lock:
            self._store({"metadata": {"name": NAME, "uid": "uid-other"}, "spec": {**spec, "leaseDurationSeconds": duration_s}})

    def drop(self) -> None:
        """Delete it."""
        self.record = None

    def _serve(self, serve: Callable[[Any], Answer], path: str, query: dict[str, str], body: Any) -> Answer:
        with self._lock:
            if self.failure is not None:
                return self.failure
            answer = serve(body)
            if body is not None and answer[0] < 300 and self.lost_answers:
                self.lost_answers -= 1
                return status(500, "InternalError", "the answer was lost")
            return answer

    def _get(self, body: Any) -> Answer:
        return status(404, "NotFound", "no such lease") if self.record is None else (200, self.record)

    def _post(self, body: Any) -> Answer:
        if self.record is not None:
            return status(409, "AlreadyExists", "there is one")
        return 201, self._store({**body, "metadata": {**body["metadata"], "uid": f"uid-{self._version}"}})

    def _put(self, body: Any) -> Answer:
        if self.record is None:
            return status(404, "NotFound", "no such lease")
        if any(body["metadata"][key] != self.record["metadata"][key] for key in ("uid", "resourceVersion")):
            return status(409, "Conflict", "another version")
        return 200, self._store(body)

    def _delete(self, body: Any) -> Answer:
        if self.record is None:
            return status(404, "NotFound", "no such lease")
        if any(body["preconditions"][key] != self.record["metadata"][key] for key in ("uid", "resourceVersion")):
            return status(409, "Conflict", "another version")
        self.record = None
        return 200, {}

    def _store(self, body: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        self.record = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        self.history.append(body["spec"]["holderIdentity"])
        return self.record
