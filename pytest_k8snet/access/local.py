"""The way to the node that the run itself is on: the agent is a child process. There are no probe pods, and no other node is reached."""

from __future__ import annotations

import getpass
import ipaddress
import os
import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_k8snet.access.base import Agent, Deadline
from pytest_k8snet.access.client import AGENT_ARGV, AgentClient, Patience
from pytest_k8snet.access.lines import Lines
from pytest_k8snet.access.root import ROOT, as_root, why_ended
from pytest_k8snet.errors import AccessError, CommandTimeout, ConfigurationError, NoPodError, ProbeError

if TYPE_CHECKING:
    from pytest_k8snet.access.probes import Probe
    from pytest_k8snet.cluster.model import Cluster

_CHUNK = 64 * 1024
_KEPT_STDERR = 2000
_END_S = 5.0


class LocalStream:
    """A child process with its stdin and stdout."""

    def __init__(self, where: str, argv: Sequence[str], user: str) -> None:
        self.where = where
        self._user = user
        self._lines = Lines()
        self._stderr = b""
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise AccessError(f"{where}: {argv[0]}: {error.strerror}") from error
        # A full pipe would stop it.
        self._drain = threading.Thread(target=self._read_stderr, name="k8snet-local-stderr", daemon=True)
        self._drain.start()

    def write(self, data: bytes) -> None:
        """Send `data` to its stdin."""
        assert self._process.stdin is not None
        view = memoryview(data)
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except OSError as error:
            raise self._ended() from error

    def read_line(self, deadline: Deadline) -> bytes:
        """Return the next line of stdout without its end; `CommandTimeout` at the deadline, `AccessError` when the process ended."""

        def fill() -> None:
            if not self._wait(deadline.remaining):
                raise CommandTimeout(f"{self.where}: no answer within {deadline.seconds:g} s")
            self._fill()

        return self._lines.next(fill, self._ended)

    @property
    def alive(self) -> bool:
        """Whether nothing says that it has ended."""
        while not self._lines.at_end and self._wait(0.0):
            self._fill()
        return not self._lines.at_end and self._process.poll() is None

    def close(self) -> None:
        """End it: it sees the end of its stdin. One started by sudo is not ours to kill."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                self._process.kill()
        self._process.stdout.close()
        self._drain.join(_END_S)

    def _wait(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _fill(self) -> None:
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), _CHUNK)
        self._lines.add(data)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            while data := pipe.read(_CHUNK):
                self._stderr = (self._stderr + data)[-_KEPT_STDERR:]

    def _ended(self) -> AccessError:
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return AccessError(f"{self.where}: the program closed its stdout and did not end")
        self._drain.join(_END_S)
        return why_ended(self.where, self._user, status, self._stderr.decode("utf-8", "replace").strip())


class LocalAccess:
    """Access to this machine. `probes` has the one node that it is."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = probes
        self._agents: dict[str, AgentClient] = {}
        self._lock = threading.Lock()

    def host(self, node: str) -> Agent:
        """Return the agent on this machine."""
        probe = self._probes.get(node)
        if probe is None:
            raise AccessError(f"{node}: access local reaches the machine it runs on, and that is another one")
        if probe.error is not None:
            raise ProbeError(probe.error)
        with self._lock:
            if node not in self._agents:
                self._agents[node] = AgentClient(f"{node} (local)", _start, Patience(0.0))
            return self._agents[node]

    def pod(self, node: str) -> Agent:
        """Refuse: it makes no pods."""
        raise NoPodError("access local makes no probe pods")

    def close(self) -> None:
        """End the agent."""
        with self._lock:
            agents, self._agents = [*self._agents.values()], {}
        for agent in agents:
            agent.close()


def this_node(cluster: Cluster, candidates: Collection[str]) -> str:
    """Return the name of the node that this machine is: by an address, else by the hostname; `candidates` are those that it may be.

    Raises `ConfigurationError` when it is none of them, or may be several.
    """
    nodes = [node for node in cluster.nodes if node.name in candidates]
    if len(nodes) == 1 and len(cluster.nodes) > 1:
        return nodes[0].name  # somebody has said so
    hostname, own = socket.gethostname(), own_addresses()
    found = [node.name for node in nodes if own & {*node.addresses}] or [
        node.name for node in nodes if hostname in (node.name, node.hostname)
    ]
    if len(found) == 1:
        return found[0]
    told = f"this machine may be {', '.join(found)}" if found else f"no node has an address of this machine or its name ({hostname})"
    raise ConfigurationError(f"--k8snet-access=local: {told}; say which node it is with --k8snet-nodes=NAME")


def own_addresses(proc: Path = Path("/proc/net")) -> set[str]:
    """Return the addresses of this machine, as the kernel's own tables have them: binding to one proves nothing on nodes of IPVS."""
    found: set[str] = set()
    with suppress(OSError):
        found.update(re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", (proc / "fib_trie").read_text()))
    with suppress(OSError):
        found.update(str(ipaddress.IPv6Address(int(line.split()[0], 16))) for line in (proc / "if_inet6").read_text().splitlines())
    return found


def _start(deadline: Deadline) -> LocalStream:
    del deadline
    user = ROOT if os.geteuid() == 0 else _user()
    return LocalStream("this machine", as_root((sys.executable, *AGENT_ARGV[1:]), user), user)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"#{os.geteuid()}"  # as sudoers takes a user without a name
