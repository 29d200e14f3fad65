"""The whole suite judges what was measured on real labs: nothing is red on a healthy one, and each fault turns what it declares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_k8snet.lab.faults.table import fault, turned
from tests.plugin.bench import Bench

RECORDINGS = Path(__file__).parent.parent / "recordings"
NAMES = sorted(path.parent.name for path in RECORDINGS.glob("*/recording.json"))

CONFTEST = """
import json
from pathlib import Path

from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.measure import registry
from pytest_k8snet.record.store import RunFolder

FOLDER = RunFolder(Path({folder!r}))


class Recorded(FakeCluster):
    def __init__(self):
        self.cluster = Cluster.from_json(FOLDER.get("cluster", "cluster").values)
        super().__init__(self.cluster.nodes)

    def read_cluster(self):
        return self.cluster


def pytest_k8snet_fake(config):
    return Recorded()


def take(measurement, context, subjects):
    for subject in subjects:
        yield FOLDER.get(measurement.kind, subject)


registry.Measurement.take = take  # in this process, which does nothing else
"""


@pytest.mark.parametrize("name", NAMES)
def test_recording(bench: Bench, name: str) -> None:
    about = json.loads((RECORDINGS / name / "recording.json").read_text())
    bench.write("conftest.py", CONFTEST.replace("{folder!r}", repr(str(RECORDINGS / name))))
    options = [f"--k8snet-profile={profile}" for profile in about["profiles"]]
    ran = bench.run(f"--k8snet-load-pairs=sample:{about['load_pairs']}", *options, own_process=True)
    pairs = [json.loads(path.read_text())["subject"] for path in (RECORDINGS / name / "throughput").glob("*.json")]
    expected = {case for title, node in about["faults"].items() for case in turned(fault(title), node, pairs)}
    properties = [case.properties for case in ran.cases.values()]
    judged = {(item["k8snet_check"], item["k8snet_subject"], item["k8snet_verdict"]) for item in properties}
    assert {case for case in judged if case[2] not in ("pass", "skip")} == expected, ran.out
    assert {case[2] for case in judged} >= {"pass"}
    assert ran.status == (1 if expected else 0)


def test_every_fault_was_recorded() -> None:
    from pytest_k8snet.lab.faults.table import FAULTS

    recorded = [title for name in NAMES for title in json.loads((RECORDINGS / name / "recording.json").read_text())["faults"]]
    assert sorted(recorded) == sorted(known.name for known in FAULTS)
