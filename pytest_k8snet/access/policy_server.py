"""What runs in the pods that a NetworkPolicy selects: each connection to one of its ports gets one line of JSON, as from agents' servers.

A datagram that is no shorter than its answer gets such a line with its own first one as ``token``. Through the first port it is told whom
to ask itself, as a policy may keep it from that: a line ``{"targets": [{"key", "address", "port", "protocol"}, ...], "timeout_s": 2}`` is
answered by one, ``{"name": ..., "answers": {key: {"name": ..., "error": ...}}}``. It asks on its own ports only, and passes on nothing but
names.

Started as ``python3 -I -c SOURCE NAME RELAY-PORT PORT...``: standard library only, and nothing of this package.
"""

import json
import os
import select
import socket
import sys
import threading
import time
from typing import Any

MOST_TARGETS = 64
MOST_BYTES = 65536
LONGEST_S = 10.0
QUESTION_BYTES = 512  # of a datagram: room for the answer, which has a node's name in it


def bound(kind: int, port: int) -> socket.socket:
    """Return a socket on every address of both families, of IPv4 alone where there is no IPv6."""
    try:
        sock = socket.socket(socket.AF_INET6, kind)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("::", port))
    except OSError:
        sock = socket.socket(socket.AF_INET, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", port))
    if kind == socket.SOCK_STREAM:
        sock.listen(128)
    sock.setblocking(False)
    return sock


def line(name: str, peer: Any, **more: Any) -> bytes:
    """Return what is said to whom."""
    return json.dumps({"name": name, "peer": [peer[0].removeprefix("::ffff:"), peer[1]], **more}).encode() + b"\n"


def read_line(sock: socket.socket, until: float) -> bytes:
    """Return the first line that comes."""
    data = b""
    while b"\n" not in data and len(data) < MOST_BYTES:
        sock.settimeout(max(0.001, until - time.monotonic()))
        part = sock.recv(4096)
        if not part:
            raise ValueError("the connection ended")
        data += part
    return data.split(b"\n", 1)[0]


def ask(target: Any, timeout_s: float) -> dict[str, Any]:
    """Ask one server; return who answered, or what went wrong."""
    until = time.monotonic() + timeout_s
    try:
        if target["protocol"] == "TCP":
            with socket.create_connection((target["address"], target["port"]), timeout=timeout_s) as sock:
                return {"name": json.loads(read_line(sock, until))["name"], "error": None}
        token = os.urandom(8).hex()
        with socket.socket(socket.AF_INET6 if ":" in target["address"] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((target["address"], target["port"]))
            sock.send((token.encode() + b"\n").ljust(QUESTION_BYTES, b"\0"))
            answer = json.loads(read_line(sock, until))
            return {"name": answer["name"], "error": None if answer["token"] == token else "an answer to something else"}
    except OSError as error:
        return {"name": None, "error": "timed out" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0)}
    except (KeyError, TypeError, ValueError):
        return {"name": None, "error": "something else answers there"}


def relay(name: str, connection: socket.socket, ports: frozenset[int]) -> None:
    """Ask those whom the client names, all at once."""
    try:
        with connection:
            asked = json.loads(read_line(connection, time.monotonic() + LONGEST_S))
            timeout_s = min(float(asked["timeout_s"]), LONGEST_S)
            answers: dict[str, Any] = {}

            def tell(target: Any) -> None:
                answers[target["key"]] = ask(target, timeout_s)

            targets = [target for target in asked["targets"] if target["port"] in ports][:MOST_TARGETS]
            threads = [threading.Thread(target=tell, args=(target,), daemon=True) for target in targets]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            connection.settimeout(LONGEST_S)
            connection.sendall(json.dumps({"name": name, "answers": answers}).encode() + b"\n")
    except (OSError, KeyError, TypeError, ValueError):
        pass  # the client has gone, or is none of ours


def serve(
    name: str, relaying: socket.socket, listeners: list[socket.socket], datagrams: list[socket.socket], ports: frozenset[int]
) -> None:
    """Answer for ever."""
    while True:
        for sock in select.select([relaying, *listeners, *datagrams], [], [])[0]:
            try:
                if sock in datagrams:
                    data, peer = sock.recvfrom(MOST_BYTES)
                    if data.startswith(b"{"):
                        continue  # an answer, sent here in another's name: answered, it would go back and forth between two servers
                    answer = line(name, peer, token=data.split(b"\n", 1)[0][:100].decode("ascii", "replace"))
                    if len(answer) <= len(data):  # else whoever forges an address would get more sent there than they send themselves
                        sock.sendto(answer, peer)
                    continue
                connection, peer = sock.accept()
                if sock is relaying:
                    threading.Thread(target=relay, args=(name, connection, ports), daemon=True).start()
                    continue
                with connection:
                    connection.sendall(line(name, peer))
            except OSError:
                continue  # the client has gone


if __name__ == "__main__":
    numbers = [int(port) for port in sys.argv[2:]]
    serve(
        sys.argv[1],
        bound(socket.SOCK_STREAM, numbers[0]),
        [bound(socket.SOCK_STREAM, port) for port in numbers[1:]],
        [bound(socket.SOCK_DGRAM, port) for port in numbers[1:]],
        frozenset(numbers[1:]),
    )
