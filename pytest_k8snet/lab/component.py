"""The programs a lab runs, their versions, and where each may come from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from pytest_k8snet.lab.cache import key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable

RECIPE = "1"
"""Raised when what is done to a component beside its inputs changes, so that caches made before are not used."""

_MODULE_FILES = ("go.mod", "go.sum", "main.go")
_STAND_IN = "stand-in"
"""Folder of a component with a module of our own that takes the place of one that is not served everywhere."""


@dataclass(frozen=True, slots=True)
class Release:
    """Where the makers of a component publish it, ready built."""

    address: str
    """A single binary (with {binary}) or a tar.gz."""
    checksums: str
    """File with the sha256 of what `address` names, alone or in the lines `sha256  name`."""
    members: Mapping[str, str] | None = None
    """Path in the tar.gz of each binary; None when the address is the binary itself."""


@dataclass(frozen=True, slots=True)
class ModuleFolder:
    """A folder of a Go module that programs built from it read when they run."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class Component:
    """One thing to get: its binaries come from one build."""

    name: str
    """Folder below components/ with its Go module."""
    version: str
    binaries: tuple[str, ...]
    packages: tuple[str, ...]
    """Go packages to build, one for each binary."""
    tags: tuple[str, ...] = ()
    """Go build tags."""
    version_flags: tuple[str, ...] = ()
    """Go variables set at link time, NAME=VALUE."""
    release: Release | None = None
    called_by_name: bool = False
    """All binaries are one program, built once, that looks at the name it was called by."""
    with_cgo: bool = False
    """Some of it is written in C: it needs gcc, and is linked statically, so that it runs below any libc."""
    module_folder: ModuleFolder | None = None
    """What it needs beside its binaries, kept with them."""
    build_minutes: float = 1.0
    """With a cold build cache on two cores: for what is said before it starts."""

    @property
    def source(self) -> Traversable:
        """Give the folder of its Go module."""
        return files("pytest_k8snet.lab").joinpath("components", self.name)

    @property
    def key(self) -> str:
        """Give the cache key: version, flags and the exact module files."""
        digests = []
        for name in _MODULE_FILES:
            file = self.source.joinpath(name)
            digests.append(hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "none")
        for name, content in self.module_files().items():
            if name not in _MODULE_FILES:
                digests += [name, hashlib.sha256(content).hexdigest()]
        if self.with_cgo:
            digests.append("cgo")
        if self.module_folder is not None:
            digests.append(self.module_folder.name)
        return key_of(RECIPE, self.name, self.version, *self.binaries, *self.packages, *self.version_flags, *self.tags, *digests)

    def module_files(self) -> dict[str, bytes]:
        """Give the module's files by their paths in it."""
        found = {}
        for name in _MODULE_FILES:
            file = self.source.joinpath(name)
            if file.is_file():
                found[name] = file.read_bytes()
        stand_in = self.source.joinpath(_STAND_IN)
        if stand_in.is_dir():
            found |= {f"{_STAND_IN}/{path}": content for path, content in _files(stand_in)}
        return found


def _files(folder: Traversable) -> Iterator[tuple[str, bytes]]:
    """Give the files below a folder, by their paths in it."""
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from ((f"{item.name}/{path}", content) for path, content in _files(item))
        else:
            yield item.name, item.read_bytes()


