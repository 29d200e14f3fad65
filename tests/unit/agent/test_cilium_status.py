"""What Cilium's agent says of itself, asked at its socket, and by curl where there is no python3."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.agent import agent, collected
from pytest_k8snet.agent.agent import Failed
from pytest_k8snet.record.facts import Bgp, Cilium, CiliumRouting
from tests.unit.agent.test_collected import sections

HEALTH = {
    "cilium": {"msg": "1.15.19 (v1.15.19)", "state": "Ok"},
    "controllers": [{"name": f"sync-policymap-{number}"} for number in range(10_000)],
    "kube-proxy-replacement": {"devices": ["eth0"], "features": {}, "mode": "True"},
    "routing": {"inter-host-routing-mode": "Tunnel", "intra-host-routing-mode": "BPF", "tunnel-protocol": "geneve"},
}
ROUTING = {"mode": "tunnel", "tunnel": "geneve", "path": "/v1/healthz"}
KEPT = {"state": "Ok", "message": "1.15.19 (v1.15.19)", "replacement": "True", "routing": ROUTING}
# Of 1.15, whose health does not tell: daemon/cmd/config.go gives every exported field of its options.
CONFIGURATION = {
    "spec": {"options": {"Debug": "Disabled"}},
    "status": {
        "daemonConfigurationMap": {"RoutingMode": "native", "KVStoreOpt": {"etcd.config": "/x"}, "DatapathMode": "veth"},
        "deviceMTU": 1500,
        "routeMTU": 1500,
    },
}
CONFIGURED = {"mode": "native", "tunnel": None, "path": "/v1/config"}
HEAD = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    monkeypatch.setattr(agent, "HOST_ROOT", str(tmp_path))
    monkeypatch.setattr(agent, "CILIUM_SOCKET", "/c.sock")
    given: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "c.sock"))
        listening.listen()

        def serve() -> None:
            with listening.accept()[0] as connection:
                given.append(connection.recv(65536))
                connection.sendall(given[0])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield given
        thread.join(10)


def test_the_agent_is_asked_at_its_socket(answers: list[bytes]) -> None:
    answers.append((HEAD + json.dumps(HEALTH)).encode())
    assert len(answers[0]) > 1 << 18, "it tells of controllers for every pod"
    assert agent.cilium() == KEPT
    assert answers[1].startswith(b"GET /v1/healthz HTTP/1.0\r\n")


PEER = {"peer-address": "10.0.0.1", "peer-asn": 64512, "local-asn": 64513, "session-state": "established", "families": []}
SESSION = {"name": "10.0.0.1 (AS 64512)", "state": "established", "since": "", "info": ""}


def test_the_agent_is_asked_for_its_bgp_peers(answers: list[bytes]) -> None:
    answers.append((HEAD + json.dumps([PEER])).encode())
    assert agent.bgp() == [{"socket": "/c.sock", "sessions": [SESSION], "error": None}]
    assert answers[1].startswith(b"GET /v1/bgp/peers HTTP/1.0\r\n")


@pytest.mark.parametrize("status", ["501 Not Implemented", "404 Not Found"])
def test_an_agent_that_speaks_no_bgp(answers: list[bytes], status: str) -> None:
    answers.append(f'HTTP/1.0 {status}\r\n\r\n"BGP Control Plane disabled"'.encode())
    assert agent.bgp() == []


def test_an_agent_that_cannot_tell_its_peers(answers: list[bytes]) -> None:
    answers.append(b'HTTP/1.0 500 Internal Server Error\r\n\r\n"failed to get peers"')
    assert agent.bgp() == [{"socket": "/c.sock", "sessions": None, "error": "Cilium's agent at /c.sock: HTTP 500"}]


def test_by_shell_its_bgp_peers_are_the_same() -> None:
    told = collected._bgp(sections(cilium__bgp=(HEAD + json.dumps([PEER]), 0, "")))
    assert told == [{"socket": agent.CILIUM_SOCKET, "sessions": [SESSION], "error": None}]
    assert collected._bgp(sections(cilium__bgp=("HTTP/1.1 501 Not Implemented\r\n\r\n", 0, ""))) == []
    (gone,) = Bgp.from_json(collected._bgp(sections(cilium__bgp=("", 7, ""))))
    assert gone.is_gone


def test_an_answer_of_another_kind_is_an_error(answers: list[bytes]) -> None:
    answers.append(b"HTTP/1.0 503 Service Unavailable\r\n\r\n")
    with pytest.raises(Failed, match=r"Cilium's agent at /c\.sock: HTTP 503"):
        agent.cilium()


def test_a_node_without_the_socket_has_no_cilium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "HOST_ROOT", str(tmp_path))
    assert agent.cilium() is None


def test_a_socket_that_an_agent_left_behind_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "HOST_ROOT", str(tmp_path))
    monkeypatch.setattr(agent, "CILIUM_SOCKET", "/c.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "c.sock"))
    with pytest.raises(Failed, match=r"Cilium's agent at /c\.sock: Connection refused"):
        agent.cilium()


def unasked() -> tuple[int, str]:
    raise AssertionError("it has told already")


def test_an_agent_that_says_nothing_of_replacement() -> None:
    body = json.dumps({"cilium": {"state": "Ok"}, "routing": HEALTH["routing"]})
    assert agent.read_cilium(200, body, unasked) == {"state": "Ok", "message": "", "replacement": None, "routing": ROUTING}


OLD = json.dumps({key: value for key, value in HEALTH.items() if key != "routing"})


def gone() -> tuple[int, str]:
    raise Failed("failed", "Cilium's agent at /run/cilium/cilium.sock: Connection refused")


@pytest.mark.parametrize(
    ("configuration", "wanted"),
    [
        (lambda: (200, json.dumps(CONFIGURATION)), CONFIGURED),
        (lambda: (200, json.dumps({"status": {"daemonConfigurationMap": {"RoutingMode": "tunnel", "TunnelProtocol": "vxlan"}}})),
         {"mode": "tunnel", "tunnel": "vxlan", "path": "/v1/config"}),
        (lambda: (200, json.dumps({"status": {"daemonConfigurationMap": {"Tunnel": "vxlan"}}})), None),
        (lambda: (200, json.dumps({"status": None})), None),
        (lambda: (200, "[]"), None),
        (lambda: (200, "<html>"), None),
        (lambda: (503, ""), None),
        (gone, None),
    ],
    ids=["of-1.15", "of-1.14", "of-1.13", "no-status", "a-list", "no-json", "refused", "gone"],
)  # fmt: skip
def test_an_agent_whose_health_does_not_tell_how_it_routes(
    configuration: Callable[[], tuple[int, str]], wanted: dict[str, Any] | None
) -> None:
    assert agent.read_cilium(200, OLD, configuration) == {**KEPT, "routing": wanted}


def test_by_shell_it_is_the_same() -> None:
    assert collected._cilium(sections(cilium=(HEAD + json.dumps(HEALTH), 0, ""))) == KEPT
    old = {"cilium": (HEAD + OLD, 0, ""), "cilium__config": (HEAD + json.dumps(CONFIGURATION), 0, "")}
    assert collected._cilium(sections(**old)) == {**KEPT, "routing": CONFIGURED}
    assert collected._cilium(sections(cilium=old["cilium"])) == {**KEPT, "routing": None}
    assert collected._cilium(sections(**{**old, "cilium__config": ("", 7, "")})) == {**KEPT, "routing": None}
    assert collected._cilium(sections()) is None
    with pytest.raises(Failed, match="curl: not on the node, so Cilium's agent was not asked"):
        collected._cilium(sections(cilium=("", 127, "sh: curl: not found")))
    with pytest.raises(Failed, match="curl: exit status 7"):
        collected._cilium(sections(cilium=("", 7, "")))


def test_typed() -> None:
    assert Cilium.from_json(None) is None
    assert Cilium.from_json(KEPT) == Cilium("Ok", "1.15.19 (v1.15.19)", "True", CiliumRouting("tunnel", "geneve", "/v1/healthz"))
    assert Cilium.from_json({key: value for key, value in KEPT.items() if key != "routing"}) == Cilium("Ok", "1.15.19 (v1.15.19)", "True")
    told = (CiliumRouting("tunnel", "vxlan", "x"), CiliumRouting("tunnel", None, "x"), CiliumRouting("native", "vxlan", "x"))
    assert [routing.described for routing in told] == ["tunnel (vxlan)", "tunnel", "native"]
    assert [Cilium(None, "", mode).replaces_kube_proxy for mode in ("True", "Strict", "False", "Partial", None)] == [
        True,
        True,
        *[False] * 3,
    ]
