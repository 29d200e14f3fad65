"""Policies that keep the run's packets away: reported as what they are, by name, and never as a red of the network."""

from __future__ import annotations

import pytest

from tests.plugin.bench import Bench

CHECKS = ("--k8snet-checks=NET-REACH-001,NET-REACH-003,NET-LOSS-001", "--k8snet-level=probe")
SILENT = """
    from pytest_k8snet.access.fakes.traffic import answered
    from pytest_k8snet.cluster.policies.reading import Policies

    def silent(params):
        return {item["key"]: answered(None, None) for item in params["targets"]}

    for name in fake.nodes:
        fake.answer(name, "traffic.connect", silent, role="pod")
"""
DENIED = """
    deny = {"metadata": {"name": "default-deny", "namespace": "shop"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    fake.policies = Policies(objects={"NetworkPolicy": [deny]})
"""
NAMED = "from other pods of the run is blocked by NetworkPolicy shop/default-deny: blocked is not broken"


def verdict(bench: Bench, *arguments: str) -> tuple[str | None, str]:
    ran = bench.run(*CHECKS, *arguments)
    assert ran.status == 1, ran.out
    assert ran.verdicts["NET-LOSS-001[node-1]"] == "pass", "what passes is not asked"
    return ran.verdicts["NET-REACH-001[node-1]"], ran.cases["NET-REACH-001[node-1]"].text


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_blocked_is_not_broken(bench: Bench, workers: tuple[str, ...]) -> None:
    bench.cluster(SILENT + DENIED)
    found, text = verdict(bench, *workers)
    assert found == "inconclusive"
    assert NAMED in text
    assert "does not reach the pod on node-2" in text, "what was measured is told, too"


def test_without_a_policy_it_is_broken(bench: Bench) -> None:
    bench.cluster(SILENT)
    assert verdict(bench)[0] == "fail"


def test_where_nobody_enforces_policies_it_is_broken(bench: Bench) -> None:
    bench.cluster(SILENT + DENIED)
    bench.write("open.yaml", "policy: {enforced: false}\n")
    assert verdict(bench, "--k8snet-profile=open.yaml")[0] == "fail"


def test_a_replay_says_the_same(bench: Bench) -> None:
    bench.cluster(SILENT + DENIED)
    verdict(bench, "--k8snet-run-dir=kept")
    ran = bench.run(*CHECKS, "--k8snet-replay=kept", fake=False)
    assert ran.verdicts["NET-REACH-001[node-1]"] == "inconclusive"
    assert NAMED in ran.cases["NET-REACH-001[node-1]"].text


def test_what_is_not_blocked_stays_a_fault(bench: Bench) -> None:
    bench.cluster(SILENT + DENIED)
    ran = bench.run(*CHECKS)
    assert ran.verdicts["NET-REACH-003[node-1]"] == "fail", "only what comes in is blocked"
