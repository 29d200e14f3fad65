"""Everything a lab needs before it starts: kernel, node root, binaries, images. The running half of the lab calls only this.

Each function gives one piece, from the cache when it is there; `prepare` gives all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_k8snet.lab.progress import Progress


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is on disk, read-only, shared by all labs of this user."""

    kernel: Path
    """linux.uml."""
    kernel_modules: Path
    """Folder that holds lib/modules/<release> of the kernel (the node root has them too, with depmod done)."""
    node_root: Path
    """Read-only root file system of every node (hostfs)."""
    binaries: Path
    """Folder with kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, etcd, containerd, containerd-shim-runc-v2, ctr."""
    cni: Path
    """Folder with bridge, host-local, loopback, portmap, ptp."""
    content: Path
    """A containerd root with every image imported and unpacked."""
    images: Mapping[str, str]
    """Role (pause, probe, coredns, kube-proxy) to image reference."""


def prepare(*, components_dir: Path | None = None, progress: Progress) -> Prepared:
    """Give everything a lab needs, making what is not in the cache yet."""
    raise NotImplementedError
