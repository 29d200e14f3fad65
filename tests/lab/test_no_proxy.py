"""No kube-proxy at all: the healthy cluster is green, and what is left behind is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_k8snet.lab.faults.table import FAULTS
from tests.lab.suite import NOTHING_TO_JUDGE, Lab, running_lab, turned_on

PROFILES = ("--k8snet-profile=lab", "--k8snet-profile=kube-proxy-free", "--k8snet-profile=native", "--k8snet-profile=tuned-node")
LEFT_OVER = {"kube-proxy-left-running": "node-2", "service-chains-left-over": "node-1", "virtual-server-left-over": "node-3"}


@pytest.fixture(scope="module")
def lab(results: Path) -> Iterator[Lab]:
    with running_lab("test-none", results, "--nodes", "3", "--proxy-mode", "none", "--line-rate", "50mbit") as lab:
        yield lab


def test_healthy(lab: Lab, tmp_path: Path) -> None:
    outcome = lab.run_suite("healthy", "--k8snet-save-bundle=healthy.tar.zst", "--k8snet-load-pairs=sample:1", *PROFILES)
    assert outcome.noteworthy == set(), outcome.output
    assert outcome.exit_status == 0
    assert outcome.skipped_checks == NOTHING_TO_JUDGE | {
        "NET-ENCAP-002",
        "NET-CONNTRACK-003",
        "NET-DNS-004",
        "NET-DNS-006",
        "NET-DNS-007",
        "NET-MTU-003",
        "NET-MTU-004",  # CoreDNS is in the host network here: there is no other pod with a network of its own
        "NET-PODS-001",
        "NET-PODS-002",
        "NET-PROXY-001",
        "NET-PROXY-002",
        "NET-PROXY-003",
        "NET-PROXY-004",
        "NET-PROXY-005",
        "NET-PROXY-006",
        "NET-PROXY-007",
        "NET-PROXY-008",
        "NET-SERVICE-001",
        "NET-SERVICE-002",
        "NET-SERVICE-003",
        "NET-SERVICE-004",
        "NET-SERVICE-005",
        "NET-SERVICE-006",
        "NET-SERVICE-007",
    }
    lab.assert_replayed("healthy", "healthy.tar.zst", tmp_path, "-n2")


def test_every_fault_of_this_lab_is_applied() -> None:
    assert sorted(LEFT_OVER) == sorted(fault.name for fault in FAULTS if fault.proxy_modes == ("none",))


def test_faults_turn_exactly_their_cases(lab: Lab, tmp_path: Path) -> None:
    """Each on a node of its own, which what it turns names."""
    outcome = turned_on(lab, LEFT_OVER, *PROFILES)
    assert outcome.noteworthy == outcome.declared, outcome.output
    assert outcome.exit_status == 1
    lab.assert_replayed("+".join(LEFT_OVER), "+".join(LEFT_OVER), tmp_path)
