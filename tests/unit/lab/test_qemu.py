"""How a node on QEMU is started, what its initramfs holds, and when KVM is believed."""

from __future__ import annotations

import gzip
import itertools
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import initramfs
from pytest_k8snet.lab.addresses import AddressPlan
from pytest_k8snet.lab.qemu import Qemu, accelerator
from pytest_k8snet.lab.settings import LabSettings
from tests.unit.lab.samples import prepared

NODE = AddressPlan.of(LabSettings()).node("node-2")
CACHE, FOLDER = Path("/c"), Path("/s/nodes/node-2")


def test_the_command_of_a_node() -> None:
    words = Qemu(prepared(CACHE, on_qemu=True), "tcg").command(NODE, FOLDER, 2500)
    told = dict(itertools.pairwise(words))
    assert (words[0], told["-accel"], told["-m"]) == ("qemu-system-x86_64", "tcg,thread=multi", "2500")
    assert (told["-kernel"], told["-initrd"]) == ("/c/vmlinuz", "/c/initramfs")
    assert told["-netdev"] == "tap,id=net0,ifname=tap-node-2,script=no,downscript=no"
    assert NODE.mac in told["-device"]
    assert "console=ttyS0" in told["-append"]
    shared = [word for word in words if word.startswith("local,")]
    assert [word for word in shared if "readonly=on" not in word] == [
        "local,path=/s/nodes/node-2,mount_tag=node,security_model=none,multidevs=remap"
    ]


def test_what_is_offered_is_what_is_mounted() -> None:
    kernel = Qemu(prepared(CACHE, on_qemu=True), "kvm")
    offered = {word.split("mount_tag=")[1].split(",")[0] for word in kernel.command(NODE, FOLDER, 100) if "mount_tag=" in word}
    mounts = [line.split() for line in kernel.mounts()]
    assert {line[0] for line in mounts} | {"root", "node"} == offered
    assert [line[1] for line in mounts] == ["/usr/lib/modules", "/k8snet/bin", "/opt/cni/bin", "/k8snet/content"]
    assert all(line[2] == "9p" and line[3].startswith("ro,trans=virtio") for line in mounts)
    assert all(len(tag) < 32 for tag in offered), "virtio-9p cuts longer ones"


def test_only_an_emulated_processor_asks_for_patience() -> None:
    pieces = prepared(CACHE, on_qemu=True)
    assert Qemu(pieces, "kvm").patience == 1
    assert Qemu(pieces, "tcg").patience > 1
    assert Qemu(pieces, "tcg").environment == {}


@pytest.mark.parametrize(
    ("outcome", "found"),
    [
        (initramfs.ALIVE.encode() + b"\r\n", "kvm"),
        (b"qemu-system-x86_64: failed to initialize kvm\n", "tcg"),
        (subprocess.TimeoutExpired("qemu", 8), "tcg"),
        (FileNotFoundError("qemu"), "tcg"),
    ],
    ids=["runs", "refused", "hangs", "no-qemu"],
)
def test_kvm_is_believed_only_when_the_kernel_ran_with_it(
    outcome: bytes | Exception, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (device := tmp_path / "kvm").touch()

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        assert command[1:3] == ["-accel", "kvm"]
        assert command[-1].endswith(initramfs.TRY)
        if isinstance(outcome, Exception):
            raise outcome
        return subprocess.CompletedProcess(command, 0, outcome, b"")

    monkeypatch.setattr("subprocess.run", run)
    assert accelerator(prepared(CACHE, on_qemu=True), device) == found


def test_without_the_device_kvm_is_not_tried(tmp_path: Path) -> None:
    assert accelerator(prepared(CACHE, on_qemu=True), tmp_path / "kvm") == "tcg"


def modules(folder: Path, *left_out: str) -> Path:
    for name in initramfs.MODULES:
        if name not in left_out:
            (folder / "kernel").mkdir(parents=True, exist_ok=True)
            (folder / "kernel" / f"{name}.ko").write_text(name)
    return folder


def entries(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Give mode and content of every entry, read as kernels read it."""
    found, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * index : at + 14 + 8 * index], 16) for index in range(13)]
        name = archive[at + 110 : at + 110 + numbers[11] - 1].decode()
        start = (at + 110 + numbers[11] + 3) // 4 * 4
        found[name] = (numbers[1], archive[start : start + numbers[6]])
        at = (start + numbers[6] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found


def test_the_initramfs_has_a_shell_the_modules_and_a_console(tmp_path: Path) -> None:
    (busybox := tmp_path / "busybox").write_bytes(b"program")
    initramfs.write(tmp_path / "initramfs", busybox, modules(tmp_path / "6.1"))
    found = entries(gzip.decompress((tmp_path / "initramfs").read_bytes()))
    assert found["bin/busybox"] == (stat.S_IFREG | 0o755, b"program")
    assert stat.S_ISCHR(found["dev/console"][0])
    assert {f"modules/{name}.ko" for name in initramfs.MODULES} <= found.keys()
    script = found["init"][1].decode()
    assert "switch_root /root /bin/sh /k8snet/node/boot" in script
    assert all(f"/{place}" in script for place in ("root", "proc"))


def test_a_kernel_without_a_module_is_refused(tmp_path: Path) -> None:
    (busybox := tmp_path / "busybox").touch()
    with pytest.raises(LabError, match=r"the kernel 6\.1-cloud has no module 9p, overlay; nodes on QEMU cannot start with it"):
        initramfs.write(tmp_path / "initramfs", busybox, modules(tmp_path / "6.1-cloud", "9p", "overlay"))
