"""A run folder in one file: a tar in zstd. Written whole or not at all, always the same bytes; read with distrust."""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import sys
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pytest_k8snet.errors import ConfigurationError, RecordError
from pytest_k8snet.record.schema import PACKAGE, check_schema, version_of
from pytest_k8snet.record.store import RUN, RunFolder, is_record_name

SCHEMA = 1
INDEX = "bundle.json"  # the first member: schema, run, version, and how many members follow

_MAGIC = b"\x28\xb5\x2f\xfd"
_LEVEL = 9  # facts become a tenth smaller than by zstd's default, at 100 MB/s
_WINDOW_LOG = 23  # 8 MiB, what the level needs; a frame that asks its reader for more memory is not ours
_CHUNK = 2**18
_HEADERS = 2**17  # bytes that lie at most between two members: header, its extension, padding, and what tarfile reads ahead


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a bundle may hold: far more than a run of thousands of nodes, and less than fills a disk by surprise."""

    members: int = 200_000
    member_bytes: int = 64 * 2**20
    all_bytes: int = 8 * 2**30
    expansion: int = 10_000  # bytes for each byte of the file, once there are more than `expansion_from`; nothing but zeros reaches 30,000
    expansion_from: int = 512 * 2**20

    def refuse(self, size: int, packed: int) -> str | None:
        """Return what is wrong with a bundle of `size` bytes in a file of `packed`, None when nothing is."""
        if size > self.all_bytes:
            return f"holds more than {self.all_bytes} bytes"
        if size > max(self.expansion_from, self.expansion * packed):
            return f"{packed} bytes expand to more than {self.expansion} times as many"
        return None


LIMITS = Limits()


def write_bundle(folder: RunFolder, target: Path, *, run_id: str, limits: Limits = LIMITS) -> None:
    """Write the record of a run to the file `target`, which is replaced when it is there.

    Raises `RecordError` when it cannot be written, or would be larger than what can be read again.
    """
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        names = folder.files()
        if len(names) > limits.members:
            raise RecordError(f"{target}: {len(names)} files are too many for a bundle, which holds {limits.members}")
        index = {"schema": SCHEMA, "run": run_id, "version": version_of(PACKAGE), "members": len(names)}
        with temporary.open("xb") as file, _compressing(file) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
            _add(tar, INDEX, (json.dumps(index, indent=1) + "\n").encode())
            for name in sorted(names, key=lambda name: (name != RUN, name)):
                content = (folder.path / name).read_bytes()
                if len(content) > limits.member_bytes:
                    raise RecordError(f"{target}: {name} is too large for a bundle: {len(content)} bytes, {limits.member_bytes} at most")
                _add(tar, name, content)
            tar.close()
            size = packed.tell()
        if (reason := limits.refuse(size, temporary.stat().st_size)) is not None:
            raise RecordError(f"{target}: would be a bundle that is not read again: {reason}")
        temporary.replace(target)
    except OSError as error:
        raise RecordError(f"{target}: cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_target(target: Path, option: str = "--k8snet-save-bundle") -> None:
    """Make sure that a bundle can be written to `target`, before anything is measured for it.

    Raises `ConfigurationError` that names the `option` and says why it cannot.
    """
    reason = None
    if target.is_dir():
        reason = "is a folder; name a file"
    elif not target.parent.is_dir():
        reason = f"there is no folder {target.parent}"
    else:
        try:
            with tempfile.TemporaryFile(dir=target.parent):
                pass
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
    if reason is not None:
        raise ConfigurationError(f"{option}: {target}: {reason}")


def read_bundle(path: Path, names: Collection[str], *, limits: Limits = LIMITS) -> tuple[Mapping[str, Any], dict[str, bytes]]:
    """Read the whole bundle `path`, and return its index and the content of those of `names` that it has.

    Raises `RecordError` that names the file and what is wrong with it.
    """
    found: dict[str, bytes] = {}
    with _reading(path, limits) as bundle:
        for name, chunks in bundle.members():
            if name in names:
                found[name] = b"".join(chunks)
    return bundle.index, found


def extract_bundle(path: Path, folder: RunFolder, *, leave_out: Collection[str] = (), limits: Limits = LIMITS) -> None:
    """Write the members of the bundle `path`, but those in `leave_out`, into `folder`, which has none of them yet.

    Raises `RecordError` that names the file and what is wrong with it; what has been written until then is for the caller to remove.
    """
    with _reading(path, limits) as bundle:
        for name, chunks in bundle.members():
            if name in leave_out:
                continue
            target = folder.path / name
            try:
                target.parent.mkdir(exist_ok=True)
                with target.open("xb") as file:
                    for chunk in chunks:
                        file.write(chunk)
            except OSError as error:
                raise RecordError(f"{target}: cannot be written: {error.strerror}") from error


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file as if nobody had made it at no time: a bundle's bytes follow from its content alone."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))


class _Stream(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Metered:
    """What tarfile reads from: decompressed bytes, counted before they are believed."""

    def __init__(self, stream: _Stream, packed_bytes: int, limits: Limits) -> None:
        self._stream = stream
        self._packed_bytes = packed_bytes
        self._limits = limits
        self._count = 0
        self._until = 0

    def expect(self, size: int) -> None:
        """Let `size` more bytes pass."""
        self._until = self._count + size

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        data = self._stream.read(size)
        self._count += len(data)
        if (reason := self._limits.refuse(self._count, self._packed_bytes)) is not None:
            raise _Refused(reason)
        if self._count > self._until:
            raise _Refused("damaged: what should be the header of a member is too long")
        return data


class _Refused(Exception):  # noqa: N818 - becomes a RecordError with the file's name
    """What is wrong with a bundle."""


class _Bundle:
    """An open bundle. Every member is looked at before the next one, whether its content is wanted or not."""

    def __init__(self, stream: _Stream, packed_bytes: int, limits: Limits, where: str) -> None:
        self._meter = _Metered(stream, packed_bytes, limits)
        self._limits = limits
        self._meter.expect(_HEADERS)
        self._tar = tarfile.open(fileobj=self._meter, mode="r|", bufsize=tarfile.RECORDSIZE)  # type: ignore[call-overload]  # noqa: SIM115
        first = self._next()
        if first is None or first.name != INDEX or first.size > _HEADERS:
            raise _Refused(f"not a bundle: its first member is not {INDEX}")
        data = json.loads(b"".join(self._chunks(first)))
        self.index = check_schema(data, SCHEMA, where=where, writer=data.get("version") if isinstance(data, dict) else None)

    def members(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Return name and content of each member."""
        seen: set[str] = {INDEX}
        while (member := self._next()) is not None:
            if member.name in seen:
                raise _Refused(f"member {_shown(member.name)} is there twice")
            seen.add(member.name)
            if len(seen) > self._limits.members + 1:
                raise _Refused(f"has more than {self._limits.members} members")
            chunks = self._chunks(member)
            yield member.name, chunks
            for _ in chunks:
                pass
        self._end(len(seen) - 1)

    def _next(self) -> tarfile.TarInfo | None:
        self._meter.expect(_HEADERS)
        member: tarfile.TarInfo | None = self._tar.next()
        if member is not None:
            self._check(member)
        return member

    def _check(self, member: tarfile.TarInfo) -> None:
        name = _shown(member.name)
        if member.name.startswith("/"):
            raise _Refused(f"member {name} has an absolute name")
        if ".." in member.name.split("/"):
            raise _Refused(f"member {name} leads out of the folder")
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise _Refused(f"member {name} is {_KINDS.get(member.type, 'no regular file')}; a run folder has regular files only")
        if not is_record_name(member.name):
            raise _Refused(f"member {name} is no file of a run folder")
        if not 0 <= member.size <= self._limits.member_bytes:
            raise _Refused(f"member {name} has {member.size} bytes; {self._limits.member_bytes} are the most")

    def _chunks(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        file = self._tar.extractfile(member)
        assert file is not None  # it is a regular file
        self._meter.expect(member.size + _HEADERS)
        left = member.size
        while left > 0:
            chunk = file.read(min(left, _CHUNK))
            if not chunk:
                raise EOFError
            left -= len(chunk)
            yield chunk

    def _end(self, members: int) -> None:
        # tarfile takes a damaged header for the end: only the count tells.
        if members != self.index.get("members"):
            raise _Refused(f"damaged: it has {members} of {self.index.get('members')} members")
        self._meter.expect(_HEADERS)
        while chunk := self._meter.read(_CHUNK):
            if chunk.strip(b"\0"):
                raise _Refused("damaged: there is something behind its end")


_KINDS = {
    tarfile.DIRTYPE: "a folder",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


@contextmanager
def _reading(path: Path, limits: Limits) -> Iterator[_Bundle]:
    """Open a bundle; whatever turns out to be wrong with it is a `RecordError` that names the file."""
    zstd = _zstd()
    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise _Refused("not a bundle: it is not compressed by zstd")
            file.seek(0)
            with zstd.open(file, "rb", options=options) as stream:
                yield _Bundle(stream, path.stat().st_size, limits, str(path))
    except RecordError:
        raise
    except _Refused as error:
        raise RecordError(f"{path}: {error}") from error
    except EOFError as error:
        raise RecordError(f"{path}: truncated: it ends before its end") from error
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except (zstd.ZstdError, tarfile.TarError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: damaged: {error}") from error


def _compressing(file: io.BufferedIOBase) -> Any:
    zstd = _zstd()
    wanted = zstd.CompressionParameter
    return zstd.open(file, "wb", options={wanted.compression_level: _LEVEL, wanted.window_log: _WINDOW_LOG, wanted.checksum_flag: 1})


def _zstd() -> Any:
    """Return the standard library's zstd, or what stands in for it before Python 3.14."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _shown(name: str) -> str:
    """Return a member's name as messages may hold it, whatever is in it."""
    return ascii(name if len(name) <= 80 else f"{name[:80]}...")
