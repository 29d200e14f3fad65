"""Nodes whose timer may get lost are woken, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pytest_k8snet.lab.awake import main, wake
from pytest_k8snet.lab.processes import ProcessRef, reference

COUNTING = """
import os, signal, sys
signal.signal(signal.SIGALRM, lambda number, frame: os.write(1, b"woken\\n"))
print("ready", flush=True)
while sys.stdin.readline():
    pass
"""
DEAF = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield started
        started.kill()


def of(process: subprocess.Popen[str]) -> ProcessRef:
    found = reference("node-1", process.pid)
    assert found is not None
    return found


@pytest.mark.parametrize("process", [COUNTING], indirect=True)
def test_one_that_catches_the_signal_gets_it(process: subprocess.Popen[str]) -> None:
    assert wake([of(process)]) == [of(process)]
    assert process.stdout is not None
    assert process.stdout.readline() == "woken\n"


@pytest.mark.parametrize("process", [DEAF], indirect=True)
def test_one_that_would_end_by_it_is_spared(process: subprocess.Popen[str]) -> None:
    assert wake([of(process)]) == [of(process)]
    assert process.poll() is None


@pytest.mark.parametrize("process", [COUNTING], indirect=True)
def test_another_process_of_the_same_number_is_spared(process: subprocess.Popen[str]) -> None:
    node = of(process)
    assert wake([replace(node, start_ticks=node.start_ticks - 1)]) == []
    out, _ = process.communicate("")
    assert out == ""


def test_it_ends_with_the_last_node() -> None:
    main([f"{os.getpid()}:1"])
