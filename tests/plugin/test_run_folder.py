from __future__ import annotations

from pathlib import Path

import pytest

from pytest_k8snet.measure.registry import MEASUREMENTS
from tests.plugin.bench import Bench

READS = "@check('ACME-1')\ndef test_it(k8snet_node): assert k8snet_node.facts.kernel"


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


#: What is measured by packets, of each node.
PACKETS = tuple(kind for kind, measurement in MEASUREMENTS.items() if (measurement.level, measurement.subject) == ("probe", "node"))


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_content(bench: Bench, way: str) -> None:
    ran = bench.run("--k8snet-profile=ipvs", way)
    assert ran.status == 0
    folder = bench.run_folder()
    assert ran.lines("run folder: ") == [f"run folder: {folder}"]
    nodes = ("node-1", "node-2", "node-3")
    readings = [reading for node in nodes for reading in bench.record(f"ipvs/{node}.json")["values"]["readings"]]
    shared = {reading[part]["$shared"] for reading in readings for part in ("services", "endpoint_slices")}
    assert len(shared) == 2  # every node's document has the same ones
    files = {name for name in tree(folder) if not name.startswith(".locks") and (folder / name).is_file()}
    assert files == {
        ".gitignore",
        ".k8snet-run",
        "cluster/cluster.json",
        "collection.json",
        "ingress/cluster.json",
        *(f"{kind}/{node}.json" for kind in ("activity", "facts", "ipvs", *PACKETS) for node in nodes),
        "plan.json",
        "probes.json",
        "profiles.json",
        "run.json",
        "services.json",
        *(f"shared/{digest}.json" for digest in shared),
        *(
            f"{kind}/{pair}.json"
            for kind in ("throughput", "udp")
            for pair in ("node-1%3Anode-2", "node-2%3Anode-1", "node-2%3Anode-3", "node-3%3Anode-1")
        ),
    }
    run = bench.record("run.json")
    assert run["schema"] == 1
    assert run["cluster"] == "v1.37.0"
    assert run["started"] <= run["ended"]
    assert run["settings"]["profile"] == {"value": "ipvs", "source": "command line"}
    assert run["settings"]["level"] == {"value": "load", "source": "default"}
    assert set(run["versions"]) == {"pytest-k8snet", "pytest", "pytest-xdist", "kubernetes"}
    assert run["results"]["exit_status"] == 0
    assert len(run["results"]["cases"]) == len(ran.cases)
    document = bench.record("facts/node-2.json")
    assert (document["schema"], document["kind"], document["subject"], document["reason"]) == (2, "facts", "node-2", None)
    assert (bench.path / ".k8snet" / ".gitignore").read_text() == "*\n"


def test_documents_of_what_could_not_be_measured(bench: Bench) -> None:
    bench.cluster("fake.fail_probe('node-2', 'node-2: pod k8snet-x/host-node-2: OutOfpods')")
    bench.checks(READS)
    assert bench.own().status == 1
    document = bench.record("facts/node-2.json")
    assert document["values"] is None
    assert document["reason"] == "node-2: pod k8snet-x/host-node-2: OutOfpods"


def test_ten_are_kept(bench: Bench) -> None:
    runs = bench.path / ".k8snet"
    for number in range(12):
        folder = runs / f"202001{number + 1:02}T000000Z-abc"
        folder.mkdir(parents=True)
        (folder / ".k8snet-run").touch()
        (folder / "run.json").write_text("{}")
    foreign = runs / "20000101T000000Z-mine"
    foreign.mkdir()
    (foreign / "precious.txt").write_text("keep")
    (runs / "20000102T000000Z-link").symlink_to(foreign)
    bench.checks(READS)
    assert bench.own().status == 0
    kept = {path.name for path in runs.iterdir()}
    assert len([name for name in kept if name.startswith("2020")]) == 9
    assert "20200101T000000Z-abc" not in kept
    assert {"20000101T000000Z-mine", "20000102T000000Z-link"} <= kept
    assert (foreign / "precious.txt").read_text() == "keep"


def test_keep_runs(bench: Bench) -> None:
    bench.checks(READS)
    for _ in range(3):
        assert bench.own("--k8snet-keep-runs=2").status == 0
    assert len(bench.run_folders()) == 2


def test_named_folder_is_used_again(bench: Bench) -> None:
    bench.checks(READS)
    assert bench.own("--k8snet-run-dir=build/run").status == 0
    old = bench.path / "build/run/facts/old.json"
    old.write_text("{}")
    assert bench.own("--k8snet-run-dir=build/run").status == 0
    assert not old.exists()
    assert not (bench.path / ".k8snet").exists()


def test_folder_in_use(bench: Bench) -> None:
    bench.checks(f"""
        import subprocess, sys

        @check("ACME-1")
        def test_it(k8snet_run):
            line = [sys.executable, "-m", "pytest", "--k8snet-access=fake", "--k8snet-run-dir=run", "-p", "no:cacheprovider"]
            second = subprocess.run(line, capture_output=True, text=True, cwd={str(bench.path)!r})
            assert second.returncode == 4
            assert "run folder " in second.stderr and "another run is using it; name another one" in second.stderr
            assert (k8snet_run.folder / "run.json").exists()
    """)
    ran = bench.own("--k8snet-run-dir=run")
    assert ran.status == 0, ran.out


def test_a_folder_that_goes_away_is_no_pass(bench: Bench) -> None:
    bench.checks("""
        import shutil

        @check("ACME-1")
        def test_it(k8snet_run, k8snet_measure):
            shutil.rmtree(k8snet_run.folder)
            k8snet_measure("facts", "node-1")
    """)
    ran = bench.own()
    assert ran.status == 1
    assert ran.verdicts == {"ACME-1[cluster]": "error"}
    assert "INTERNALERROR" not in ran.out


def test_a_measurement_that_breaks_is_not_taken_again_for_every_case(bench: Bench) -> None:
    bench.cluster("fake.answer('node-2', 'facts', lambda params: {}['bug'])")
    bench.checks(READS)
    ran = bench.own()
    assert ran.status == 1
    assert set(ran.verdicts.values()) <= {"error", "pass"}
    assert ran.verdicts["ACME-1[node-2]"] == "error"
    assert bench.requests().count("node-2 host facts") == 1
    assert bench.record("facts/node-2.json")["reason"] == "the measurement broke off"


def test_counters_are_read_again_when_everything_else_is_measured(bench: Bench) -> None:
    bench.run("-pno:xdist")
    asked = [line.split()[-1] for line in bench.requests()]
    assert asked.count("activity") == 3
    assert "iperf3_client" not in asked[asked.index("activity") :]
    assert "facts" not in asked[asked.index("activity") :]
