"""What a lab's machines and its control plane can suffer while a run is under way."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pytest_k8snet.lab import processes
from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.lab.namespace import Namespace
from pytest_k8snet.lab.processes import ProcessRef
from pytest_k8snet.lab.state import LabFolder
from tests.lab.suite import Lab


def restart_api_server(lab: Lab, *, down_s: float) -> None:
    """Kill the API server, and start it anew as it was a while later; `lab down` finds it by its environment."""
    folder = LabFolder(lab.name)
    state = folder.read()
    old = _process(lab, "kube-apiserver")
    argv = Path(f"/proc/{old.pid}/cmdline").read_text().split("\0")[:-1]
    environment = processes.environment(old)
    processes.end([old], grace_s=0.0)
    time.sleep(down_s)
    namespace = Namespace(state.processes[0], of_user=os.geteuid() != 0)
    with (folder.logs / "kube-apiserver.log").open("ab") as log:
        subprocess.run(namespace.enter(["setsid", "--fork", *argv]), env=environment, stdout=log, stderr=log, check=True)
    wait_until(lambda: _started(old.name, argv) is not None, "the API server to start")
    new = _started(old.name, argv)
    assert new is not None
    folder.write(replace(state, processes=tuple(new if process == old else process for process in state.processes)))


@contextmanager
def paused(lab: Lab, node: str) -> Iterator[None]:
    """Stop a node's kernel, as a hypervisor does that migrates it, and let it go on at the end."""
    kernel = _process(lab, node)
    os.kill(kernel.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(kernel.pid, signal.SIGCONT)


def power_off(lab: Lab, node: str) -> None:
    """End a node at once, with everything that runs on it."""
    kernel = _process(lab, node)
    children = [process for process in processes.running() if _parent(process) == kernel.pid]
    processes.end([kernel, *children], grace_s=0.0)


def _started(name: str, argv: Sequence[str]) -> ProcessRef | None:
    words = " ".join([*argv, ""])
    found = next((process for process in processes.running() if processes.command_line(process) == words), None)
    return None if found is None else replace(found, name=name)


def _process(lab: Lab, name: str) -> ProcessRef:
    return next(process for process in LabFolder(lab.name).read().processes if process.name == name and process.is_running)


def _parent(process: ProcessRef) -> int | None:
    try:
        return int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
