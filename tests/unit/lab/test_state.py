"""What is written down of a lab, how the lab is judged to be by it, and who may change it."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.processes import ProcessRef, boot_id, reference
from pytest_k8snet.lab.settings import LabSettings
from pytest_k8snet.lab.state import LabFolder, LabState, Recorder, all_labs, labs_folder
from tests.unit.lab.children import SLEEPER, child


@pytest.fixture
def folder(tmp_path: Path) -> LabFolder:
    known = LabFolder("mine", tmp_path)
    known.path.mkdir()
    return known


@pytest.fixture
def process() -> Iterator[ProcessRef]:
    with child(*SLEEPER) as running:
        found = reference("etcd", running.pid)
        assert found is not None
        yield found


def running(*processes: ProcessRef) -> LabState:
    return LabState(settings=LabSettings(name="mine"), boot_id=boot_id(), phase="running", processes=processes)


def test_what_is_written_is_read(folder: LabFolder) -> None:
    state = LabState(
        settings=LabSettings(name="mine", nodes=2, network="vxlan", line_rate="50mbit"),
        boot_id="b",
        phase="running",
        network_namespace=4026531840,
        processes=(ProcessRef("namespace", 7, 700), ProcessRef("node-1", 8, 800)),
        ports={"api": 4001, "node-1": 4002},
        images={"pause": "k8snet.lab/pause:1"},
    )
    folder.write(state)
    assert folder.has_state
    assert folder.read() == state
    assert [path.name for path in folder.path.iterdir()] == ["state.json"], "nothing half written stays"


def test_every_process_is_written_at_once(folder: LabFolder) -> None:
    recorder = Recorder(folder, LabSettings(name="mine"))
    assert folder.read() == LabState(settings=LabSettings(name="mine"), boot_id=boot_id())
    recorder.add(ProcessRef("namespace", 7, 700))
    recorder.add(ProcessRef("etcd", 8, 800))
    recorder.update(network_namespace=5, ports={"api": 1})
    read = folder.read()
    assert read == recorder.state
    assert [process.name for process in read.processes] == ["namespace", "etcd"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not readable: Expecting value"),
        ("{", "not readable: "),
        ("\udc80", "not readable: "),
        ("[]", "not the state of a lab"),
        ('"x"', "not the state of a lab"),
        ("{}", "schema None, this version reads 1"),
        ('{"schema": 2}', "schema 2, this version reads 1"),
        ('{"schema": 1}', "not the state of a lab: 'settings'"),
        ('{"schema": 1, "settings": {"colour": "red"}}', "not the state of a lab: "),
    ],
)
def test_a_state_that_cannot_be_read_names_its_file(folder: LabFolder, text: str, message: str) -> None:
    file = folder.path / "state.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LabError) as refusal:
        folder.read()
    assert str(refusal.value).startswith(f"{file}: {message}")


def test_a_lab_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    missing = LabFolder("missing", tmp_path)
    with pytest.raises(LabError, match=r"no lab is called missing \(there is none\); start one: k8snet lab up --name missing"):
        missing.read()
    for name in ("two", "one"):
        known = LabFolder(name, tmp_path)
        known.path.mkdir()
        known.write(running())
    (tmp_path / "half").mkdir()
    with pytest.raises(LabError, match=r"\(there is one, two\)"):
        missing.read()
    assert [known.name for known in all_labs(tmp_path)] == ["one", "two"]


def test_a_lab_runs_while_all_its_processes_do(folder: LabFolder, process: ProcessRef) -> None:
    assert folder.condition(running(process)) == "running"
    ended = replace(process, name="node-1", start_ticks=process.start_ticks - 1)
    assert folder.condition(running(process, ended)) == "broken"
    assert folder.condition(replace(running(process), boot_id="another")) == "broken", "numbers mean nothing after a reboot"


def test_a_start_is_one_only_while_somebody_holds_the_lab(folder: LabFolder, process: ProcessRef) -> None:
    starting = replace(running(process), phase="starting")
    assert folder.condition(starting) == "broken"
    with folder.locked():
        assert folder.condition(starting) == "starting"
    assert folder.condition(starting) == "broken"
    assert LabFolder("never", folder.path).condition(starting) == "broken", "its folder is gone"


def test_only_one_changes_a_lab(folder: LabFolder) -> None:
    with (
        folder.locked(),
        pytest.raises(LabError, match="lab mine: another `k8snet lab` command is starting or stopping it"),
        folder.locked(),
    ):
        pass
    with folder.locked():
        pass


def test_a_lock_makes_the_folder_for_its_owner_alone(tmp_path: Path) -> None:
    fresh = LabFolder("fresh", tmp_path / "a" / "b")
    with fresh.locked():
        assert fresh.exists
        assert fresh.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("made_again", [True, False])
def test_a_lock_of_a_removed_folder_is_none(folder: LabFolder, monkeypatch: pytest.MonkeyPatch, made_again: bool) -> None:
    """Somebody removes the lab after its folder was opened and before it was locked."""
    real, calls = fcntl.flock, []

    def late(handle: int, operation: int) -> None:
        calls.append(handle)
        if len(calls) == 1:
            folder.remove()
            if made_again:
                folder.path.mkdir()
        real(handle, operation)

    monkeypatch.setattr("pytest_k8snet.lab.state.fcntl.flock", late)
    with folder.locked():
        assert len(calls) == 2
        assert folder._is_locked()


def test_clear_leaves_the_folder_and_its_lock(folder: LabFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (folder.path / "nodes" / "node-1").mkdir(parents=True)
    (folder.path / "nodes" / "node-1" / "boot").touch()
    (folder.path / "link").symlink_to(outside)
    folder.write(running())
    with folder.locked():
        folder.clear()
        assert list(folder.path.iterdir()) == []
        assert folder._is_locked()
    assert (outside / "kept").exists(), "a link is removed, not what it leads to"
    folder.remove()
    assert not folder.exists


def test_logs_are_those_of_this_machine_and_of_the_nodes(folder: LabFolder) -> None:
    for name in ("logs/etcd.log", "logs/node-1.log", "nodes/node-1/log/kubelet.log", "nodes/node-1/log/sshd.log", "nodes/node-1/boot"):
        path = folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list(folder.all_logs()) == ["etcd", "node-1", "node-1/kubelet", "node-1/sshd"]
    assert folder.all_logs()["node-1/kubelet"] == folder.node("node-1") / "log" / "kubelet.log"


def test_names_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"--name '\.\.'"):
        LabFolder("..", tmp_path)


@pytest.mark.parametrize(
    ("variables", "ends"),
    [
        ({"XDG_STATE_HOME": "/s"}, "/s/k8snet/labs"),
        ({}, "/.local/state/k8snet/labs"),
        ({"XDG_STATE_HOME": ""}, "/.local/state/k8snet/labs"),
    ],
)
def test_the_folder_follows_the_environment(variables: dict[str, str], ends: str) -> None:
    assert str(labs_folder(variables)).endswith(ends)


def test_the_state_is_json_that_others_can_read(folder: LabFolder) -> None:
    folder.write(running())
    values = json.loads((folder.path / "state.json").read_text())
    assert (values["schema"], values["phase"], values["settings"]["nodes"]) == (1, "running", 3)
