"""Cilium in place of kube-proxy, on nodes in QEMU: green when healthy, and its faults turn exactly their cases red.

Where KVM does not work the nodes' processors are emulated, and compile BPF programs for minutes: it runs only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_k8snet.lab.faults.table import FAULTS
from pytest_k8snet.lab.settings import CILIUM
from tests.lab.suite import NOTHING_TO_JUDGE, Lab, running_lab, turned_on

PROFILES = tuple(f"--k8snet-profile={name}" for name in ("lab", "cilium-kube-proxy-free", "native", "tuned-node"))
READ = "--k8snet-level=read"
pytestmark = pytest.mark.part("cilium")
TOGETHER = (
    {
        "cilium-frontend-missing": "node-1",
        "cilium-host-strict": "node-1",
        "cilium-backend-missing": "node-2",
        "nft-table-left-over": "node-1",
        "forwarding-off": "node-2",
    },
    {"cilium-replacement-off": "node-1", "cilium-backend-stale": "node-2", "kube-proxy-left-running": "node-2"},
)


@pytest.fixture(scope="module")
def lab(results: Path) -> Iterator[Lab]:
    with running_lab("test-cilium", results, "--nodes", "2", "--network", "cilium", "--line-rate", "50mbit") as lab:
        yield lab


def test_healthy(lab: Lab) -> None:
    outcome = lab.run_suite("healthy", *PROFILES, "--k8snet-level=probe")
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    assert {outcome.verdicts[f"NET-ABSENCE-00{number}", "node-1"] for number in (1, 3, 4, 5, 6, 7)} == {"pass"}
    judged_here = NOTHING_TO_JUDGE & {check for check, _ in outcome.verdicts} - outcome.skipped_checks
    assert judged_here == {"NET-ABSENCE-006", "NET-ABSENCE-007", "NET-KERNEL-009", "NET-POLICY-001"}


def test_every_fault_of_this_network_is_applied() -> None:
    applied = {name for faults in TOGETHER for name in faults}
    assert applied - {"kube-proxy-left-running"} == {fault.name for fault in FAULTS if fault.networks == CILIUM}


@pytest.mark.parametrize("faults", TOGETHER, ids="+".join)
def test_faults_turn_exactly_their_cases(lab: Lab, faults: dict[str, str]) -> None:
    outcome = turned_on(lab, faults, *PROFILES)
    assert outcome.noteworthy == outcome.declared, outcome.output
    assert outcome.exit_status == 1


def test_reverted_it_is_healthy_again(lab: Lab) -> None:
    outcome = lab.run_suite("reverted", *PROFILES, READ)
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
