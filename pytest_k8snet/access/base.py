"""What every way to a node gives: an agent in the node's namespaces, and one in the node's probe pod."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

PATIENCE_S = 60.0
"""For how long a way that was there before and is not now is tried again: an API server or a kubelet that restarts is back by then."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended. A command that could not be run or did not end is an error, never a result."""

    argv: tuple[str, ...]
    exit_status: int
    stdout: str
    stderr: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time that is passed down instead of seconds, so that steps share what is left."""

    at: float  # of time.monotonic()
    seconds: float  # as it was given, for messages

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline `seconds` from now."""
        return cls(time.monotonic() + seconds, seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether nothing is left."""
        return self.remaining == 0.0


class Agent(Protocol):
    """The agent program in one place. Its operations are listed in `pytest_k8snet.agent.agent`."""

    @property
    def where(self) -> str:
        """The place, for messages: ``node-1 (host)``, ``node-1 (pod probe-node-1)``."""

    def request(self, op: str, params: Mapping[str, Any] | None = None, *, timeout_s: float) -> Any:
        """Ask the agent for `op` and return its answer as JSON values.

        Raises an `AccessError`: `CommandTimeout` when there is no answer in `timeout_s`, `ExecTransportError` when the way to it broke.
        """

    def close(self) -> None:
        """End the agent; it may be called twice."""


class Access(Protocol):
    """The way to all nodes of a run. Agents start on first use; every method may be called from several threads."""

    def host(self, node: str) -> Agent:
        """Return the agent in the host namespaces of `node`."""

    def pod(self, node: str) -> Agent:
        """Return the agent in the unprivileged probe pod on `node`."""

    def close(self) -> None:
        """End all agents; it may be called twice."""


def run(agent: Agent, argv: Sequence[str], *, timeout_s: float = 30.0) -> CommandResult:
    """Run a command at `agent`'s place; a non-zero exit status is a result, not an error."""
    answer = agent.request("run", {"argv": list(argv), "timeout_s": timeout_s}, timeout_s=timeout_s + 15.0)
    return CommandResult(
        argv=tuple(argv),
        exit_status=answer["exit_status"],
        stdout=answer["stdout"],
        stderr=answer["stderr"],
        duration_s=answer["duration_s"],
    )
