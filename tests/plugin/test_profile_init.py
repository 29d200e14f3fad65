"""``k8snet profile init --kubeconfig``: a run of its own looks at the cluster."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_k8snet.expect.profile import load_profiles
from tests.plugin.bench import DEADLINE_S, Bench


@pytest.fixture
def bench(pytester: pytest.Pytester) -> Bench:
    return Bench(pytester)


def init(bench: Bench, *arguments: str, access: str = "fake") -> subprocess.CompletedProcess[str]:
    """Run the command in the folder of a user, whose own tests are none of its business."""
    bench.write("test_own.py", "def test_of_the_user():\n    raise AssertionError('this has been run')\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest_k8snet", "profile", "init", "--kubeconfig", "k.yaml", *arguments],
        cwd=bench.path,
        env={**os.environ, "K8SNET_ACCESS": access},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_a_cluster_is_looked_at_and_nothing_stays(bench: Bench) -> None:
    begun = init(bench, "-o", "ours.yaml")
    assert (begun.returncode, begun.stdout) == (
        0,
        "ours.yaml: look through it, then judge the cluster by it: pytest --k8snet-kubeconfig=k.yaml --k8snet-profile=ours.yaml\n",
    ), begun.stderr
    assert "this has been run" not in begun.stderr
    text = (bench.path / "ours.yaml").read_text()
    assert "  pod: 1500  # node-1, node-2, node-3" in text
    assert load_profiles([str(bench.path / "ours.yaml")]).model.name == "ours"
    assert bench.objects()[-1].startswith("- namespace")
    assert not (bench.path / ".k8snet").exists(), "the run's folder was its own"


def test_stdout_is_the_profile(bench: Bench) -> None:
    begun = init(bench)
    assert begun.stdout.startswith("# Begun by `k8snet profile init` from run "), begun.stderr
    assert "verdicts:" in begun.stderr


def test_what_cannot_be_looked_at(bench: Bench) -> None:
    begun = init(bench, access="pod")
    assert begun.returncode == 1
    assert begun.stderr.endswith("Error: the cluster could not be looked at, for the reasons above\n")
    assert "k.yaml" in begun.stderr


def test_no_file_is_replaced_and_nothing_is_read_before_that_is_known(bench: Bench) -> None:
    (bench.path / "there.yaml").write_text("mine\n")
    begun = init(bench, "-o", "there.yaml")
    assert (begun.returncode, begun.stderr) == (1, "Error: there.yaml: is there already; name another file\n")
    assert (bench.path / "there.yaml").read_text() == "mine\n"
    assert bench.objects() == []
