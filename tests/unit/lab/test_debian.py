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
