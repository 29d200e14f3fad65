from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from pytest_k8snet.access.base import Agent, Deadline, run
from pytest_k8snet.access.client import AgentClient
from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.access.probes import NoProbes
from pytest_k8snet.access.shell import AgentOrShell
from pytest_k8snet.access.ssh import SshAccess
from pytest_k8snet.access.ssh_config import SshConfig
from pytest_k8snet.cluster.model import Cluster, Node
from pytest_k8snet.errors import (
    AccessError,
    AuthenticationError,
    CommandTimeout,
    ConnectError,
    ExecTransportError,
    NoAgentError,
    NoPodError,
    ProbeError,
    UnreachableError,
)
from pytest_k8snet.options import Settings
from pytest_k8snet.record.redact import Redactor
from tests.unit.access.sshserver import KeyFile, SshServer, make_key, ssh_server

AGENT = "env LC_ALL=C python3 -I -S -u -c "


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    with ssh_server(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def key(tmp_path: Path, sshd: SshServer) -> KeyFile:
    key = make_key(tmp_path / "key")
    sshd.authorized.add(key.public)
    return key


class Way:
    """The way to node-1, whose sshd is `sshd`; `access` is opened with the settings given."""

    def __init__(self, sshd: SshServer, key: KeyFile, folder: Path) -> None:
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(sshd.known_line())
        self.sshd = sshd
        self.settings: dict[str, Any] = {
            "access": "ssh",
            "ssh_config": "none",
            "ssh_user": "root",
            "ssh_port": sshd.port,
            "ssh_key": str(key.path),
            "ssh_known_hosts": str(self.known_hosts),
            "ssh_connect_timeout": 20,
        }
        self.environment: dict[str, str] = {}
        self._opened: list[SshAccess] = []

    def access(self, *nodes: Node, patience_s: float = 0.6, **settings: Any) -> SshAccess:
        all_settings = {name: value for name, value in {**self.settings, **settings}.items() if value is not None}
        config = SshConfig(Settings(**all_settings), self.environment)
        cluster = cluster_of(*(nodes or (local_node(),)))
        probes = NoProbes(cluster.nodes).wait(Deadline.after(1))
        access = SshAccess(config, cluster, probes, patience_s=patience_s)
        self._opened.append(access)
        return access

    def fails(self, error: type[AccessError], **settings: Any) -> str:
        """Return the message with which the first request fails."""
        with pytest.raises(AccessError) as caught:
            run(self.access(**settings).host("node-1"), ["true"], timeout_s=20)
        assert caught.type is error, caught.value
        assert Redactor().text(str(caught.value)) == str(caught.value), "nothing in it looks like a secret"
        return str(caught.value)

    def works(self, **settings: Any) -> None:
        assert run(self.access(**settings).host("node-1"), ["echo", "in"], timeout_s=20).stdout == "in\n"

    def config(self, folder: Path, text: str) -> str:
        """Write an ssh configuration."""
        path = folder / "config"
        path.write_text(text)
        return str(path)

    def close(self) -> None:
        for access in self._opened:
            access.close()


@pytest.fixture
def way(sshd: SshServer, key: KeyFile, tmp_path: Path) -> Iterator[Way]:
    way = Way(sshd, key, tmp_path)
    yield way
    way.close()


def local_node(name: str = "node-1") -> Node:
    return _replaced(fake_node(name), internal_ip="127.0.0.1")


def _replaced(node: Node, **changes: object) -> Node:
    return Node.from_json({**node.to_json(), **changes})


def cluster_of(*nodes: Node) -> Cluster:
    return Cluster(version="v1", nodes=nodes, claims={}, kube_proxy_daemonsets=(), cni=None)


def seen_to_end(agent: Agent) -> None:
    """Wait until this side has noticed that its connection is gone."""
    assert isinstance(agent, AgentOrShell)
    client = agent._agent
    assert isinstance(client, AgentClient)
    until = time.monotonic() + 20
    while client._stream is not None and client._stream.alive and time.monotonic() < until:
        time.sleep(0.02)


# ---- one exec


def test_agent_runs_over_one_exec(way: Way, sshd: SshServer) -> None:
    agent = way.access().host("node-1")
    assert agent.where == "node-1 (ssh)"
    assert run(agent, ["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=20).exit_status == 3
    assert run(agent, ["echo", "grüße"], timeout_s=20).stdout == "grüße\n"
    assert run(agent, ["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"], timeout_s=60).stdout == "x" * 3000000
    assert (sshd.connections, len(sshd.commands)) == (1, 1)
    assert sshd.commands[0].startswith(AGENT)


def test_there_are_no_probe_pods(way: Way) -> None:
    with pytest.raises(NoPodError, match="access ssh makes no probe pods"):
        way.access().pod("node-1")


def test_node_that_is_not_ready_is_left_alone(way: Way, sshd: SshServer) -> None:
    node = _replaced(local_node(), ready=False, not_ready_reason="KubeletNotReady: gone")
    with pytest.raises(ProbeError, match="node-1: the node is NotReady: KubeletNotReady: gone"):
        way.access(node).host("node-1")
    assert sshd.connections == 0


def test_nodes_that_are_asked_at_the_same_time(way: Way, sshd: SshServer) -> None:
    names = [f"node-{number}" for number in range(8)]
    access = way.access(*map(local_node, names))
    answers: dict[str, str] = {}

    def ask(name: str) -> None:
        answers[name] = run(access.host(name), ["echo", name], timeout_s=60).stdout

    threads = [threading.Thread(target=ask, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert answers == {name: f"{name}\n" for name in names}
    assert sshd.connections == 8


def test_command_that_takes_too_long(way: Way) -> None:
    agent = way.access().host("node-1")
    with pytest.raises(CommandTimeout, match=r"node-1 \(ssh\): run: sleep 30: no end within 0.2 s"):
        run(agent, ["sleep", "30"], timeout_s=0.2)
    assert run(agent, ["echo", "still there"], timeout_s=20).stdout == "still there\n"


def test_agent_that_does_not_answer_is_replaced_over_the_same_connection(way: Way, sshd: SshServer) -> None:
    agent = way.access().host("node-1")
    with pytest.raises(CommandTimeout, match=r"node-1 \(ssh\): run: root@127.0.0.1 port \d+: no answer within 0.5 s"):
        agent.request("run", {"argv": ["sleep", "2"], "timeout_s": 20}, timeout_s=0.5)
    assert run(agent, ["echo", "new"], timeout_s=20).stdout == "new\n"
    assert (sshd.connections, len(sshd.commands)) == (1, 2)


def test_stderr_that_nobody_asked_for_is_in_nobody_s_way(way: Way, sshd: SshServer) -> None:
    """More of it than a channel's window holds, before the first answer and while answers are given."""

    def flood(channel: paramiko.Channel, command: str) -> None:
        channel.sendall_stderr(b"x" * 5_000_000)
        sshd.run_here(channel, f"(while :; do echo noise >&2; done) & {command}; kill $!")

    sshd.run = flood
    agent = way.access().host("node-1")
    for _ in range(3):
        assert run(agent, ["echo", "heard"], timeout_s=60).stdout == "heard\n"


def test_connections_that_were_not_needed_for_longest_are_let_go(way: Way, sshd: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_k8snet.access.ssh._MOST_OPEN", 2)
    names = [f"node-{number}" for number in range(5)]
    access = way.access(*map(local_node, names))
    for name in names:
        assert run(access.host(name), ["echo", name], timeout_s=30).stdout == f"{name}\n"
    assert (sshd.connections, sum(node.connection.is_open for node in access._nodes.values())) == (5, 2)
    assert run(access.host("node-4"), ["echo", "kept"], timeout_s=30).stdout == "kept\n"
    assert sshd.connections == 5
    assert run(access.host("node-0"), ["echo", "again"], timeout_s=30).stdout == "again\n"
    assert sshd.connections == 6


def test_connection_that_is_in_use_is_not_let_go(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_k8snet.access.ssh._MOST_OPEN", 1)
    access = way.access(local_node("node-0"), local_node("node-1"))
    busy = access.host("node-0")
    run(busy, ["true"], timeout_s=30)
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(run(busy, ["sh", "-c", "sleep 1; echo through"], timeout_s=30).stdout))
    asking.start()
    until = time.monotonic() + 20
    while not busy._agent._lock.locked() and time.monotonic() < until:  # type: ignore[attr-defined]
        time.sleep(0.01)
    run(access.host("node-1"), ["true"], timeout_s=30)
    asking.join(30)
    assert answers == ["through\n"]


# ---- what breaks


def test_connection_that_is_dropped_is_opened_again(way: Way, sshd: SshServer) -> None:
    agent = way.access(patience_s=20).host("node-1")
    assert run(agent, ["echo", "first"], timeout_s=20).stdout == "first\n"
    sshd.drop()
    seen_to_end(agent)
    assert run(agent, ["echo", "second"], timeout_s=20).stdout == "second\n"
    assert sshd.connections == 2


def test_connection_that_is_dropped_under_a_request(way: Way, sshd: SshServer) -> None:
    agent = way.access().host("node-1")
    run(agent, ["true"], timeout_s=20)
    threading.Timer(0.3, sshd.drop).start()
    with pytest.raises(ExecTransportError, match=r"node-1 \(ssh\): run: root@127.0.0.1 port \d+: the connection was lost"):
        run(agent, ["sleep", "20"], timeout_s=30)


def test_server_that_is_restarted_is_waited_for(way: Way, sshd: SshServer) -> None:
    agent = way.access(patience_s=30).host("node-1")
    run(agent, ["true"], timeout_s=20)
    sshd.stop()
    seen_to_end(agent)
    threading.Timer(1.0, sshd.start).start()
    assert run(agent, ["echo", "back"], timeout_s=20).stdout == "back\n"


def test_server_that_does_not_come_back(way: Way, sshd: SshServer) -> None:
    agent = way.access(patience_s=0.7).host("node-1")
    run(agent, ["true"], timeout_s=20)
    sshd.stop()
    seen_to_end(agent)
    with pytest.raises(ConnectError, match=r"127.0.0.1 port \d+: Connection refused"):
        run(agent, ["true"], timeout_s=20)


def test_node_that_was_never_reached_is_tried_once(way: Way, sshd: SshServer) -> None:
    sshd.stop()
    started = time.monotonic()
    message = way.fails(UnreachableError, patience_s=600.0)
    assert re.fullmatch(r"node-1 \(ssh\): run: 127.0.0.1 port \d+: Connection refused", message)
    assert time.monotonic() - started < 300


def test_server_that_is_silent(way: Way) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        message = way.fails(UnreachableError, ssh_port=silent.getsockname()[1], ssh_connect_timeout=1)
    assert message.endswith(": it accepts connections and is silent for 1 s; is it an sshd?")


def test_server_that_speaks_something_else(way: Way) -> None:
    with serving(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        assert "no ssh: the connection was closed (" in way.fails(UnreachableError, ssh_port=port)


def test_server_that_hangs_up(way: Way) -> None:
    with serving(lambda sock: None) as port:
        assert "no ssh: the connection was closed (" in way.fails(UnreachableError, ssh_port=port)


def test_server_that_starts_no_command(way: Way, sshd: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_k8snet.access.client._START_S", 1.0)
    wait = threading.Event()
    sshd.run = lambda channel, command: None
    monkeypatch.setattr("tests.unit.access.sshserver._Session.check_channel_exec_request", lambda *_: wait.wait(20))
    with pytest.raises(CommandTimeout, match="the server starts no command within 1 s"):
        way.access().host("node-1").request("run", {"argv": ["true"]}, timeout_s=1.0)
    wait.set()


def test_program_that_ends_without_a_status(way: Way, sshd: SshServer) -> None:
    def close(channel: paramiko.Channel, command: str) -> None:
        del command
        channel.recv(1)  # by then the client knows that it was started
        channel.sendall_stderr(b"Killed\n")
        channel.close()

    sshd.run = close
    assert "the program ended without an exit status: Killed" in way.fails(ExecTransportError, patience_s=0.0)


def test_program_that_is_no_agent(way: Way, sshd: SshServer) -> None:
    sshd.run = lambda channel, command: sshd.run_here(channel, "echo no JSON; cat > /dev/null")
    assert "the agent wrote no JSON: 'no JSON'" in way.fails(AccessError)


def test_name_that_does_not_resolve(way: Way) -> None:
    message = way.fails(UnreachableError, ssh_map="node-1=no-such-host.invalid")
    assert "no-such-host.invalid is no name that resolves here" in message
    assert "--k8snet-ssh-map" in message


# ---- host keys


def test_host_key_that_is_not_known_is_accepted_by_the_command_that_the_message_gives(way: Way, sshd: SshServer) -> None:
    way.known_hosts.write_text("")
    message = way.fails(AuthenticationError)
    port = sshd.port
    assert f"the host key of [127.0.0.1]:{port} is not known: ED25519 {sshd.host_key.fingerprint}." in message
    command = f"ssh-keyscan -t ed25519 -p {port} 127.0.0.1 >> {way.known_hosts}"
    assert message.endswith(f"If it is the same, accept it: {command}")
    assert sshd.offered == [], "no key was shown to a stranger"
    if shutil.which("ssh-keyscan"):
        subprocess.run(command, shell=True, check=True, timeout=60)  # noqa: S602 - that is what a user does
        way.works()


def test_host_key_is_known_by_the_alias_that_the_configuration_gives(way: Way, sshd: SshServer, tmp_path: Path) -> None:
    config = way.config(tmp_path, f"Host node-1\n HostName 127.0.0.1\n Port {sshd.port}\n HostKeyAlias n1\n")
    message = way.fails(AuthenticationError, ssh_config=config, ssh_port=None)
    assert "the host key of n1 is not known: ED25519 SHA256:" in message
    command = f"ssh-keyscan -t ed25519 -p {sshd.port} 127.0.0.1 | sed 's/^[^ ]*/n1/' >> {way.known_hosts}"
    assert command in message
    if shutil.which("ssh-keyscan"):
        subprocess.run(command, shell=True, check=True, timeout=60)  # noqa: S602 - that is what a user does
        way.works(ssh_config=config, ssh_port=None)


def test_host_key_that_has_changed(way: Way, sshd: SshServer, tmp_path: Path) -> None:
    old = sshd.host_key
    sshd.host_key = make_key(tmp_path / "new_host_key")
    message = way.fails(AuthenticationError)
    assert f"THE HOST KEY OF [127.0.0.1]:{sshd.port} HAS CHANGED." in message
    assert f"It shows ED25519 {sshd.host_key.fingerprint}, known is ED25519 {old.fingerprint} ({way.known_hosts}:1)." in message
    assert f"ssh-keygen -R '[127.0.0.1]:{sshd.port}' -f {way.known_hosts}, then ssh-keyscan" in message
    assert sshd.offered == []


def test_host_key_of_another_type_than_the_known_ones(way: Way, sshd: SshServer, tmp_path: Path) -> None:
    sshd.host_key = make_key(tmp_path / "rsa_host_key", kind="rsa")
    message = way.fails(AuthenticationError)
    assert "is not known (known are keys of other types: ED25519 SHA256:" in message
    assert "): RSA SHA256:" in message


def test_host_key_that_was_withdrawn(way: Way, sshd: SshServer) -> None:
    line = sshd.known_line()
    way.known_hosts.write_text(f"{line}@revoked * {line.split(' ', 1)[1]}")
    assert f"is REVOKED in {way.known_hosts}:2" in way.fails(AuthenticationError)


def test_no_setting_of_the_configuration_makes_a_stranger_s_key_good(way: Way, tmp_path: Path) -> None:
    way.known_hosts.write_text("")
    config = way.config(tmp_path, "Host *\n StrictHostKeyChecking no\n")
    assert "is not known" in way.fails(AuthenticationError, ssh_config=config)


# ---- keys


def test_key_that_is_not_accepted(way: Way, sshd: SshServer, key: KeyFile) -> None:
    sshd.authorized.clear()
    message = way.fails(AuthenticationError)
    assert f"no key was accepted: {key.path} (ED25519 {key.fingerprint}): not accepted." in message
    assert "~root/.ssh/authorized_keys" in message


def test_key_with_a_passphrase(way: Way, sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = make_key(tmp_path / "locked", "correct horse")
    sshd.authorized.add(locked.public)
    monkeypatch.delenv("K8SNET_SSH_PASSPHRASE", raising=False)
    message = way.fails(AuthenticationError, ssh_key=str(locked.path))
    assert f"{locked.path}: needs a passphrase: give it in K8SNET_SSH_PASSPHRASE, or load the key into an ssh-agent" in message
    monkeypatch.setenv("K8SNET_SSH_PASSPHRASE", "battery staple")
    message = way.fails(AuthenticationError, ssh_key=str(locked.path))
    assert f"{locked.path}: the passphrase in K8SNET_SSH_PASSPHRASE does not fit" in message
    assert "battery" not in message
    monkeypatch.setenv("K8SNET_SSH_PASSPHRASE", "correct horse")
    way.works(ssh_key=str(locked.path))
    way.works()  # a passphrase that an open key does not need is no mistake


def test_file_that_is_no_key(way: Way, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    message = way.fails(AuthenticationError, ssh_key=str(tmp_path / "text"))
    assert f"{tmp_path / 'text'}: is no private key that paramiko can read" in message


def test_no_key_at_all(way: Way, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "empty"))
    message = way.fails(AuthenticationError, ssh_key=None)
    assert "no key was accepted: there is none, and no ssh-agent: name one with --k8snet-ssh-key" in message


def test_server_that_takes_only_passwords(way: Way, sshd: SshServer) -> None:
    sshd.allowed = "password,keyboard-interactive"
    message = way.fails(AuthenticationError)
    assert "the server takes no keys, only password, keyboard-interactive; passwords are not supported, on purpose" in message


def test_server_that_wants_more_than_a_key(way: Way, sshd: SshServer) -> None:
    sshd.further = True
    assert "the key was accepted, and the server wants keyboard-interactive as well" in way.fails(AuthenticationError)


def test_server_that_hangs_up_after_too_many_keys(way: Way, sshd: SshServer, key: KeyFile, tmp_path: Path) -> None:
    others = [make_key(tmp_path / f"other{number}") for number in range(4)]
    lines = "".join(f" IdentityFile {other.path}\n" for other in [*others, key])
    config = way.config(tmp_path, f"Host *\n{lines}")
    sshd.most_offers = 2
    message = way.fails(AuthenticationError, ssh_config=config, ssh_key=None)
    assert "the server hung up after 3 keys (" in message
    assert "Name the right one with --k8snet-ssh-key, or with IdentityFile and IdentitiesOnly" in message


@pytest.fixture
def agent_socket(tmp_path: Path) -> Iterator[str]:
    if not shutil.which("ssh-agent"):
        pytest.skip("no ssh-agent here")
    path = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 20
        while not os.path.exists(path) and time.monotonic() < until:  # noqa: PTH110
            time.sleep(0.02)
        yield path
        process.send_signal(signal.SIGTERM)


def test_keys_of_an_agent(way: Way, sshd: SshServer, tmp_path: Path, agent_socket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key is used for a file that needs a passphrase, and offered where nobody named a file, unless only named ones are wanted."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("K8SNET_SSH_PASSPHRASE", raising=False)
    held = make_key(tmp_path / "held")
    subprocess.run(["ssh-add", "-q", held.path], env={**os.environ, "SSH_AUTH_SOCK": agent_socket}, check=True)
    locked = make_key(tmp_path / "locked", "secret")
    sshd.authorized = {held.public}
    way.environment["SSH_AUTH_SOCK"] = agent_socket
    way.works(ssh_key=None)
    way.works(ssh_key=str(locked.path))
    only = way.config(tmp_path, f"Host *\n IdentitiesOnly yes\n IdentityFile {locked.path}\n")
    assert "needs a passphrase" in way.fails(AuthenticationError, ssh_config=only, ssh_key=None)
    public = subprocess.run(["ssh-keygen", "-y", "-f", held.path], capture_output=True, text=True, check=True).stdout
    (tmp_path / "locked.pub").write_text(public)
    way.works(ssh_config=only, ssh_key=None)
    way.environment["SSH_AUTH_SOCK"] = str(tmp_path / "gone")
    assert f"ssh-agent {tmp_path / 'gone'}: " in way.fails(AuthenticationError, ssh_key=str(locked.path))
    way.works(ssh_config=way.config(tmp_path, f"Host *\n IdentityAgent {agent_socket}\n"), ssh_key=None)


# ---- jump hosts and proxy commands


@pytest.fixture
def bastion(tmp_path: Path, key: KeyFile) -> Iterator[SshServer]:
    with ssh_server(tmp_path / "bastion") as server:
        server.authorized.add(key.public)
        yield server


def test_jump_host(way: Way, sshd: SshServer, bastion: SshServer) -> None:
    with way.known_hosts.open("a") as file:
        file.write(bastion.known_line())
    access = way.access(local_node("node-1"), local_node("node-2"), ssh_jump=f"127.0.0.1:{bastion.port}")
    for name in ("node-1", "node-2"):
        assert run(access.host(name), ["echo", name], timeout_s=30).stdout == f"{name}\n"
    assert bastion.forwarded == [("127.0.0.1", sshd.port)] * 2
    assert (bastion.connections, bastion.commands, sshd.connections) == (1, [], 2)


def test_jump_host_that_was_lost_is_opened_again(way: Way, bastion: SshServer) -> None:
    with way.known_hosts.open("a") as file:
        file.write(bastion.known_line())
    agent = way.access(ssh_jump=f"127.0.0.1:{bastion.port}", patience_s=20).host("node-1")
    run(agent, ["true"], timeout_s=30)
    bastion.drop()
    seen_to_end(agent)
    assert run(agent, ["echo", "again"], timeout_s=30).stdout == "again\n"


def test_jump_host_that_is_not_known(way: Way, bastion: SshServer) -> None:
    message = way.fails(AuthenticationError, ssh_jump=f"127.0.0.1:{bastion.port}")
    assert f"the host key of [127.0.0.1]:{bastion.port} is not known: ED25519 {bastion.host_key.fingerprint}" in message


def test_jump_host_that_is_down_is_tried_once_for_all_who_wait(way: Way, bastion: SshServer) -> None:
    bastion.stop()
    message = way.fails(UnreachableError, ssh_jump=f"127.0.0.1:{bastion.port}")
    assert f"127.0.0.1 port {bastion.port}: Connection refused" in message


def test_jump_host_that_forwards_nothing(way: Way, bastion: SshServer, sshd: SshServer) -> None:
    with way.known_hosts.open("a") as file:
        file.write(bastion.known_line())
    bastion.forwarding = False
    message = way.fails(UnreachableError, ssh_jump=f"127.0.0.1:{bastion.port}")
    told = f"the jump host root@127.0.0.1 port {bastion.port} opens no connection to 127.0.0.1 port {sshd.port}: "
    assert told in message
    assert "dministratively prohibited" in message


def test_host_key_behind_a_jump_host_is_accepted_by_its_line(way: Way, sshd: SshServer, bastion: SshServer) -> None:
    way.known_hosts.write_text(bastion.known_line())
    jump = f"127.0.0.1:{bastion.port}"
    message = way.fails(AuthenticationError, ssh_jump=jump)
    command = f"echo '{sshd.known_line().strip()}' >> {way.known_hosts}"
    assert message.endswith(command)
    subprocess.run(command, shell=True, check=True)  # noqa: S602 - that is what a user does
    way.works(ssh_jump=jump)


RELAY = (
    "import socket,sys,threading,os\n"
    "s=socket.create_connection((sys.argv[1],int(sys.argv[2])))\n"
    "def up():\n"
    "    while True:\n"
    "        d=os.read(0,65536)\n"
    "        if not d: break\n"
    "        s.sendall(d)\n"
    "    s.shutdown(1)\n"
    "threading.Thread(target=up,daemon=True).start()\n"
    "while True:\n"
    "    d=s.recv(65536)\n"
    "    if not d: break\n"
    "    os.write(1,d)\n"
)


def test_proxy_command(way: Way, sshd: SshServer, tmp_path: Path) -> None:
    (tmp_path / "relay.py").write_text(RELAY)
    config = way.config(tmp_path, f"Host *\n ProxyCommand {sys.executable} {tmp_path / 'relay.py'} %h %p\n")
    way.works(ssh_config=config)
    assert sshd.connections == 1


def test_proxy_command_that_fails(way: Way, tmp_path: Path) -> None:
    config = way.config(tmp_path, "Host *\n ProxyCommand sh -c 'echo token=hunter2 >/dev/null; echo no route to %h >&2; exit 3'\n")
    message = way.fails(UnreachableError, ssh_config=config)
    assert "no ssh: its ProxyCommand ended with exit status 3: no route to 127.0.0.1 (" in message
    assert "hunter2" not in message


def test_proxy_command_that_is_not_there(way: Way, tmp_path: Path) -> None:
    config = way.config(tmp_path, "Host *\n ProxyCommand no-such-program %h\n")
    message = way.fails(UnreachableError, ssh_config=config)
    assert "its ProxyCommand ended with exit status 127: " in message


# ---- root


SUDO = """#!/bin/sh
[ "$1" = -n ] && [ "$2" = -- ] || { echo "usage" >&2; exit 1; }
shift 2
K8SNET_SUDO=1; export K8SNET_SUDO
exec "$@"
"""


def put_program(sshd: SshServer, name: str, text: str) -> None:
    path = Path(sshd.path.split(":")[0]) / name
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def test_user_who_is_not_root_becomes_it_by_sudo(way: Way, sshd: SshServer) -> None:
    put_program(sshd, "sudo", SUDO)
    agent = way.access(ssh_user="admin").host("node-1")
    assert run(agent, ["sh", "-c", "echo $K8SNET_SUDO"], timeout_s=20).stdout == "1\n"
    assert sshd.commands[0].startswith("env LC_ALL=C sudo -n -- python3 -I -S -u -c ")


def test_sudo_that_refuses(way: Way, sshd: SshServer) -> None:
    put_program(sshd, "sudo", "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    message = way.fails(AuthenticationError, ssh_user="admin")
    assert "sudo refused: sudo: a password is required." in message
    assert "put `admin ALL=(root) NOPASSWD: ALL` into a file of /etc/sudoers.d on the node (with visudo), or log in as root" in message


@pytest.fixture
def tools(sshd: SshServer, tmp_path: Path) -> Path:
    """Return the only folder of programs that the node has: without python3."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("env", "sh"):
        (folder / name).symlink_to(shutil.which(name) or "")
    sshd.path = str(folder)
    return folder


@pytest.mark.usefixtures("tools")
def test_without_python_what_takes_the_agent_is_refused(way: Way, sshd: SshServer) -> None:
    message = way.fails(NoAgentError)
    assert message.startswith("node-1 (ssh): run: root@127.0.0.1 port ")
    assert message.endswith(": the node has no python3; by shell alone only facts, counters and the IPVS table are read")
    assert len(sshd.commands) == 1


def test_python_that_is_too_old(way: Way, sshd: SshServer) -> None:
    put_program(sshd, "python3", "#!/bin/sh\nexit 4\n")
    assert "the node's python3 is older than 3.7; by shell alone" in way.fails(NoAgentError)


IPVS = {"uplink_ip": "192.0.2.1"}


@pytest.mark.usefixtures("tools")
def test_without_python_the_shell_collector_reads(way: Way, sshd: SshServer) -> None:
    agent = way.access().host("node-1")
    for _ in range(2):
        answer = agent.request("ipvs", IPVS, timeout_s=30)
        assert answer.keys() == {"loaded", "table", "kube_ipvs0", "configz", "mode"}
    assert [command.split("=C ")[1][:7] for command in sshd.commands] == ["python3", "sh -s", "sh -s"]
    assert sshd.connections == 1


def test_shell_collector_by_sudo(way: Way, sshd: SshServer, tools: Path) -> None:
    refusing = '#!/bin/sh\n[ $3 = sh ] || { echo sudo: $3: command not found >&2; exit 1; }\nshift 2\nexec "$@"\n'
    (tools / "sudo").write_text(refusing)
    (tools / "sudo").chmod(0o755)
    assert "mode" in way.access(ssh_user="admin").host("node-1").request("ipvs", IPVS, timeout_s=30)
    assert sshd.commands[1] == "env LC_ALL=C sudo -n -- sh -s"


def test_without_python_and_shell(way: Way, tools: Path) -> None:
    """That is no reason to skip anything: nothing could be read."""
    (tools / "sh").unlink()
    with pytest.raises(AccessError) as caught:
        way.access().host("node-1").request("ipvs", IPVS, timeout_s=30)
    assert caught.type is AccessError
    assert "the program ended with exit status 127: env: " in str(caught.value)


@pytest.mark.usefixtures("tools")
def test_shell_collector_that_breaks_off(way: Way, sshd: SshServer) -> None:
    agent = way.access().host("node-1")
    agent.request("ipvs", IPVS, timeout_s=30)
    sshd.run = lambda channel, command: sshd.run_here(channel, "echo out of memory >&2")
    with pytest.raises(AccessError, match=r"the shell collector broke off: out of memory .*the node has no python3: read by shell"):
        agent.request("ipvs", IPVS, timeout_s=30)


@pytest.mark.usefixtures("tools")
def test_shell_collector_that_hangs(way: Way, sshd: SshServer) -> None:
    agent = way.access().host("node-1")
    agent.request("ipvs", IPVS, timeout_s=30)
    sshd.run = lambda channel, command: sshd.run_here(channel, "/bin/sleep 20")
    with pytest.raises(CommandTimeout, match=r"no answer within 0\.5 s"):
        agent.request("ipvs", IPVS, timeout_s=0.5)


class serving:  # noqa: N801 - reads as a function
    """Accept connections on loopback and do something with each before it is closed."""

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self._serve = serve
        self._listening = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> int:
        threading.Thread(target=self._accept, daemon=True).start()
        port: int = self._listening.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            with sock:
                self._serve(sock)
