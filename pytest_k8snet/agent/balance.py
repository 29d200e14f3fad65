"""Opens many connections to one Service and says who answered each, and what the kernel's tables of Services have counted of them.

A program of the agent (see agent.py), sent when one of these operations is first asked for:

- ``connect``: ``address``, ``port``, ``count``, ``together`` (so many at a time), ``timeout_s``; each once. Gives
  ``connections``, of each its own ``source`` (address, port), the ``name`` that the server told, ``connected_ms`` until it was open,
  ``ms`` until the server had told, and ``error``, with which the name is null
- ``hold``: ``address``, ``port``, ``name``, ``tries``, ``timeout_s``; opens connections until one is answered by ``name`` and keeps
  that, with the kernel's keep-alive. Gives its ``number``, null when there was none, its own ``source`` (address, port) and
  ``keepalive_s``, after which the kernel asks whether the other side is still there
- ``held``: ``number``, ``timeout_s``, ``keep``; sends something over it, closes it unless it is to be kept, and gives whether it was
  ``alive``: echoed, and ``error``
- ``remembered``: ``address``, ``port``, ``client`` (address, port); in the node's network namespace. Gives ``expires_s``, after which
  IPVS forgets that connection when no packet comes; null where IPVS does not have it
- ``counted``: ``address``, ``port``, ``clients`` (addresses); in the node's network namespace. Gives ``ipvs``: whether it is
  ``loaded``, the ``scheduler`` of that virtual server (null: there is none), and its ``connections`` from those clients, each as
  client's address and port and real server's address and port. Gives ``rules``: of iptables' tables nat those that name the
  address, each with its ``backend``, ``rule`` and ``packets``, and ``errors`` of back ends that could not be read
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import time

from pytest_k8snet.agent.agent import Failed, client_socket, connect_to, in_threads, line_of, nft_tables, output, read, read_or_none, said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

IPVS_TABLE, IPVS_CONNECTIONS = "/proc/net/ip_vs", "/proc/net/ip_vs_conn"
COUNTED_RULE = re.compile(r"\[(\d+):\d+\] (-A .*)")
UNREADABLE = "incompatible, use 'nft' tool"  # iptables-nft-save's word for a table with rules that only nft understands


def connect(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``connect``."""
    address, port, timeout_s = str(params["address"]), int(params["port"]), float(params["timeout_s"])
    keys = [str(number) for number in range(int(params["count"]))]
    answers = in_threads([{"key": key} for key in keys], lambda _: connected(address, port, timeout_s), int(params["together"]))
    return {"connections": [answers[key] for key in keys]}


def connected(address: str, port: int, timeout_s: float) -> dict[str, Any]:
    """Open one connection, read who answers, close it."""
    start = time.monotonic()
    answer: dict[str, Any] = {"source": None, "name": None, "connected_ms": None, "ms": None, "error": None}
    try:
        # Not by connect_to: where it comes from is told of a connection that fails, too.
        with client_socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            sock.settimeout(timeout_s)
            try:
                sock.connect((address, port))
            finally:
                answer["source"] = list(sock.getsockname()[:2])
            answer["connected_ms"] = round((time.monotonic() - start) * 1000, 3)
            answer["name"] = told(sock, start + timeout_s)
    except OSError as error:
        answer["error"] = said(error)
    except (KeyError, TypeError, ValueError):
        answer["error"] = "something else answers there"
    answer["ms"] = round((time.monotonic() - start) * 1000, 2)
    return answer


held_open: dict[int, socket.socket] = {}


