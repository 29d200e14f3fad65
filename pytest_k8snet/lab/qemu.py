"""Nodes on QEMU with Debian's own kernel: everything that User-Mode Linux lacks, fast where KVM works and slow where it does not."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_k8snet.lab.initramfs import ALIVE, MOUNT_OPTIONS, NODE_TAG, ROOT_TAG, TRY
from pytest_k8snet.lab.kernel import Share, plain, shares_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_k8snet.lab.addresses import NodeAddress
    from pytest_k8snet.lab.prepare import Prepared

Accelerator = Literal["kvm", "tcg"]

_PROGRAM = "qemu-system-x86_64"
_ACCELERATION: Mapping[Accelerator, tuple[str, ...]] = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    "tcg": ("-accel", "tcg,thread=multi", "-cpu", "max"),
}
_MACHINE = ("-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot")
_WORDS = "console=ttyS0 quiet mitigations=off nokaslr panic=-1 net.ifnames=0"
_PROCESSORS = 2
_TRY_S = 8.0
_TCG_PATIENCE = 4.0


def accelerator(prepared: Prepared, device: Path = Path("/dev/kvm")) -> Accelerator:
    """Give `kvm` where the nodes' kernel really runs with it: that the device can be opened is no proof."""
    if not os.access(device, os.R_OK | os.W_OK):
        return "tcg"
    command = [_PROGRAM, *_ACCELERATION["kvm"], *_MACHINE, "-m", "256", *_boot(prepared, TRY)]
    try:
        tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRY_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "tcg"
    return "kvm" if ALIVE.encode() in tried.stdout else "tcg"


@dataclass(frozen=True, slots=True)
class Qemu:
    """A virtual machine; the folders of this machine come into it by virtio-9p."""

    prepared: Prepared
    accelerator: Accelerator

    def command(self, node: NodeAddress, folder: Path, memory_mib: int) -> Sequence[str]:
        """Give the command."""
        network = f"tap,id=net0,ifname={node.tap},script=no,downscript=no"
        return [
            _PROGRAM,
            *_ACCELERATION[self.accelerator],
            *_MACHINE,
            "-name",
            node.name,
            "-smp",
            str(_PROCESSORS),
            "-m",
            str(memory_mib),
            "-netdev",
            network,
            "-device",
            f"virtio-net-pci,netdev=net0,mac={node.mac},romfile=",
            *_offer(ROOT_TAG, self.prepared.node_root),
            *_offer(NODE_TAG, folder, writable=True),
            *(word for share in self._shares for word in _offer(_tag(share), share.folder)),
            *_boot(self.prepared),
        ]

    @property
    def environment(self) -> Mapping[str, str]:
        """Nothing."""
        return {}

    @property
    def patience(self) -> float:
        """How many times longer things may take; an emulated processor is slow."""
        return 1.0 if self.accelerator == "kvm" else _TCG_PATIENCE

    @property
    def loses_its_timer(self) -> bool:
        """No."""
        return False

    @property
    def _shares(self) -> tuple[Share, ...]:
        # The root, which all kinds of nodes have, brings the modules of another kernel.
        return (Share(self.prepared.kernel_modules, "/usr/lib/modules"), *shares_of(self.prepared))

    def mounts(self) -> Iterator[str]:
        """Give the lines of fstab."""
        for share in self._shares:
            yield f"{_tag(share)} {share.place} 9p ro,{MOUNT_OPTIONS},cache=loose 0 0"


def _boot(prepared: Prepared, *words: str) -> tuple[str, ...]:
    initramfs = plain(prepared.initramfs or Path())
    return ("-kernel", str(plain(prepared.kernel)), "-initrd", str(initramfs), "-append", " ".join((_WORDS, *words)))


def _tag(share: Share) -> str:
    return share.place.strip("/").replace("/", "-")


def _offer(tag: str, folder: Path, *, writable: bool = False) -> tuple[str, str]:
    access = "" if writable else ",readonly=on"
    return "-virtfs", f"local,path={plain(folder)},mount_tag={tag},security_model=none,multidevs=remap{access}"
