from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_k8snet.errors import ConfigurationError, RecordError
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.redact import Redactor
from pytest_k8snet.record.shared import Shared
from pytest_k8snet.record.store import MARKER, RunFolder, remove_older, remove_run, safe_name


def document(subject: str = "node-1", kind: str = "facts") -> Document:
    return Document(kind=kind, subject=subject, started="2026-01-01T00:00:00.000+00:00", duration_s=0.5, method="agent", values={"a": 1})


def run(parent: Path, name: str) -> Path:
    return RunFolder.create(parent / name).path


def test_documents(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "deep" / "run")
    assert folder.get("facts", "node-1") is None
    folder.put(document())
    assert folder.get("facts", "node-1") == document()
    assert folder.get("facts", "node-2") is None
    assert (folder.path / ".gitignore").read_text() == "*\n"


def test_packets_lie_beside_their_document(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", Redactor(["hunter2-hunter2"]))
    packets = bytes(range(256)) * 4
    folder.put(replace(document("node.example.com", "wire"), pcap=packets))
    assert (folder.path / "wire" / "node.example.com.pcap").read_bytes() == packets
    assert folder.files() == ["wire/node.example.com.json", "wire/node.example.com.pcap"]
    read = folder.get("wire", "node.example.com")
    assert read is not None
    assert read.pcap is None
    folder.put(replace(document("node-2", "wire"), pcap=b"\0hunter2-hunter2\xff"))
    assert (folder.path / "wire" / "node-2.pcap").read_bytes() == b""


HOSTILE = (
    "..",
    ".",
    "../../etc/passwd",
    "/abs",
    "a/b",
    "a\\b",
    "a b",
    "a\0b",
    "é",
    "%2E",
    ".hidden",
    "",
    "x" * 5000,
    "ä" * 500,
    "a:b",
    "A",
    "a",
    "%41",
    "\udc80",
    "\x1b[31m",
    "$(reboot)",
    "N" * 300,
    "n" * 300,
)


def test_safe_names_stay_inside_and_apart() -> None:
    names = [safe_name(subject) for subject in HOSTILE]
    assert len({name.lower() for name in names}) == len(HOSTILE)  # on file systems that take A for a as well
    for name in names:
        assert "/" not in name
        assert "\0" not in name
        assert not name.startswith(".")
        assert len(os.fsencode(f"{name}.json")) < 255


@pytest.mark.parametrize("subject", [subject for subject in HOSTILE if subject])
def test_hostile_subjects_are_stored(tmp_path: Path, subject: str) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.put(document(subject))
    assert folder.get("facts", subject) == document(subject)
    assert [path.parent for path in tmp_path.rglob("*.json")] == [folder.path / "facts"]


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.write_json("x.json", {"old": 1})
    with pytest.raises(TypeError):
        folder.write_json("x.json", {"new": object()})
    assert folder.read_json("x.json") == {"old": 1}


def test_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.write_json("x.json", ["0"] * 20_000)
    done = threading.Event()

    def write() -> None:
        for number in range(30):
            folder.write_json("x.json", [str(number)] * 20_000)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert len(folder.read_json("x.json")) == 20_000
    writer.join()
    assert not list(folder.path.glob(".*.tmp"))


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    (tmp_path / "usual").touch()
    folder.write_json("x.json", 1)
    assert (folder.path / "x.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_damaged_file(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    (folder.path / "facts").mkdir()
    (folder.path / "facts/node-1.json").write_text('{"schema": 1, ')
    with pytest.raises(RecordError, match=r"facts/node-1\.json: cannot be read: "):
        folder.get("facts", "node-1")


def shared_documents(*subjects: str) -> Iterator[Document]:
    services = Shared([{"name": "web"}])
    for subject in subjects:
        yield replace(document(subject), values={"readings": [{"services": services}]})


def test_what_documents_share_is_stored_once(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    for item in shared_documents("node-1", "node-2"):
        folder.put(item)
    (file,) = (folder.path / "shared").iterdir()
    assert json.loads(file.read_text()) == [{"name": "web"}]
    assert "web" not in (folder.path / "facts/node-1.json").read_text()
    for reader in (folder, RunFolder(folder.path)):  # another process has nothing in memory
        one, two = (reader.get("facts", name) for name in ("node-1", "node-2"))
        assert one is not None
        assert two is not None
        assert one.values == two.values == {"readings": [{"services": [{"name": "web"}]}]}
        assert one.values["readings"][0]["services"] is two.values["readings"][0]["services"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../../etc/passwd", r"facts/node-1\.json: cannot be read: \$shared is not a SHA-256: '\.\./\.\./"),
        ("0" * 64, r"facts/node-1\.json: cannot be read: .*No such file or directory: '.*/shared/0+\.json'"),
    ],
)
def test_shared_value_that_is_not_there(tmp_path: Path, name: str, message: str) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.put(replace(document(), values={"services": {"$shared": name}}))
    with pytest.raises(RecordError, match=message):
        folder.get("facts", "node-1")


def test_folder_that_went_away(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "gone")
    with pytest.raises(RecordError, match=r"cannot be written: No such file or directory; make room or name another folder"):
        folder.put(document())


def test_create_refuses_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(ConfigurationError, match="is there and not a run of ours; name another one or remove it"):
        RunFolder.create(tmp_path)
    with pytest.raises(ConfigurationError, match="is there and not a run of ours"):
        RunFolder.create(tmp_path / "precious.txt")
    with pytest.raises(ConfigurationError, match="cannot be made: Not a directory; name another one with --k8snet-run-dir"):
        RunFolder.create(tmp_path / "precious.txt" / "run")
    assert (tmp_path / "precious.txt").read_text() == "keep"


def test_create_takes_an_empty_folder_and_an_earlier_run(tmp_path: Path) -> None:
    path = run(tmp_path, "run")
    (path / "old.json").write_text("{}")
    assert not (RunFolder.create(path).path / "old.json").exists()
    (tmp_path / "empty").mkdir()
    assert (run(tmp_path, "empty") / MARKER).exists()


def test_a_run_in_use_is_left_alone(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    held = folder.hold()
    assert held is not None
    assert folder.hold() is None
    with pytest.raises(ConfigurationError, match="another run is using it; name another one"):
        RunFolder.create(folder.path)
    assert not remove_run(folder.path)
    os.close(held)
    assert remove_run(folder.path)
    assert not folder.path.exists()


def test_older_runs_are_removed(tmp_path: Path) -> None:
    names = ["20260101T000000Z-aaaa", "20260102T000000Z-bbbb", "20260103T000000Z-ffff", "20260103T000000Z-cccc"]
    for name in names:
        run(tmp_path, name)
    foreign = tmp_path / "20250101T000000Z-mine"
    foreign.mkdir()
    target = run(tmp_path.parent / f"{tmp_path.name}-elsewhere", "20240101T000000Z-dddd")
    (tmp_path / "20240101T000000Z-link").symlink_to(target)
    # In one second the later one stays, whatever its random id.
    assert remove_older(tmp_path, 1) == [tmp_path / name for name in names[:3]]
    assert {path.name for path in tmp_path.iterdir()} == {names[3], foreign.name, "20240101T000000Z-link"}
    assert (target / MARKER).exists()


def test_a_symlink_is_never_followed_for_removal(tmp_path: Path) -> None:
    target = run(tmp_path, "run")
    link = tmp_path / "link"
    link.symlink_to(target)
    assert not remove_run(link)
    assert (target / MARKER).exists()


def test_json_is_ascii(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.write_json("x.json", {"name": "knoten-ä"})
    assert (folder.path / "x.json").read_bytes().isascii()
    assert json.loads((folder.path / "x.json").read_text()) == {"name": "knoten-ä"}


def test_once_it_could_not_be_written_to_every_process_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, other = RunFolder.create(tmp_path / "run"), RunFolder(tmp_path / "run")
    folder.check()
    other.check()
    full = OSError(28, "No space left on device")

    def replace(self: Path, target: Path) -> Path:
        raise full

    monkeypatch.setattr(Path, "replace", replace)
    message = (
        f"{folder.path}/facts/x.json: cannot be written: No space left on device; make room or name another folder with --k8snet-run-dir"
    )
    with pytest.raises(RecordError) as caught:
        folder.put(document("x"))
    assert str(caught.value) == message
    monkeypatch.undo()
    with pytest.raises(RecordError) as caught:
        folder.check()
    assert str(caught.value) == message
    with pytest.raises(RecordError) as caught:
        other.check()
    assert str(caught.value) == (
        f"run folder {folder.path}: could not be written to; make room or name another folder with --k8snet-run-dir"
    )
    assert folder.get("facts", "x") is None
    assert not [*tmp_path.rglob("*.tmp")]


def test_folder_that_has_gone(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=f"run folder {tmp_path}/gone: has gone"):
        RunFolder(tmp_path / "gone").check()
