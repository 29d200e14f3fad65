"""Every ordered pair of simulated nodes: what asking each for the other costs a run, and whether the one way that is broken is found."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cluster import SimulatedCluster, SimulatedNode
from benchmarks.process import run
from benchmarks.scale import ROOT, read_verdicts, server, write_kubeconfig
from benchmarks.table import Row

NODES = 50
PORT = 40000
BROKEN = (7, 2)  # places of two nodes, sorted by name: nothing gets from the first one's pod to the second one's
CHECKS = "NET-REACH-00[1-4]"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has cost and found."""

    wall_s: float
    cpu_s: float
    red: set[str]
    expected: set[str]


def answer(cluster: SimulatedCluster, name: str, role: str, op: str, params: Mapping[str, Any]) -> Any:
    """Return what the program ``traffic`` of an agent would."""
    if op == "traffic.serve":
        return {"number": 1, "port": params["port"] or PORT, "families": ["IPv4"]}
    if op == "traffic.stop":
        return True
    by_address = {address: node for node in cluster.nodes.values() for address in (node.address, _probe(node))}
    own = cluster.nodes[name]
    source = _probe(own) if role == "pod" else own.address
    lost = {_probe(cluster.nodes[target]) for begin, target in (_broken(cluster),) if (begin, "pod") == (name, role)}
    return {
        target["key"]: {"name": None, "peer": None, "ms": 3000.0, "tries": 2, "error": "timed out", "refused": False}
        if target["address"] in lost
        else {
            "name": by_address[target["address"]].name,
            "peer": [source, PORT + 1],
            "ms": 0.4,
            "tries": 1,
            "error": None,
            "refused": False,
        }
        for target in params["targets"]
    }


def simulate(nodes: int, folder: Path) -> Outcome:
    """Run the checks on a simulated cluster."""
    junit = folder / "junit.xml"
    with server(nodes, 1) as url:
        kubeconfig = write_kubeconfig(folder / "kubeconfig", url)
        line = [sys.executable, "-m", "pytest", "-p", "benchmarks.plugin", "-p", "no:cacheprovider", "-q", f"--rootdir={folder}"]
        line += [f"--k8snet-kubeconfig={kubeconfig}", "--k8snet-access=fake", "--k8snet-level=probe", "--k8snet-pairs=all"]
        line += [f"--k8snet-run-dir={folder / 'run'}", f"--k8snet-checks={CHECKS}", f"--junitxml={junit}"]
        cost = run(line, folder, {"PYTHONPATH": str(ROOT)})
    if cost.status != 1 or not junit.exists():
        raise SystemExit(f"{nodes} simulated nodes, all pairs: exit status {cost.status}\n{cost.out[-3000:]}")
    red = {name for name, verdict in read_verdicts(junit).items() if verdict not in ("pass", "skip")}
    begin, _ = _broken(SimulatedCluster(nodes, 1))
    return Outcome(cost.wall_s, cost.cpu_s, red, {f"NET-REACH-001[{begin}]"})


def rows() -> Iterator[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="k8snet-benchmark-") as name:
        outcome = simulate(NODES, Path(name))
    if outcome.red != outcome.expected:
        raise SystemExit(f"{NODES} simulated nodes, all pairs: red are {sorted(outcome.red)}, and not {sorted(outcome.expected)}")
    yield Row(
        f"{NODES} simulated nodes, reach between all {NODES * (NODES - 1):,} ordered pairs",
        f"{outcome.wall_s:.0f} s",
        "",
        f"what the run costs without the network; {outcome.cpu_s:.0f} s of processor; the one way that is broken found, and no other",
    )


def _probe(node: SimulatedNode) -> str:
    return node.pod_ip(node.pods)


def _broken(cluster: SimulatedCluster) -> tuple[str, str]:
    names = sorted(cluster.nodes)
    return names[BROKEN[0]], names[BROKEN[1]]
