"""What the lab takes from Debian: the kernel of the nodes and their root file system.

mmdebstrap fetches and checks the packages by the signatures of the Debian archive, whatever distribution the machine itself runs.
Its tar is unpacked without owners, so that root and a user without root get the same folder; the node, where that owner is root, sees root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import initramfs
from pytest_k8snet.lab.namespace import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_k8snet.lab.progress import Progress, Step

SUITE = "bookworm"
"""Debian release of kernel, nodes and images."""

RECIPE = "2"
"""Raised when what is made of the packages changes, so that caches made before are not used."""

KERNEL_PACKAGE = "user-mode-linux"

QEMU_KERNEL_PACKAGES = ("linux-image-amd64", "busybox-static")
"""The kernel of QEMU nodes (the flavour for clouds lacks 9p), and all that its initramfs has beside modules."""

BPF_COMPILER_PACKAGES = ("bpftool", "clang-14")
"""What Cilium's agent makes its programs with. Later versions of clang refuse Cilium's sources (-Wshorten-64-to-32)."""

BPF_COMPILER_PROGRAMS = ("usr/lib/llvm-14/bin/clang", "usr/sbin/bpftool")
# Of these programs alone: the packages bring all that C and C++ are compiled with besides.
BPF_COMPILER_LIBRARIES = (
    "bsd",
    "cap",
    "clang-cpp",
    "edit",
    "elf",
    "ffi",
    "gcc_s",
    "icudata",
    "icuuc",
    "LLVM-14",
    "lzma",
    "md",
    "stdc++",
    "tinfo",
    "xml2",
    "z",
    "z3",
    "zstd",
)

NODE_PACKAGES = (
    "bird2",
    "conntrack",
    "ethtool",
    "iperf3",
    "iproute2",
    "ipset",
    "iptables",
    "iputils-ping",
    "ipvsadm",
    "kmod",
    "nftables",
    "nginx",
    "openssh-server",
    "procps",
    "python3",
    "runc",
    "sudo",
    "tcpdump",
)
"""What a node, or an image that takes it from there, has installed beside Debian's minimal base."""

MOUNT_POINTS = (
    "k8snet",
    "k8snet/bin",
    "k8snet/cni",
    "k8snet/content",
    "k8snet/node",
    "k8snet/overlay",
    "oldroot",
    "opt/cni/bin",
    "etc/cni/net.d",
)
"""Empty folders of the read-only node root to mount things over: host folders by hostfs, the overlay, the root left by pivot_root."""

TOOLS = {"mmdebstrap": "mmdebstrap", "tar": "tar", **PROGRAMS}
"""Program to Debian package, needed by everybody."""

TOOLS_FOR_XSTATE = {"cc": "gcc", "/usr/include/dlfcn.h": "libc6-dev"}
"""What the library for User-Mode Linux is compiled with, on processors where it is needed."""

TOOLS_FOR_QEMU = {"qemu-system-x86_64": "qemu-system-x86", "depmod": "kmod"}
"""What nodes on QEMU need."""

TOOLS_WITHOUT_ROOT = {"newuidmap": "uidmap"}
"""What a user without root needs as well."""

_LIBRARIES = "x86_64-linux-gnu"
_KEYRING_PACKAGE = "debian-archive-keyring"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Most of the kernel's size, and nothing that a node without any such device could use.
_NO_DRIVERS = ("sound", *(f"drivers/{name}" for name in ("gpu", "hid", "iio", "infiniband", "media", "scsi", "staging", "usb", "video")))
_UNPACK_SPEC = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")


def missing_packages(*, is_root: bool, with_compiler: bool = False, with_qemu: bool = False) -> list[str]:
    """Give the Debian packages whose programs (or files) this machine lacks."""
    needed = {**TOOLS, _KEYRING: _KEYRING_PACKAGE}
    for more, is_wanted in ((TOOLS_WITHOUT_ROOT, not is_root), (TOOLS_FOR_XSTATE, with_compiler), (TOOLS_FOR_QEMU, with_qemu)):
        needed |= more if is_wanted else {}
    return sorted({package for name, package in needed.items() if not _is_there(name)})


def _is_there(name: str) -> bool:
    if name.startswith("/"):
        return os.path.exists(name)  # noqa: PTH110
    return shutil.which(name, path=_search_path()) is not None


def require_tools(progress: Progress, *, with_compiler: bool = False, with_qemu: bool = False) -> None:
    """Install what is missing when this is root, else raise a LabError that prints the command."""
    is_root = os.geteuid() == 0
    missing = missing_packages(is_root=is_root, with_compiler=with_compiler, with_qemu=with_qemu)
    if missing:
        with progress.step(f"Debian packages {', '.join(missing)}"):
            _install(missing, is_root=is_root)


def _install(missing: Sequence[str], *, is_root: bool) -> None:
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    advice = f"the lab needs the Debian packages {', '.join(missing)}; install them:\n    sudo {' '.join(install)}"
    if not is_root or shutil.which("apt-get") is None:
        raise LabError(advice)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # A machine that never ran apt-get has no package lists; those of an old one may name versions that are gone.
    subprocess.run(["apt-get", "update"], env=environment, capture_output=True, check=False)
    done = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{advice}\napt-get said:\n{_tail(done.stderr)}")


