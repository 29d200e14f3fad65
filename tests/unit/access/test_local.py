from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.access import local
from pytest_k8snet.access.base import Deadline, run
from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.access.local import LocalAccess, own_addresses, this_node
from pytest_k8snet.access.probes import NoProbes
from pytest_k8snet.cluster.model import Cluster, Node
from pytest_k8snet.errors import AccessError, AuthenticationError, CommandTimeout, ConfigurationError, NoPodError, ProbeError


def node(name: str, **changes: Any) -> Node:
    return Node.from_json({**fake_node(name).to_json(), "internal_ip": "192.0.2.1", **changes})


def cluster(*nodes: Node) -> Cluster:
    return Cluster(version="v1", nodes=nodes, claims={}, kube_proxy_daemonsets=(), cni=None)


@pytest.fixture
def access() -> Iterator[LocalAccess]:
    nodes = (node("node-1"), node("node-2", ready=False, not_ready_reason="gone"))
    access = LocalAccess(NoProbes(nodes).wait(Deadline.after(1)))
    yield access
    access.close()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose programs are found before all others, for a user who is not root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(getpass, "getuser", lambda: "admin")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def put(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def test_agent_runs_as_a_child(access: LocalAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    agent = access.host("node-1")
    assert agent.where == "node-1 (local)"
    assert run(agent, ["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=20).exit_status == 3
    assert run(agent, ["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"], timeout_s=60).stdout == "x" * 3000000
    parents = [run(agent, ["sh", "-c", "echo $PPID"], timeout_s=20).stdout for _ in range(2)]
    assert parents[0] == parents[1], "one process answers all"
    access.close()
    assert not Path(f"/proc/{parents[0].strip()}").exists(), "and it ends with the access"


def test_no_pods_and_no_other_node(access: LocalAccess) -> None:
    with pytest.raises(NoPodError, match="access local makes no probe pods"):
        access.pod("node-1")
    with pytest.raises(AccessError, match="node-9: access local reaches the machine it runs on, and that is another one"):
        access.host("node-9")
    with pytest.raises(ProbeError, match="node-2: the node is NotReady: gone"):
        access.host("node-2")


def test_user_who_is_not_root_uses_sudo(access: LocalAccess, programs: Path) -> None:
    put(programs, "sudo", '[ "$1 $2" = "-n --" ] || exit 9\nshift 2\nBY_SUDO=yes exec "$@"')
    assert run(access.host("node-1"), ["sh", "-c", "echo $BY_SUDO"], timeout_s=20).stdout == "yes\n"


def test_sudo_that_refuses(access: LocalAccess, programs: Path) -> None:
    put(programs, "sudo", "echo 'sudo: a password is required' >&2\nexit 1")
    with pytest.raises(
        AuthenticationError, match=r"node-1 \(local\): run: this machine: sudo refused: .* put `admin ALL=\(root\) NOPASSWD"
    ):
        run(access.host("node-1"), ["true"])


def test_machine_without_sudo(access: LocalAccess, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (programs / "env").symlink_to("/usr/bin/env")
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(AuthenticationError, match="admin is not root, and the node has no sudo"):
        run(access.host("node-1"), ["true"])


def test_user_without_a_name(access: LocalAccess, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", unknown)
    put(programs, "sudo", "echo 'sudo: you do not exist in the passwd database' >&2\nexit 1")
    with pytest.raises(AuthenticationError, match="put `#1000 ALL="):
        run(access.host("node-1"), ["true"])


def test_agent_that_floods_stderr_and_one_that_hangs(access: LocalAccess, programs: Path) -> None:
    put(programs, "sudo", 'shift 2\nhead -c 1000000 /dev/zero >&2\nexec "$@"')
    agent = access.host("node-1")
    assert run(agent, ["echo", "heard"], timeout_s=20).stdout == "heard\n"
    with pytest.raises(CommandTimeout, match=r"this machine: no answer within 0\.3 s"):
        agent.request("run", {"argv": ["sleep", "2"]}, timeout_s=0.3)
    assert run(agent, ["echo", "again"], timeout_s=20).stdout == "again\n"


def test_agent_that_was_killed_is_started_again(access: LocalAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    agent = access.host("node-1")
    with pytest.raises(AccessError, match="this machine: the program ended with exit status"):
        run(agent, ["sh", "-c", "kill -9 $PPID; sleep 5"], timeout_s=20)
    assert run(agent, ["echo", "again"], timeout_s=20).stdout == "again\n"


def test_interpreter_that_is_gone(access: LocalAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "executable", "/no/such/interpreter")
    with pytest.raises(AccessError, match="/no/such/interpreter"):
        run(access.host("node-1"), ["true"])


# ---- which node this is


@pytest.mark.parametrize(
    ("nodes", "name"),
    [
        ([node("a"), node("b", internal_ip="127.0.0.1")], "b"),
        ([node("a"), node("b", internal_ips=("192.0.2.9", "127.0.0.1"))], "b"),
        ([node("a"), node("here"), node("b")], "here"),
        ([node("a"), node("b", hostname="here")], "b"),
        ([node("here"), node("b", internal_ip="127.0.0.1")], "b"),  # an address says more than a name
        ([node("a", internal_ip=None), node("here", internal_ip=None)], "here"),
        ([node("a", internal_ip="2001:db8::1"), node("here")], "here"),
    ],
)
def test_the_node_that_this_machine_is(nodes: list[Node], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(local, "own_addresses", lambda: {"127.0.0.1", "127.0.0.2"})
    assert this_node(cluster(*nodes), {item.name for item in nodes}) == name


def test_name_that_was_given_counts() -> None:
    assert this_node(cluster(node("a"), node("b")), {"b"}) == "b"


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [node("a"), node("b")],
            r"no node has an address of this machine or its name \(here\); say which node it is with --k8snet-nodes=NAME",
        ),
        ([node("a", internal_ip="127.0.0.1"), node("b", internal_ip="127.0.0.2")], "this machine may be a, b; say which node it is with"),
        ([node("a")], "no node has an address of this machine"),
    ],
)
def test_machine_that_is_no_node_or_may_be_several(nodes: list[Node], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(local, "own_addresses", lambda: {"127.0.0.1", "127.0.0.2"})
    with pytest.raises(ConfigurationError, match=message):
        this_node(cluster(*nodes), {item.name for item in nodes})


FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.0.0.0/24 2 0 2
        |-- 10.0.0.0
           /24 link UNICAST
        |-- 10.0.0.7
           /32 host LOCAL
        |-- 10.0.0.8
           /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
        |-- 127.0.0.0
           /8 host LOCAL
"""


def test_addresses_of_this_machine(tmp_path: Path) -> None:
    assert own_addresses(tmp_path) == set()
    (tmp_path / "fib_trie").write_text(FIB_TRIE)
    (tmp_path / "if_inet6").write_text("fd000000000000000000000000000001 02 40 00 80     eth0\n")
    assert own_addresses(tmp_path) == {"10.0.0.7", "10.0.0.8", "fd00::1"}
    assert "127.0.0.1" in own_addresses()
