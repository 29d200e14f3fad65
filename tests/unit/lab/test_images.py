from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from pytest_k8snet.access.image import DEFAULT_IMAGE
from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import images
from pytest_k8snet.lab.content import write_seed

if TYPE_CHECKING:
    from pathlib import Path

STATUS = """Package: tool
Status: install ok installed
Pre-Depends: libc6 (>= 2.36)
Depends: either | other, virtual, debconf (>= 0.5) | debconf-2.0, not-installed
Description: a tool
 Depends: on nothing here

Package: other
Depends: python3:any

Package: real
Provides: virtual (= 1), more

Package: python3

Package: libc6

Package: debconf

Package: nginx
Depends: tool, library

Package: library

Package: unrelated
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a small root with a merged /usr, one package with an alternative, and compiled Python."""
    root = tmp_path / "root"
    for folder in ("usr/bin", "usr/sbin", "usr/lib/python3/__pycache__", "etc/alternatives", "var/lib/dpkg/info"):
        (root / folder).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "sbin").symlink_to("usr/sbin")
    (root / "usr/bin/tool").write_text("tool")
    (root / "usr/bin/tool").chmod(0o755)
    (root / "usr/bin/unrelated").write_text("no")
    (root / "usr/bin/twice").hardlink_to(root / "usr/bin/tool")
    (root / "usr/lib/python3/m.py").write_text("")
    (root / "usr/lib/python3/__pycache__/m.cpython-311.pyc").write_text("compiled")
    for name in ("iptables-nft", "iptables-legacy"):
        (root / "usr/sbin" / name).write_text(name)
    (root / "etc/alternatives/iptables").symlink_to("/usr/sbin/iptables-nft")
    (root / "usr/sbin/iptables").symlink_to("/etc/alternatives/iptables")
    (root / "etc/alternatives/editor").symlink_to("/usr/bin/unrelated")
    info = root / "var/lib/dpkg/info"
    (info / "tool.list").write_text("/.\n/bin\n/bin/tool\n/usr/bin/twice\n/usr/share/doc/gone\n")
    (info / "python3.list").write_text("/usr/lib/python3\n/usr/lib/python3/m.py\n")
    (info / "libc6:amd64.list").write_text("/sbin/iptables-nft\n/sbin/iptables-legacy\n")
    (info / "nginx.list").write_text("/usr/sbin/nginx\n/bin/tool\n")
    (info / "library.list").write_text("/usr/lib/library.so\n")
    (root / "usr/sbin/nginx").write_text("nginx")
    (root / "usr/lib/library.so").write_text("library")
    (root / "var/lib/dpkg/status").write_text(STATUS)
    return root


def test_dependencies_are_followed_but_not_those_for_installing() -> None:
    assert images.installed_closure(STATUS, ["tool"]) == ["libc6", "other", "python3", "real", "tool"]


def test_a_package_that_is_not_there_is_an_error() -> None:
    with pytest.raises(LabError, match="package absent is not installed"):
        images.installed_closure(STATUS, ["absent"])


