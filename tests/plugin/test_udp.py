"""UDP at a given rate: sent when it is asked for, with its volume told beforehand."""

from __future__ import annotations

import pytest

from tests.plugin.bench import Bench

CHECKS = "--k8snet-checks=NET-THROUGHPUT-*"
VOLUME = (
    "udp: 4 pairs of nodes, one at a time, 3 takes of 4 s (up to 5 where pods lose more than their nodes) at 10mbit, at most 100 MB in all"
)


def test_it_is_sent_when_it_is_asked_for(bench: Bench) -> None:
    ran = bench.run(CHECKS, "--k8snet-udp=10mbit")
    assert ran.verdicts["NET-THROUGHPUT-005[node-1:node-2]"] == "pass", ran.out
    assert VOLUME in ran.out
    values = bench.record("udp/node-1%3Anode-2.json")["values"]
    assert (values["rate_bps"], [take["path"] for take in values["takes"]]) == (10_000_000, ["host", "pod", "host"])


def test_it_is_not_sent_when_nobody_asks(bench: Bench) -> None:
    ran = bench.run(CHECKS)
    assert ran.verdicts["NET-THROUGHPUT-005[node-1:node-2]"] == "skip"
    assert "UDP at a given rate is sent only when --k8snet-udp asks for it" in ran.out
    assert "k8snet: udp:" not in ran.out


def test_the_plan_tells_its_volume(bench: Bench) -> None:
    assert VOLUME in bench.run("--k8snet-dry-run", CHECKS, "--k8snet-udp=10mbit").out
    assert "udp:" not in bench.run("--k8snet-dry-run", "--k8snet-checks=NET-THROUGHPUT-001", "--k8snet-udp=10mbit").out


@pytest.mark.parametrize("value", ["x", "10", "99k", "11g", "-1m"])
def test_rates_that_are_none(bench: Bench, value: str) -> None:
    ran = bench.run(f"--k8snet-udp={value}")
    assert ran.status == 4
    assert f"--k8snet-udp: got {value!r}, want a rate from 100kbit to 10gbit, such as 10mbit" in ran.out
