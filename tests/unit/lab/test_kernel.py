"""How a node is started, and what User-Mode Linux needs on which processor."""

from __future__ import annotations

import ctypes
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import xstate
from pytest_k8snet.lab.addresses import AddressPlan
from pytest_k8snet.lab.kernel import UserModeLinux
from pytest_k8snet.lab.qemu import Qemu
from pytest_k8snet.lab.settings import LabSettings
from tests.unit.lab.samples import prepared

NODE = AddressPlan.of(LabSettings()).node("node-2")
CACHE, FOLDER = Path("/c"), Path("/s/nodes/node-2")


def test_the_command_of_a_node() -> None:
    command = UserModeLinux(prepared(CACHE)).command(NODE, FOLDER, 2500)
    options, first = list(command[: command.index("--")]), command[command.index("--") + 1 :]
    assert options[0] == "/c/linux.uml"
    for wanted in ("mem=2500M", "umid=node-2", "rootfstype=hostfs", "rootflags=/c/root", "ro", "init=/bin/sh"):
        assert wanted in options
    assert "vec0:transport=tap,ifname=tap-node-2,depth=128,gro=1" in options
    assert "con0=fd:0,fd:1" in options
    # The kernel joins all words with blanks, splits what follows -- again and keeps quoted words together.
    assert shlex.split(" ".join(first)) == ["-c", "mount -t hostfs none /k8snet/node -o /s/nodes/node-2 && exec /bin/sh /k8snet/node/boot"]


def test_two_nodes_share_nothing_but_what_is_read_only() -> None:
    plan, kernel = AddressPlan.of(LabSettings(nodes=2)), UserModeLinux(prepared(CACHE))
    one, other = (set(kernel.command(node, Path("/s") / node.name, 100)) for node in plan.nodes)
    shared = ("/c/linux.uml", "mem=100M", "uml_dir=/dev/shm/uml/", "rootflags=/c/root")
    assert all(word in one & other for word in shared)
    assert len(one - other) == len(other - one) == 3, "umid, tap and folder"


@pytest.mark.parametrize("place", ["/with blank", "/a,b", '/quote"', "/co:lon", "/semi;colon"])
def test_a_path_that_a_kernel_command_line_cannot_hold_is_refused(place: str) -> None:
    kernel = UserModeLinux(prepared(CACHE))
    uses: list[Callable[[], object]] = [
        lambda: kernel.command(NODE, Path(place), 100),
        lambda: UserModeLinux(prepared(Path(place))).command(NODE, FOLDER, 100),
        lambda: [*UserModeLinux(prepared(Path(place))).mounts()],
        lambda: Qemu(prepared(CACHE, on_qemu=True), "tcg").command(NODE, Path(place), 100),
        lambda: Qemu(prepared(Path(place), on_qemu=True), "tcg").command(NODE, FOLDER, 100),
    ]
    for use in uses:
        with pytest.raises(LabError, match=r"nodes cannot be given this path.*XDG_STATE_HOME.*K8SNET_CACHE"):
            use()


def test_mounts_are_lines_of_fstab() -> None:
    assert [*UserModeLinux(prepared(CACHE)).mounts()] == [
        "none /k8snet/bin hostfs /c/binaries,ro 0 0",
        "none /opt/cni/bin hostfs /c/cni,ro 0 0",
        "none /k8snet/content hostfs /c/content,ro 0 0",
    ]


def test_the_preload_is_there_only_where_it_is_needed() -> None:
    assert UserModeLinux(prepared(CACHE)).environment == {}
    assert UserModeLinux(prepared(CACHE, preload=Path("/c/xstate.so"))).environment == {"LD_PRELOAD": "/c/xstate.so"}


@pytest.mark.parametrize(
    ("cpuinfo", "needed"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f amx_bf16 avx512_fp16 amx_tile amx_int8\n", True),
        ("processor\t: 0\nflags\t\t: fpu\nprocessor\t: 1\nflags\t\t: fpu amx_tile\n", True),
        ("processor\t: 0\nflags\t\t: fpu vme avx2 avx512f\n", False),
        ("flags\t\t: fpu amx_tile_of_another_kind\n", False),
        ("model name\t: a processor with amx_tile\nflags\t\t: fpu\n", False),
        ("vmx flags\t: amx_tile\n", False),
        ("", False),
    ],
)
def test_processors_with_amx_need_help(cpuinfo: str, needed: bool) -> None:
    assert xstate.is_needed(cpuinfo) == needed


def test_this_processor_is_looked_at() -> None:
    assert xstate.is_needed() == xstate.is_needed(Path("/proc/cpuinfo").read_text())


class Compiler:
    """Remembers what it was asked, and says what it is told to say."""

    def __init__(self, exit_status: int, stderr: str = "") -> None:
        self.asked: list[Sequence[str]] = []
        self._done = (exit_status, stderr)

    def __call__(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert options["check"] is False
        self.asked.append(argv)
        return subprocess.CompletedProcess(argv, self._done[0], "", self._done[1])


def test_the_library_is_compiled_into_its_folder() -> None:
    compiler = Compiler(0)
    xstate.build(Path("/target"), compiler)
    (argv,) = compiler.asked
    assert argv[0] == "cc"
    assert argv[argv.index("-o") + 1] == "/target/xstate.so"
    assert any(word.endswith("xstate.c") for word in argv)


def test_a_compiler_that_fails_is_quoted() -> None:
    with pytest.raises(LabError, match=r"does not compile:\nxstate\.c:1: no such luck$"):
        xstate.build(Path("/target"), Compiler(1, "xstate.c:1: no such luck\n"))


@pytest.mark.skipif(shutil.which("cc") is None or not Path("/usr/include/dlfcn.h").exists(), reason="no C compiler")
def test_the_library_compiles_and_takes_the_place_of_ptrace(tmp_path: Path) -> None:
    xstate.build(tmp_path)
    assert hasattr(ctypes.CDLL(str(tmp_path / "xstate.so")), "ptrace")
