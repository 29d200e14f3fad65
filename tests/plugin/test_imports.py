"""Who installs the plugin and tests no cluster pays nothing for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.plugin.bench import Bench

HEAVY = ("kubernetes", "paramiko", "pydantic", "jinja2", "rich", "yaml", "urllib3", "click", "cryptography", "backports.zstd")
PROGRAM = f"""
import sys
import pytest

status = pytest.main(sys.argv[1:])
heavy = sorted(name for name in {HEAVY!r} if name in sys.modules)
ours = sorted(name for name in sys.modules if name.startswith("pytest_k8snet."))
print("status", int(status))
print("heavy", heavy)
print("ours", ours)
"""


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        (["-q", "test_plain.py"], None),
        (["-q", "test_plain.py"], "config"),
        (["--version"], None),
        (["--help"], None),
        (["--markers"], None),
        (["--collect-only", "-q", "test_plain.py"], None),
    ],
    ids=["run", "run-with-cluster-in-environment", "version", "help", "markers", "collect-only"],
)
def test_nothing_heavy_is_imported(bench: Bench, monkeypatch: pytest.MonkeyPatch, arguments: list[str], variable: str | None) -> None:
    (bench.path / "conftest.py").unlink()
    bench.write("test_plain.py", "def test_it(): pass\n")
    if variable is not None:
        monkeypatch.setenv("K8SNET_KUBECONFIG", variable)
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], cwd=bench.path, capture_output=True, text=True, check=False)
    lines = ran.stdout.splitlines()
    assert "status 0" in lines, ran.stdout + ran.stderr
    assert "heavy []" in lines
    assert ("pytest_k8snet.plugin" in lines[-1]) == (arguments != ["--version"])
    if variable is None:
        for module in ("run", "catalogue", "cluster.model"):
            assert f"pytest_k8snet.{module}'" not in lines[-1]


def test_version_with_a_kubeconfig_that_is_not_there(bench: Bench) -> None:
    result = bench.pytester.runpytest_subprocess("--version", "--k8snet-kubeconfig=/nonexistent")
    assert result.ret == 0


def test_help_tells_every_setting(bench: Bench) -> None:
    from pytest_k8snet.options import SETTINGS

    out = bench.pytester.runpytest_subprocess("--help").stdout.str()
    for setting in SETTINGS:
        assert setting.option in out
        assert f"{setting.ini} " in out
