from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import time
from typing import TYPE_CHECKING

import pytest

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.cache import Cache, cache_folder, key_of

if TYPE_CHECKING:
    from pathlib import Path


def write_hello(target: Path) -> None:
    (target / "hello").write_text("hello")


@pytest.mark.parametrize(
    ("environment", "ends"),
    [
        ({"K8SNET_CACHE": "/a/b"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/k8snet"),
        ({}, "/.cache/k8snet"),
        ({"K8SNET_CACHE": "", "XDG_CACHE_HOME": ""}, "/.cache/k8snet"),
    ],
)
def test_the_folder_follows_the_environment(environment: dict[str, str], ends: str) -> None:
    assert str(cache_folder(environment)).endswith(ends)


def test_a_key_changes_with_every_input_and_boundary() -> None:
    keys = {key_of("a", "b"), key_of("b", "a"), key_of("ab"), key_of("a", "b", ""), key_of("a", b"c")}
    assert len(keys) == 5
    assert key_of("a", b"b") == key_of("a", "b")


def test_a_piece_is_made_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.find("piece", "1") is None
    made = cache.piece("piece", "1", write_hello)

    def never(target: Path) -> None:
        raise AssertionError(target)

    assert cache.piece("piece", "1", never) == made == cache.find("piece", "1")
    assert (made / "hello").read_text() == "hello"


def test_a_piece_that_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def break_off(target: Path) -> None:
        write_hello(target)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.piece("piece", "1", break_off)
    assert cache.find("piece", "1") is None
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_what_a_killed_run_left_is_removed_unless_it_is_being_made(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.piece("first", "1", write_hello)
    for name in ("killed-1", "running-1", "piece-1"):
        folder = tmp_path / "unfinished" / name / "read-only"
        folder.mkdir(parents=True)
        (folder / "half").write_text("half")
        folder.chmod(0o500)
    with (tmp_path / "locks" / "running-1.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = cache.piece("piece", "1", write_hello)
    assert [path.name for path in made.iterdir()] == ["hello"]
    assert [path.name for path in (tmp_path / "unfinished").iterdir()] == ["running-1"]


def test_a_piece_that_nobody_asked_for_in_a_month_goes(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    month_ago = time.time() - 31 * 24 * 3600
    for key in ("unused", "used"):
        os.utime(cache.piece("old", key, write_hello), (month_ago, month_ago))
    cache.find("old", "used")
    cache.piece("new", "1", write_hello)
    assert cache.find("old", "unused") is None
    assert cache.find("old", "used") is not None


def test_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    def fill(target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    with pytest.raises(LabError, match=r"no space left for the lab's piece; .*K8SNET_CACHE"):
        Cache(tmp_path).piece("piece", "1", fill)
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_too_little_space_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"MB free, want 1000000000000 MB"):
        Cache(tmp_path).require_space("piece", 10**18)


def test_an_unusable_cache_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="K8SNET_CACHE"):
        Cache(tmp_path / "file" / "cache").piece("piece", "1", write_hello)


def _make_slowly(folder: Path, started: Path) -> None:
    def make(target: Path) -> None:
        with started.open("a") as out:
            out.write("made\n")
        time.sleep(0.2)
        write_hello(target)

    Cache(folder).piece("piece", "1", make)


def test_two_processes_make_a_piece_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = tmp_path / "started"
    processes = [context.Process(target=_make_slowly, args=(tmp_path / "cache", started)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert started.read_text() == "made\n"
