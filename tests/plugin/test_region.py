"""The shipped profile of a region with short ways."""

from __future__ import annotations

from tests.plugin.bench import Bench

PROFILE = "--k8snet-profile=low-latency-region"
CHECKS = "--k8snet-checks=NET-NODE-005,NET-LATENCY-*"
LABELS = """
    from dataclasses import replace

    fake.nodes["node-1"] = replace(fake.nodes["node-1"], region="eu-central-1", zone="eu-central-1a")
    fake.nodes["node-2"] = replace(fake.nodes["node-2"], region="us-east-1", zone="us-east-1a")
"""


def test_nodes_have_to_say_where_they_are(bench: Bench) -> None:
    bench.cluster(LABELS)
    ran = bench.run(CHECKS, PROFILE, "--k8snet-level=probe")
    places = {name: verdict for name, verdict in ran.verdicts.items() if name.startswith("NET-NODE-005")}
    assert places == {"NET-NODE-005[node-1]": "pass", "NET-NODE-005[node-2]": "pass", "NET-NODE-005[node-3]": "fail"}
    assert "no label topology.kubernetes.io/region, want any (profile low-latency-region.yaml:5)" in ran.cases["NET-NODE-005[node-3]"].text
    assert ran.verdicts["NET-LATENCY-001[node-1]"] == "pass"
    assert ran.verdicts["NET-LATENCY-002[node-1]"] == "skip", "which points are to be near is for a profile that extends it"


def test_a_profile_that_extends_it_says_where(bench: Bench) -> None:
    bench.cluster(LABELS)
    bench.write("ours.yaml", "extends: low-latency-region\nregions: [eu-*]\n")
    ran = bench.run("--k8snet-checks=NET-NODE-005", "--k8snet-profile=ours.yaml", "--k8snet-nodes=node-1,node-2")
    assert ran.verdicts == {"NET-NODE-005[node-1]": "pass", "NET-NODE-005[node-2]": "fail"}
    assert "us-east-1 in label topology.kubernetes.io/region, want eu-* (profile ours.yaml:2)" in ran.cases["NET-NODE-005[node-2]"].text
