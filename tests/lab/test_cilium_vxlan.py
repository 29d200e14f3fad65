"""Cilium in a tunnel: routes tell nothing of what its programs do, packets do. A lab of its own, when the other one is down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.suite import running_lab

PROFILES = tuple(f"--k8snet-profile={name}" for name in ("lab", "cilium-kube-proxy-free", "vxlan", "tuned-node"))
NODES = ("node-1", "node-2")
pytestmark = pytest.mark.part("cilium")


def test_healthy(results: Path) -> None:
    with running_lab("test-cilium-vxlan", results, "--nodes", "2", "--network", "cilium-vxlan", "--line-rate", "50mbit") as lab:
        read = lab.run_suite("read", *PROFILES, "--k8snet-level=read")
        outcome = lab.run_suite("healthy", *PROFILES, "--k8snet-level=probe")
    assert read.noteworthy == {("NET-ENCAP-001", node, "inconclusive") for node in NODES}, read.output
    assert "leads to cilium_host" in read.messages["NET-ENCAP-001", "node-1"]
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    told = {check: {outcome.verdicts[check, node] for node in NODES} for check in ("NET-ENCAP-001", "NET-ENCAP-004", "NET-MTU-001")}
    assert told == {"NET-ENCAP-001": {"skip"}, "NET-ENCAP-004": {"pass"}, "NET-MTU-001": {"pass"}}
