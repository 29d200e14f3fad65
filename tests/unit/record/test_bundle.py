from __future__ import annotations

import io
import json
import os
import random
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.record import bundle
from pytest_k8snet.record.bundle import Limits, extract_bundle, read_bundle, write_bundle
from pytest_k8snet.record.schema import version_of
from pytest_k8snet.record.store import RunFolder

VERSION = version_of("pytest-k8snet")
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"{}", **changes: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def index(members: int = 1, **changes: Any) -> Member:
    return member("bundle.json", json.dumps({"schema": 1, "run": "ab12", "version": "0.9", "members": members, **changes}).encode())


def tar_of(members: Sequence[Member], **options: Any) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", **options) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def pack(path: Path, data: bytes) -> Path:
    with path.open("wb") as file, bundle._compressing(file) as packed:
        packed.write(data)
    return path


def pack_members(path: Path, *members: Member) -> Path:
    return pack(path, tar_of([index(len(members)), *members]))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "run")
    folder.write_json("run.json", {"schema": 1, "id": "ab12"})
    folder.write_json("plan.json", {"nodes": ["a"]})
    for name in ("node-1", "a:b", "é/ü", "x" * 500):
        folder.write_json(folder._file("facts", name), {"subject": name, "padding": "z" * 1000})
    (folder.path / "facts" / "a.pcap").write_bytes(os.urandom(300))
    (folder.path / ".locks" / "facts.lock").touch()
    (folder.path / "facts" / ".0123.tmp").write_text("half")
    (folder.path / "notes.txt").write_text("mine")
    (folder.path / "facts" / "link.json").symlink_to("/etc/hostname")
    (folder.path / "facts" / "folder.json").mkdir()
    return folder


def contents(folder: RunFolder) -> dict[str, bytes]:
    return {name: (folder.path / name).read_bytes() for name in folder.files()}


def target(tmp_path: Path) -> RunFolder:
    path = tmp_path / f"target-{len(list(tmp_path.iterdir()))}"
    path.mkdir()
    return RunFolder(path)


def refused(path: Path, tmp_path: Path, limits: Limits = bundle.LIMITS) -> str:
    """Return what is said of a bundle, by both ways of reading it, without its path."""
    said = []
    readers: tuple[Callable[[], object], ...] = (
        lambda: read_bundle(path, ("run.json",), limits=limits),
        lambda: extract_bundle(path, target(tmp_path), limits=limits),
    )
    for read in readers:
        with pytest.raises(RecordError) as caught:
            read()
        said.append(str(caught.value))
    assert said[0] == said[1]
    return said[0].removeprefix(f"{path}: ")


def test_what_is_written_is_read(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "b.tar.zst"
    write_bundle(run, path, run_id="ab12")
    found, head = read_bundle(path, ("run.json", "plan.json", "probes.json"))
    assert found == {"schema": 1, "run": "ab12", "version": VERSION, "members": 7}
    assert {name: json.loads(content) for name, content in head.items()} == {
        "run.json": {"schema": 1, "id": "ab12"},
        "plan.json": {"nodes": ["a"]},
    }
    whole = target(tmp_path)
    extract_bundle(path, whole)
    assert contents(whole) == contents(run)
    assert len(contents(whole)) == 7
    part = target(tmp_path)
    extract_bundle(path, part, leave_out=("run.json",))
    assert set(contents(run)) - set(contents(part)) == {"run.json"}


def test_other_tools_read_it(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "b.tar.zst"
    write_bundle(run, path, run_id="ab12")
    with bundle._zstd().open(path) as packed, tarfile.open(fileobj=io.BytesIO(packed.read())) as tar:
        names = tar.getnames()
        assert names[:2] == ["bundle.json", "run.json"]
        assert names[2:] == sorted(names[2:])
        assert {(info.mode, info.uid, info.gid, info.uname, info.gname, info.mtime) for info in tar} == {(0o644, 0, 0, "", "", 0)}


def test_its_bytes_follow_from_its_content(run: RunFolder, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "one", run_id="ab12")
    other = RunFolder.create(tmp_path / "elsewhere" / "run")
    for name, content in reversed(contents(run).items()):
        (other.path / name).parent.mkdir(exist_ok=True)
        (other.path / name).write_bytes(content)
        (other.path / name).chmod(0o600)
        os.utime(other.path / name, (1, 1))
    write_bundle(other, tmp_path / "two", run_id="ab12")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(members=6), "7 files are too many for a bundle, which holds 6"),
        (Limits(member_bytes=1000), "is too large for a bundle: "),
        (Limits(all_bytes=4000), "would be a bundle that is not read again: holds more than 4000 bytes"),
        (Limits(expansion=5, expansion_from=4000), " bytes expand to more than 5 times as many"),
    ],
    ids=["members", "member", "all", "expansion"],
)
def test_what_could_not_be_read_again_is_not_written(run: RunFolder, tmp_path: Path, limits: Limits, message: str) -> None:
    path = tmp_path / "out" / "b.tar.zst"
    path.parent.mkdir()
    path.write_text("last night's")
    with pytest.raises(RecordError) as caught:
        write_bundle(run, path, run_id="ab12", limits=limits)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert [(item.name, item.read_text()) for item in path.parent.iterdir()] == [("b.tar.zst", "last night's")]


