from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.agent import balance, traffic
from pytest_k8snet.agent.agent import Failed

CONNECTIONS = """Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0AF40105 9C40 0A600201 0050 0AF40205 220E TIME_WAIT       118
TCP 0AF40105 9C41 0A600201 0050 0AF40105 220E ESTABLISHED     899
TCP 0AF40105 0000 0A600201 0050 0AF40105 FFFF NONE            10
TCP 0AF40109 9C42 0A600201 0050 0AF40105 220E TIME_WAIT       118
TCP 0AF40105 9C43 0A600202 0050 0AF40105 220E TIME_WAIT       118
TCP 0AF40105 9C44 0A600201 0051 0AF40105 220E TIME_WAIT       118
UDP 0AF40105 9C45 0A600201 0050 0AF40105 220E UDP             118
"""
CONNECTIONS_6 = (
    f"{CONNECTIONS}TCP fd00:0000:0000:0000:0000:0000:0000:0005 9C46 fd01:0000:0000:0000:0000:0000:0000:0001 0050 "
    "fd00:0000:0000:0000:0000:0000:0000:0006 220E TIME_WAIT     118\n"
)
TABLE = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
UDP  0A600201:0050 sh
TCP  0A600201:0050 rr persistent 10800 FFFFFFFF
  -> 0AF40105:220E      Masq    1      0          0
TCP  [fd01:0000:0000:0000:0000:0000:0000:0001]:0050 wrr
"""
SAVED = """*nat
:PREROUTING ACCEPT [5:300]
[60:3600] -A PREROUTING -d 10.96.2.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.5:8718
[7:420] -A KUBE-SERVICES -d 10.96.2.10/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-ABCDEFGHIJKLMNOP
[7:420] -A KUBE-SVC-ABCDEFGHIJKLMNOP ! -d 10.96.2.1/32 -j KUBE-MARK-MASQ
COMMIT
"""


@pytest.fixture
def port() -> Iterator[int]:
    server = traffic.serve({"name": "node-2", "port": 0, "max_s": 30})
    yield server["port"]
    traffic.stop({"number": server["number"]})


def connect(port: int, count: int = 1, timeout_s: float = 5.0) -> list[dict[str, Any]]:
    params = {"address": "127.0.0.1", "port": port, "count": count, "together": 20, "timeout_s": timeout_s}
    found: list[dict[str, Any]] = balance.connect(params)["connections"]
    return found


def test_every_connection_is_one_of_its_own(port: int) -> None:
    found = connect(port, 30)
    assert {item["name"] for item in found} == {"node-2"}
    assert {item["error"] for item in found} == {None}
    assert len({tuple(item["source"]) for item in found}) == 30
    assert {item["source"][0] for item in found} == {"127.0.0.1"}


def test_what_goes_wrong_is_told_of_each() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    (refused,) = connect(port)
    assert (refused["name"], refused["error"]) == (None, "Connection refused")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (found,) = connect(silent.getsockname()[1], timeout_s=0.05)
        assert (found["name"], found["error"], found["source"][0]) == (None, "timed out", "127.0.0.1")


@pytest.mark.parametrize("words", [b"SSH-2.0-x\r\n", b"", b'{"name"\n', b"[1]\n"])
def test_somebody_else_answers(words: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(words)

        thread = threading.Thread(target=answer)
        thread.start()
        (found,) = connect(server.getsockname()[1])
        thread.join()
    assert (found["name"], found["error"]) == (None, "something else answers there")


def test_a_connection_that_is_held(port: int) -> None:
    params = {"address": "127.0.0.1", "port": port, "tries": 2, "timeout_s": 5.0}
    found = balance.hold({**params, "name": "node-2"})
    other = balance.hold({**params, "name": "node-2"})
    assert (found["source"][0], found["keepalive_s"]) == ("127.0.0.1", int(Path("/proc/sys/net/ipv4/tcp_keepalive_time").read_text()))
    for keep in (True, True, False):
        assert balance.held({"number": found["number"], "timeout_s": 5.0, "keep": keep}) == {"alive": True, "error": None}
    assert found["number"] not in balance.held_open
    balance.held_open[other["number"]].shutdown(socket.SHUT_WR)
    assert balance.held({"number": other["number"], "timeout_s": 5.0, "keep": True}) == {"alive": False, "error": "Broken pipe"}
    assert other["number"] not in balance.held_open, "what is dead is not kept"
    none = {"number": None, "source": None, "keepalive_s": None}
    assert balance.hold({**params, "name": "node-3"}) == none
    with socket.create_server(("127.0.0.1", 0)) as closed:
        params["port"] = closed.getsockname()[1]
    assert balance.hold({**params, "name": "node-2"}) == none


def test_when_ipvs_forgets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = tmp_path / "ip_vs_conn"
    monkeypatch.setattr(balance, "IPVS_CONNECTIONS", str(table))
    params = {"address": "10.96.2.1", "port": 80, "client": ["10.244.1.5", 0x9C41]}
    assert balance.remembered(params) == {"expires_s": None}, "no IPVS"
    table.write_text(CONNECTIONS)
    assert balance.remembered(params) == {"expires_s": 899}
    assert balance.remembered({**params, "client": ["10.244.1.5", 0x9C45]}) == {"expires_s": None}, "UDP"
    assert balance.remembered({**params, "client": ["10.244.1.6", 0x9C41]}) == {"expires_s": None}
    assert balance.remembered({**params, "address": "10.96.2.2"}) == {"expires_s": None}


def test_a_held_connection_that_ends() -> None:
    short = traffic.serve({"name": "node-2", "port": 0, "max_s": 30, "connection_s": 0.05})
    number = balance.hold({"address": "127.0.0.1", "port": short["port"], "name": "node-2", "tries": 1, "timeout_s": 5.0})["number"]
    assert balance.held_open[number].recv(10) == b"", "closed by the server, whose patience is short"
    answer = balance.held({"number": number, "timeout_s": 5.0})
    assert (answer["alive"], answer["error"] in ("the connection ended", "Connection reset by peer", "Broken pipe")) == (False, True)
    traffic.stop({"number": short["number"]})


def test_connections_of_a_virtual_server() -> None:
    assert balance.ipvs_connections(CONNECTIONS, "10.96.2.1", 80, {"10.244.1.5"}) == [
        ["10.244.1.5", 0x9C40, "10.244.2.5", 8718],
        ["10.244.1.5", 0x9C41, "10.244.1.5", 8718],
    ], "no template of an affinity, no other client, address, port and protocol"
    assert balance.ipvs_connections(CONNECTIONS_6, "fd01::1", 80, {"fd00::5"}) == [["fd00::5", 0x9C46, "fd00::6", 8718]]


def test_the_scheduler_of_a_virtual_server() -> None:
    assert balance.scheduler_of(TABLE, "10.96.2.1", 80) == "rr"
    assert balance.scheduler_of(TABLE, "fd01::1", 80) == "wrr"
    assert balance.scheduler_of(TABLE, "10.96.2.1", 81) is None


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what a node has: files by path, the nft tables, and what tools print."""
    has: dict[str, Any] = {"files": {}, "nft": {"tables": [], "error": None}, "asked": [], "saved": SAVED}

    def output(argv: Sequence[str]) -> str:
        has["asked"].append(argv[0])
        if isinstance(has["saved"], Exception):
            raise has["saved"]
        return str(has["saved"])

    def read(path: str) -> str:
        text: str = has["files"][path]
        return text

    monkeypatch.setattr(os.path, "exists", has["files"].__contains__)
    monkeypatch.setattr(balance, "read", read)
    monkeypatch.setattr(balance, "read_or_none", has["files"].get)
    monkeypatch.setattr(balance, "nft_tables", lambda: has["nft"])
    monkeypatch.setattr(balance, "output", output)
    return has


