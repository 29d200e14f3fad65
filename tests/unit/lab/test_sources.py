from __future__ import annotations

import dataclasses
import hashlib
import io
import socket
import tarfile
import urllib.error
from typing import TYPE_CHECKING

import pytest

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import sources
from pytest_k8snet.lab.cache import Cache
from pytest_k8snet.lab.component import CILIUM, COMPONENTS, ETCD, KUBERNETES, Release
from pytest_k8snet.lab.gobuild import go_version
from pytest_k8snet.lab.progress import SilentProgress

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_k8snet.lab.component import Component
    from pytest_k8snet.lab.gobuild import GoToolchain
    from pytest_k8snet.lab.progress import Step


def own(folder: Path, *names: str, mode: int = 0o755) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(f"own {name}")
        (folder / name).chmod(mode)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Say in which order release and build were asked, the release out of reach."""
    order: list[str] = []

    def reach(release: Release) -> bool:
        order.append("release")
        return False

    def build(component: Component, go: GoToolchain, target: Path, step: Step) -> None:
        order.append("build")
        for name in component.binaries:
            (target / name).write_text("built")

    monkeypatch.setattr(sources, "is_reachable", reach)
    monkeypatch.setattr(sources, "build", build)
    return order


def test_the_users_folder_comes_first(tmp_path: Path, asked: list[str]) -> None:
    own(tmp_path / "own", "etcd")
    cache = Cache(tmp_path / "cache")
    got = sources.get(ETCD, cache, tmp_path / "own", SilentProgress())
    assert (got / "etcd").read_text() == "own etcd"
    assert asked == []
    assert sources.find(ETCD, cache, tmp_path / "own") == got
    assert sources.find(ETCD, cache, None) is None


def test_a_changed_own_binary_is_taken_again(tmp_path: Path) -> None:
    own(tmp_path / "own", "etcd")
    cache = Cache(tmp_path / "cache")
    sources.get(ETCD, cache, tmp_path / "own", SilentProgress())
    (tmp_path / "own" / "etcd").write_text("changed")
    assert (sources.get(ETCD, cache, tmp_path / "own", SilentProgress()) / "etcd").read_text() == "changed"


def test_names_of_one_file_stay_names_of_one_file(tmp_path: Path) -> None:
    own(tmp_path / "own", "one")
    for name in KUBERNETES.binaries:
        (tmp_path / "own" / name).symlink_to("one")
    got = sources.get(KUBERNETES, Cache(tmp_path / "cache"), tmp_path / "own", SilentProgress())
    assert [(got / name).is_symlink() for name in KUBERNETES.binaries] == [False, True, True, True, True]
    assert {(got / name).read_text() for name in KUBERNETES.binaries} == {"own one"}


def test_the_build_comes_after_the_release_and_the_cache_before_both(tmp_path: Path, asked: list[str]) -> None:
    cache = Cache(tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    first = sources.get(ETCD, cache, tmp_path / "empty", SilentProgress())
    assert asked == ["release", "build"]
    assert sources.get(ETCD, cache, None, SilentProgress()) == first
    assert asked == ["release", "build"]


def test_half_a_component_in_the_users_folder_is_an_error(tmp_path: Path) -> None:
    own(tmp_path / "own", "kubelet", "kube-proxy")
    with pytest.raises(LabError, match=r"has kubelet, kube-proxy but not kube-apiserver, .* whole"):
        sources.own_binaries(KUBERNETES, tmp_path / "own")


def test_cilium_of_the_users_needs_the_sources_that_it_was_built_from(tmp_path: Path) -> None:
    own(tmp_path / "own", *CILIUM.binaries)
    with pytest.raises(
        LabError, match=r"has cilium-agent, .* but no folder bpf; copy that of github\.com/cilium/cilium of the same version"
    ):
        sources.own_binaries(CILIUM, tmp_path / "own")
    (tmp_path / "own/bpf").mkdir()
    (tmp_path / "own/bpf/bpf_lxc.c").write_text("source")
    folder = sources.get(CILIUM, Cache(tmp_path / "cache"), tmp_path / "own", SilentProgress())
    assert (folder / "bpf/bpf_lxc.c").read_text() == "source"


def test_an_own_binary_that_cannot_run_is_an_error(tmp_path: Path) -> None:
    own(tmp_path / "own", "etcd", mode=0o644)
    with pytest.raises(LabError, match=r"etcd: not executable; run chmod"):
        sources.own_binaries(ETCD, tmp_path / "own")


def test_no_connection_means_no_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.getproxies", dict)

    def refuse(address: tuple[str, int], timeout: float) -> socket.socket:
        assert address == ("example.test", 443)
        assert timeout <= 2
        raise TimeoutError

    assert not sources.is_reachable(Release("https://example.test/a", "https://example.test/b"), connect=refuse)


def released(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    def serve(address: str) -> io.BytesIO:
        if address not in files:
            raise urllib.error.HTTPError(address, 404, "Not Found", None, None)  # type: ignore[arg-type]
        return io.BytesIO(files[address])

    monkeypatch.setattr(sources, "_open", serve)


class _Step:
    def note(self, detail: str) -> None:
        pass


def archive_of(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


RELEASE = Release("https://x.test/a.tgz", "https://x.test/sums", {"etcd": "dir/etcd"})


def test_a_release_is_unpacked_after_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of("dir/etcd", b"binary")
    sums = f"0000  other.tgz\n{hashlib.sha256(archive).hexdigest()}  a.tgz\n"
    released(monkeypatch, {RELEASE.address: archive, RELEASE.checksums: sums.encode()})
    assert sources.download(ETCD, RELEASE, tmp_path, _Step())
    assert [path.name for path in tmp_path.iterdir()] == ["etcd"]
    assert (tmp_path / "etcd").read_bytes() == b"binary"


def test_a_release_with_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released(monkeypatch, {RELEASE.address: archive_of("dir/etcd", b"binary"), RELEASE.checksums: b"00ff  a.tgz\n"})
    with pytest.raises(LabError, match=r"https://x\.test/a\.tgz: sha256 [0-9a-f]{64}, want 00ff"):
        sources.download(ETCD, RELEASE, tmp_path, _Step())


def test_a_release_without_a_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released(monkeypatch, {RELEASE.address: b"x", RELEASE.checksums: b"00ff  b.tgz\n00ee  c.tgz\n"})
    with pytest.raises(LabError, match="want one"):
        sources.download(ETCD, RELEASE, tmp_path, _Step())


def test_a_release_that_is_not_there_leaves_the_folder_empty_for_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released(monkeypatch, {RELEASE.checksums: b"00ff  a.tgz\n"})
    assert not sources.download(ETCD, RELEASE, tmp_path, _Step())
    assert list(tmp_path.iterdir()) == []


def test_a_component_has_another_key_for_another_version_or_flag() -> None:
    keys = {
        ETCD.key,
        dataclasses.replace(ETCD, version="v0").key,
        dataclasses.replace(ETCD, version_flags=("a=b",)).key,
        dataclasses.replace(ETCD, name="coredns").key,
    }
    assert len(keys) == 4


def test_every_component_names_a_module_of_its_version() -> None:
    for component in COMPONENTS:
        module = component.module_files()["go.mod"].decode()
        assert component.packages == (".",) or component.version in module
        assert (component.packages == (".",)) == ("main.go" in component.module_files())
        if component.name != "pause":
            assert f" {component.version}" in module
            assert component.module_files()["go.sum"]


def test_a_program_that_is_not_go_has_no_version() -> None:
    assert go_version("/bin/true") is None
    assert go_version("/does/not/exist") is None
