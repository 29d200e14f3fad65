"""pytest-k8snet as a lab's pods can run it: installed into a folder that every node sees, for the Python of the probe image."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pytest_k8snet.lab.state import LabFolder
from tests.lab.suite import Lab

HERE = Path(__file__).parents[2]
NODE_FOLDER = "/k8snet/node/site"  # where a node sees the `site` of its folder
_PYTHON = "3.11"  # of Debian 12, which the lab's images are made of
_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")


def install(lab: Lab) -> None:
    """Install this checkout and what it needs once, and link it into the folder of every node."""
    folder = LabFolder(lab.name)
    nodes = [node.name for node in _nodes(folder)]
    first = folder.node(nodes[0]) / "site"
    with tempfile.TemporaryDirectory(prefix="k8snet-") as wheels:
        _pip("wheel", "--no-deps", "--wheel-dir", wheels, str(HERE))
        (wheel,) = Path(wheels).glob("*.whl")
        platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
        _pip("install", "--target", str(first), "--python-version", _PYTHON, "--only-binary=:all:", *platforms, str(wheel))
    for name in nodes[1:]:
        shutil.copytree(first, folder.node(name) / "site", copy_function=lambda source, target: Path(target).hardlink_to(source))


def _nodes(folder: LabFolder) -> list[Path]:
    return sorted(path for path in folder.node("node-1").parent.iterdir() if path.is_dir())


def _pip(*arguments: str) -> None:
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"
