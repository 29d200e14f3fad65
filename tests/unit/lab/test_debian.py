from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import debian
from pytest_k8snet.lab.progress import SilentProgress

if TYPE_CHECKING:
    from pathlib import Path


def test_a_user_without_root_is_told_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda program, path=None: None)
    monkeypatch.setattr("os.path.exists", lambda path: False)
    with pytest.raises(LabError) as raised:
        debian.require_tools(SilentProgress())
    packages = "debian-archive-keyring iproute2 mmdebstrap openssh-client tar uidmap util-linux"
    assert f"sudo apt-get install --yes --no-install-recommends {packages}" in str(raised.value)


def test_root_needs_no_id_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program, path=None: None)
    monkeypatch.setattr("os.path.exists", lambda path: True)
    everybody = ["iproute2", "mmdebstrap", "openssh-client", "tar", "util-linux"]
    assert debian.missing_packages(is_root=True) == everybody
    assert debian.missing_packages(is_root=False) == sorted([*everybody, "uidmap"])


@pytest.mark.parametrize(("has_headers", "packages"), [(True, {"gcc"}), (False, {"gcc", "libc6-dev"})])
def test_a_compiler_is_asked_for_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch, has_headers: bool, packages: set[str]) -> None:
    monkeypatch.setattr("shutil.which", lambda program, path=None: None)
    monkeypatch.setattr("os.path.exists", lambda path: has_headers or "/include/" not in path)
    without, with_compiler = (set(debian.missing_packages(is_root=True, with_compiler=wanted)) for wanted in (False, True))
    assert with_compiler - without == packages


def test_qemu_is_asked_for_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program, path=None: None)
    without, with_qemu = (set(debian.missing_packages(is_root=True, with_qemu=wanted)) for wanted in (False, True))
    assert with_qemu - without == {"qemu-system-x86", "kmod"}
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LabError, match=r"sudo apt-get install --yes --no-install-recommends .*kmod .*qemu-system-x86"):
        debian.require_tools(SilentProgress(), with_qemu=True)


def test_programs_of_system_folders_are_found_with_a_users_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert debian._search_path() == f"{tmp_path}:/usr/sbin:/sbin"


def extracted(target: Path, missing: str | None = None) -> None:
    """Lay out what mmdebstrap extracts of clang and bpftool, and of what C is compiled with besides."""
    library = target / "usr/lib/x86_64-linux-gnu"
    for path in (*debian.BPF_COMPILER_PROGRAMS, "usr/lib/gcc/x86_64-linux-gnu/12/cc1", "usr/lib/x86_64-linux-gnu/libasan.so.8"):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(path)
    for name in debian.BPF_COMPILER_LIBRARIES:
        if name == missing:
            continue
        if name == "clang-cpp":  # the real one is in a folder of LLVM's own
            (target / "usr/lib/llvm-14/lib").mkdir()
            (target / "usr/lib/llvm-14/lib/libclang-cpp.so.14").write_text(name)
            (library / "libclang-cpp.so.14").symlink_to("../llvm-14/lib/libclang-cpp.so.14")
        elif name == "elf":  # the version is in its name, and the folder is one that /usr was merged with
            (target / "lib/x86_64-linux-gnu").mkdir(parents=True)
            (target / "lib/x86_64-linux-gnu/libelf-0.188.so").write_text(name)
            (target / "lib/x86_64-linux-gnu/libelf.so.1").symlink_to("libelf-0.188.so")
        else:
            (library / f"lib{name}.so.1").write_text(name)


def test_of_the_compiler_s_packages_programs_and_their_libraries_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "_bootstrap", lambda target, **_: extracted(target))
    with SilentProgress().step("compiler") as step:
        debian.make_bpf_compiler(tmp_path, step)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    root = tmp_path / "root"
    assert (root / "usr/bin/clang").read_text() == "usr/lib/llvm-14/bin/clang"
    library = root / "usr/lib/x86_64-linux-gnu"
    assert (library / "libclang-cpp.so.14").read_text() == "clang-cpp"
    assert (library / "libelf.so.1").read_text() == "elf"
    assert not [path for path in root.rglob("*") if path.is_symlink() and not path.exists()], "links that lead nowhere"
    assert not (library / "libasan.so.8").exists()
    assert not (root / "usr/lib/gcc").exists()


def test_a_compiler_without_one_of_its_libraries_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "_bootstrap", lambda target, **_: extracted(target, "z3"))
    with (
        SilentProgress().step("compiler") as step,
        pytest.raises(LabError, match=r"clang-14: Debian's packages bring no libz3\.so"),
    ):
        debian.make_bpf_compiler(tmp_path, step)
