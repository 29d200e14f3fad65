"""No kube-proxy at all: the healthy cluster is green, and what is left behind is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_k8snet.catalogue import checks
from pytest_k8snet.lab.faults.table import FAULTS
from tests.lab.suite import NOTHING_TO_JUDGE, Lab, running_lab, turned_on

PROFILES = ("--k8snet-profile=lab", "--k8snet-profile=kube-proxy-free", "--k8snet-profile=native", "--k8snet-profile=tuned-node")
LEVEL_OF = {check.id: check.level for check in checks()}
LEFT_OVER = {
    "kube-proxy-left-running": "node-2",
    "service-chains-left-over": "node-1",
    "virtual-server-left-over": "node-3",
    "kube-proxy-daemonset": "node-3",
}


@pytest.fixture(scope="module")
def lab(results: Path) -> Iterator[Lab]:
    with running_lab("test-none", results, "--nodes", "3", "--proxy-mode", "none", "--line-rate", "50mbit") as lab:
        yield lab


READ = {
    "NET-ENCAP-002",
    "NET-CONNTRACK-003",
    "NET-MTU-003",
    "NET-MTU-004",  # CoreDNS is in the host network here: there is no other pod with a network of its own
    "NET-PODS-001",
    "NET-PODS-002",
    *(f"NET-PROXY-00{number}" for number in range(1, 9)),
}
BY_PACKETS = {"NET-DNS-004", "NET-DNS-006", "NET-DNS-007", *(f"NET-SERVICE-00{number}" for number in range(1, 8)), "NET-SERVICE-010"}


def test_healthy(lab: Lab, tmp_path: Path) -> None:
    outcome = lab.run_suite("healthy", "--k8snet-save-bundle=healthy.tar.zst", "--k8snet-level=read", *PROFILES)
    assert outcome.noteworthy == set(), outcome.output
    assert outcome.exit_status == 0
    assert outcome.skipped_checks == READ | {check for check in NOTHING_TO_JUDGE if LEVEL_OF[check] == "read"}
    lab.assert_replayed("healthy", "healthy.tar.zst", tmp_path, "-n2")


@pytest.mark.part("packets")
def test_healthy_where_packets_tell(lab: Lab) -> None:
    outcome = lab.run_healthy("packets", "--k8snet-load-pairs=sample:1", *PROFILES)
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    assert outcome.skipped_checks == NOTHING_TO_JUDGE | READ | BY_PACKETS


def test_every_fault_of_this_lab_is_applied() -> None:
    assert sorted(LEFT_OVER) == sorted(fault.name for fault in FAULTS if fault.proxy_modes == ("none",) and "native" in fault.networks)


def test_faults_turn_exactly_their_cases(lab: Lab, tmp_path: Path) -> None:
    """Each on a node of its own, which what it turns names."""
    outcome = turned_on(lab, LEFT_OVER, *PROFILES)
    assert outcome.noteworthy == outcome.declared, outcome.output
    assert outcome.exit_status == 1
    lab.assert_replayed("+".join(LEFT_OVER), "+".join(LEFT_OVER), tmp_path)
