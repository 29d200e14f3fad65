"""A cluster of both address families that is not there: healthy, and with IPv6 broken alone."""

from __future__ import annotations

import pytest

from tests.plugin.bench import Bench

PROBE = "--k8snet-level=probe"
BOTH = """
from pytest_k8snet.access.fake import dual_stack
for name in fake.nodes:
    fake.nodes[name] = dual_stack(fake.nodes[name])
"""
CUT_OFF = """
from pytest_k8snet.access.fakes import traffic
def answer(params):
    found = traffic.respond(fake, "node-1", "pod", "traffic.connect", params)
    lost = traffic.answered(None, None)
    return {item["key"]: lost if ":" in item["address"] else found[item["key"]] for item in params["targets"]}
fake.answer("node-1", "traffic.connect", answer, role="pod")
"""


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_a_healthy_cluster(bench: Bench, workers: tuple[str, ...]) -> None:
    bench.cluster(BOTH, nodes=("node-1", "node-2"))
    ran = bench.run(PROBE, *workers)
    assert ran.status == 0, ran.out
    assert set(ran.verdicts.values()) == {"pass", "skip"}
    addresses = {answer["address"] for answer in bench.record("reach/node-1.json")["values"]["answers"]}
    assert {"fd00:10:244:11::5", "fd00:10:244:12::5", "fd00:192:168::11", "10.244.2.5"} <= addresses


def test_ipv6_that_is_broken_alone_is_red_and_named(bench: Bench) -> None:
    bench.cluster(BOTH + CUT_OFF, nodes=("node-1", "node-2"))
    ran = bench.run(PROBE, "--k8snet-checks=NET-REACH-*")
    red = {name for name, verdict in ran.verdicts.items() if verdict == "fail"}
    assert red == {"NET-REACH-001[node-1]", "NET-REACH-003[node-1]"}, ran.out
    for name in red:
        assert "fd00:1" in ran.cases[name].text
        assert " 10.244.2.5" not in ran.cases[name].text
    assert ran.line("FAILED NET-REACH-001[node-1]") == (
        "FAILED NET-REACH-001[node-1] - node-1: its pod fd00:10:244:11::5 does not reach the pod on node-2 at fd00:10:244:12::5: "
        "TCP timed out (2 tries); UDP timed out (2 tries), want an answer from it (ip route get fd00:10:244:12::5)"
    )