def test_an_archive_holds_what_docker_save_would(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "TOOL_PACKAGES", ("tool",))
    program = tmp_path / "program"
    program.write_bytes(b"program")
    made = images.lab_images(root, kube_proxy=program, coredns=program, pause=program, flanneld=program, kube_router=program)
    images.write_archive(tmp_path / "images.tar", made)
    with tarfile.open(tmp_path / "images.tar") as archive:
        names = archive.getnames()
        contents = {name: member.read() for name in names if (member := archive.extractfile(name)) is not None}
    assert len(names) == len(set(names)), "a layer that two images share is there once"
    manifest = json.loads(contents["manifest.json"])
    assert [entry["RepoTags"] for entry in manifest] == [
        ["k8snet.local/pause:1"],
        ["k8snet.local/coredns:1"],
        ["k8snet.local/probe:1", DEFAULT_IMAGE],
        ["k8snet.local/ingress:1"],
        ["k8snet.local/kube-proxy:1"],
        ["k8snet.local/flannel:1"],
        ["k8snet.local/kube-router:1"],
    ]
    for entry in manifest:
        assert entry["Config"] == f"{hashlib.sha256(contents[entry['Config']]).hexdigest()}.json"
        config = json.loads(contents[entry["Config"]])
        assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(contents[layer]).hexdigest()}" for layer in entry["Layers"]]
    probe, nginx, proxy, flannel, router = (entry["Layers"] for entry in manifest[2:])
    assert [layers[:-1] for layers in (nginx, proxy, flannel, router)] == [probe] * 4
    with tarfile.open(fileobj=io.BytesIO(contents[nginx[1]])) as layer:
        assert [member.name for member in layer.getmembers() if member.isfile()] == ["usr/bin/tool", "usr/lib/library.so", "usr/sbin/nginx"]
    without = images.lab_images(root, kube_proxy=program, coredns=program, pause=program)
    assert [image.references for image in without] == [image.references for image in made[:-2]]
    folder = tmp_path / "compiler"
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "usr/bin/clang").write_text("clang")
    programs = tmp_path / "cilium"
    (programs / "bpf/lib").mkdir(parents=True)
    (programs / "bpf/lib/common.h").write_text("source")
    for name in ("cilium-agent", "cilium-operator-generic"):
        (programs / name).write_text("program")
    files = images.CiliumFiles(programs, folder)
    with_cilium = images.lab_images(root, kube_proxy=program, coredns=program, pause=program, cilium=files)
    agent, operator = with_cilium[-2:]
    assert [image.references for image in (agent, operator)] == [("k8snet.local/cilium:1",), ("k8snet.local/cilium-operator:1",)]
    assert [layer.name for layer in agent.layers] == ["tools", "bpf-compiler", "cilium", "cilium-bpf"]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as layer:
        agent.layers[1].write(layer)
        agent.layers[3].write(layer)
    with tarfile.open(fileobj=io.BytesIO(content.getvalue())) as layer:
        inside = [member.name for member in layer.getmembers() if member.isfile()]
    assert inside == ["usr/bin/clang", "var/lib/cilium/bpf/lib/common.h"]
    with tarfile.open(fileobj=io.BytesIO(contents[proxy[1]])) as layer:
        assert layer.getnames() == ["usr", "usr/local", "usr/local/bin", "usr/local/bin/kube-proxy"]
        assert layer.getmember("usr/local/bin/kube-proxy").mode == 0o755
    with tarfile.open(fileobj=io.BytesIO(contents[probe[0]])) as layer:
        members = {member.name: member for member in layer.getmembers()}
    assert set(members) == {
        "bin",
        "sbin",
        "etc",
        "etc/alternatives",
        "etc/alternatives/iptables",
        "usr",
        "usr/bin",
        "usr/bin/tool",
        "usr/bin/twice",
        "usr/lib",
        "usr/lib/python3",
        "usr/lib/python3/m.py",
        "usr/lib/python3/__pycache__",
        "usr/lib/python3/__pycache__/m.cpython-311.pyc",
        "usr/sbin",
        "usr/sbin/iptables",
        "usr/sbin/iptables-legacy",
        "usr/sbin/iptables-nft",
    }
    assert members["etc/alternatives/iptables"].linkname == "/usr/sbin/iptables-legacy"
    assert members["usr/bin/tool"].mode == 0o755
    assert members["usr/bin/twice"].size == members["usr/bin/tool"].size == 4
    assert {(member.uid, member.uname) for member in members.values()} == {(0, "root")}


def test_a_seed_links_what_is_big_and_copies_the_rest(tmp_path: Path) -> None:
    root = tmp_path / "root"
    blob = root / "io.containerd.content.v1.content/blobs/sha256/abc"
    snapshot = root / "io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs"
    database = root / "io.containerd.metadata.v1.bolt/meta.db"
    snapshot.mkdir(parents=True)
    for file in (blob, database):
        file.parent.mkdir(parents=True)
        file.write_text("x")
    (root / "empty").mkdir()
    seed = tmp_path / "seed"
    write_seed(root, seed, "/there/root")
    assert str((seed / blob.relative_to(root)).readlink()) == f"/there/root/{blob.relative_to(root)}"
    assert str((seed / snapshot.parent.relative_to(root)).readlink()) == f"/there/root/{snapshot.parent.relative_to(root)}"
    assert not (seed / database.relative_to(root)).is_symlink()
    assert (seed / database.relative_to(root)).read_text() == "x"
    assert (seed / "empty").is_dir()
