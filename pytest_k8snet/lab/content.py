"""Imports the lab's images once, on the host, so that a node starts with them instead of unpacking them.

The piece has two folders: `root` is what containerd made of the images, and `seed` what a node copies into its own, writable containerd
root: the databases as files, everything big as links into `root`, where the node mounts it. Copying the seed takes milliseconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.images import write_archive

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_k8snet.lab.images import Image
    from pytest_k8snet.lab.progress import Step

NODE_CONTENT = "/k8snet/content"
"""Where nodes mount the piece."""

_BLOBS = Path("io.containerd.content.v1.content/blobs/sha256")
_SNAPSHOTS = Path("io.containerd.snapshotter.v1.overlayfs/snapshots")
_START_TIMEOUT_S = 30.0
_POLL_S = 0.05
_CONFIG = """version = 3
disabled_plugins = [
  "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri",
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]
"""


def make_content(target: Path, images: Iterable[Image], containerd: Path, step: Step) -> None:
    """Fill the folder: import the images with containerd and ctr of the given folder, then lay out the seed."""
    images = list(images)
    step.note("writing images")
    archive = target / "images.tar"
    write_archive(archive, images)
    step.note("importing")
    root = target / "root"
    with _running_containerd(containerd, root) as address:
        _run(
            [
                str(containerd / "ctr"),
                "--address",
                address,
                "--namespace",
                "k8s.io",
                "images",
                "import",
                "--snapshotter",
                "overlayfs",
                str(archive),
            ]
        )
        listed = _run([str(containerd / "ctr"), "--address", address, "--namespace", "k8s.io", "images", "ls", "--quiet"]).split()
    archive.unlink()
    if missing := [name for image in images for name in image.references if name not in listed]:
        message = f"containerd did not import {', '.join(missing)}; it has {', '.join(listed) or 'nothing'}"
        raise LabError(message)
    write_seed(root, target / "seed", f"{NODE_CONTENT}/root")


def write_seed(root: Path, seed: Path, seen_at: str) -> None:
    """Copy a containerd root, with links to where nodes see it in place of its blobs and snapshots."""
    linked = {_BLOBS, _SNAPSHOTS}
    for folder, folders, files in os.walk(root):
        relative = Path(folder).relative_to(root)
        (seed / relative).mkdir(mode=0o700)
        if relative in linked:
            for name in [*folders, *files]:
                (seed / relative / name).symlink_to(f"{seen_at}/{relative}/{name}")
            folders.clear()
            continue
        for name in files:
            shutil.copy2(Path(folder, name), seed / relative / name)


@contextmanager
def _running_containerd(programs: Path, root: Path) -> Iterator[str]:
    """Run a containerd of this call alone, in a mount namespace of its own; gives the address of its socket."""
    # A socket's path may have 107 characters: a cache folder may be deeper than that.
    with tempfile.TemporaryDirectory(prefix="k8snet-") as scratch_name:
        scratch = Path(scratch_name)
        config = scratch / "config.toml"
        config.write_text(_CONFIG)
        address = scratch / "containerd.sock"
        namespaces = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
        command = ["unshare", *namespaces, str(programs / "containerd"), "--config", str(config)]
        command += ["--root", str(root), "--state", str(scratch / "state"), "--address", str(address)]
        environment = {**os.environ, "PATH": f"{programs}:{os.environ.get('PATH', '')}"}
        log = scratch / "log"
        with log.open("wb") as out, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment) as process:
            try:
                _wait_for(address, process, log)
                yield str(address)
            finally:
                process.terminate()


def _wait_for(address: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not address.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            message = f"containerd did not start for the import of the lab's images (exit status {process.returncode}):\n{tail}"
            raise LabError(message)
        time.sleep(_POLL_S)


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = f"{' '.join(command[:7])} exited with {done.returncode}: {done.stderr.strip()[-1000:]}"
        raise LabError(message)
    return done.stdout
