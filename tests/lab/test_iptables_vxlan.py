"""iptables mode over vxlan: the healthy cluster is green."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.suite import Lab, running_lab


@pytest.fixture(scope="module")
def lab(results: Path) -> Iterator[Lab]:
    options = ("--nodes", "3", "--proxy-mode", "iptables", "--network", "vxlan", "--line-rate", "50mbit")
    with running_lab("test-iptables", results, *options) as lab:
        yield lab


def test_healthy(lab: Lab) -> None:
    profiles = ("--k8snet-profile=lab", "--k8snet-profile=iptables", "--k8snet-profile=vxlan", "--k8snet-profile=tuned-node")
    outcome = lab.run_suite("healthy", *profiles)
    assert outcome.noteworthy == set(), outcome.output
    assert outcome.exit_status == 0
    assert outcome.skipped_checks == {
        "NET-ABSENCE-001",
        "NET-ABSENCE-002",
        "NET-ABSENCE-003",
        "NET-ABSENCE-004",
        "NET-ABSENCE-005",
        "NET-PROXY-003",
        "NET-PROXY-004",
        "NET-PROXY-005",
        "NET-PROXY-006",
    }


def test_claims_alone_are_enough(lab: Lab) -> None:
    """Without a profile the cluster's own claims are judged, and tuning is advice."""
    outcome = lab.run_suite("claims", "--k8snet-level=read")
    assert outcome.noteworthy == set(), outcome.output
    assert outcome.exit_status == 0
