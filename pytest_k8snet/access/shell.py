"""Nodes without python3: what can be read there by a POSIX shell, in the place of the agent."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.client import AgentClient
from pytest_k8snet.agent import collected
from pytest_k8snet.agent.agent import Failed
from pytest_k8snet.errors import AccessError, CommandTimeout, NoAgentError

SHELL_ARGV = ("sh", "-s")

_READERS: Mapping[str, Callable[[collected.Collected, Mapping[str, Any]], dict[str, Any]]] = {
    "facts": collected.facts,
    "ipvs": collected.ipvs,
    "activity": collected.activity,
}


class Feed(Protocol):
    """Runs a program that reads `stdin` to its end; returns what it wrote to stdout and stderr.

    Raises an `AccessError` when the way to it broke, and at the deadline.
    """

    def __call__(self, stdin: bytes, deadline: Deadline) -> tuple[bytes, bytes]:
        """Run it."""


class AgentOrShell:
    """The agent of a node, and from the moment that it turns out to have no python3 the shell collector."""

    def __init__(self, agent: AgentClient, feed: Feed) -> None:
        self._agent = agent
        self._feed = feed
        self._reason: str | None = None
        self._reading = 0  # requests that are answered by shell just now

    @property
    def where(self) -> str:
        """The place, for messages."""
        return self._agent.where

    def request(self, op: str, params: Mapping[str, Any] | None = None, *, timeout_s: float) -> Any:
        """Ask the agent, or read by shell; `NoAgentError` for what only the agent can do."""
        if self._reason is None:
            try:
                return self._agent.request(op, params, timeout_s=timeout_s)
            except NoAgentError as error:
                self._reason = str(error).removeprefix(f"{self.where}: {op}: ")
        read = _READERS.get(op)
        if read is None:
            raise NoAgentError(f"{self.where}: {op}: {self._reason}; by shell alone only facts, counters and the IPVS table are read")
        mark = f"k8snet-{secrets.token_hex(8)}"
        self._reading += 1
        try:
            out, err = self._feed(collected.script(op, params or {}, mark), Deadline.after(timeout_s))
            return read(collected.Collected(out, err, mark), params or {})
        except Failed as error:
            kind = CommandTimeout if error.kind == "timeout" else AccessError
            raise kind(f"{self.where}: {op}: {error} ({self._reason}: read by shell)") from error
        except AccessError as error:
            raise type(error)(f"{self.where}: {op}: {error}") from error
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise AccessError(f"{self.where}: {op}: what the shell collector read makes no sense: {error!r}") from error
        finally:
            self._reading -= 1

    def rest(self) -> bool:
        """End the agent until it is asked again, and say so; one that is being asked is left alone."""
        return not self._reading and self._agent.rest()

    def close(self) -> None:
        """End the agent."""
        self._agent.close()
