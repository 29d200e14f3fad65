"""What a pod of the Job does, with its folders below one of the test's."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_k8snet.errors import ConfigurationError
from pytest_k8snet.shards import inside

INDEX = {"JOB_COMPLETION_INDEX": "1"}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(inside, "_POLL_S", 0.01)
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


def ran(monkeypatch: pytest.MonkeyPatch, bundle: bytes | None, status: int, *, ended: bool = False) -> list[str]:
    """Let pytest end like this; return what it is called with."""
    called: list[str] = []

    def run(argv: Sequence[str], folder: Path) -> tuple[int, bool]:
        called.extend(argv)
        if bundle is not None:
            (folder / "shard.tar.zst").write_bytes(bundle)
        return status, ended

    monkeypatch.setattr(inside, "_run", run)
    return called


@pytest.mark.parametrize("environment", [{}, {"JOB_COMPLETION_INDEX": "3"}, {"JOB_COMPLETION_INDEX": "x"}])
def test_outside_of_an_indexed_job(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"environment JOB_COMPLETION_INDEX: got '.*', want 0 to 2, as in a pod"):
        inside.measure(3, [], keep_s=0, environment=environment)


@pytest.mark.parametrize("status", [0, 1])
def test_bundle_waits_until_it_is_fetched(results: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """A red run has been measured as well as a green one."""
    argv = ran(monkeypatch, b"12345", status)

    def fetch() -> None:
        deadline = threading.Event()
        while not (results / "done.json").exists():
            deadline.wait(0.01)
        (results / "collected").touch()

    fetching = threading.Thread(target=fetch, daemon=True)
    fetching.start()
    assert inside.measure(3, ["--k8snet-level=read"], keep_s=60, environment=INDEX, root=results.parent) == 0
    fetching.join()
    assert json.loads((results / "done.json").read_text()) == {"exit_status": status, "bundle_bytes": 5}
    assert "--k8snet-shard=1/3" in argv
    assert "--k8snet-kubeconfig=in-cluster" in argv
    assert argv[-1] == "--k8snet-level=read"


def test_nobody_fetches_it(results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran(monkeypatch, b"12345", 0)
    assert inside.measure(3, [], keep_s=0, environment=INDEX, root=results.parent) == 1
    assert "shard 1/3: nobody has fetched the bundle in 0 s" in capsys.readouterr().out


@pytest.mark.parametrize(("status", "told"), [(4, 4), (0, 1)])
def test_run_without_a_bundle(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int, told: int
) -> None:
    ran(monkeypatch, None, status)
    assert inside.measure(3, [], keep_s=60, environment=INDEX, root=results.parent) == told
    assert f"no bundle was written; pytest's exit status was {status}" in capsys.readouterr().out
    assert not (results / "done.json").exists()


def test_pytest_is_run_in_the_folder(results: Path) -> None:
    assert inside._run(["sh", "-c", "pwd >out; exit 3"], results) == (3, False)
    assert (results / "out").read_text().strip() == str(results)


def test_a_pod_that_is_deleted_waits_for_nobody(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(monkeypatch, b"12345", 2, ended=True)
    with pytest.raises(SystemExit, match="143"):
        inside.measure(3, [], keep_s=60, environment=INDEX, root=results.parent)
    ran(monkeypatch, b"12345", 0)
    monkeypatch.setattr(time, "sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit, match="143"):
        inside.measure(3, [], keep_s=60, environment=INDEX, root=results.parent)
    assert signal.getsignal(signal.SIGTERM) != inside._leave


def test_pytest_is_told_of_sigterm(results: Path) -> None:
    script = "trap 'exit 5' TERM; kill -TERM $PPID; while :; do sleep 0.05; done"
    assert inside._run(["sh", "-c", script], results) == (5, True)
