"""Clusters whose pods have IPv6: green when healthy, and faults of IPv6 turn exactly their cases red while IPv4 goes on.

They run only when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.lab.faults.table import FAULTS
from tests.lab.suite import NOTHING_TO_JUDGE, Lab, assert_nothing_is_left, running_lab, turned_on

PROFILES = tuple(f"--k8snet-profile={name}" for name in ("lab", "ipvs", "native", "tuned-node"))
pytestmark = pytest.mark.part("dual")
NOT_HERE = NOTHING_TO_JUDGE | {"NET-ENCAP-002", "NET-MTU-003"} | {f"NET-ABSENCE-00{number}" for number in range(1, 6)}
TOGETHER: tuple[Mapping[str, str], ...] = (
    {
        "ipv6-pods-cut-off": "node-1",
        "ipv6-real-server-weight-0": "node-1",
        "ipv6-mtu-black-hole": "node-2",
        "ipv6-pods-masqueraded": "node-2",
    },
    {"ipv6-route-missing": "node-1"},
)


@pytest.fixture(scope="module")
def dual(results: Path) -> Iterator[Lab]:
    with running_lab("test-dual", results, "--nodes", "2", "--ip-family", "dual", "--line-rate", "50mbit") as lab:
        yield lab


def test_healthy(dual: Lab) -> None:
    outcome = dual.run_healthy("dual", *PROFILES)
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    assert outcome.skipped_checks == NOT_HERE
    assert_nothing_is_left(dual)


def test_every_fault_of_ipv6_is_applied() -> None:
    assert sorted(name for faults in TOGETHER for name in faults) == sorted(fault.name for fault in FAULTS if fault.with_ipv6)


@pytest.mark.parametrize("faults", TOGETHER, ids="+".join)
def test_faults_of_ipv6_turn_exactly_their_cases(dual: Lab, faults: Mapping[str, str]) -> None:
    outcome = turned_on(dual, faults, *PROFILES)
    assert outcome.noteworthy == outcome.declared, outcome.output
    assert outcome.exit_status == 1
    for check, subject, _ in outcome.noteworthy:
        message = outcome.messages[check, subject]
        assert "fd00:10:" in message or "by IPv6" in message, message
        assert "10.200." not in message, "IPv4 goes on"


def test_reverted_it_is_healthy_again(dual: Lab) -> None:
    # kube-proxy writes both families one after the other: what the run before has left takes these nodes a while.
    wait_until(lambda: "220D" not in "".join(dual.ssh(node, "cat", "/proc/net/ip_vs") for node in ("node-1", "node-2")), "Services to go")
    outcome = dual.run_suite("reverted", *PROFILES, "--k8snet-level=probe")
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output


def test_in_iptables_mode_with_a_router_between_the_nodes(results: Path) -> None:
    options = ("--nodes", "2", "--ip-family", "dual", "--proxy-mode", "iptables", "--subnets", "2", "--line-rate", "50mbit")
    with running_lab("test-dual-iptables", results, *options) as lab:
        outcome = lab.run_healthy("dual-iptables", *(given.replace("ipvs", "iptables") for given in PROFILES))
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    of_ipvs = {f"NET-PROXY-00{number}" for number in range(3, 7)}
    assert outcome.skipped_checks == NOT_HERE | of_ipvs | {"NET-NODE-004", "NET-REACH-008"}, "these compare and ask nodes of one subnet"


def test_without_ipv4(results: Path) -> None:
    with running_lab("test-ipv6", results, "--nodes", "2", "--ip-family", "ipv6", "--line-rate", "50mbit") as lab:
        outcome = lab.run_healthy("ipv6", *PROFILES)
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    assert outcome.skipped_checks == NOT_HERE | {"NET-REACH-008"}, "which is of ARP"
