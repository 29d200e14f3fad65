"""Keeps nodes awake: `python -m pytest_k8snet.lab.awake PID:START_TICKS ...`, for nodes in User-Mode Linux.

User-Mode Linux 6.1 loses its timer now and then on a machine that is busy: the one-shot timer is not armed again, its idle loop finds none
(arch/um/os-Linux/time.c: os_idle_sleep) and spins, and nothing that waits for a time in the node ever goes on. Its kubelet is silent then,
and the node NotReady. The signal of that timer, whoever sends it, has the kernel look at its clock and arm the timer again; to a node that
is well it is one tick more. A process that does not catch the signal, as one that has just been started, would end by it, and gets none.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterable

from pytest_k8snet.lab.processes import PROC, ProcessRef

_EVERY_S = 1.0


def wake(nodes: Iterable[ProcessRef]) -> list[ProcessRef]:
    """Send the signal to every node that takes it; return those that still run."""
    running = [node for node in nodes if node.is_running]
    for node in running:
        if _catches(node.pid):
            try:
                os.kill(node.pid, signal.SIGALRM)
            except ProcessLookupError:
                continue
    return running


def _catches(pid: int) -> bool:
    try:
        found = re.search(r"^SigCgt:\s*([0-9a-f]+)$", (PROC / str(pid) / "status").read_text(), re.MULTILINE)
    except OSError:
        return False
    return found is not None and bool(int(found[1], 16) >> (signal.SIGALRM - 1) & 1)


def main(arguments: list[str]) -> None:
    """Go on until no node runs."""
    nodes = []
    for argument in arguments:
        pid, _, start_ticks = argument.partition(":")
        nodes.append(ProcessRef(f"node {pid}", int(pid), int(start_ticks)))
    while nodes := wake(nodes):
        time.sleep(_EVERY_S)


if __name__ == "__main__":
    main(sys.argv[1:])