def make_kernel(target: Path, step: Step) -> None:
    """Fill the folder with the package user-mode-linux: linux.uml and lib/modules/RELEASE."""
    step.note("fetching")
    tree = target / "package"
    _bootstrap(tree, variant="extract", packages=[KERNEL_PACKAGE], step=step)
    (tree / "usr/bin/linux.uml").rename(target / "linux.uml")
    modules = tree / "usr/lib/uml/modules"
    (target / "lib").mkdir()
    modules.rename(target / "lib/modules")
    shutil.rmtree(tree)


def make_qemu_kernel(target: Path, step: Step) -> None:
    """Fill the folder with `vmlinuz`, `initramfs` and `modules`, which holds RELEASE with depmod done, of the package linux-image-amd64."""
    step.note("fetching")
    tree = target / "package"
    _bootstrap(tree, variant="extract", packages=QEMU_KERNEL_PACKAGES, step=step)
    (image,) = (tree / "boot").glob("vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    image.rename(target / "vmlinuz")
    library = next(folder for folder in (tree / "usr/lib/modules", tree / "lib/modules") if (folder / release).is_dir())
    for name in _NO_DRIVERS:
        shutil.rmtree(library / release / "kernel" / name, ignore_errors=True)
    # The package leaves this to its installation.
    _run(["depmod", "--basedir", str(library.parent.parent), release], "could not list the kernel's modules")
    busybox = next(path for path in (tree / "usr/bin/busybox", tree / "bin/busybox") if path.is_file())
    initramfs.write(target / "initramfs", busybox, library / release)
    library.rename(target / "modules")
    shutil.rmtree(tree)


def make_bpf_compiler(target: Path, step: Step) -> None:
    """Fill the folder with `root`: clang and bpftool at the paths that they are installed at, and the libraries they need."""
    tree, root = target / "package", target / "root"
    _bootstrap(tree, variant="extract", packages=BPF_COMPILER_PACKAGES, step=step)
    wanted = [tree / name for name in BPF_COMPILER_PROGRAMS]
    for name in BPF_COMPILER_LIBRARIES:
        found = [path for folder in ("usr/lib", "lib") for path in (tree / folder / _LIBRARIES).glob(f"lib{name}[.-]*so*")]
        if not found:
            raise LabError(f"{', '.join(BPF_COMPILER_PACKAGES)}: Debian's packages bring no lib{name}.so; Cilium's agent cannot compile")
        wanted += found
    for path in [*wanted]:
        if path.is_symlink():
            wanted.append(path.parent / path.readlink())
    for path in dict.fromkeys(Path(os.path.normpath(path)) for path in wanted):
        relative = path.relative_to(tree)
        if not path.is_symlink() and not path.exists():
            raise LabError(f"{', '.join(BPF_COMPILER_PACKAGES)}: Debian's packages bring no {relative}; Cilium's agent cannot compile")
        place = root / (relative if relative.parts[0] == "usr" else Path("usr") / relative)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    (root / "usr/bin").mkdir(exist_ok=True)
    (root / "usr/bin/clang").symlink_to("../lib/llvm-14/bin/clang")
    shutil.rmtree(tree)


def make_node_root(target: Path, kernel: Path, step: Step) -> None:
    """Fill the folder with `root`, the root of the nodes: Debian, the kernel's modules, empty mount points."""
    root = target / "root"
    _bootstrap(root, variant="minbase", packages=NODE_PACKAGES, step=step)
    step.note("kernel modules")
    # The package brings them with depmod done.
    for release in (kernel / "lib/modules").iterdir():
        shutil.copytree(release, root / "usr/lib/modules" / release.name, symlinks=True)
    for folder in MOUNT_POINTS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    # The node writes its own.
    for name in ("etc/hostname", "etc/resolv.conf"):
        (root / name).unlink(missing_ok=True)
        (root / name).touch()


def _bootstrap(target: Path, *, variant: str, packages: Sequence[str], step: Step) -> None:
    """Unpack these Debian packages with all they depend on into the folder, every file owned by the user who runs this."""
    target.mkdir(exist_ok=True)
    archive = target.parent / f"{target.name}.tar"
    mode = "root" if os.geteuid() == 0 else "unshare"
    command = ["mmdebstrap", f"--mode={mode}", f"--variant={variant}", "--format=tar", f"--include={','.join(packages)}"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _UNPACK_SPEC]
    command += ['--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Retries "3"', SUITE, str(archive)]
    if mirror := os.environ.get("K8SNET_DEBIAN_MIRROR"):
        command.append(mirror)
    step.note("fetching and unpacking Debian packages")
    try:
        _run(
            command,
            "mmdebstrap could not make a Debian root; does this machine reach a Debian mirror? (K8SNET_DEBIAN_MIRROR names another one)",
        )
        step.note("unpacking")
        extract = [
            "tar",
            "--extract",
            "--file",
            str(archive),
            "--directory",
            str(target),
            "--no-same-owner",
            "--preserve-permissions",
            "--exclude=./dev/*",
        ]
        _run(extract, f"could not unpack into {target}")
    finally:
        archive.unlink(missing_ok=True)


def _run(command: Sequence[str], problem: str) -> None:
    environment = {**os.environ, "PATH": _search_path(), "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{problem}\n{command[0]} exited with {done.returncode}:\n{_tail(done.stderr)}")


def _search_path() -> str:
    """Give PATH with the folders of system programs, which a user's often lacks."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
