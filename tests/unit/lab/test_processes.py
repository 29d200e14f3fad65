"""Processes are known by number and start time, ended gently, then not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_k8snet.lab import processes
from pytest_k8snet.lab.processes import ProcessRef, end, environment, in_network_namespace, reference
from tests.unit.lab.children import SLEEPER, STUBBORN, child, eventually


def refer(process: subprocess.Popen[str], name: str = "child") -> ProcessRef:
    found = reference(name, process.pid)
    assert found is not None
    return found


def runs(known: ProcessRef) -> bool:
    return known.is_running


def test_a_process_is_known_until_it_has_ended() -> None:
    with child(*SLEEPER) as process:
        known = refer(process)
        assert runs(known)
        assert ProcessRef.from_json(known.to_json()) == known
        process.kill()
        eventually(lambda: not known.is_running, "the child to end")
        assert process.returncode is None, "nobody has waited for it: it is a zombie, and counts as ended"
        process.wait()
    assert not runs(known)
    assert reference("child", process.pid) is None


def test_another_process_of_the_same_number_is_not_taken_for_it() -> None:
    with child(*SLEEPER) as process:
        before = ProcessRef("child", process.pid, refer(process).start_ticks - 1)
        assert not before.is_running
        end([before], grace_s=0)
        assert process.poll() is None, "the other one is left alone"


def test_a_name_with_parentheses_and_spaces_is_read_over(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    with child(str(program), "60") as process:
        eventually(lambda: "a) R 1" in Path(f"/proc/{process.pid}/comm").read_text(), "the child to have its name")
        assert refer(process).is_running
        assert refer(process).start_ticks > 1


def test_end_asks_first() -> None:
    with child(*SLEEPER) as one, child(*SLEEPER) as other:
        known = [refer(one), refer(other)]
        end(known, grace_s=20)
        assert [process.is_running for process in known] == [False, False]
        assert [one.wait(), other.wait()] == [-signal.SIGTERM, -signal.SIGTERM]


def test_end_kills_what_does_not_listen() -> None:
    with child(*STUBBORN) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it ignores SIGTERM from here on
        known = refer(process)
        end([known], grace_s=0.05)
        assert not known.is_running
        assert process.wait() == -signal.SIGKILL


def test_end_of_nothing_and_of_what_has_ended() -> None:
    with child("true") as process:
        known = refer(process)
        process.wait()
    end([], grace_s=20)
    end([known], grace_s=20)


def test_end_outlives_a_process_that_ends_between_look_and_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int, number: int) -> None:
        del pid, number
        raise ProcessLookupError

    with child(*SLEEPER) as process:
        monkeypatch.setattr("pytest_k8snet.lab.processes.os.kill", gone)
        end([refer(process)], grace_s=20)
        monkeypatch.undo()


def test_the_processes_of_a_network_namespace_are_found() -> None:
    own = Path("/proc/self/ns/net").stat().st_ino
    with child(*SLEEPER) as process:
        found = {known.pid: known for known in in_network_namespace(own)}
        assert {process.pid, os.getpid()} <= found.keys()
        assert found[process.pid].start_ticks == refer(process).start_ticks
    assert in_network_namespace(0) == []


def test_the_environment_is_that_of_the_start() -> None:
    script = "import time; print(1, flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", script], env={"K8SNET_LAB": "/a=b", "EMPTY": ""}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            found = environment(refer(process))
            assert (found["K8SNET_LAB"], found["EMPTY"]) == ("/a=b", "")
        finally:
            process.kill()
    assert environment(ProcessRef("gone", process.pid, 1)) == {}


def test_one_boot_has_one_id() -> None:
    ids: list[str] = []
    thread = threading.Thread(target=lambda: ids.append(processes.boot_id()))
    thread.start()
    thread.join()
    assert ids == [processes.boot_id()]
    assert len(ids[0]) == 36