def test_a_disk_that_is_full_leaves_nothing(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out" / "b.tar.zst"
    path.parent.mkdir()

    def full(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RecordError) as caught:
        write_bundle(run, path, run_id="ab12")
    assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_has_gone(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be written: No such file or directory"):
        write_bundle(run, tmp_path / "gone" / "b.tar.zst", run_id="ab12")


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        (member("/etc/passwd.json"), "member '/etc/passwd.json' has an absolute name"),
        (member("../x.json"), "member '../x.json' leads out of the folder"),
        (member("facts/../../x.json"), "member 'facts/../../x.json' leads out of the folder"),
        (member("facts/.."), "member 'facts/..' leads out of the folder"),
        (member("facts/deep/x.json"), "member 'facts/deep/x.json' is no file of a run folder"),
        (member("./run.json"), "member './run.json' is no file of a run folder"),
        (member(".k8snet-run"), "member '.k8snet-run' is no file of a run folder"),
        (member(".locks/x.json"), "member '.locks/x.json' is no file of a run folder"),
        (member("facts/.x.json"), "member 'facts/.x.json' is no file of a run folder"),
        (member("facts/x.sh"), "member 'facts/x.sh' is no file of a run folder"),
        (member("facts/x.json\n"), "member 'facts/x.json\\n' is no file of a run folder"),
        (member("facts\\x.json"), "member 'facts\\\\x.json' is no file of a run folder"),
        (member("facts/\x1b[31m.json"), "member 'facts/\\x1b[31m.json' is no file of a run folder"),
        (member("facts/é.json"), "member 'facts/\\xe9.json' is no file of a run folder"),
        (member("x" * 300 + ".json"), f"member '{'x' * 80}...' is no file of a run folder"),
        (member("facts", b"", type=tarfile.DIRTYPE), "member 'facts' is a folder; a run folder has regular files only"),
        (
            member("facts/x.json", b"", type=tarfile.SYMTYPE, linkname="/etc/shadow"),
            "member 'facts/x.json' is a symbolic link; a run folder has regular files only",
        ),
        (
            member("facts/x.json", b"", type=tarfile.LNKTYPE, linkname="run.json"),
            "member 'facts/x.json' is a hard link; a run folder has regular files only",
        ),
        (member("facts/x.json", b"", type=tarfile.CHRTYPE), "member 'facts/x.json' is a device; a run folder has regular files only"),
        (member("facts/x.json", b"", type=tarfile.BLKTYPE), "member 'facts/x.json' is a device; a run folder has regular files only"),
        (member("facts/x.json", b"", type=tarfile.FIFOTYPE), "member 'facts/x.json' is a pipe; a run folder has regular files only"),
        (
            member("facts/x.json", b"", type=tarfile.GNUTYPE_SPARSE),
            "member 'facts/x.json' is no regular file; a run folder has regular files only",
        ),
        (
            member("facts/x.json", b"{}", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "99"}),
            "member 'facts/x.json' is no regular file; a run folder has regular files only",
        ),
        (member("bundle.json"), "member 'bundle.json' is there twice"),
    ],
    ids=lambda value: ascii(value[0].name[:30]) + value[0].type.decode() if isinstance(value, tuple) else "",
)
def test_members_that_no_run_folder_has(tmp_path: Path, hostile: Member, message: str) -> None:
    path = pack_members(tmp_path / "b", member("run.json"), hostile)
    assert refused(path, tmp_path) == message
    assert {item.name for item in tmp_path.iterdir()} == {"b", "target-1"}  # and nothing beside them


