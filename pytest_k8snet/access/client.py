"""The agent as seen from here: started over a stream, whatever carries it, and asked by JSON lines.

A stream that breaks while nothing is under way is opened again, with patience: an API server or a kubelet may be restarting. A request that
was under way is not sent twice: what it asked for may have been done, and measuring again is for the measurement to decide.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from importlib import resources
from itertools import count
from typing import Any, Protocol

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.errors import AccessError, CommandTimeout, ConnectError, ExecTransportError
from pytest_k8snet.json_text import parse_json

PROTOCOL = 1

TOO_OLD = 4
"""Exit status of the bootstrap where python3 is older than the agent can do with."""

# Reads eight digits, then as many bytes of program, and becomes it. Unbuffered, so that no byte of the first request is lost.
BOOTSTRAP = (
    "import os,sys\n"
    f"if sys.version_info<(3,7): sys.exit({TOO_OLD})\n"
    "def r(n):\n"
    "    b=b''\n"
    "    while len(b)<n:\n"
    "        c=os.read(0,n-len(b))\n"
    "        if not c: raise SystemExit(3)\n"
    "        b+=c\n"
    "    return b\n"
    "exec(compile(r(int(r(8))),'agent','exec'),{'__name__':'__main__'})"
)
AGENT_ARGV = ("python3", "-I", "-S", "-u", "-c", BOOTSTRAP)

_START_S = 60.0  # python's first start on a small node can take seconds
_BETWEEN_S = (0.0, 0.5, 1.0, 2.0)  # waits between tries to open a stream; the last one repeats


class Stream(Protocol):
    """A program's stdin and stdout, wherever it runs. Not for several threads at once."""

    where: str

    def write(self, data: bytes) -> None:
        """Send `data` to stdin; `AccessError` with how the program ended, `ExecTransportError` when the way to it broke."""

    def read_line(self, deadline: Deadline) -> bytes:
        """Return the next line of stdout without its end.

        Raises `CommandTimeout` at the deadline, `AccessError` when the program ended, `ExecTransportError` when the way to it did.
        """

    @property
    def alive(self) -> bool:
        """Whether nothing says that it has ended: looks at what has arrived, without waiting."""

    def close(self) -> None:
        """End it; the program sees the end of its stdin."""


class Patience:
    """For how long streams that cannot be opened are tried again, shared by the agents of one access.

    When one has waited in vain and no other was opened meanwhile, the way to all of them is closed: nobody waits until one is opened.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._opened = 0
        self._in_vain = False
        self._lock = threading.Lock()

    def begin(self) -> tuple[Deadline, int]:
        """Return until when to try, and what to give back when it was in vain."""
        with self._lock:
            return Deadline.after(0.0 if self._in_vain else self._seconds), self._opened

    def opened(self) -> None:
        """Note that a stream was opened."""
        with self._lock:
            self._opened += 1
            self._in_vain = False

    def was_in_vain(self, since: int) -> None:
        """Note that waiting since `begin` gave nothing."""
        with self._lock:
            self._in_vain = self._in_vain or self._opened == since


class AgentClient:
    """The agent in one place. It starts with the first request and again after its stream broke.

    An agent that could not be had with patience is asked without from then on: its node is gone.
    """

    def __init__(self, where: str, open_stream: Callable[[Deadline], Stream], patience: Patience) -> None:
        self._where = where
        self._open_stream = open_stream
        self._patience = patience
        self._given_up = False
        self._closing = threading.Event()
        self._stream: Stream | None = None
        self._loaded: set[str] = set()  # programs that the running agent has taken in
        self._number = 0
        self._lock = threading.Lock()

    @property
    def where(self) -> str:
        """The place, for messages."""
        return self._where

    def request(self, op: str, params: Mapping[str, Any] | None = None, *, timeout_s: float) -> Any:
        """Send one request and return its result; requests to one agent follow each other."""
        with self._lock:
            try:
                stream = self._open(timeout_s)
                deadline = Deadline.after(timeout_s)
                program, dot, _ = op.partition(".")
                answer: dict[str, Any] = {}
                if dot and program not in self._loaded:
                    answer = self._ask(stream, "load", {"name": program, "source": program_source(program)}, deadline)
                    self._loaded.add(program)
                if answer.get("error") is None:
                    answer = self._ask(stream, op, params or {}, deadline)
            except AccessError as error:
                # What the agent does now is not known: the next request gets a new one.
                self._drop()
                raise type(error)(f"{self._where}: {op}: {error}") from error
        failure = answer.get("error")
        if failure is None:
            return answer.get("result")
        kind = CommandTimeout if failure.get("kind") == "timeout" else AccessError
        raise kind(f"{self._where}: {op}: {failure.get('message')}")

    def rest(self) -> bool:
        """End the agent until it is asked again, and say so; one that is being asked is left alone."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._drop()
        finally:
            self._lock.release()
        return True

    def close(self) -> None:
        """End the agent, and the waiting for it."""
        self._closing.set()
        with self._lock:
            self._drop()

    def _open(self, timeout_s: float) -> Stream:
        if self._stream is not None and self._stream.alive:
            return self._stream
        self._drop()
        until, since = self._patience.begin()
        for tries in count():
            # Only the way is tried again: what was asked for has not been sent yet.
            try:
                self._stream = self._start(Deadline.after(max(_START_S, timeout_s)))
            except (ExecTransportError, ConnectError):
                wait_s = _BETWEEN_S[min(tries, len(_BETWEEN_S) - 1)]
                if self._given_up or until.remaining <= wait_s or self._closing.wait(wait_s):
                    self._given_up = True
                    self._patience.was_in_vain(since)
                    raise
            else:
                self._given_up = False
                self._patience.opened()
                break
        assert self._stream is not None
        return self._stream

    def _start(self, deadline: Deadline) -> Stream:
        stream = self._open_stream(deadline)
        try:
            program = agent_source()
            stream.write(b"%08d" % len(program) + program)
            ready = self._read_json(stream, deadline)
            if ready.get("ready") != PROTOCOL:
                raise AccessError(f"{stream.where}: the agent did not start: {str(ready)[:200]}")
        except AccessError:
            stream.close()
            raise
        return stream

    def _ask(self, stream: Stream, op: str, params: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        self._number += 1
        stream.write(json.dumps({"id": self._number, "op": op, "params": dict(params)}).encode() + b"\n")
        while True:
            answer = self._read_json(stream, deadline)
            if answer.get("id") == self._number:
                return answer

    def _read_json(self, stream: Stream, deadline: Deadline) -> dict[str, Any]:
        line = b""
        while not line.strip():  # empty lines are heartbeats
            line = stream.read_line(deadline)
        try:
            answer = parse_json(line)
        except ValueError as error:
            raise AccessError(f"{stream.where}: the agent wrote no JSON: {line[:200].decode('utf-8', 'replace')!r}") from error
        if not isinstance(answer, dict):
            raise AccessError(f"{stream.where}: the agent wrote no object: {line[:200].decode('utf-8', 'replace')!r}")
        return answer

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        self._loaded.clear()
        if stream is not None:
            stream.close()


def agent_source() -> bytes:
    """Return the agent program as it is sent."""
    return program_source("agent").encode()


def program_source(name: str) -> str:
    """Return one of the programs that run on nodes and in pods."""
    return resources.files("pytest_k8snet.agent").joinpath(f"{name}.py").read_text(encoding="utf-8")
