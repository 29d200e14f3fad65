"""A program of a fault's own that goes on in a node until the fault is reverted."""

from __future__ import annotations

from pytest_k8snet.lab.faults.model import FaultyLab, FaultyNode

_START = """exec setsid -f sh -c 'echo $$ >"$0.pid"; exec python3 "$0"' "$1" </dev/null >/dev/null 2>&1"""
_STOP = """kill "$(cat "$1.pid")"; rm "$1" "$1.pid" """


def start(lab: FaultyLab, node: FaultyNode, name: str, program: str) -> None:
    """Start a Python program."""
    lab.run(node.name, ["tee", _path(name)], stdin=program)
    lab.run(node.name, ["sh", "-c", _START, "sh", _path(name)])


def stop(lab: FaultyLab, node: FaultyNode, name: str) -> None:
    """Kill it."""
    lab.run(node.name, ["sh", "-c", _STOP, "sh", _path(name)])


def _path(name: str) -> str:
    return f"/run/k8snet-fault-{name}.py"
