"""kube-proxy in nftables mode, on nodes in QEMU: green when healthy, and its faults turn exactly their cases red.

Where KVM does not work the nodes' processors are emulated, and this takes a quarter of an hour: it runs only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_k8snet.lab.faults.table import FAULTS
from tests.lab.suite import NOTHING_TO_JUDGE, Lab, running_lab, turned_on

PROFILES = tuple(f"--k8snet-profile={name}" for name in ("lab", "nftables", "native", "tuned-node"))
READ = "--k8snet-level=read"
pytestmark = pytest.mark.part("nftables")
TOGETHER = {"nft-iptables-left-over": "node-1", "nft-service-lost": "node-2", "iptables-both-back-ends": "node-2"}


@pytest.fixture(scope="module")
def lab(results: Path) -> Iterator[Lab]:
    with running_lab("test-nftables", results, "--nodes", "2", "--proxy-mode", "nftables", "--line-rate", "50mbit") as lab:
        yield lab


def test_healthy(lab: Lab) -> None:
    outcome = lab.run_suite("healthy", *PROFILES, READ)
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    assert outcome.verdicts["NET-PROXY-009", "node-1"] == "pass"
    of_mode = {check for check in outcome.skipped_checks if check.startswith("NET-PROXY-")} - NOTHING_TO_JUDGE
    assert of_mode == {"NET-PROXY-003", "NET-PROXY-004", "NET-PROXY-005", "NET-PROXY-006"}, "those of ipvs mode"


def test_every_fault_of_this_mode_is_applied() -> None:
    assert sorted(TOGETHER) == sorted(fault.name for fault in FAULTS if fault.proxy_modes == ("nftables",))


def test_faults_turn_exactly_their_cases(lab: Lab) -> None:
    outcome = turned_on(lab, TOGETHER, *PROFILES)
    assert outcome.noteworthy == outcome.declared, outcome.output
    assert outcome.exit_status == 1


def test_reverted_it_is_healthy_again(lab: Lab) -> None:
    outcome = lab.run_suite("reverted", *PROFILES, READ)
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
