from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.record.bundle import write_bundle
from pytest_k8snet.record.recording import Recorded, open_recording
from pytest_k8snet.record.store import RunFolder, remove_run

RUN: dict[str, Any] = {
    "schema": 1,
    "id": "ab12",
    "measured_by": None,
    "started": "2026-11-25T23:59:59+00:00",
    "versions": {"pytest-k8snet": "0.1"},
    "settings": {"level": {"value": "read", "source": "default"}},
}
KEPT = ["cluster/cluster.json", "facts/a.json", "plan.json"]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "run")
    folder.write_json("run.json", RUN)
    folder.write_json("collection.json", {"cases": {}})
    folder.write_json("lease.json", {})
    for name in KEPT:
        folder.write_json(Path(name), {"name": name})
    return folder


def fresh(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "fresh")


def bundle_of(run: RunFolder) -> Path:
    path = run.path.parent / "b.tar.zst"
    write_bundle(run, path, run_id="ab12")
    return path


@pytest.mark.parametrize("kind", ["folder", "bundle"])
def test_what_it_gives(run: RunFolder, tmp_path: Path, kind: str) -> None:
    path = run.path if kind == "folder" else bundle_of(run)
    recording = open_recording(path)
    assert recording.path == path
    assert recording.run == Recorded("ab12", RUN["started"], "0.1", {"level": "read"})
    assert recording.read_json("plan.json") == {"name": "plan.json"}
    assert recording.read_json("probes.json") is None
    folder = fresh(tmp_path)
    recording.copy_into(folder)
    recording.close()
    recording.close()
    assert folder.files() == KEPT
    for name in KEPT:
        assert (folder.path / name).read_bytes() == (run.path / name).read_bytes()
        assert (folder.path / name).stat().st_nlink == (2 if kind == "folder" else 1)


def test_where_there_are_no_links_they_are_copies(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    folder = fresh(tmp_path)
    open_recording(run.path).copy_into(folder)
    assert [(folder.path / name).stat().st_nlink for name in folder.files()] == [1, 1, 1]


def test_a_copy_that_fails(run: RunFolder, tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    (folder.path / "facts").write_text("in the way")
    with pytest.raises(RecordError, match=r"facts/a.json: cannot be copied to .*/fresh/facts/a.json: File exists"):
        open_recording(run.path).copy_into(folder)


def test_links_out_of_the_folder_are_no_part_of_it(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (run.path / "facts" / "b.json").symlink_to(tmp_path / "secret.json")
    folder = fresh(tmp_path)
    open_recording(run.path).copy_into(folder)
    assert folder.files() == KEPT


def test_a_folder_in_use_is_not_removed(run: RunFolder) -> None:
    first, second = open_recording(run.path), open_recording(run.path)
    assert not remove_run(run.path)
    first.close()
    assert not remove_run(run.path)
    second.close()
    assert remove_run(run.path)


def test_a_run_that_is_going_on(run: RunFolder) -> None:
    held = run.hold()
    assert held is not None
    with pytest.raises(RecordError) as caught:
        open_recording(run.path)
    assert str(caught.value) == f"{run.path}: its run is still going on; wait for its end"
    os.close(held)
    open_recording(run.path).close()


def test_a_folder_that_is_a_copy(run: RunFolder) -> None:
    (run.path / ".k8snet-run").unlink()
    assert open_recording(run.path).run.id == "ab12"
    assert not (run.path / ".k8snet-run").exists()


def test_a_replay_is_one_of_the_run_that_measured(run: RunFolder) -> None:
    measured = {"id": "0000", "started": "2026-11-01T00:00:00+00:00", "version": "0.0"}
    run.write_json("run.json", {**RUN, "measured_by": measured})
    found = open_recording(run.path).run
    assert (found.id, found.version, found.at.date().isoformat()) == ("0000", "0.0", "2026-11-01")
    assert Recorded.from_json(found.to_json()) == found


@pytest.mark.parametrize("at", ["2026-11-25T23:59:59+00:00", "2026-11-26T00:59:59+01:00", "2026-11-25T23:59:59"])
def test_the_day_is_that_of_utc(at: str) -> None:
    assert Recorded("x", at, None, {}).at.date().isoformat() == "2026-11-25"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 7}, "schema 7, written by pytest-k8snet 0.1; this is pytest-k8snet "),
        ({"schema": "1"}, "not what pytest-k8snet writes (no schema)"),
        ({"started": 5}, "damaged: ValueError("),
        ({"settings": []}, "damaged: AttributeError("),
        ({"settings": {"level": "read"}}, "damaged: TypeError("),
        ({"measured_by": {"id": "x"}}, "damaged: KeyError('started')"),
        ({"measured_by": 7}, "damaged: TypeError("),
    ],
    ids=["newer", "no-schema", "no-time", "no-settings", "no-setting", "measured-by-half", "measured-by-number"],
)
def test_runs_that_cannot_be_read(run: RunFolder, changes: dict[str, Any], message: str) -> None:
    run.write_json("run.json", {**RUN, **changes})
    for path in (run.path, bundle_of(run)):
        with pytest.raises(RecordError) as caught:
            open_recording(path)
        assert message in str(caught.value)
        assert str(caught.value).startswith(str(path))
        assert "run.json: " in str(caught.value)


def test_members_that_are_no_json(run: RunFolder) -> None:
    (run.path / "plan.json").write_text("{")
    path = bundle_of(run)
    with pytest.raises(RecordError) as caught:
        open_recording(path).read_json("plan.json")
    assert str(caught.value).startswith(f"{path}: plan.json: cannot be read: ")


def test_what_is_not_there(run: RunFolder, tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "nothing", "there is no such file or folder"),
        (tmp_path, f"not the folder of a run: it has no run.json; name one of the runs in it, the last one is {run.path}"),
        (run.path / "facts", "not the folder of a run: it has no run.json"),
    ):
        with pytest.raises(RecordError) as caught:
            open_recording(path)
        assert str(caught.value) == f"{path}: {message}"
    (run.path / "run.json").unlink()
    path = bundle_of(run)
    with pytest.raises(RecordError) as caught:
        open_recording(path)
    assert str(caught.value) == f"{path}: it has no run.json"
