"""How components are built, with a program in go's place that keeps what it was asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.component import CILIUM, CNI_PLUGINS, COMPONENTS, FLANNEL, FLANNEL_CNI, KUBE_ROUTER, KUBERNETES, PAUSE, Component
from pytest_k8snet.lab.gobuild import GoToolchain, build
from pytest_k8snet.lab.progress import SilentProgress

GO = f"""#!{sys.executable}
import json, os, pathlib, sys
if sys.argv[1] == "list":
    print(os.environ["FAKE_GO_MODULE"])
    sys.exit()
asked = pathlib.Path(__file__).with_name("asked.json")
module = sorted(str(path.relative_to(".")) for path in pathlib.Path(".").rglob("*") if path.is_file())
asked.write_text(json.dumps({{"argv": sys.argv[1:], "cgo": os.environ["CGO_ENABLED"], "module": module}}))
place = sys.argv[sys.argv.index("-o") + 1]
packages = sys.argv[sys.argv.index("-o") + 2:]
for package in packages:
    made = pathlib.Path(place) / package.rsplit("/", 1)[-1] if place.endswith("/") else pathlib.Path(place)
    made.write_text("built")
print("k8s.io/one", file=sys.stderr)
sys.exit(int(os.environ.get("FAKE_GO_EXIT", "0")))
"""


def built(component: Component, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Build a component; return what go was asked, and which binaries there are."""
    program = folder / "go"
    program.write_text(GO)
    program.chmod(0o755)
    target = folder / "target"
    target.mkdir()
    with SilentProgress().step("build") as step:
        build(component, GoToolchain(program), target, step)
    asked: dict[str, Any] = json.loads((folder / "asked.json").read_text())
    return asked, sorted(path.name for path in target.iterdir())


def test_flannel_is_linked_statically_with_its_c_and_is_called_flanneld(tmp_path: Path) -> None:
    asked, binaries = built(FLANNEL, tmp_path)
    assert binaries == ["flanneld"]
    assert asked["cgo"] == "1"
    assert "-linkmode external -extldflags -static" in asked["argv"][asked["argv"].index("-ldflags") + 1]
    assert asked["argv"][asked["argv"].index("-tags") + 1] == "netgo,osusergo"
    assert asked["argv"][-1] == "github.com/flannel-io/flannel"
    assert asked["module"] == ["go.mod", "go.sum", "stand-in/go.mod", "stand-in/v20170312/vpc.go"]


@pytest.mark.parametrize("component", [KUBERNETES, CNI_PLUGINS, FLANNEL_CNI, KUBE_ROUTER, PAUSE], ids=lambda component: component.name)
def test_others_need_no_compiler_and_have_their_names(component: Component, tmp_path: Path) -> None:
    asked, binaries = built(component, tmp_path)
    assert asked["cgo"] == "0"
    assert "-tags" not in asked["argv"]
    extra = {component.name} if component.called_by_name else set()
    assert set(binaries) == {*component.binaries, *extra}


def test_cilium_has_its_sources_beside_and_programs_by_the_names_they_are_called_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "module"
    (module / "bpf/lib").mkdir(parents=True)
    (module / "bpf/lib/common.h").write_text("struct lb4_key;")
    (module / "bpf/lib/common.h").chmod(0o444)
    monkeypatch.setenv("FAKE_GO_MODULE", str(module))
    asked, binaries = built(CILIUM, tmp_path)
    assert binaries == ["bpf", "cilium-agent", "cilium-cni", "cilium-operator-generic"]
    assert asked["argv"][asked["argv"].index("-tags") + 1] == "ipam_provider_operator"
    assert asked["cgo"] == "0"
    source = tmp_path / "target/bpf/lib/common.h"
    assert source.read_text() == "struct lb4_key;"
    assert source.stat().st_mode & 0o777 == 0o644, "the cache can be removed"


def test_a_module_without_the_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GO_MODULE", str(tmp_path / "nothing"))
    with pytest.raises(LabError, match=r"github\.com/cilium/cilium: no folder bpf in .*nothing"):
        built(CILIUM, tmp_path)


def test_a_build_that_fails_says_what_to_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GO_EXIT", "2")
    with pytest.raises(LabError, match=r"flannel v0\.28\.10: go build exited with 2; is there room on the disk, .*\nk8s\.io/one$"):
        built(FLANNEL, tmp_path)


def test_a_stand_in_is_part_of_the_key_and_of_no_other_component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(set(component.module_files()) <= {"go.mod", "go.sum", "main.go"} for component in COMPONENTS)
    before = FLANNEL.key
    files = FLANNEL.module_files()
    monkeypatch.setattr(Component, "module_files", lambda _: files | {"stand-in/v20170312/vpc.go": b"package changed"})
    assert FLANNEL.key != before
