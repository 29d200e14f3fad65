"""Routes that lead to a device behind which the CNI decides, in a whole run."""

from __future__ import annotations

import pytest

from tests.plugin.bench import Bench

BEHIND = """
    for name in NODES:
        fake.change_facts(name, lambda facts: facts["host"]["links"].append({"ifname": "cilium_host", "mtu": 1500, "flags": ["UP"]}))
        fake.change_facts(name, lambda facts: [route.update(dev="cilium_host") for route in facts["peer_routes"]])
"""
NODES = ("node-1", "node-2", "node-3")
ROUTES = {f"NET-ENCAP-001[{name}]" for name in NODES}
PACKETS = {f"NET-ENCAP-004[{name}]" for name in NODES}


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_packets_tell_where_the_run_has_them_judged(bench: Bench, way: str) -> None:
    bench.cluster(BEHIND)
    ran = bench.run("--k8snet-checks=NET-ENCAP-001,NET-ENCAP-004", "--k8snet-level=probe", way)
    assert ran.verdicts == dict.fromkeys(ROUTES, "skip") | dict.fromkeys(PACKETS, "pass")
    assert ran.status == 0
    told = "routes lead to cilium_host (no virtual device), behind which the CNI decides: NET-ENCAP-004 judges the packets"
    assert f"SKIPPED NET-ENCAP-001[node-1, node-2, node-3] - {told}" in ran.out


@pytest.mark.parametrize(("checks", "level"), [("NET-ENCAP-001,NET-ENCAP-004", "read"), ("NET-ENCAP-001", "probe")])
def test_nothing_tells_where_it_has_not(bench: Bench, checks: str, level: str) -> None:
    bench.cluster(BEHIND)
    ran = bench.run(f"--k8snet-checks={checks}", f"--k8snet-level={level}")
    assert ran.verdicts == dict.fromkeys(ROUTES, "inconclusive")
    assert ran.status == 1
