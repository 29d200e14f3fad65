"""The whole suite judges what was measured on real labs: nothing is red on a healthy one, and each fault turns what it declares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_k8snet.catalogue import checks
from pytest_k8snet.cli import main
from pytest_k8snet.lab.faults.table import fault, turned
from tests.junit import without_times
from tests.plugin.bench import Bench

ROOT = Path(__file__).parent.parent.parent
RECORDINGS = ROOT / "tests" / "recordings"
NAMES = sorted(path.parent.name for path in RECORDINGS.glob("*/recording.json"))


def profiles_of(place: Path) -> list[str]:
    """Return the options that name a recording's profiles: as this version has them, not as they were then."""
    names = json.loads((place / "run.json").read_text())["settings"]["profile"]["value"].split(", ")
    return [f"--k8snet-profile={ROOT / name if name.startswith('tests/') else name}" for name in names]


@pytest.mark.parametrize("name", NAMES)
def test_recording(bench: Bench, name: str) -> None:
    place = RECORDINGS / name
    about = json.loads((place / "recording.json").read_text())
    today = profiles_of(place)
    ran = bench.run(f"--k8snet-replay={place}", *today, "--k8snet-save-bundle=b.tar.zst", fake=False)
    pairs = {json.loads(path.read_text())["subject"] for kind in ("throughput", "udp") for path in (place / kind).glob("*.json")}
    nodes = sorted(path.stem for path in (place / "facts").glob("*.json"))
    properties = [case.properties for case in ran.cases.values()]
    turning = {case for title, node in about["faults"].items() for case in turned(fault(title), node, nodes, sorted(pairs))}
    # An older recording has nothing of what is measured since.
    unmeasured = {case.properties["k8snet_check"] for case in ran.cases.values() if "of a version that did not measure" in case.text}
    expected = {case for case in turning if case[0] not in unmeasured}
    judged = {(item["k8snet_check"], item["k8snet_subject"], item["k8snet_verdict"]) for item in properties}
    assert {case for case in judged if case[2] not in ("pass", "skip")} == expected, ran.out
    assert {case[2] for case in judged} >= {"pass"}
    assert ran.status == (1 if expected else 0)
    # And the bundle of that judges the same, in as many processes as one likes.
    report = without_times(bench.path / "junit.xml")
    again = bench.run("--k8snet-replay=b.tar.zst", "-n2" if name in ("ipvs-native", "left-over") else "-pno:xdist", fake=False)
    assert again.status == ran.status
    assert without_times(bench.path / "junit.xml") == report


HEALTHY = [name for name in NAMES if not json.loads((RECORDINGS / name / "recording.json").read_text())["faults"]]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_profile_of_a_healthy_cluster_as_it_is_holds(bench: Bench, name: str) -> None:
    place, ours = RECORDINGS / name, bench.path / "ours.yaml"
    begun = CliRunner().invoke(main, ["profile", "init", str(place), "-o", str(ours)])
    assert begun.exit_code == 0, begun.output
    # How long answers may take is not read off a cluster: the lab's own profile says it.
    profiles = ("--k8snet-profile=lab", f"--k8snet-profile={ours}")
    ran = bench.run(f"--k8snet-replay={place}", *profiles, *(["-n2"] if name == HEALTHY[0] else []), fake=False)
    assert {case.verdict for case in ran.cases.values()} == {"pass", "skip"}, ran.out
    assert ran.status == 0
    origins = {case.properties.get("k8snet_wanted", "") for case in ran.cases.values()}
    assert any("(profile ours.yaml:" in origin for origin in origins)


def test_every_fault_was_recorded() -> None:
    from pytest_k8snet.lab.faults.table import FAULTS

    recorded = {title for name in NAMES for title in json.loads((RECORDINGS / name / "recording.json").read_text())["faults"]}
    assert recorded == {known.name for known in FAULTS}


#: Checks that no recording shows green, and why.
NEVER_GREEN = {
    "NET-CONTROL-007": "no webhook is asked about pods in a healthy lab",
    "NET-LATENCY-002": "a lab has no point outside of it that a profile could name",
    "NET-NODE-003": "no node of a lab runs an NTP client",
    "NET-REACH-006": "Services of a lab have addresses of load balancers only where a fault gives them some",
    "NET-SERVICE-008": "thousands of Services take minutes to make: benchmarks do",
}
#: Checks that are green only on nodes beside broken ones: of what is measured when it is asked for.
BESIDE_A_FAULT = {
    "NET-CONNTRACK-004": "ipvs-faults-network",
    "NET-SERVICE-009": "ipvs-faults-services",
    "NET-THROUGHPUT-005": "ipvs-faults-load",
}


def test_every_check_is_green_on_a_healthy_cluster_or_there_is_a_reason(bench: Bench) -> None:
    wanted = {check.id for check in checks()} - NEVER_GREEN.keys()
    green: set[str] = set()
    for name in (*sorted(HEALTHY, key=lambda name: -len(list((RECORDINGS / name).iterdir()))), *BESIDE_A_FAULT.values()):
        if wanted - green:
            ran = bench.run(f"--k8snet-replay={RECORDINGS / name}", *profiles_of(RECORDINGS / name), fake=False)
            passed = {case.properties["k8snet_check"] for case in ran.cases.values() if case.verdict == "pass"}
            green |= passed if name in HEALTHY else passed & {check for check, beside in BESIDE_A_FAULT.items() if beside == name}
    assert wanted - green == set()
    assert green & NEVER_GREEN.keys() == set()
