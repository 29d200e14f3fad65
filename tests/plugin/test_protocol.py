"""Cases between two of their module are run without what pytest has around each phase: nobody sees a difference, and who looks gets all."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.plugin.bench import Bench, Ran

NODES = tuple(f"node-{number}" for number in range(1, 6))
CHECKS = ("--k8snet-profile=flat-l2", "--k8snet-profile=ipvs", "--k8snet-level=read")
FAULTS = """
fake.change_facts("node-2", lambda facts: facts["links"][1].update(mtu=1400), role="pod")
fake.change_facts("node-3", lambda facts: facts["kube_proxy"].update(mode="iptables"))
"""
WATCHING = """
def pytest_runtest_setup(item):
    with open("watched.txt", "a") as stream:
        stream.write(item.name + "\\n")
"""
COUNTING = """
from pytest_k8snet import protocol

_report = protocol._report


def counted(item, body, phase):
    note("light.txt", item.name)
    _report(item, body, phase)


protocol._report = counted
"""


def add(bench: Bench, more: str) -> None:
    bench.write("conftest.py", (bench.path / "conftest.py").read_text() + more)


def without_times(cases: Ran) -> Mapping[str, tuple[str, str, Mapping[str, str]]]:
    return {name: (case.outcome, case.text, case.properties) for name, case in cases.cases.items()}


def light(bench: Bench) -> list[str]:
    """Return the cases that were run so, each once for its call and once for its teardown."""
    noted = bench.noted("light.txt")
    assert all(noted.count(name) == 2 for name in noted)
    return [*dict.fromkeys(noted)]


def test_only_cases_between_two_of_their_module_are_run_so(bench: Bench) -> None:
    bench.cluster(nodes=NODES)
    add(bench, COUNTING)
    assert bench.run("--k8snet-profile=flat-l2", "--k8snet-checks=NET-MTU-001", own_process=True).status == 0
    assert light(bench) == ["test_pod_mtu[node-2]", "test_pod_mtu[node-3]", "test_pod_mtu[node-4]"]


@pytest.mark.parametrize("way", ["-pno:xdist", "-n2"])
def test_results_are_those_of_pytest_s_own_protocol(bench: Bench, way: str) -> None:
    bench.cluster(FAULTS, nodes=NODES)
    add(bench, COUNTING)
    run = bench.run(*CHECKS, way, own_process=True)
    assert light(bench)
    (bench.path / "light.txt").unlink()
    bench.write("watching.py", WATCHING)
    watched = bench.run(*CHECKS, way, "-pwatching", own_process=True)
    assert not (bench.path / "light.txt").exists()
    assert without_times(run) == without_times(watched)
    assert {*run.verdicts.values()} >= {"pass", "fail", "skip"}
    assert len(bench.noted("watched.txt")) == len(watched.cases)
    shown = [
        [line for line in ran.out.splitlines() if line.startswith(("FAILED", "SKIPPED", "ADVICE", "verdicts"))] for ran in (run, watched)
    ]
    assert shown[0] == shown[1]


@pytest.mark.parametrize("option", ["--durations=3", "--setup-show", "--pdb"])
def test_options_that_show_phases_get_all_of_them(bench: Bench, option: str) -> None:
    bench.cluster(nodes=NODES)
    add(bench, COUNTING)
    ran = bench.run("--k8snet-profile=flat-l2", "--k8snet-checks=NET-MTU-001", option, own_process=True)
    assert set(ran.verdicts.values()) == {"pass"}
    assert not (bench.path / "light.txt").exists()


def test_a_setup_that_fails_is_reported_as_one(bench: Bench) -> None:
    """The facts of a node that cannot be had are an error, wherever its case stands."""
    bench.cluster("fake.fail_probe('node-3', 'no room for its pod')", nodes=NODES)
    add(bench, COUNTING)
    ran = bench.run("--k8snet-profile=flat-l2", "--k8snet-checks=NET-MTU-001", own_process=True)
    assert ran.cases["NET-MTU-001[node-3]"].outcome == "error"
    assert "test_pod_mtu[node-3]" in light(bench)


def test_the_first_red_ends_the_run_when_that_is_asked_for(bench: Bench) -> None:
    bench.cluster(FAULTS, nodes=NODES)
    add(bench, COUNTING)
    ran = bench.run("--k8snet-profile=flat-l2", "--k8snet-checks=NET-MTU-001", "-x", own_process=True)
    assert ran.verdicts == {"NET-MTU-001[node-1]": "pass", "NET-MTU-001[node-2]": "fail"}
    assert light(bench) == ["test_pod_mtu[node-2]"]
    assert "Traceback" not in ran.out


def test_ctrl_c_in_one_is_ctrl_c(bench: Bench) -> None:
    bench.cluster(nodes=NODES)
    interrupting = """
from pytest_k8snet.judge import mtu

_pod_mtu = mtu.pod_mtu


def pod_mtu(facts, *arguments, **more):
    if facts.node == "node-3":
        raise KeyboardInterrupt
    return _pod_mtu(facts, *arguments, **more)


mtu.pod_mtu = pod_mtu
"""
    add(bench, COUNTING + interrupting)
    ran = bench.run("--k8snet-profile=flat-l2", "--k8snet-checks=NET-MTU-001", own_process=True)
    assert ran.status == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in ran.out
    assert bench.noted("light.txt") == ["test_pod_mtu[node-2]"] * 2 + ["test_pod_mtu[node-3]"]
