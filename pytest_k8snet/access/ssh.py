"""The way to nodes by ssh: one connection a node, and over it one exec, in which the agent runs.

It never makes an object in the cluster. The first contact with a node is tried once, within its connect timeout: a node that is down is
told as such. A connection that was there before is opened again with patience: sshd may be restarting.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import paramiko

from pytest_k8snet.access.base import PATIENCE_S, Agent, Deadline
from pytest_k8snet.access.client import AGENT_ARGV, AgentClient, Patience
from pytest_k8snet.access.lines import Lines
from pytest_k8snet.access.root import as_root, why_ended
from pytest_k8snet.access.shell import SHELL_ARGV, AgentOrShell
from pytest_k8snet.access.ssh_connect import PASSPHRASE_VARIABLE, Jumps, Keys, connect, end, watched
from pytest_k8snet.errors import (
    AccessError,
    CommandTimeout,
    ConnectError,
    ExecTransportError,
    NoPodError,
    ProbeError,
    UnreachableError,
)

if TYPE_CHECKING:
    from pytest_k8snet.access.probes import Probe
    from pytest_k8snet.access.ssh_config import SshConfig, SshTarget
    from pytest_k8snet.cluster.model import Cluster

_CHUNK = 32 * 1024
_KEPT_STDERR = 1 << 20
_WRITE_S = 30.0
_MOST_OPEN = 128  # connections; each is a socket and two threads, and a cluster may have thousands of nodes
_STATUS_S = 5.0  # what a channel that has ended is given to tell its exit status


class SshStream:
    """One program on a node, with its stdin and stdout. Not for several threads at once."""

    def __init__(self, target: SshTarget, transport: paramiko.Transport, argv: Sequence[str], deadline: Deadline) -> None:
        self.where = str(target)
        self._user = target.user
        self._transport = transport
        self._lines = Lines()
        self._stderr = b""
        with watched(transport, deadline) as late:
            try:
                self._channel = transport.open_session(timeout=max(deadline.remaining, 0.1))
                self._channel.exec_command(shlex.join(argv))
            except (paramiko.SSHException, EOFError, OSError) as error:
                if late():
                    raise CommandTimeout(f"{self.where}: the server starts no command within {deadline.seconds:g} s") from error
                raise ExecTransportError(f"{self.where}: the server starts no command: {_text(error)}") from error
        # stdout and stderr share a window: without this, a program that writes much to stderr could not write to stdout any more.
        self._drain = threading.Thread(target=self._read_stderr, name="k8snet-ssh-stderr", daemon=True)
        self._drain.start()

    def write(self, data: bytes) -> None:
        """Send `data` to the program's stdin."""
        try:
            self._channel.settimeout(_WRITE_S)
            for start in range(0, len(data), _CHUNK):
                self._channel.sendall(data[start : start + _CHUNK])
        except TimeoutError as error:
            raise CommandTimeout(f"{self.where}: nothing was read from its stdin for {_WRITE_S:g} s") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._ended() from error

    def read_to_end(self, deadline: Deadline) -> tuple[bytes, bytes]:
        """Let the program see the end of its stdin, and return what it wrote to stdout and stderr once it has ended well.

        Raises `CommandTimeout` at the deadline, and how it ended when that was not well.
        """
        with suppress(paramiko.SSHException, EOFError, OSError):
            self._channel.shutdown_write()
        while not self._lines.at_end:
            self._fill(deadline)
        ended = self._ended()
        if self.exit_status != 0:
            raise ended
        return self._lines.rest(), self._stderr

    def read_line(self, deadline: Deadline) -> bytes:
        """Return the next line of stdout without its end.

        Raises `CommandTimeout` at the deadline, `AccessError` when the program ended, `ExecTransportError` when the connection did.
        """
        return self._lines.next(lambda: self._fill(deadline), self._ended)

    @property
    def alive(self) -> bool:
        """Whether nothing says that it has ended: looks at what has arrived, without waiting."""
        while self._channel.recv_ready() and not self._lines.at_end:
            self._fill(Deadline.after(1.0))
        return self._transport.is_active() and not self._channel.closed and not self._channel.eof_received

    def close(self) -> None:
        """End it; the connection stays."""
        with suppress(paramiko.SSHException, EOFError, OSError):
            self._channel.close()

    @property
    def exit_status(self) -> int | None:
        """The exit status, None when there is none (yet)."""
        return self._channel.exit_status if self._channel.exit_status_ready() and self._channel.exit_status >= 0 else None

    @property
    def stderr(self) -> str:
        """The last of what the program wrote to stderr."""
        return self._stderr[-2000:].decode("utf-8", "replace").strip()

    def _fill(self, deadline: Deadline) -> None:
        """Wait for something on stdout, or for its end."""
        self._channel.settimeout(deadline.remaining)
        try:
            data = self._channel.recv(_CHUNK)
        except TimeoutError as error:
            raise CommandTimeout(f"{self.where}: no answer within {deadline.seconds:g} s") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._ended() from error
        self._lines.add(data)

    def _read_stderr(self) -> None:
        with suppress(paramiko.SSHException, EOFError, OSError):
            while data := self._channel.recv_stderr(_CHUNK):
                self._stderr = (self._stderr + data)[-_KEPT_STDERR:]

    def _ended(self) -> AccessError:
        """Return how the program ended."""
        self._channel.status_event.wait(_STATUS_S)
        self._drain.join(_STATUS_S)
        if self.exit_status is None:
            problem = "the program ended without an exit status" if self._transport.is_active() else "the connection was lost"
            return ExecTransportError(f"{self.where}: {problem}" + (f": {self.stderr[-500:]}" if self.stderr else ""))
        return why_ended(self.where, self._user, self.exit_status, self.stderr)


