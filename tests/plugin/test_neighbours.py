"""Who has nodes' own addresses, and what they know of each other's, in a whole run."""

from __future__ import annotations

import pytest

from tests.plugin.bench import Bench

CHECKS = ("--k8snet-checks=NET-REACH-007,NET-REACH-008", "--k8snet-level=probe")
GONE = "02:00:00:00:00:99"


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_a_healthy_cluster(bench: Bench, way: str) -> None:
    ran = bench.run(*CHECKS, way)
    nodes = ("node-1", "node-2", "node-3")
    assert (ran.status, ran.verdicts) == (0, {"NET-REACH-007[cluster]": "pass"} | {f"NET-REACH-008[{name}]": "pass" for name in nodes})


def test_a_stale_entry_and_a_second_machine(bench: Bench) -> None:
    bench.cluster(f"""
        from pytest_k8snet.measure import duplicates
        duplicates.AGAIN_S = 0

        def stale(facts):
            facts["host"]["routes"].append({{"dst": "192.168.10.0/24", "dev": "eth0"}})
            entry = {{"dst": "192.168.10.13", "lladdr": "{GONE}", "state": ["PERMANENT"]}}
            facts["neighbour_entries"] = {{"total": 1, "entries": [entry]}}

        def twin(params):
            healthy = FakeCluster(["node-1", "node-2", "node-3"]).respond("node-1", "host", "arp.own", params)
            healthy["answers"]["192.168.10.11"].append("{GONE}")
            return healthy

        fake.change_facts("node-2", stale)
        fake.answer("node-1", "arp.own", twin)
    """)
    ran = bench.run(*CHECKS, own_process=True)
    assert ran.status == 1
    assert {name for name, verdict in ran.verdicts.items() if verdict == "fail"} == {"NET-REACH-007[cluster]", "NET-REACH-008[node-1]"}
    assert f"node-2: its neighbour entry for node-3 (192.168.10.13) is PERMANENT with {GONE}, which is no node's" in ran.out
    assert f"node-1: two machines answer ARP for its address 192.168.10.11: 02:00:00:00:00:01 (its eth0) and {GONE} (no node's)" in ran.out