def _packages(base: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{base}/{name}" for name in names)


_KUBE_VERSION = "k8s.io/component-base/version"
_ETCD = "etcd-v3.7.3-linux-amd64"

KUBERNETES = Component(
    name="kubernetes",
    version="v1.37.2",
    binaries=("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
    packages=(".",),
    version_flags=(
        f"{_KUBE_VERSION}.gitVersion=v1.37.2",
        f"{_KUBE_VERSION}.gitMajor=1",
        f"{_KUBE_VERSION}.gitMinor=37",
        f"{_KUBE_VERSION}.gitTreeState=clean",
    ),
    release=Release(
        "https://dl.k8s.io/release/v1.37.2/bin/linux/amd64/{binary}", "https://dl.k8s.io/release/v1.37.2/bin/linux/amd64/{binary}.sha256"
    ),
    called_by_name=True,
    build_minutes=7,
)
ETCD = Component(
    name="etcd",
    version="v3.7.3",
    binaries=("etcd",),
    packages=(".",),
    release=Release(
        f"https://github.com/etcd-io/etcd/releases/download/v3.7.3/{_ETCD}.tar.gz",
        "https://github.com/etcd-io/etcd/releases/download/v3.7.3/SHA256SUMS",
        {"etcd": f"{_ETCD}/etcd"},
    ),
)
CONTAINERD = Component(
    name="containerd",
    version="v2.4.2",
    binaries=("containerd", "containerd-shim-runc-v2", "ctr"),
    packages=_packages("github.com/containerd/containerd/v2/cmd", "containerd", "containerd-shim-runc-v2", "ctr"),
    version_flags=("github.com/containerd/containerd/v2/version.Version=v2.4.2",),
    release=Release(
        "https://github.com/containerd/containerd/releases/download/v2.4.2/containerd-static-2.4.2-linux-amd64.tar.gz",
        "https://github.com/containerd/containerd/releases/download/v2.4.2/containerd-static-2.4.2-linux-amd64.tar.gz.sha256sum",
        {name: f"bin/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
    ),
    build_minutes=1.5,
)
CNI_PLUGINS = Component(
    name="cni-plugins",
    version="v1.9.1",
    binaries=("bridge", "host-local", "loopback", "portmap", "ptp", "tuning"),
    packages=_packages(
        "github.com/containernetworking/plugins/plugins",
        "main/bridge",
        "ipam/host-local",
        "main/loopback",
        "meta/portmap",
        "main/ptp",
        "meta/tuning",
    ),
    version_flags=("github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=v1.9.1",),
    release=Release(
        "https://github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz",
        "https://github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz.sha256",
        {name: f"./{name}" for name in ("bridge", "host-local", "loopback", "portmap", "ptp", "tuning")},
    ),
    build_minutes=0.5,
)
COREDNS = Component(
    name="coredns",
    version="v1.15.0",
    binaries=("coredns",),
    packages=(".",),
    release=Release(
        "https://github.com/coredns/coredns/releases/download/v1.15.0/coredns_1.15.0_linux_amd64.tgz",
        "https://github.com/coredns/coredns/releases/download/v1.15.0/coredns_1.15.0_linux_amd64.tgz.sha256",
        {"coredns": "coredns"},
    ),
    build_minutes=1.5,
)

FLANNEL = Component(
    name="flannel",
    version="v0.28.10",
    binaries=("flanneld",),
    packages=("github.com/flannel-io/flannel",),
    version_flags=("github.com/flannel-io/flannel/pkg/version.Version=v0.28.10",),
    with_cgo=True,
    build_minutes=1.5,
)
FLANNEL_CNI = Component(name="flannel-cni", version="v1", binaries=("flannel",), packages=(".",), build_minutes=0.1)
"""The CNI plugin that flannel's configuration names; the makers keep it in a module that not every proxy serves, so it is our own."""
KUBE_ROUTER = Component(
    name="kube-router",
    version="v2.1.0",
    binaries=("kube-router",),
    packages=("github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",),
    version_flags=("github.com/cloudnativelabs/kube-router/v2/pkg/version.Version=v2.1.0",),
    build_minutes=1.5,
)
"""What enforces NetworkPolicies in labs that are asked for that."""

_CILIUM = "github.com/cilium/cilium"
CILIUM = Component(
    name="cilium",
    version="v1.15.19",
    binaries=("cilium-agent", "cilium-operator-generic", "cilium-cni"),
    packages=_packages(_CILIUM, "daemon", "operator", "plugins/cilium-cni"),
    version_flags=(f"{_CILIUM}/pkg/version.ciliumVersion=1.15.19",),
    tags=("ipam_provider_operator",),
    module_folder=ModuleFolder(_CILIUM, "bpf"),
    build_minutes=6.5,
)
"""The agent compiles its BPF programs on the node, from its module's sources; later versions need modules that not every proxy serves."""

PAUSE = Component(name="pause", version="v1", binaries=("pause",), packages=(".",), build_minutes=0.1)

COMPONENTS: tuple[Component, ...] = (PAUSE, ETCD, CONTAINERD, CNI_PLUGINS, COREDNS, KUBERNETES)
"""What every lab needs, the quickest to build first, so that what needs only those can go on early."""
FLANNEL_COMPONENTS: tuple[Component, ...] = (FLANNEL_CNI, FLANNEL)
"""What labs with flannel need beside."""
CILIUM_COMPONENTS: tuple[Component, ...] = (CILIUM,)
"""What labs with Cilium need beside."""
