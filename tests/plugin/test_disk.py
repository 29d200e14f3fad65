"""Run folders on disks that are full, read-only or small: nothing is green that is not recorded, and nothing is left in the cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.plugin.bench import DEADLINE_S, Bench, read_junit

CASES = """
@check("ACME-1")
def test_facts(k8snet_node): assert k8snet_node.facts.kernel

@check("ACME-2")
def test_again(k8snet_node): assert k8snet_node.facts.kernel

@check("ACME-3", level="load")
def test_load(k8snet_pair, k8snet_measure):
    if (document := k8snet_measure("throughput")).values is None:
        raise MeasurementError(document.reason)
"""
NAMES = {f"ACME-{check}[node-{node}]" for check in (1, 2) for node in (1, 2, 3)}
ADVICE = "make room or name another folder with --k8snet-run-dir"


@dataclass(frozen=True, slots=True)
class Ended:
    status: int
    out: str
    left: set[str]  # what is on the disk at the end
    verdicts: dict[str, str | None]


Disk = Callable[..., Ended]


@pytest.fixture
def disk(bench: Bench) -> Disk:
    """Give a function that runs pytest with its run folder on a file system of its own, in a mount namespace that ends with it."""
    folder = bench.path / "disk"
    folder.mkdir()
    bench.checks(CASES)
    report = bench.path / "junit.xml"

    def enter(*lines: str) -> subprocess.CompletedProcess[str]:
        script = "\n".join(["set -e", f"mount -t tmpfs -o size=$SIZE tmpfs {folder}", *lines])
        return subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
            cwd=bench.path,
            env={**os.environ, "SIZE": size},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    size = "1m"
    if (tried := enter("true")).returncode != 0:
        pytest.skip(f"no mount namespace here: {tried.stderr.strip()}")

    def run(*arguments: str, before: str = "true", small: str = "1m") -> Ended:
        nonlocal size
        size = small
        line = [sys.executable, "-m", "pytest", "--k8snet-access=fake", "--k8snet-no-suite", f"--k8snet-run-dir={folder}/run"]
        words = [*line, "-p", "no:cacheprovider", f"--junitxml={report}", "--k8snet-load-pairs=all", *arguments]
        ended = enter(before, "set +e", " ".join(words), "echo STATUS $?", f"cd {folder} && find . -type f")
        out, _, rest = ended.stdout.rpartition("STATUS ")
        status, *left = rest.split()
        assert "INTERNALERROR" not in out, out
        assert "Traceback" not in out + ended.stderr, out + ended.stderr
        cases = read_junit(report) if report.exists() else {}
        return Ended(int(status), out + ended.stderr, set(left), {name: case.verdict for name, case in cases.items()})

    return run


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_room_enough(disk: Disk, bench: Bench, way: str) -> None:
    """So that the tests below are about the room."""
    ran = disk(way)
    assert ran.status == 0, ran.out
    assert set(ran.verdicts.values()) == {"pass"}
    bench.assert_removed()


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
@pytest.mark.parametrize("small", ["20k", "28k", "40k"])
def test_disk_that_fills_up(disk: Disk, bench: Bench, small: str, way: str) -> None:
    """At whatever moment: with the plan, the collection, the probe pods' word, one node's facts or another's, or the load."""
    ran = disk(way, small=small)
    assert ran.status != 0, ran.out
    assert re.search(rf"{bench.path}/disk/run\S*: (cannot be (written|made)|could not be written to)", ran.out), ran.out
    assert ADVICE in ran.out or "name another one with --k8snet-run-dir" in ran.out
    green = {name for name, verdict in ran.verdicts.items() if verdict == "pass"}
    assert green < NAMES | {name for name in ran.verdicts if name.startswith("ACME-3")}
    for name in green:
        subject = name.partition("[")[2].rstrip("]")
        assert f"./run/{'throughput' if ':' in subject else 'facts'}/{subject.replace(':', '%3A')}.json" in ran.left
    # Nobody measures again and again what cannot be kept: each process learns it once at most.
    processes = 2 if way == "-n2" else 1
    requests = bench.requests()
    for node in ("node-1", "node-2", "node-3"):
        assert requests.count(f"{node} host facts") <= processes
    assert sum(line.endswith("iperf3_client") for line in requests) <= processes * 6 * 3
    if bench.objects():
        bench.assert_removed()


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
@pytest.mark.parametrize("before", ["head -c 2m /dev/zero > {disk}/full || true", "mount -o remount,ro {disk}"], ids=["full", "read-only"])
def test_disk_without_any_room(disk: Disk, bench: Bench, way: str, before: str) -> None:
    ran = disk(way, before=before.format(disk=bench.path / "disk"))
    assert ran.status != 0
    why = "No space left on device" if "full" in before else "Read-only file system"
    assert f"{bench.path}/disk/run" in ran.out
    assert why in ran.out
    assert "--k8snet-run-dir" in ran.out
    assert set(ran.verdicts.values()) <= {"error", None}
    if bench.objects():
        bench.assert_removed()


def test_default_folder_that_cannot_be_made(bench: Bench) -> None:
    bench.checks(CASES)
    (bench.path / ".k8snet").write_text("a file\n")
    ran = bench.own()
    assert ran.status == 4
    assert ran.line("ERROR: ").startswith(f"ERROR: run folder {bench.path}/.k8snet/")
    assert ran.line("ERROR: ").endswith(": cannot be made: Not a directory; name another one with --k8snet-run-dir")
    assert bench.objects() == []


def test_folder_that_is_given_no_room_is_not_left_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_k8snet.errors import ConfigurationError
    from pytest_k8snet.record.store import RunFolder

    def write_text(self: Path, *_args: object, **_more: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(ConfigurationError, match="cannot be made: No space left on device; name another one with --k8snet-run-dir"):
        RunFolder.create(tmp_path / "run")
