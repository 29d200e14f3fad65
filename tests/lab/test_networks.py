"""Flannel and BGP: each network is green, and each of its faults turns exactly its cases red. One lab a network, two runs in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_k8snet.lab.faults.table import FAULTS
from pytest_k8snet.lab.settings import CILIUM, NETWORK_KINDS
from tests.lab.parts import MARK
from tests.lab.suite import Lab, running_lab, turned_on


@dataclass(frozen=True)
class Network:
    """A network, its profiles beside lab and tuned-node, and its faults, run by run: which is put on which node."""

    proxy_mode: str
    profiles: tuple[str, ...]
    faults: tuple[Mapping[str, str], ...]
    skipped: frozenset[str]
    """Checks of encapsulation and MTU that have nothing to judge there."""


NETWORKS = {
    "flannel-vxlan": Network(
        "ipvs",
        ("ipvs", "flannel-vxlan"),
        (
            {
                "vxlan-route-missing": "node-1",
                "vxlan-forwarding-missing": "node-2",
                "subnet-env-mtu-1500": "node-3",
            },
        ),
        frozenset({"NET-ENCAP-003"}),
    ),
    "flannel-host-gw": Network(
        "iptables",
        ("iptables", "flannel-host-gw"),
        ({"ipip-route": "node-2"},),
        frozenset({"NET-ENCAP-002", "NET-ENCAP-003", "NET-MTU-003"}),
    ),
    "flannel-ipip": Network(
        "ipvs",
        ("ipvs",),
        (
            {"direct-route": "node-1", "tunnel-mtu-1500": "node-2", "subnet-env-mtu-1500": "node-3"},
            {"flannel-backend-changed": "node-1"},
        ),
        frozenset({"NET-ENCAP-002", "NET-ENCAP-003"}),
    ),
    "bgp": Network(
        "iptables",
        ("iptables", "flat-l2"),
        ({"bgp-import-filter": "node-1", "bgp-peer-silent": "node-2"}, {"bgp-session-missing": "node-3"}),
        frozenset({"NET-ENCAP-002", "NET-MTU-003"}),
    ),
}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=getattr(pytest.mark, MARK)(name)) for name in NETWORKS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(results: Path, kind: str) -> Iterator[Lab]:
    options = ("--nodes", "3", "--proxy-mode", NETWORKS[kind].proxy_mode, "--network", kind, "--line-rate", "50mbit")
    with running_lab(f"test-{kind}", results / kind, *options) as lab:
        yield lab


def profiles(kind: str) -> list[str]:
    return [f"--k8snet-profile={name}" for name in ("lab", *NETWORKS[kind].profiles, "tuned-node")]


def test_healthy(lab: Lab, kind: str) -> None:
    outcome = lab.run_healthy("healthy", *profiles(kind), "--k8snet-load-pairs=sample:1")
    assert outcome.noteworthy == set(), outcome.output
    assert outcome.exit_status == 0
    of_networks = {check for check in outcome.skipped_checks if check.startswith(("NET-ENCAP-", "NET-MTU-"))}
    # Whether the uplink's MTU is wanted depends on the profile alone.
    assert of_networks - {"NET-MTU-002"} == NETWORKS[kind].skipped


def test_claims_alone(lab: Lab) -> None:
    """Without a profile what the network claims of itself is judged."""
    outcome = lab.run_suite("claims", "--k8snet-level=read", "--k8snet-checks=NET-ENCAP-*,NET-MTU-*")
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    assert {check for check, _ in outcome.verdicts} - outcome.skipped_checks >= {"NET-ENCAP-001", "NET-MTU-001"}


def test_faults_turn_exactly_their_cases(lab: Lab, kind: str) -> None:
    for faults in NETWORKS[kind].faults:
        outcome = turned_on(lab, faults, *profiles(kind), "--k8snet-level=read")
        assert outcome.noteworthy == outcome.declared, outcome.output
        assert outcome.exit_status == 1


def test_reverted_it_is_healthy_again(lab: Lab, kind: str) -> None:
    outcome = lab.run_suite("reverted", *profiles(kind), "--k8snet-level=read")
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output


def test_every_fault_of_these_networks_is_applied() -> None:
    for kind, network in NETWORKS.items():
        only_there = {fault.name for fault in FAULTS if kind in fault.networks and "native" not in fault.networks}
        assert only_there == {name for faults in network.faults for name in faults}, kind


def test_every_network_has_its_place() -> None:
    assert {*NETWORKS, *CILIUM, "native", "vxlan"} == set(NETWORK_KINDS)