PARAMS: Mapping[str, Any] = {"address": "10.96.2.1", "port": 80, "clients": ["10.244.1.5"]}


def test_what_is_not_in_use_is_not_asked(kernel: dict[str, Any]) -> None:
    kernel["files"]["/proc/net/ip_tables_names"] = "filter\n"
    nothing: dict[str, Any] = {"loaded": False, "scheduler": None, "connections": []}
    assert balance.counted(PARAMS) == {"ipvs": nothing, "rules": [], "errors": {}}
    assert kernel["asked"] == []


def test_tables_and_rules(kernel: dict[str, Any]) -> None:
    kernel["files"] |= {"/proc/net/ip_tables_names": "nat\n", "/proc/net/ip_vs": TABLE, "/proc/net/ip_vs_conn": CONNECTIONS}
    kernel["nft"]["tables"] = ["ip nat"]
    found = balance.counted(PARAMS)
    assert (found["ipvs"]["loaded"], found["ipvs"]["scheduler"], len(found["ipvs"]["connections"])) == (True, "rr", 2)
    rule = "-A PREROUTING -d 10.96.2.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.5:8718"
    assert found["rules"] == [{"backend": backend, "rule": rule, "packets": 60} for backend in ("legacy", "nft")]
    assert kernel["asked"] == ["iptables-legacy-save", "iptables-nft-save"]


def test_rules_that_cannot_be_read(kernel: dict[str, Any]) -> None:
    kernel["nft"] = {"tables": ["ip6 nat"], "error": None}
    kernel["saved"] = SAVED + "# Table `nat' is incompatible, use 'nft' tool.\n"
    errors = balance.counted({**PARAMS, "address": "fd01::1"})["errors"]
    assert errors == {"nft": "ip6tables-nft-save: the table nat has rules that it cannot print"}
    kernel["saved"] = Failed("tool", "ip6tables-nft-save: not on the node")
    assert balance.counted({**PARAMS, "address": "fd01::1"})["errors"] == {"nft": "ip6tables-nft-save: not on the node"}
    kernel["nft"] = {"tables": [], "error": "nft -j list tables: exit status 1"}
    assert balance.counted(PARAMS)["errors"] == {"nft": "nft -j list tables: exit status 1"}
