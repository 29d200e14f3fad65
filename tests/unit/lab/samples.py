"""Settings, pieces and folders as a lab has them, without a lab."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pytest_k8snet.lab.prepare import Prepared
from pytest_k8snet.lab.processes import ProcessRef, boot_id, reference
from pytest_k8snet.lab.settings import LabSettings
from pytest_k8snet.lab.state import LabFolder, LabState

ROLES = ("pause", "probe", "coredns", "kube-proxy", "flannel", "cilium", "cilium-operator", "ingress", "kube-router")
IMAGES = {role: f"k8snet.lab/{role}:1" for role in ROLES}


def prepared(cache: Path, *, preload: Path | None = None, on_qemu: bool = False) -> Prepared:
    """Give pieces that are not there."""
    return Prepared(
        kernel=cache / ("vmlinuz" if on_qemu else "linux.uml"),
        kernel_preload=preload,
        kernel_modules=cache / "kernel",
        initramfs=cache / "initramfs" if on_qemu else None,
        node_root=cache / "root",
        binaries=cache / "binaries",
        cni=cache / "cni",
        content=cache / "content",
        images=IMAGES,
    )


def this_process() -> ProcessRef:
    """Give a process that runs for sure."""
    found = reference("namespace", os.getpid())
    assert found is not None
    return found


def running(labs: Path, settings: LabSettings, *, ports: Mapping[str, int] | None = None) -> LabFolder:
    """Write down a lab that seems to run: its only process is this one."""
    folder = LabFolder(settings.name, labs)
    folder.path.mkdir(parents=True)
    state = LabState(settings, boot_id(), phase="running", processes=(this_process(),), ports=ports or {}, images=IMAGES)
    folder.write(state)
    return folder
