"""NetworkPolicies that kube-router enforces: green when healthy, and its faults turn exactly their cases red.

kube-router's first lab builds it, which takes a minute or two: it runs only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_k8snet.lab.faults.table import FAULTS
from tests.lab.suite import NOTHING_TO_JUDGE, Lab, assert_nothing_is_left, running_lab, turned_on

PROFILES = tuple(f"--k8snet-profile={name}" for name in ("lab", "ipvs", "native", "tuned-node"))
PROBE = "--k8snet-level=probe"
pytestmark = pytest.mark.part("policy")
NODES = ("node-1", "node-2")
TOGETHER = (
    {"policies-not-enforced": "node-1", "policy-rules-lost": "node-2", "bridge-unfiltered": "node-2"},
    {"policy-egress-rules-lost": "node-1", "policy-udp-rules-lost": "node-2"},
)


@pytest.fixture(scope="module")
def lab(results: Path) -> Iterator[Lab]:
    with running_lab("test-policy", results, "--nodes", "2", "--policy", "kube-router", "--line-rate", "50mbit") as lab:
        yield lab


def test_healthy(lab: Lab) -> None:
    outcome = lab.run_suite("healthy", *PROFILES, PROBE)
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    assert {outcome.verdicts["NET-POLICY-001", name] for name in NODES} == {"pass"}
    assert NOTHING_TO_JUDGE - outcome.skipped_checks == {"NET-POLICY-001", "NET-THROUGHPUT-005"}, "the latter sends load"
    assert_nothing_is_left(lab)


def test_every_fault_of_policies_is_applied() -> None:
    assert sorted(name for together in TOGETHER for name in together) == sorted(fault.name for fault in FAULTS if fault.with_policy)


def test_faults_turn_exactly_their_cases(lab: Lab) -> None:
    outcome = turned_on(lab, TOGETHER[0], *PROFILES)
    assert outcome.noteworthy == outcome.declared, outcome.output
    assert outcome.exit_status == 1
    said = {name: outcome.messages["NET-POLICY-001", name] for name in NODES}
    assert "keeps the pods of node-1, node-2 away from port 8723" in said["node-1"], "from everywhere"
    assert "opens port 8722 of pod " in said["node-2"]
    assert "keeps the pod of node-2 away from port 8723" in said["node-2"], "from the same node alone"


def test_a_part_of_a_policy_that_is_lost_is_named(lab: Lab) -> None:
    outcome = turned_on(lab, TOGETHER[1], *PROFILES)
    assert outcome.noteworthy == outcome.declared, outcome.output
    first, second = (outcome.messages["NET-POLICY-001", name] for name in NODES)
    assert "its egress rules are not enforced on this node" in first
    assert not [words for words in ("it is not enforced", "opens ", "lets ") if words in first], "what is sent to its pods is as written"
    assert "opens UDP port 8722 of pod " in second
    assert "reach UDP port 8722 of the pods of node-1, node-2, and it was not answered" in second
    assert "keeps " not in second


def test_reverted_it_is_healthy_again(lab: Lab) -> None:
    outcome = lab.run_suite("reverted", *PROFILES, PROBE, "--k8snet-checks=NET-POLICY-*,NET-SERVICE-*,NET-REACH-*")
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output


def test_in_a_namespace_that_exists_nothing_stays(lab: Lab) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "net", "labels": {"team": "net"}}}
    lab.client.apply(namespace)
    outcome = lab.run_suite("namespace", *PROFILES, PROBE, "--k8snet-checks=NET-POLICY-*", "--k8snet-namespace=net")
    assert (outcome.exit_status, set(outcome.verdicts.values())) == (0, {"pass"}), outcome.output
    assert_nothing_is_left(lab)


def test_what_a_policy_blocks_is_not_broken(lab: Lab) -> None:
    lab.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    policy = {"kind": "NetworkPolicy", "metadata": {"name": "default-deny", "namespace": "shop"}, "spec": deny}
    lab.client.apply({"apiVersion": "networking.k8s.io/v1", **policy})
    checks = ("NET-REACH-001", "NET-REACH-002", "NET-DNS-004", "NET-CONTROL-008", "NET-LOSS-001")
    outcome = lab.run_suite("blocked", *PROFILES, PROBE, f"--k8snet-checks={','.join(checks)}", "--k8snet-namespace=shop")
    assert outcome.exit_status == 1, outcome.output
    assert outcome.verdicts == {(check, name): "inconclusive" for check in checks for name in NODES}, outcome.output
    assert all("blocked by NetworkPolicy shop/default-deny" in message for message in outcome.messages.values()), outcome.output
