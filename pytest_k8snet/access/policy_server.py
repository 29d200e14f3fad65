"""What runs in the pods that a NetworkPolicy selects: each connection to one of its ports gets one line of JSON, as from agents' servers.

Started as ``python3 -I -c SOURCE NAME PORT...``: standard library only, and nothing of this package.
"""

import json
import select
import socket
import sys


def listener(port: int) -> socket.socket:
    """Listen on every address of both families, of IPv4 alone where there is no IPv6."""
    try:
        sock = socket.socket(socket.AF_INET6)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("::", port))
    except OSError:
        sock = socket.socket(socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", port))
    sock.listen(128)
    sock.setblocking(False)
    return sock


def serve(name: str, listeners: list[socket.socket]) -> None:
    """Answer for ever."""
    while True:
        for sock in select.select(listeners, [], [])[0]:
            try:
                connection, peer = sock.accept()
                with connection:
                    address = peer[0].removeprefix("::ffff:")
                    connection.sendall(json.dumps({"name": name, "peer": [address, peer[1]]}).encode() + b"\n")
            except OSError:
                continue  # the client has gone


if __name__ == "__main__":
    serve(sys.argv[1], [listener(int(port)) for port in sys.argv[2:]])