def test_the_same_name_twice(tmp_path: Path) -> None:
    path = pack_members(tmp_path / "b", member("run.json"), member("run.json"))
    assert refused(path, tmp_path) == "member 'run.json' is there twice"


MANY = [member(f"facts/{number}.json", b"[" + b" " * 5000 + b"]") for number in range(30)]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(members=29), "has more than 29 members"),
        (Limits(member_bytes=5001), "member 'facts/0.json' has 5002 bytes; 5001 are the most"),
        (Limits(all_bytes=100_000), "holds more than 100000 bytes"),
        (Limits(expansion=50, expansion_from=100_000), " bytes expand to more than 50 times as many"),
    ],
    ids=["members", "member", "all", "expansion"],
)
def test_too_much(tmp_path: Path, limits: Limits, message: str) -> None:
    path = pack_members(tmp_path / "b", *MANY)
    assert message in refused(path, tmp_path, limits)
    for enough in (Limits(members=30), Limits(member_bytes=5002), Limits(all_bytes=300_000), Limits(expansion=50), Limits(expansion=5000)):
        read_bundle(path, (), limits=enough)


def test_a_size_that_is_only_said(tmp_path: Path) -> None:
    """A header may promise any size: nothing is set aside for it."""
    info, _ = member("facts/x.json")
    info.size = 2**40
    whole = tar_of([index(1)])
    path = pack(tmp_path / "b", whole[:1536].rstrip(b"\0").ljust(1024, b"\0") + info.tobuf(tarfile.GNU_FORMAT))
    assert refused(path, tmp_path) == f"member 'facts/x.json' has {2**40} bytes; {bundle.LIMITS.member_bytes} are the most"


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME], ids=["pax", "pax-global", "gnu-long-name"])
def test_a_header_without_end(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 2**33
    head = tar_of([index(1)])[:1024]
    path = pack(tmp_path / "b", head + info.tobuf(tarfile.GNU_FORMAT) + b"0" * 2**20)
    assert refused(path, tmp_path) == "damaged: what should be the header of a member is too long"


def test_a_frame_that_asks_for_too_much_memory(tmp_path: Path) -> None:
    zstd = bundle._zstd()
    path = tmp_path / "b"
    path.write_bytes(zstd.compress(os.urandom(2**10) * 2**15, options={zstd.CompressionParameter.window_log: 25}))
    assert refused(path, tmp_path).startswith("damaged: ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a bundle: it is not compressed by zstd"),
        (b"\x1f\x8b\x08\x00 gzip", "not a bundle: it is not compressed by zstd"),
        (b"\x28\xb5\x2f\xfd", "truncated: it ends before its end"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 40, "damaged: "),
    ],
    ids=["empty", "gzip", "only-magic", "garbage"],
)
def test_what_is_not_zstd(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "b"
    path.write_bytes(data)
    assert refused(path, tmp_path).startswith(message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "damaged: empty file"),
        (b"just text " * 200, "damaged: "),
        (tar_of([]), "not a bundle: its first member is not bundle.json"),
        (tar_of([member("run.json")]), "not a bundle: its first member is not bundle.json"),
        (tar_of([member("bundle.json", b" " * 2**18)]), "not a bundle: its first member is not bundle.json"),
        (tar_of([member("bundle.json", b"{")]), "damaged: "),
        (tar_of([member("bundle.json", b"[" * 100_000)]), "damaged: "),
        (tar_of([member("bundle.json", b"[]")]), "not what pytest-k8snet writes (no schema)"),
        (
            tar_of([index(0, schema=2)]),
            f"schema 2, written by pytest-k8snet 0.9; this is pytest-k8snet {VERSION}, which reads schema 1: use the version that wrote it",
        ),
        (tar_of([index(0, schema=2, version=None)]), "schema 2, written by pytest-k8snet of unknown version; "),
        (tar_of([index(3), member("run.json")]), "damaged: it has 1 of 3 members"),
        (tar_of([index(0), member("run.json")]), "damaged: it has 1 of 0 members"),
        (tar_of([index("x")]), "damaged: it has 0 of x members"),  # type: ignore[arg-type]
        (tar_of([index(0)]) + tar_of([member("run.json")]), "damaged: there is something behind its end"),
    ],
    ids=[
        *(
            "empty",
            "text",
            "no-member",
            "no-index",
            "huge-index",
            "index-no-json",
            "index-deep",
            "index-no-object",
            "newer",
            "newer-no-version",
        ),
        *("members-lost", "members-added", "no-count", "second-tar"),
    ],
)
def test_what_is_no_bundle(tmp_path: Path, data: bytes, message: str) -> None:
    assert refused(pack(tmp_path / "b", data), tmp_path).startswith(message)


