"""Ctrl-C, SIGTERM and SIGKILL at every stage of a run: what was created is removed, or removable, and nothing hangs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.plugin.bench import DEADLINE_S, Bench, ended, wait_for

CHECK = """
@check("ACME-1")
def test_it(k8snet_node, request):
    assert k8snet_node.sysctl("net.ipv4.ip_forward") == "1"
"""
WAIT = """

import pytest

def stage():
    note("stage.txt", "here")
    time.sleep(600)

"""
STAGES = {
    "collection": "@pytest.hookimpl(wrapper=True)\ndef pytest_pycollect_makemodule():\n    stage()\n    return (yield)\n",
    "after-collection": "def pytest_collection_modifyitems(): stage()\n",
    "setup": "@pytest.fixture(autouse=True)\ndef stop(k8snet_node): stage()\n",
    "between-setup-and-call": "@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_call(): stage()\n",
    "teardown": "@pytest.fixture(autouse=True)\ndef stop(k8snet_node):\n    yield\n    stage()\n",
    "report": "@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_makereport(): stage()\n",
    "end": "@pytest.hookimpl(tryfirst=True)\ndef pytest_sessionfinish(): stage()\n",
    "summary": "@pytest.hookimpl(tryfirst=True)\ndef pytest_terminal_summary(): stage()\n",
}


def prepare(bench: Bench, stage: str) -> Path:
    bench.cluster()
    with (bench.path / "conftest.py").open("a") as conftest:
        conftest.write(WAIT + STAGES[stage])
    bench.checks(CHECK)
    return bench.path / "stage.txt"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("stage", STAGES)
def test_interrupted(bench: Bench, stage: str, number: signal.Signals) -> None:
    there = prepare(bench, stage)
    with bench.running("-pno:xdist") as process:
        wait_for(there.exists, process)
        process.send_signal(number)
        got, out = ended(process)
    assert got != 0, out
    assert "INTERNALERROR" not in out
    bench.assert_removed()


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("collection", signal.SIGTERM),
        ("setup", signal.SIGINT),
        ("between-setup-and-call", signal.SIGTERM),
        ("teardown", signal.SIGINT),
    ],
)
def test_interrupted_while_workers_work(bench: Bench, stage: str, number: signal.Signals) -> None:
    there = prepare(bench, stage)
    with bench.running("-n2") as process:
        wait_for(there.exists, process)
        workers = children(process.pid)
        assert len(workers) == 2
        process.send_signal(number)
        got, out = ended(process)
        assert got != 0, out
        assert "INTERNALERROR" not in out
        bench.assert_removed()
        until_ended(workers)


def children(pid: int) -> list[int]:
    """Return the processes that `pid` has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(rest[1]) == pid and rest[0] != "Z":
            found.append(int(path.parent.name))
    return found


def until_ended(pids: list[int]) -> None:
    """Wait for the end of processes that are not ours to wait for."""
    until = time.monotonic() + DEADLINE_S
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < until, f"{alive} still run"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("stage", ["collection", "setup"])
def test_killed_controller(bench: Bench, stage: str) -> None:
    """Nobody is left to remove anything; that workers end is what can be asked for. The next run's sweep removes the rest."""
    there = prepare(bench, stage)
    with bench.running("-n2") as process:
        wait_for(there.exists, process)
        workers = children(process.pid)
        assert len(workers) == 2
        os.kill(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)
        until_ended(workers)


def test_killed_controller_while_workers_wait_for_probe_pods(bench: Bench) -> None:
    bench.cluster("fake.probe_delay_s = 600.0")
    bench.checks(CHECK)
    with bench.running("-n2") as process:
        wait_for(lambda: len(bench.objects()) == 7, process)
        wait_for(lambda: len(children(process.pid)) == 2, process)
        workers = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)
        until_ended(workers)


def test_killed_without_workers(bench: Bench) -> None:
    """The next run in the same place works, and takes the folder of the killed one for what it is."""
    there = prepare(bench, "setup")
    with bench.running("-pno:xdist", "--k8snet-run-dir=run") as process:
        wait_for(there.exists, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)
    bench.cluster()
    assert bench.own("--k8snet-run-dir=run").status == 0
