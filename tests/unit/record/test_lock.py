from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.record.lock import hold, locked, measuring

DEADLINE_S = 60.0


class Attempt:
    """Another holder of a lock, on a thread of its own: flock tells open files apart, not threads."""

    def __init__(self, folder: Path, kind: str, *, load: bool) -> None:
        self.inside = threading.Event()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(folder, kind, load), daemon=True)
        self._thread.start()

    def _work(self, folder: Path, kind: str, load: bool) -> None:
        with measuring(folder, kind, alone=load):
            self.inside.set()
            self._leave.wait(DEADLINE_S)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(DEADLINE_S)


def test_one_measures_a_kind_at_a_time(tmp_path: Path) -> None:
    first = Attempt(tmp_path, "facts", load=False)
    assert first.inside.wait(DEADLINE_S)
    second = Attempt(tmp_path, "facts", load=False)
    assert hold(tmp_path / "facts.lock") is None
    assert not second.inside.is_set()
    first.leave()
    assert second.inside.wait(DEADLINE_S)
    second.leave()


def test_kinds_go_side_by_side(tmp_path: Path) -> None:
    first = Attempt(tmp_path, "facts", load=False)
    assert first.inside.wait(DEADLINE_S)
    second = Attempt(tmp_path, "ipvs", load=False)
    assert second.inside.wait(DEADLINE_S)
    first.leave()
    second.leave()


def test_nothing_goes_beside_load(tmp_path: Path) -> None:
    load = Attempt(tmp_path, "throughput", load=True)
    assert load.inside.wait(DEADLINE_S)
    other = Attempt(tmp_path, "facts", load=False)
    assert hold(tmp_path / "measuring.lock") is None
    assert not other.inside.is_set()
    load.leave()
    assert other.inside.wait(DEADLINE_S)
    assert hold(tmp_path / "measuring.lock") is None  # shared by the other: no load beside it
    other.leave()
    free = hold(tmp_path / "measuring.lock")
    assert free is not None
    os.close(free)


def _take_and_die(path: Path) -> None:
    with locked(path):
        os._exit(9)


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_take_and_die, args=(tmp_path / "x.lock",))
    process.start()
    process.join(DEADLINE_S)
    assert process.exitcode == 9
    free = hold(tmp_path / "x.lock")
    assert free is not None
    os.close(free)


def test_shared(tmp_path: Path) -> None:
    with locked(tmp_path / "x.lock", shared=True), locked(tmp_path / "x.lock", shared=True):
        assert hold(tmp_path / "x.lock") is None


def test_lock_that_cannot_be_made(tmp_path: Path) -> None:
    with (
        pytest.raises(RecordError, match=r"x.lock: cannot be made: No such file or directory; make room or name another folder"),
        locked(tmp_path / "gone" / "x.lock"),
    ):
        pass
