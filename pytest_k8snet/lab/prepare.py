"""Everything a lab needs before it starts: kernel, node root, binaries, images. The running half of the lab calls only this.

`prepare` gives all of them, from the cache when they are there (then in milliseconds) and else makes what is missing.

The node root has empty folders to mount things over: /k8snet/{bin,cni,content,node,overlay}, /oldroot, /opt/cni/bin and /etc/cni/net.d. A
folder of the host comes into a node by `mount -t hostfs none /k8snet/bin -o HOST_FOLDER`. iptables is there in both back ends:
/usr/sbin/iptables-legacy and /usr/sbin/iptables-nft (`update-alternatives`, or links in /usr/local/sbin, choose one).

Images: mount `content` over /k8snet/content and copy its seed, a few files and links, into an empty /var/lib/containerd that is on tmpfs:
`cp -a /k8snet/content/seed/. /var/lib/containerd/`. The layers stay on the host, below every node's own overlays.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_k8snet.access.image import DEFAULT_IMAGE
from pytest_k8snet.lab import content, debian, images, initramfs, sources, xstate
from pytest_k8snet.lab.cache import Cache, cache_folder, key_of
from pytest_k8snet.lab.component import (
    CILIUM,
    CILIUM_COMPONENTS,
    CNI_PLUGINS,
    COMPONENTS,
    CONTAINERD,
    COREDNS,
    ETCD,
    FLANNEL,
    FLANNEL_CNI,
    FLANNEL_COMPONENTS,
    KUBE_ROUTER,
    KUBERNETES,
    PAUSE,
)
from pytest_k8snet.lab.images import CiliumFiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_k8snet.lab.component import Component
    from pytest_k8snet.lab.progress import Progress
    from pytest_k8snet.lab.settings import NodeKernelKind

NetworkMaker = Literal["flannel", "cilium"]
"""Networks with programs of their own."""

_COMPONENTS_OF: Mapping[NetworkMaker, tuple[Component, ...]] = {"flannel": FLANNEL_COMPONENTS, "cilium": CILIUM_COMPONENTS}
_COLD_SPACE_BYTES = 3_000_000_000
_IN_CONTENT = (KUBERNETES, COREDNS, PAUSE, CONTAINERD)
_ON_NODES = (KUBERNETES, ETCD, CONTAINERD)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is on disk, read-only, shared by all labs of this user."""

    kernel: Path
    """linux.uml, or vmlinuz for QEMU."""
    kernel_preload: Path | None
    """A library that linux.uml has to be started with on this processor."""
    kernel_modules: Path
    """Folder that holds <release> of the kernel, with depmod done (the node root has those of linux.uml)."""
    initramfs: Path | None
    """What vmlinuz needs to find the node root; linux.uml needs none."""
    node_root: Path
    """Read-only root file system of every node (hostfs)."""
    binaries: Path
    """Folder with etcd, kube-{apiserver,controller-manager,scheduler,proxy}, kubelet, containerd, containerd-shim-runc-v2 and ctr."""
    cni: Path
    """Folder with bridge, host-local, loopback, portmap, ptp, tuning, and the plugin of the network where it has its own."""
    content: Path
    """Every image, imported and unpacked: `root`, for nodes at /k8snet/content/root, and `seed`, to be copied to /var/lib/containerd."""
    images: Mapping[str, str]
    """Role (pause, probe, coredns, kube-proxy, flannel, cilium, cilium-operator, ingress, kube-router) to image reference."""


def prepare(
    *,
    components_dir: Path | None = None,
    progress: Progress,
    network_of: NetworkMaker | None = None,
    with_kube_router: bool = False,
    node_kernel: NodeKernelKind = "uml",
) -> Prepared:
    """Give everything a lab needs, making what is not in the cache yet; what only some labs need when it is asked for."""
    asked = (*(_COMPONENTS_OF[network_of] if network_of else ()), *((KUBE_ROUTER,) if with_kube_router else ()))
    return Preparation(Cache(cache_folder()), components_dir, progress, asked=asked, node_kernel=node_kernel).run()