class Connection:
    """The connection to one node: opened when it is first needed, and again when it was lost."""

    def __init__(self, target: SshTarget, keys: Keys, jumps: Jumps) -> None:
        self.target = target
        self._keys = keys
        self._jumps = jumps
        self._transport: paramiko.Transport | None = None
        self._lock = threading.Lock()

    def start(self, argv: Sequence[str], deadline: Deadline) -> SshStream:
        """Start a program as root: by sudo, unless the user is root."""
        with self._lock:
            if not self.is_open:
                try:
                    self._transport = connect(self.target, self._keys, self._jumps)
                except ConnectError as error:
                    if self._transport is None:
                        raise UnreachableError(str(error)) from error
                    raise
            assert self._transport is not None
            transport = self._transport
        return SshStream(self.target, transport, as_root(argv, self.target.user), deadline)

    def feed(self, argv: Sequence[str], stdin: bytes, deadline: Deadline) -> tuple[bytes, bytes]:
        """Run a program as root to its end; return what it wrote to stdout and stderr."""
        stream = self.start(argv, deadline)
        try:
            stream.write(stdin)
            return stream.read_to_end(deadline)
        finally:
            stream.close()

    @property
    def is_open(self) -> bool:
        """Whether it is there."""
        return self._transport is not None and self._transport.is_active()

    def close(self) -> None:
        """End it; it is opened again when it is needed."""
        if self._transport is not None:
            end(self._transport)


@dataclass(frozen=True, slots=True)
class _Node:
    """A node's connection, and the agent that runs over it."""

    connection: Connection
    agent: AgentOrShell

    def rest(self) -> None:
        """Let go of the connection, unless it is in use just now."""
        if self.agent.rest():
            self.connection.close()


class SshAccess:
    """Access to nodes by ssh. There are no probe pods. Of many connections those that were not needed for longest are let go."""

    def __init__(self, config: SshConfig, cluster: Cluster, probes: Mapping[str, Probe], *, patience_s: float = PATIENCE_S) -> None:
        self._config = config
        self._cluster = cluster
        self._probes = probes
        self._patience_s = patience_s
        self._keys = Keys(os.environ.get(PASSPHRASE_VARIABLE) or None)
        self._jumps = Jumps(self._keys)
        self._nodes: OrderedDict[str, _Node] = OrderedDict()
        self._lock = threading.Lock()

    def host(self, node: str) -> Agent:
        """Return the agent in the host namespaces of `node`; `AccessError` when it is not to be measured, or has no address to go to."""
        probe = self._probes.get(node)
        if probe is not None and probe.error is not None:
            raise ProbeError(probe.error)
        with self._lock:
            if node not in self._nodes:
                connection = Connection(self._config.target(self._cluster.node(node)), self._keys, self._jumps)
                client = AgentClient(f"{node} (ssh)", partial(connection.start, AGENT_ARGV), Patience(self._patience_s))
                self._nodes[node] = _Node(connection, AgentOrShell(client, partial(connection.feed, SHELL_ARGV)))
            self._nodes.move_to_end(node)
            agent = self._nodes[node].agent
            spare = [other for other in self._nodes.values() if other.connection.is_open and other.agent is not agent]
        for other in spare[: max(0, len(spare) + 1 - _MOST_OPEN)]:
            other.rest()
        return agent

    def pod(self, node: str) -> Agent:
        """Refuse: it makes no pods."""
        raise NoPodError("access ssh makes no probe pods")

    def close(self) -> None:
        """End all agents, and then the connections that they ran over."""
        with self._lock:
            nodes, self._nodes = [*self._nodes.values()], OrderedDict()
        for node in nodes:
            node.agent.close()
        for node in nodes:
            node.connection.close()
        self._jumps.close()


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
