"""Checks of NetworkPolicies, with a cluster that is not there."""

from __future__ import annotations

import pytest

from tests.plugin.bench import Bench

CHECKS = "--k8snet-checks=NET-POLICY-*"
PROBE = "--k8snet-level=probe"
PROFILE = "--k8snet-profile=enforced.yaml"
MADE = ["+ pod policy-node-1", "+ pod policy-node-2", "+ pod policy-node-3", "+ networkpolicy policy", "- networkpolicy policy"]


@pytest.fixture(autouse=True)
def profile(bench: Bench) -> None:
    bench.write("enforced.yaml", "policy: {enforced: true}\n")
    bench.write("not-enforced.yaml", "policy: {enforced: false}\n")


def made(bench: Bench) -> list[str]:
    return [line for line in bench.objects() if "policy" in line]


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_a_healthy_cluster(bench: Bench, workers: tuple[str, ...]) -> None:
    ran = bench.run(CHECKS, PROFILE, PROBE, *workers)
    assert (ran.status, ran.verdicts) == (0, {f"NET-POLICY-001[node-{number}]": "pass" for number in (1, 2, 3)}), ran.out
    assert made(bench) == MADE, "once, however many workers judge"
    assert [line[:11] for line in bench.objects() if line.startswith("- ")] == ["- networkpo", "- namespace"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "nobody is known to enforce NetworkPolicies here"),
        (("--k8snet-profile=not-enforced.yaml",), "policy.enforced is false (profile not-enforced.yaml:1)"),
    ],
)
def test_nothing_is_made_where_nobody_enforces_them(bench: Bench, arguments: tuple[str, ...], reason: str) -> None:
    ran = bench.run("--k8snet-checks=NET-POLICY-*,NET-REACH-001", PROBE, *arguments)
    assert (ran.status, ran.verdicts["NET-POLICY-001[node-1]"]) == (0, "skip"), ran.out
    assert reason in ran.cases["NET-POLICY-001[node-1]"].text
    assert made(bench) == []


def test_nothing_is_made_for_other_checks(bench: Bench) -> None:
    bench.run("--k8snet-checks=NET-REACH-001", PROFILE, PROBE)
    assert made(bench) == []


def test_the_claim_of_the_cluster_is_enough(bench: Bench) -> None:
    bench.cluster(
        """
        from pytest_k8snet.cluster.model import Claim

        fake.claims["policy.enforced"] = Claim(True, "DaemonSet kube-system/calico-node (Calico enforces them)")
        """
    )
    assert set(bench.run(CHECKS, PROBE).verdicts.values()) == {"pass"}
    assert made(bench) == MADE


def test_what_is_wrong_is_told(bench: Bench) -> None:
    bench.write("enforced.yaml", "policy: {enforced: true, settle_s: 0.1}\n")
    bench.cluster(
        """
        fake.make_policy = lambda namespace, run_id: None
        """
    )
    ran = bench.run(CHECKS, PROFILE, PROBE)
    assert set(ran.verdicts.values()) == {"fail"}
    text = ran.cases["NET-POLICY-001[node-2]"].text
    assert "keeps the pods of node-1, node-2, node-3 away from port 8723 of pod " in text
    assert "it is not enforced on this node" in text
    assert "fix: docs/checks/NET-POLICY-001" in ran.out


def test_dry_run(bench: Bench) -> None:
    ran = bench.run(CHECKS, PROFILE, PROBE, "--k8snet-dry-run")
    assert "  3 Pods policy-<node> in k8snet-<run id>: unprivileged, in the pod network: what a NetworkPolicy selects" in ran.out
    assert "  NetworkPolicy policy in k8snet-<run id>: for those pods alone" in ran.out
    without = bench.run(CHECKS, PROBE, "--k8snet-dry-run")
    assert "NetworkPolicy policy" not in without.out
