"""A run of one part of the nodes: the parts together have every case of a node or pair once."""

from __future__ import annotations

import pytest

from tests.plugin.bench import Bench

CHECKS = """
@check("ACME-1")
def test_node(k8snet_node, k8snet_measure):
    assert k8snet_measure("facts").values["kernel"]

@check("ACME-2", level="load")
def test_pair(k8snet_pair, k8snet_measure):
    assert k8snet_measure("facts", k8snet_pair.target.name).values["kernel"]

@check("ACME-3")
def test_cluster(k8snet_cluster, k8snet_documents):
    assert len(k8snet_documents("facts")) == 3
"""
CLUSTER = {"ACME-3[cluster]"}


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_shards_together_are_the_whole_without_what_is_of_the_cluster(bench: Bench, way: str) -> None:
    bench.checks(CHECKS)
    whole = bench.own(way)
    parts = [bench.own(way, f"--k8snet-shard={index}/2") for index in range(2)]
    assert [ran.status for ran in (whole, *parts)] == [0, 0, 0], whole.out
    assert not parts[0].verdicts.keys() & parts[1].verdicts.keys()
    assert {**parts[0].verdicts, **parts[1].verdicts} == {name: verdict for name, verdict in whole.verdicts.items() if name not in CLUSTER}
    assert "ACME-1[node-2]" in parts[1].verdicts
    assert parts[1].line("1 case left out") == "1 case left out by --k8snet-shard=1/2, which has not all nodes"


def test_other_shards_nodes_that_pairs_lead_to_get_probe_pods(bench: Bench) -> None:
    bench.checks(CHECKS)
    ran = bench.own("--k8snet-shard=1/3", "--k8snet-pairs=ring", "--k8snet-load-pairs=ring")
    assert ran.verdicts == {"ACME-1[node-2]": "pass", "ACME-2[node-2:node-3]": "pass"}
    made = [line for line in (bench.path / "objects.txt").read_text().splitlines() if line.startswith("+ pod")]
    assert sorted(made) == ["+ pod host-node-2", "+ pod host-node-3", "+ pod probe-node-2", "+ pod probe-node-3"]


def test_shard_without_a_node_has_nothing_to_prove(bench: Bench) -> None:
    bench.checks(CHECKS)
    ran = bench.own("--k8snet-shard=3/4")
    assert ran.status != 0
    assert ran.verdicts.keys() <= {"ACME-1[(none)]", "ACME-2[(none)]"}