class Preparation:
    """One call of `prepare`."""

    def __init__(
        self, cache: Cache, components_dir: Path | None, progress: Progress, *, asked: Sequence[Component], node_kernel: NodeKernelKind
    ) -> None:
        self._cache = cache
        self._components_dir = components_dir
        self._progress = progress
        self._asked = asked
        self._node_kernel = node_kernel
        self._components: tuple[Component, ...] = (*COMPONENTS, *asked)

    def run(self) -> Prepared:
        """Make what is missing: the Go builds one after the other, what is Debian's beside them."""
        on_qemu = self._node_kernel == "qemu"
        with_xstate = not on_qemu and xstate.is_needed()
        has_c = [component for component in self._components if component.with_cgo]
        to_compile = with_xstate or any(sources.find(component, self._cache, self._components_dir) is None for component in has_c)
        debian.require_tools(self._progress, with_compiler=to_compile, with_qemu=on_qemu)
        self._announce()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-debian") as beside:
            debian_side = beside.submit(self._debian)
            folders = {}
            for component in self._components:
                folders[component.name] = sources.get(component, self._cache, self._components_dir, self._progress)
                if debian_side.done():
                    debian_side.result()  # tells now, not minutes later, that it failed
            kernel, node_root = debian_side.result()
        return Prepared(
            kernel=kernel / ("vmlinuz" if on_qemu else "linux.uml"),
            kernel_preload=self._xstate() if with_xstate else None,
            kernel_modules=kernel / ("modules" if on_qemu else "lib/modules"),
            initramfs=kernel / "initramfs" if on_qemu else None,
            node_root=node_root,
            binaries=self._joined("binaries", [folders[component.name] for component in _ON_NODES]),
            cni=self._cni(folders),
            content=self._content(folders, node_root),
            images=images.references(),
        )

    def _announce(self) -> None:
        """Say what will be made and about how long that takes, if it is anything that takes long."""
        own = self._components_dir
        missing = [component for component in self._components if sources.find(component, self._cache, own) is None]
        to_make = [component for component in missing if own is None or not sources.own_binaries(component, own)]
        if not to_make and all(self._cache.find(*piece) for piece in self._debian_pieces()):
            return
        self._cache.require_space("preparation", _COLD_SPACE_BYTES)
        if to_make:
            names = ", ".join(f"{component.name} {component.version}" for component in to_make)
            minutes = max(1, round(sum(component.build_minutes for component in to_make)))
            self._progress.say(
                f"Not in the cache yet: {names}. Where the makers' releases cannot be downloaded they are built from source, "
                f"which takes about {minutes} min on two cores."
            )
        self._progress.say(f"This is done once; everything is kept in {self._cache.folder}.")

    def _debian_pieces(self) -> list[tuple[str, str]]:
        """Give names and keys of User-Mode Linux, the node root, which has its modules, and the kernel for QEMU when it is asked for."""
        kernel_key = key_of(debian.RECIPE, debian.SUITE, debian.KERNEL_PACKAGE)
        pieces = [("kernel", kernel_key), ("node-root", key_of(kernel_key, *debian.NODE_PACKAGES, *debian.MOUNT_POINTS))]
        if self._node_kernel == "qemu":
            recipe = Path(initramfs.__file__ or "").read_bytes()
            pieces.append(("qemu-kernel", key_of(debian.RECIPE, debian.SUITE, *debian.QEMU_KERNEL_PACKAGES, recipe)))
        return pieces

    def _debian(self) -> tuple[Path, Path]:
        kernel_piece, root_piece, *qemu_pieces = self._debian_pieces()
        kernel, root = self._cache.find(*kernel_piece), self._cache.find(*root_piece)
        if kernel is None or root is None:
            with self._progress.step("node kernel (user-mode-linux)") as step:
                kernel = self._cache.piece(*kernel_piece, lambda target: debian.make_kernel(target, step))
            with self._progress.step("node root file system") as step:
                root = self._cache.piece(*root_piece, lambda target: debian.make_node_root(target, kernel, step))
        return (self._qemu_kernel(*qemu_pieces[0]) if qemu_pieces else kernel), root / "root"

    def _qemu_kernel(self, name: str, key: str) -> Path:
        if found := self._cache.find(name, key):
            return found
        with self._progress.step("node kernel (Debian's, for QEMU)") as step:
            return self._cache.piece(name, key, lambda target: debian.make_qemu_kernel(target, step))

    def _bpf_compiler(self) -> Path:
        """Give the root of what Cilium's agent compiles with."""
        files = (*debian.BPF_COMPILER_PROGRAMS, *debian.BPF_COMPILER_LIBRARIES)
        key = key_of(debian.RECIPE, debian.SUITE, *debian.BPF_COMPILER_PACKAGES, *files)
        found = self._cache.find("bpf-compiler", key)
        if found is None:
            with self._progress.step("compiler for BPF (Debian's clang)") as step:
                found = self._cache.piece("bpf-compiler", key, lambda target: debian.make_bpf_compiler(target, step))
        return found / "root"

    def _xstate(self) -> Path:
        return self._cache.piece("xstate", key_of(xstate.SOURCE.read_bytes()), xstate.build) / "xstate.so"

    def _content(self, folders: Mapping[str, Path], node_root: Path) -> Path:
        """Give the images, imported; made again when what they hold or how they are made has changed."""
        recipe = [Path(module.__file__ or "").read_bytes() for module in (images, content)]
        inside = [*_IN_CONTENT, *(component for component in (FLANNEL, CILIUM, KUBE_ROUTER) if component in self._asked)]
        inputs = [node_root.parent.name, *(folders[component.name].name for component in inside), DEFAULT_IMAGE]
        compiler = self._bpf_compiler() if CILIUM in self._asked else None
        key = key_of(*recipe, *inputs, *((compiler.parent.name,) if compiler else ()))
        if found := self._cache.find("content", key):
            return found
        made = images.lab_images(
            node_root,
            kube_proxy=folders[KUBERNETES.name] / "kube-proxy",
            coredns=folders[COREDNS.name] / "coredns",
            pause=folders[PAUSE.name] / "pause",
            flanneld=folders[FLANNEL.name] / "flanneld" if FLANNEL in self._asked else None,
            kube_router=folders[KUBE_ROUTER.name] / "kube-router" if KUBE_ROUTER in self._asked else None,
            cilium=CiliumFiles(folders[CILIUM.name], compiler) if compiler else None,
        )
        with self._progress.step("images") as step:
            return self._cache.piece("content", key, lambda target: content.make_content(target, made, folders[CONTAINERD.name], step))

    def _cni(self, folders: Mapping[str, Path]) -> Path:
        """Give the folder of the CNI plugins, with that of flannel or Cilium where it was asked for."""
        own = folders[CNI_PLUGINS.name]
        of_network = [component for component in (FLANNEL_CNI, CILIUM) if component in self._asked]
        return self._joined("cni", [own, *(folders[component.name] for component in of_network)]) if of_network else own

    def _joined(self, piece: str, folders: Iterable[Path]) -> Path:
        """Give one folder with the binaries of several components: hard links, so that it costs nothing."""
        folders = list(folders)

        def make(target: Path) -> None:
            for folder in folders:
                for path in folder.iterdir():
                    if path.is_dir():
                        continue  # sources that go with it
                    if path.is_symlink():
                        (target / path.name).symlink_to(path.readlink())
                    else:
                        _link(path, target / path.name)

        return self._cache.piece(piece, key_of(*(folder.name for folder in folders)), make)


def _link(path: Path, place: Path) -> None:
    try:
        place.hardlink_to(path)
    except OSError:  # a file system without hard links
        shutil.copy2(path, place)
