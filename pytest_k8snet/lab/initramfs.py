"""The initramfs of QEMU nodes: a shell and the few modules with which Debian's kernel finds the folders of this machine.

It enters the node root, which is one of those folders, and leaves everything else to the first program that all kinds of nodes share.
"""

from __future__ import annotations

import gzip
import stat
from typing import TYPE_CHECKING

from pytest_k8snet.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

ROOT_TAG, NODE_TAG = "root", "node"
"""Names under which QEMU offers the node root and the node's own folder."""

MOUNT_OPTIONS = "trans=virtio,version=9p2000.L,msize=512000"
"""Options of every mount of such a folder."""

TRY, ALIVE = "k8snet.try", "k8snet: this kernel runs"
"""With the word on its command line the kernel only says the sentence and ends."""

# In the order in which each finds what it stands on.
MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "netfs",
    "fscache",
    "9pnet",
    "9pnet_virtio",
    "9p",
    "overlay",
)

_INIT = f"""#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
if busybox grep -q {TRY} /proc/cmdline; then
    echo '{ALIVE}'
    busybox poweroff -f
fi
for module in {" ".join(MODULES)}; do
    busybox insmod /modules/$module.ko || echo "no module $module"
done
busybox mount -t 9p -o ro,{MOUNT_OPTIONS},cache=loose {ROOT_TAG} /root &&
busybox mount -t 9p -o rw,{MOUNT_OPTIONS} {NODE_TAG} /root/k8snet/node &&
busybox umount /proc &&
exec busybox switch_root /root /bin/sh /k8snet/node/boot
"""


def write(target: Path, busybox: Path, modules: Path) -> None:
    """Write the archive; `modules` is the folder of one release of the kernel.

    Raises a LabError that names a module which this kernel lacks.
    """
    found = {path.name.removesuffix(".ko"): path for path in modules.rglob("*.ko")}
    if missing := [name for name in MODULES if name not in found]:
        raise LabError(f"the kernel {modules.name} has no module {', '.join(missing)}; nodes on QEMU cannot start with it")
    archive = bytearray()
    for folder in ("bin", "dev", "modules", "proc", "root"):
        archive += entry(folder, stat.S_IFDIR | 0o755)
    # Without it the first program has nowhere to write to.
    archive += entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive += entry("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    for name in MODULES:
        archive += entry(f"modules/{name}.ko", stat.S_IFREG | 0o644, found[name].read_bytes())
    archive += entry("init", stat.S_IFREG | 0o755, _INIT.encode())
    archive += entry("TRAILER!!!", 0)
    target.write_bytes(gzip.compress(archive, mtime=0))


def entry(name: str, mode: int, content: bytes = b"", *, device: tuple[int, int] = (0, 0)) -> bytes:
    """Give one entry of a cpio archive in the format that kernels read (newc), owned by root."""
    path = name.encode() + b"\0"
    numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers) + path
    return header + bytes(-len(header) % 4) + content + bytes(-len(content) % 4)