def test_a_bundle_cut_anywhere(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "b.tar.zst"
    write_bundle(run, path, run_id="ab12")
    whole = path.read_bytes()
    for length in {*range(4, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:length])
        assert refused(path, tmp_path) == "truncated: it ends before its end"


def test_a_tar_cut_anywhere(tmp_path: Path) -> None:
    whole = tar_of([index(2), member("run.json", b"a" * 700), member("plan.json", b"b" * 1500)])
    end = whole.rstrip(b"\0")
    for length in range(0, len(end), 128):
        said = refused(pack(tmp_path / "b", whole[:length]), tmp_path)
        assert said.startswith(("damaged: ", "truncated: ")), said


def test_something_behind_the_frame(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "b.tar.zst"
    write_bundle(run, path, run_id="ab12")
    path.write_bytes(path.read_bytes() + b"more")
    assert refused(path, tmp_path).startswith("damaged: ")


@pytest.mark.parametrize("inside", [True, False], ids=["in-the-tar", "in-the-file"])
def test_damage_is_found_or_does_no_harm(run: RunFolder, tmp_path: Path, inside: bool) -> None:
    """Bytes changed at random: a `RecordError`, or a run folder that has only what a run folder has."""
    path = tmp_path / "b"
    write_bundle(run, path, run_id="ab12")
    data = path.read_bytes()
    if inside:
        with bundle._zstd().open(path) as packed:
            data = packed.read()
    chance = random.Random(4711)  # noqa: S311 - the same on every run
    told = []
    for number in range(200):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(changed))
            if inside:
                at -= at % 512 - chance.randrange(160)  # most of what matters is in headers
            changed[min(at, len(changed) - 1)] = chance.choice((0, 0x2F, 0x2E, 0x35, 0x78, 0xFF, chance.randrange(256)))
        if inside:
            pack(path, bytes(changed))
        else:
            path.write_bytes(changed)
        folder = RunFolder(tmp_path / f"t{number}" / "run")
        folder.path.mkdir(parents=True)
        try:
            extract_bundle(path, folder)
        except RecordError as error:
            told.append(str(error))
        assert list(folder.path.parent.iterdir()) == [folder.path]
        assert {item.relative_to(folder.path).as_posix() for item in folder.path.rglob("*") if item.is_file()} == set(folder.files())
    assert len(told) > 20
    assert all(message.startswith(f"{path}: ") for message in told)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing", tmp_path) == "cannot be read: No such file or directory"
    assert refused(tmp_path, tmp_path) == "cannot be read: Is a directory"


def test_a_target_that_cannot_be_written(run: RunFolder, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "b", run_id="ab12")
    folder = target(tmp_path)
    (folder.path / "facts").write_text("in the way")
    with pytest.raises(RecordError, match=r"facts/.*\.json: cannot be written: File exists"):
        extract_bundle(tmp_path / "b", folder)
