"""Gets a component's binaries: from the user's folder, the cache, the makers' release or a build from Go modules, in this order."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import socket
import ssl
import tarfile
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.cache import key_of
from pytest_k8snet.lab.gobuild import GoToolchain, build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_k8snet.lab.cache import Cache
    from pytest_k8snet.lab.component import Component, Release
    from pytest_k8snet.lab.progress import Progress, Step

_CONNECT_TIMEOUT_S = 2.0
_READ_TIMEOUT_S = 60.0
_CHUNK_BYTES = 1 << 20


def own_binaries(component: Component, folder: Path) -> dict[str, Path] | None:
    """Give the component's binaries from a folder of the user's; None when it holds none of them, LabError when only some."""
    found = {name: folder / name for name in component.binaries if (folder / name).is_file()}
    if not found:
        return None
    if missing := [name for name in component.binaries if name not in found]:
        message = (
            f"{folder}: has {', '.join(found)} but not {', '.join(missing)}; {component.name} is used whole: put all of them there, or none"
        )
        raise LabError(message)
    if (needed := component.module_folder) is not None and not (folder / needed.name).is_dir():
        message = f"{folder}: has {', '.join(found)} but no folder {needed.name}; copy that of {needed.module} of the same version to it"
        raise LabError(message)
    if unusable := [name for name, path in found.items() if not os.access(path, os.X_OK)]:
        message = f"{folder / unusable[0]}: not executable; run chmod +x on it"
        raise LabError(message)
    return found


def find(component: Component, cache: Cache, components_dir: Path | None) -> Path | None:
    """Give the folder with the component's binaries when nothing has to be made for it."""
    if components_dir is not None and (own := own_binaries(component, components_dir)):
        return cache.find(component.name, _own_key(component, own))
    return cache.find(component.name, component.key)


def get(component: Component, cache: Cache, components_dir: Path | None, progress: Progress) -> Path:
    """Give the folder with the component's binaries."""
    if components_dir is not None and (own := own_binaries(component, components_dir)):
        return cache.piece(component.name, _own_key(component, own), lambda target: _copy_own(component, components_dir, own, target))

    def make(target: Path) -> None:
        if component.release is not None and is_reachable(component.release):
            with progress.step(f"{component.name} {component.version}: download") as step:
                if download(component, component.release, target, step):
                    return
        with progress.step(f"{component.name} {component.version}: build") as step:
            build(component, GoToolchain.find(cache, step), target, step)

    return cache.piece(component.name, component.key, make)


def _own_key(component: Component, own: dict[str, Path]) -> str:
    """Give the key of the user's own binaries: where they are and when they were last written."""
    states = ((path.absolute(), path.stat()) for path in own.values())
    return key_of("own", component.name, *(f"{path} {state.st_size} {state.st_mtime_ns}" for path, state in states))


def _copy_own(component: Component, folder: Path, own: dict[str, Path], target: Path) -> None:
    _copy(own, target)
    if component.module_folder is not None:
        shutil.copytree(folder / component.module_folder.name, target / component.module_folder.name)


def _copy(own: dict[str, Path], target: Path) -> None:
    """Copy the binaries; several names of one file stay names of one file."""
    first: dict[Path, str] = {}
    for name, path in own.items():
        one = first.setdefault(path.resolve(), name)
        if one == name:
            shutil.copyfile(path, target / name)
            (target / name).chmod(0o755)
        else:
            (target / name).symlink_to(one)


def is_reachable(release: Release, *, connect: Callable[..., socket.socket] = socket.create_connection) -> bool:
    """Say whether the host of a release takes connections, within two seconds."""
    host = urlsplit(release.address).hostname or ""
    if urllib.request.getproxies().get("https"):
        return True  # whatever the proxy reaches: the download itself will show
    try:
        connect((host, 443), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def download(component: Component, release: Release, target: Path, step: Step) -> bool:
    """Fill the folder from the makers' release; False when it cannot be had, LabError when it is not what its checksum says."""
    try:
        if release.members is None:
            for binary in component.binaries:
                step.note(binary)
                _fetch(release.address.format(binary=binary), release.checksums.format(binary=binary), target / binary)
        else:
            archive = target / "archive"
            _fetch(release.address, release.checksums, archive)
            with tarfile.open(archive) as tar:
                for binary, member in release.members.items():
                    content = tar.extractfile(member)
                    if content is None:
                        message = f"{release.address}: {member} is not a file"
                        raise LabError(message)
                    with content, (target / binary).open("wb") as out:
                        shutil.copyfileobj(content, out)
            archive.unlink()
    except (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException, KeyError) as error:
        # Not there, blocked, cut off, or laid out differently than known: the build can still give it.
        step.note(f"not to be had ({error})")
        for left in target.iterdir():
            left.unlink()
        return False
    for binary in component.binaries:
        (target / binary).chmod(0o755)
    return True


def _fetch(address: str, checksums: str, place: Path) -> None:
    want = _checksum(_open(checksums).read().decode(), urlsplit(address).path.rsplit("/", 1)[-1])
    digest = hashlib.sha256()
    with _open(address) as answer, place.open("wb") as out:
        while chunk := answer.read(_CHUNK_BYTES):
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != want:
        message = f"{address}: sha256 {digest.hexdigest()}, want {want or 'one'} ({checksums}); nothing of it was kept"
        raise LabError(message)


def _open(address: str) -> http.client.HTTPResponse:
    answer: http.client.HTTPResponse = urllib.request.urlopen(address, timeout=_READ_TIMEOUT_S)  # noqa: S310 - addresses are constants, https
    return answer


def _checksum(text: str, name: str) -> str:
    """Give the sha256 of a file from the text of a checksum file."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        return lines[0][0].lower()
    return next((words[0].lower() for words in lines if words[-1].lstrip("*") == name), "")