def hold(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``hold``."""
    address, timeout_s = str(params["address"]), float(params["timeout_s"])
    for _ in range(int(params["tries"])):
        try:
            sock = connect_to(address, int(params["port"]), timeout_s)
        except OSError:
            continue
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if told(sock, time.monotonic() + timeout_s) == params["name"]:
                number = max(held_open, default=0) + 1
                held_open[number] = sock
                keepalive_s = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                return {"number": number, "source": list(sock.getsockname()[:2]), "keepalive_s": keepalive_s}
        except (KeyError, OSError, TypeError, ValueError):
            pass
        sock.close()
    return {"number": None, "source": None, "keepalive_s": None}


def held(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``held``."""
    number = int(params["number"])
    sock = held_open[number]
    try:
        sock.settimeout(float(params["timeout_s"]))
        sock.sendall(b"still there?\n")
        answer = sock.recv(4096)
    except OSError as error:
        answer, wrong = b"", said(error)
    else:
        wrong = "the connection ended"
    if not (params.get("keep") and answer):
        del held_open[number]
        sock.close()
    return {"alive": bool(answer), "error": None if answer else wrong}


def remembered(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``remembered``."""
    address, port, (client, source_port) = str(params["address"]), int(params["port"]), params["client"]
    table = read_or_none(IPVS_CONNECTIONS) or ""
    return {"expires_s": expires_s(table, address, port, str(client), int(source_port))}


def expires_s(table: str, address: str, port: int, client: str, source_port: int) -> int | None:
    """Return after how many seconds a connection in the text of /proc/net/ip_vs_conn is forgotten."""
    for words in connections_of(table, address, port):
        if len(words) > 8 and int(words[2], 16) == source_port and same(words[1], client):
            return int(words[8])
    return None


def told(sock: socket.socket, until: float) -> str:
    """Return the name that a server of the program ``traffic`` tells."""
    return str(json.loads(line_of(sock, until))["name"])


def counted(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``counted``."""
    address, port = str(params["address"]), int(params["port"])
    rules, errors = counted_rules(address)
    return {"ipvs": in_ipvs(address, port, set(params["clients"])), "rules": rules, "errors": errors}


def in_ipvs(address: str, port: int, clients: set[str]) -> dict[str, Any]:
    """Return what the tables of IPVS have of a virtual server. The files are there as soon as the module is."""
    if not os.path.exists(IPVS_TABLE):  # noqa: PTH110 - pathlib is not imported on nodes
        return {"loaded": False, "scheduler": None, "connections": []}
    return {
        "loaded": True,
        "scheduler": scheduler_of(read(IPVS_TABLE), address, port),
        "connections": ipvs_connections(read(IPVS_CONNECTIONS), address, port, clients),
    }


def scheduler_of(table: str, address: str, port: int) -> str | None:
    """Return the scheduler of a virtual server in the text of /proc/net/ip_vs."""
    for line in table.splitlines():
        words = line.split()
        if len(words) > 2 and words[0] == "TCP":
            host, _, number = words[1].rpartition(":")
            if same(host, address) and int(number, 16) == port:
                return words[2]
    return None


def ipvs_connections(table: str, address: str, port: int, clients: set[str]) -> list[list[Any]]:
    """Return a virtual server's connections from `clients` in the text of /proc/net/ip_vs_conn."""
    found = []
    for words in connections_of(table, address, port):
        client = plain(words[1])
        if client in clients and words[2] != "0000":  # port 0 is the template of an affinity
            found.append([client, int(words[2], 16), plain(words[5]), int(words[6], 16)])
    return found


def connections_of(table: str, address: str, port: int) -> Iterator[list[str]]:
    """Yield the words of the lines of /proc/net/ip_vs_conn that are of a virtual server."""
    number = f"{port:04X}"
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) >= 8 and words[0] == "TCP" and words[4] == number and same(words[3], address):
            yield words


def same(written: str, address: str) -> bool:
    """Whether an address as IPVS writes it is this one."""
    return plain(written) == address


def plain(written: str) -> str:
    """Return an address as IPVS writes it (0A600001, or of IPv6 in full) as everybody else does."""
    written = written.strip("[]")
    if ":" in written:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, written))
    return socket.inet_ntoa(struct.pack(">I", int(written, 16)))


def counted_rules(address: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the rules in iptables' tables nat that name an address, with their counters. A back end that is not in use is not asked."""
    six = "6" if ":" in address else ""
    legacy = "nat" in (read_or_none(f"/proc/net/ip{six}_tables_names") or "").split()  # iptables-legacy would make the table
    nft = nft_tables()
    errors = {} if nft["error"] is None else {"nft": str(nft["error"])}
    rules: list[dict[str, Any]] = []
    for backend, present in (("legacy", legacy), ("nft", f"ip{six} nat" in nft["tables"])):
        if present:
            tool = f"ip{six}tables-{backend}-save"
            try:
                text = output([tool, "-c", "-t", "nat"])
                rules += naming(backend, text.splitlines(), f"{address}/{128 if six else 32}")
                if UNREADABLE in text:
                    errors[backend] = f"{tool}: the table nat has rules that it cannot print"
            except (Failed, OSError) as error:
                errors[backend] = str(error)
    return rules, errors


def naming(backend: str, lines: Sequence[str], destination: str) -> list[dict[str, Any]]:
    """Return the rules that name a destination, in lines of ``iptables-save -c``."""
    found = []
    for line in lines:
        match = COUNTED_RULE.match(line)
        if match and f" -d {destination} " in line and " ! -d " not in line:
            found.append({"backend": backend, "rule": match.group(2), "packets": int(match.group(1))})
    return found


OPERATIONS = {"connect": connect, "counted": counted, "hold": hold, "held": held, "remembered": remembered}
