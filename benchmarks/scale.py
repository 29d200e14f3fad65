"""The read-level suite on simulated nodes, as a user runs it; and whether it finds exactly the faulty ones."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.cluster import SimulatedCluster
from benchmarks.faults import FAULTS
from benchmarks.plugin import FIGURES, TIMES
from benchmarks.process import run
from benchmarks.table import Row
from pytest_k8snet.measure.registry import MEASUREMENTS

ROOT = Path(__file__).parent.parent
LAST = {check for measurement in MEASUREMENTS.values() for check in measurement.last}  # these are not judged several times
_CASES = 1000  # of a check
PROFILES = ("ipvs", "flat-l2", "tuned-node")


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a run is."""

    nodes: int
    times: int = 1  # how often every check is judged, as if there were as many times more of them
    workers: int = 0  # xdist's

    @property
    def what(self) -> str:
        """It in words."""
        workers = f", -n {self.workers}" if self.workers else ""
        return f"{self.nodes:,} simulated nodes{f', every check {self.times} times' if self.times > 1 else ''}{workers}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has cost and found."""

    wall_s: float
    cpu_s: float
    controller_mb: float
    worker_mb: float | None
    cases: int
    junit_mb: float
    folder_mb: float
    missed: set[str]  # cases that should be red
    wrong: set[str]  # cases that should not be


def rows(scales: list[Scale]) -> Iterator[Row]:
    """Measure, and beside each run what pytest alone takes for as many empty cases: it tells how fast the machine is."""
    for scale in scales:
        with tempfile.TemporaryDirectory(prefix="k8snet-benchmark-") as name:
            outcome = simulate(scale, Path(name))
            alone_s = empty_cases(outcome.cases, scale.workers, Path(name))
        if outcome.missed or outcome.wrong:
            raise SystemExit(f"{scale.what}: not found: {sorted(outcome.missed)}; found and healthy: {sorted(outcome.wrong)}")
        memory = f"{outcome.controller_mb:.0f} MB" + (f" and {outcome.worker_mb:.0f} MB a worker" if outcome.worker_mb else "")
        yield Row(
            scale.what,
            f"{outcome.wall_s:.0f} s, {memory}",
            "<= 60 s, <= 600 MB" if scale.nodes == 1000 and not scale.workers else "",
            f"{outcome.cases:,} cases, {outcome.wall_s / alone_s:.1f} times as long as pytest alone for empty ones ({alone_s:.0f} s); "
            f"{outcome.cpu_s:.0f} s of processor; JUnit {outcome.junit_mb:.0f} MB, run folder "
            f"{outcome.folder_mb:.0f} MB; the {len(FAULTS)} faulty nodes found, and no other",
        )


def simulate(scale: Scale, folder: Path, faulty: int = len(FAULTS)) -> Outcome:
    """Run the suite on a simulated cluster."""
    expected = SimulatedCluster(scale.nodes, faulty).expected
    figures, junit, record = folder / "figures", folder / "junit.xml", folder / "run"
    figures.mkdir()
    with server(scale.nodes, faulty) as url:
        kubeconfig = write_kubeconfig(folder / "kubeconfig", url)
        line = [sys.executable, "-m", "pytest", "-p", "benchmarks.plugin", "-p", "no:cacheprovider", "-q", f"--rootdir={folder}"]
        line += [f"--k8snet-kubeconfig={kubeconfig}", "--k8snet-access=fake", "--k8snet-level=read", f"--k8snet-run-dir={record}"]
        line += [f"--k8snet-profile={profile}" for profile in PROFILES]
        line += [f"--junitxml={junit}", *([f"-n{scale.workers}"] if scale.workers else [])]
        cost = run(line, folder, {FIGURES: str(figures), TIMES: str(scale.times), "PYTHONPATH": str(ROOT)})
    if cost.status != 1 or not junit.exists():
        raise SystemExit(f"{scale.what}: exit status {cost.status}\n{cost.out[-3000:]}")
    verdicts = read_verdicts(junit)
    red = {name for name, verdict in verdicts.items() if verdict not in ("pass", "skip")}
    copied = {name for name in expected if "[cluster]" not in name and not name.startswith(tuple(LAST))}
    expected |= {name.replace("[", f"-{copy}[") for name in copied for copy in range(2, scale.times + 1)}
    peaks = {path.name: int(path.read_text()) / 1024 for path in figures.iterdir()}
    controller_mb = peaks.pop("controller")
    return Outcome(
        wall_s=cost.wall_s,
        cpu_s=cost.cpu_s,
        controller_mb=controller_mb,
        worker_mb=max(peaks.values(), default=None),
        cases=len(verdicts),
        junit_mb=junit.stat().st_size / 1e6,
        folder_mb=sum(path.stat().st_size for path in record.rglob("*") if path.is_file()) / 1e6,
        missed=expected - red,
        wrong=red - expected,
    )


def empty_cases(number: int, workers: int, folder: Path) -> float:
    """Return the seconds that pytest takes for so many empty cases, a module's as many as a check has, with JUnit."""
    for module, first in enumerate(range(0, number, _CASES)):
        marker = f"@pytest.mark.parametrize('number', range({min(_CASES, number - first)}))"
        (folder / f"test_empty_{module}.py").write_text(f"import pytest\n\n\n{marker}\ndef test_it(number):\n    pass\n")
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:k8snet", f"--rootdir={folder}"]
    line += [f"--junitxml={folder / 'empty.xml'}", *([f"-n{workers}"] if workers else []), str(folder)]
    cost = run(line, folder)
    if cost.status != 0:
        raise SystemExit(f"{' '.join(line)}: {cost.out[-3000:]}")
    return cost.wall_s


@contextmanager
def server(nodes: int, faulty: int) -> Iterator[str]:
    """Run the simulated API server in a process of its own, and give its URL."""
    argv = [sys.executable, "-m", "benchmarks.server", str(nodes), str(faulty)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def write_kubeconfig(path: Path, url: str) -> Path:
    """Write a kubeconfig that leads to the server."""
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: simulated\n"
        "contexts: [{name: simulated, context: {cluster: simulated, user: me}}]\n"
        f"clusters: [{{name: simulated, cluster: {{server: '{url}'}}}}]\n"
        "users: [{name: me, user: {token: none}}]\n"
    )
    return path


def read_verdicts(junit: Path) -> dict[str, str]:
    """Return the verdict of every case."""
    verdicts = {}
    for _, element in ET.iterparse(junit):  # noqa: S314 - our own file
        if element.tag == "testcase":
            found = [item.get("value") for item in element.iter("property") if item.get("name") == "k8snet_verdict"]
            verdicts[str(element.get("name"))] = str(found[0]) if found else "none"
            element.clear()
    return verdicts
