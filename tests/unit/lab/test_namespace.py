"""What a machine must have for a lab, and how programs are started in one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import namespace
from pytest_k8snet.lab.namespace import Namespace, open_namespace, require_host, spawn
from pytest_k8snet.lab.processes import ProcessRef, environment
from tests.unit.lab.children import child, eventually
from tests.unit.lab.samples import this_process

KEEPER = ProcessRef("namespace", 77, 1)


class Runner:
    """Remembers what it was asked to run, and says what it is told to say."""

    def __init__(self, exit_status: int = 0, stdout: str = "", stderr: str = "") -> None:
        self.asked: list[Sequence[str]] = []
        self._said = (exit_status, stdout, stderr)

    def __call__(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        del options
        self.asked.append(list(argv))
        return subprocess.CompletedProcess(argv, *self._said)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Be root; return a file that stands for /dev/net/tun."""
    monkeypatch.setattr("pytest_k8snet.lab.namespace.os.geteuid", lambda: 0)
    tun = tmp_path / "tun"
    tun.touch()
    return tun


def refusal(tun: Path) -> list[str]:
    with pytest.raises(LabError) as error:
        require_host(tun)
    head, *lacks = str(error.value).splitlines()
    assert head == "this machine cannot run a lab yet; it lacks:"
    return lacks


def test_a_machine_that_has_everything(host: Path) -> None:
    require_host(host)


def test_a_machine_without_tun(tmp_path: Path) -> None:
    assert refusal(tmp_path / "missing") == [f"  {tmp_path / 'missing'} is not there; as root: modprobe tun"]


def test_a_tun_that_this_user_may_not_open(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may = os.access
    monkeypatch.setattr("pytest_k8snet.lab.namespace.os.access", lambda path, mode: path != host and may(path, mode))
    assert refusal(host) == [f"  {host} cannot be opened by this user; as root: chmod 666 /dev/net/tun"]


@pytest.mark.parametrize("allowed", [True, False])
def test_a_user_without_root_needs_namespaces(host: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    runner = Runner(0 if allowed else 1, stderr="unshare: unshare failed: Operation not permitted\n")
    monkeypatch.setattr("pytest_k8snet.lab.namespace.os.geteuid", lambda: 1000)
    monkeypatch.setattr(namespace, "_run", runner)
    if allowed:
        require_host(host)
    else:
        (lacks,) = refusal(host)
        assert lacks.startswith(
            "  namespaces for a user without root (unshare: unshare failed: Operation not permitted); as root: sysctl -w"
        )
        assert "kernel.unprivileged_userns_clone=1" in lacks
        assert "kernel.apparmor_restrict_unprivileged_userns=0" in lacks
    assert runner.asked == [["unshare", "--user", "--map-root-user", "--net", "--mount", "true"]]


def test_programs_enter_by_the_keeper() -> None:
    assert Namespace(KEEPER, of_user=False).enter(["ip", "link"]) == ["nsenter", "--target", "77", "--net", "--mount", "ip", "link"]
    assert Namespace(KEEPER, of_user=True).enter(["true"])[3:5] == ["--user", "--preserve-credentials"]


def test_a_command_that_fails_in_the_namespace_is_quoted_with_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = Namespace(KEEPER, of_user=False)
    monkeypatch.setattr(namespace, "_run", Runner(0, "out\n"))
    assert inside.run(["ip", "link"]) == "out\n"
    monkeypatch.setattr(namespace, "_run", Runner(2, stderr="Command failed -:1\n"))
    with pytest.raises(LabError) as error:
        inside.run(["ip", "-batch", "-"], stdin="link add br-lab type bridge")
    assert str(error.value) == "ip -batch - exited with 2 in the lab's namespace: Command failed -:1\nlink add br-lab type bridge"


def test_the_number_of_a_namespace_is_that_of_its_keeper() -> None:
    assert Namespace(this_process(), of_user=False).inode == Path("/proc/self/ns/net").stat().st_ino


def test_a_keeper_that_could_not_start_leaves_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "namespace.log"
    log.write_text("unshare: unshare failed: Operation not permitted\n")
    with child("true") as process:
        process.wait()
    with pytest.raises(LabError, match=r"^no namespaces for the lab: unshare: unshare failed: Operation not permitted$"):
        open_namespace(ProcessRef("namespace", process.pid, 1), log)


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # it is meant to outlive whoever starts it
def test_a_program_is_started_to_stay(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab") as out:
        started = spawn("etcd", ["sh", "-c", "cat; echo said; echo more >&2; exec sleep 60"], out=out, environment={"K8SNET_LAB": "/x"})
    try:
        eventually(lambda: log.read_text() == "said\nmore\n", "the program to have said its words")
        assert started.name == "etcd"
        assert started.is_running
        assert os.getsid(started.pid) == started.pid, "Ctrl-C in this terminal does not reach it"
        # While it becomes `sleep` it has none.
        eventually(lambda: environment(started).get("K8SNET_LAB") == "/x", "the program to have its environment")
        given = environment(started)
        assert given["PATH"].endswith(":/usr/local/sbin:/usr/sbin:/sbin")
    finally:
        os.kill(started.pid, signal.SIGKILL)
        os.waitpid(started.pid, 0)
