"""The kinds of kernel a node may run on. All boot the same root with the same first program."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.content import NODE_CONTENT
from pytest_k8snet.lab.namespace import MEMORY_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_k8snet.lab.addresses import NodeAddress
    from pytest_k8snet.lab.prepare import Prepared

# Blanks and quotes end a word of the kernel's command line, a comma an option of mount, a colon a path of LD_PRELOAD.
_PLAIN_PATH = re.compile(r"[\w/.=@+~-]+")


class NodeKernel(Protocol):
    """How a node is started."""

    def command(self, node: NodeAddress, folder: Path, memory_mib: int) -> Sequence[str]:
        """Give the command, to be run in the lab's namespace, that is the node: it ends when the node does.

        `folder` is seen by the node as /k8snet/node; its file `boot` is the first program.
        """

    @property
    def environment(self) -> Mapping[str, str]:
        """What the command needs in its environment."""

    @property
    def patience(self) -> float:
        """How many times longer things may take on it than on User-Mode Linux."""

    @property
    def loses_its_timer(self) -> bool:
        """Whether it has to be woken now and then (lab/awake.py)."""

    def mounts(self) -> Iterator[str]:
        """Give the lines of fstab that bring the lab's folders on this machine into the node."""


@dataclass(frozen=True, slots=True)
class Share:
    """A folder of this machine that every node sees, read-only."""

    folder: Path
    place: str


def shares_of(prepared: Prepared) -> tuple[Share, ...]:
    """Give the folders that nodes of every kind see beside their root."""
    return (
        Share(prepared.binaries, "/k8snet/bin"),
        Share(prepared.cni, "/opt/cni/bin"),
        Share(prepared.content, NODE_CONTENT),
    )


@dataclass(frozen=True, slots=True)
class UserModeLinux:
    """A Linux kernel that is an ordinary program: needs neither root nor KVM, has one CPU."""

    prepared: Prepared

    def command(self, node: NodeAddress, folder: Path, memory_mib: int) -> Sequence[str]:
        """Give the command."""
        first = f"mount -t hostfs none /k8snet/node -o {plain(folder)} && exec /bin/sh /k8snet/node/boot"
        return [
            str(self.prepared.kernel),
            f"mem={memory_mib}M",
            f"umid={node.name}",
            f"uml_dir={MEMORY_FOLDER}/uml/",
            "rootfstype=hostfs",
            f"rootflags={plain(self.prepared.node_root)}",
            "ro",
            f"vec0:transport=tap,ifname={node.tap},depth=128,gro=1",
            "con=null",
            "con0=fd:0,fd:1",
            "quiet",
            "panic=-1",
            "init=/bin/sh",
            "--",
            "-c",
            f'"{first}"',  # the kernel takes the quotes away
        ]

    @property
    def environment(self) -> Mapping[str, str]:
        """Give LD_PRELOAD where the processor has more state than this kernel knows."""
        preload = self.prepared.kernel_preload
        return {} if preload is None else {"LD_PRELOAD": str(preload)}

    @property
    def patience(self) -> float:
        """One: it is what all others are compared with."""
        return 1.0

    @property
    def loses_its_timer(self) -> bool:
        """Yes, on a busy machine."""
        return True

    def mounts(self) -> Iterator[str]:
        """Give the lines of fstab."""
        for share in shares_of(self.prepared):
            yield f"none {share.place} hostfs {plain(share.folder)},ro 0 0"


def plain(path: Path) -> Path:
    """Give the path; raise a LabError when a kernel's command line or mount's options cannot hold it."""
    if not _PLAIN_PATH.fullmatch(str(path)):
        raise LabError(
            f"{path}: nodes cannot be given this path; set XDG_STATE_HOME (labs) and K8SNET_CACHE (the cache) to folders "
            "whose paths have letters, digits and . / - _ only"
        )
    return path
