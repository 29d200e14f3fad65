"""IPVS and native routing: the healthy cluster is green, and every fault turns exactly its checks red."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_k8snet.lab.faults.table import FAULTS
from tests.lab.suite import Lab, running_lab, turned_on

PROFILES = ("--k8snet-profile=lab", "--k8snet-profile=ipvs", "--k8snet-profile=native", "--k8snet-profile=tuned-node")

# Each fault is on a node of its own. What it turns names that node, so the exact union says of each what a run of its own would, and the
# proof takes a third of the time. Faults that use the same means, or that disturb each other's pairs, are apart.
TOGETHER = (
    {"proxy-mode-iptables": "node-2", "sysctl-reset": "node-1", "uplink-mtu-1400": "node-3"},
    {"ipvs-scheduler": "node-1", "real-server-weight-0": "node-2", "conntrack-max-lowered": "node-3"},
    {"stale-endpoint": "node-2", "strict-arp-off": "node-1", "congestion-control-cubic": "node-3"},
    {"vxlan-route": "node-2", "pod-mtu-1450": "node-1", "qdisc-replaced": "node-3"},
    {"pod-path-throttled": "node-2", "iperf3-server-killed": "node-3"},
)


@pytest.fixture(scope="module")
def lab(results: Path) -> Iterator[Lab]:
    with running_lab("test-ipvs", results, "--nodes", "3", "--proxy-mode", "ipvs", "--line-rate", "50mbit") as lab:
        yield lab


def test_healthy(lab: Lab) -> None:
    outcome = lab.run_suite("healthy", *PROFILES)
    assert outcome.noteworthy == set(), outcome.output
    assert outcome.exit_status == 0
    assert outcome.skipped_checks == {
        "NET-ABSENCE-001",
        "NET-ABSENCE-002",
        "NET-ABSENCE-003",
        "NET-ABSENCE-004",
        "NET-ABSENCE-005",
        "NET-MTU-003",
    }


def test_every_fault_of_this_lab_is_applied() -> None:
    assert sorted(name for faults in TOGETHER for name in faults) == sorted(fault.name for fault in FAULTS if "ipvs" in fault.proxy_modes)


@pytest.mark.parametrize("faults", TOGETHER, ids="+".join)
def test_faults_turn_exactly_their_cases(lab: Lab, faults: dict[str, str]) -> None:
    outcome = turned_on(lab, faults, *PROFILES)
    assert outcome.noteworthy == outcome.declared, outcome.output
    assert outcome.exit_status == 1
