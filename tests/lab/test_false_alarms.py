"""Twenty healthy runs in a row, ten on each of two networks, with all that is measured: none of them raises a false alarm.

They run only when they are asked for, and take an hour.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab.suite import Lab, assert_nothing_is_left, running_lab

pytestmark = pytest.mark.part("again")
RUNS = 10  # on each
NETWORKS: Mapping[str, tuple[str, ...]] = {"native": ("ipvs", "native"), "flannel-vxlan": ("ipvs", "flannel-vxlan")}
ASKED_FOR = ("--k8snet-udp=5mbit", "--k8snet-conntrack-burst=600")


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(results: Path, network: str) -> Iterator[Lab]:
    options = ("--nodes", "3", "--proxy-mode", "ipvs", "--network", network, "--line-rate", "50mbit")
    with running_lab("test-again", results / network, *options) as lab:
        yield lab


def test_no_false_alarm(lab: Lab, network: str) -> None:
    profiles = [f"--k8snet-profile={name}" for name in ("lab", *NETWORKS[network], "tuned-node")]
    alarms = {}
    for number in range(1, RUNS + 1):
        outcome = lab.run_suite(f"run-{number}", *profiles, *ASKED_FOR)
        for check, subject, verdict in outcome.noteworthy:
            alarms[f"run {number}: {check}[{subject}] {verdict}"] = outcome.messages[check, subject]
        assert outcome.exit_status == (1 if outcome.noteworthy else 0), outcome.output
        assert "pass" in outcome.verdicts.values()
        assert_nothing_is_left(lab)
        (lab.results / "alarms.json").write_text(json.dumps({"runs": number, "alarms": alarms}, indent=1))
    assert alarms == {}
