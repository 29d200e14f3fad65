"""A burst of connections: sent when it is asked for, with its volume told beforehand."""

from __future__ import annotations

import pytest

from tests.plugin.bench import Bench

CHECKS = "--k8snet-checks=NET-CONNTRACK-*"
VOLUME = (
    "burst: 2000 connections from the pod of each of 3 nodes to that of the next one, about 5 MB in all, "
    "4000 entries in each connection table"
)


@pytest.mark.parametrize("more", [(), ("-n2",)], ids=["alone", "xdist"])
def test_it_is_sent_when_it_is_asked_for(bench: Bench, more: tuple[str, ...]) -> None:
    ran = bench.run(CHECKS, "--k8snet-level=probe", "--k8snet-conntrack-burst=2000", *more)
    assert ran.status == 0, ran.out
    assert {name for name, verdict in ran.verdicts.items() if verdict == "pass"} >= {f"NET-CONNTRACK-004[node-{n}]" for n in (1, 2, 3)}
    assert VOLUME in ran.out
    values = bench.record("burst/node-1.json")["values"]
    assert (values["asked"], values["endpoint"], values["found"]["opened"]["opened"]) == (2000, "node-2", 2000)
    bench.assert_removed()


def test_it_is_not_sent_when_nobody_asks(bench: Bench) -> None:
    ran = bench.run(CHECKS, "--k8snet-level=probe")
    assert ran.verdicts["NET-CONNTRACK-004[node-1]"] == "skip"
    assert "a burst of connections is sent only when --k8snet-conntrack-burst asks for it" in ran.out
    assert "k8snet: burst:" not in ran.out
    assert bench.record("burst/node-1.json")["values"]["found"] is None


def test_a_table_with_too_little_room(bench: Bench) -> None:
    bench.cluster('fake.change_facts("node-2", lambda facts: facts["conntrack"].update(max=5000))')
    run = (CHECKS, "--k8snet-level=probe", "--k8snet-conntrack-burst=2000")
    ran = bench.run(*run)
    assert (ran.verdicts["NET-CONNTRACK-004[node-1]"], ran.verdicts["NET-CONNTRACK-004[node-3]"]) == ("error", "pass")
    words = "node-2: 2000 connections would take 4000 of the 4880 free entries of the connection table"
    assert words in ran.cases["NET-CONNTRACK-004[node-1]"].text
    assert "ask for 1220 at most, or give --k8snet-conntrack-burst-anyway as well" in ran.cases["NET-CONNTRACK-004[node-2]"].text
    ran = bench.run(*run, "--k8snet-conntrack-burst-anyway")
    assert ran.verdicts["NET-CONNTRACK-004[node-1]"] == "pass"


def test_ports_run_out(bench: Bench) -> None:
    bench.cluster(
        """
        opened = {"tried": 2000, "opened": 400, "failed": {"EADDRNOTAVAIL": 1600}, "late": 0, "seconds": 2.0, "ports": [50000, 50399]}
        fake.answer("node-1", "burst.open", {**opened, "range": [50000, 50399]}, role="pod")
        """
    )
    ran = bench.run(CHECKS, "--k8snet-level=probe", "--k8snet-conntrack-burst=2000")
    assert ran.status == 1
    assert ran.cases["NET-CONNTRACK-004[node-1]"].verdict == "fail"
    words = "node-1: connections of its pod to the pod on node-2: 1600 of 2000 failed (1600 EADDRNOTAVAIL: no source port"
    assert words in ran.cases["NET-CONNTRACK-004[node-1]"].text


def test_the_plan_tells_its_volume(bench: Bench) -> None:
    assert VOLUME in bench.run("--k8snet-dry-run", CHECKS, "--k8snet-conntrack-burst=2000").out
    assert "burst:" not in bench.run("--k8snet-dry-run", "--k8snet-checks=NET-MTU-*", "--k8snet-conntrack-burst=2000").out
    assert "burst:" not in bench.run("--k8snet-dry-run", CHECKS).out


@pytest.mark.parametrize("value", ["x", "50001", "-1"])
def test_numbers_that_are_none(bench: Bench, value: str) -> None:
    ran = bench.run(f"--k8snet-conntrack-burst={value}")
    assert ran.status == 4
    assert f"--k8snet-conntrack-burst: got {value!r}, want a whole number of at least 0 and at most 50000" in ran.out
