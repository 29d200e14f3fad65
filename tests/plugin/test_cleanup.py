"""What a run creates it removes, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.plugin.bench import Bench, ended, wait_for

SLOW = """
import time
from pathlib import Path

@check("ACME-1")
def test_it(k8snet_node):
    assert k8snet_node.sysctl("net.ipv4.ip_forward") == "1"
    (Path(__file__).parent / "started.txt").touch()
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("way", "body"),
    [
        ("-pno:xdist", "pass"),
        ("-pno:xdist", "raise MeasurementError('x')"),
        ("-pno:xdist", "pytest.exit('enough')"),
        ("-n2", "assert False"),
    ],
)
def test_after_a_run(bench: Bench, way: str, body: str) -> None:
    bench.checks(f"@check('ACME-1')\ndef test_it(k8snet_node): {body}")
    ran = bench.own(way)
    assert (ran.status == 0) == (body == "pass")
    bench.assert_removed()


def test_two_pods_a_ready_node(bench: Bench) -> None:
    bench.cluster("fake.not_ready('node-2', 'gone')", nodes=("node-1", "node-2"))
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    bench.own()
    assert [line.split()[1:] for line in bench.objects()][1:3] == [["pod", "host-node-1"], ["pod", "probe-node-1"]]
    assert not any("node-2" in line for line in bench.objects())


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 2), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"])
def test_interrupted(bench: Bench, way: str, number: signal.Signals, status: int) -> None:
    bench.checks(SLOW)
    with bench.running(way) as process:
        wait_for((bench.path / "started.txt").exists, process)
        process.send_signal(number)
        got, out = ended(process)
    assert got == status, out
    assert "INTERNALERROR" not in out
    bench.assert_removed()
    results = bench.record("run.json")["results"]
    assert results["exit_status"] == status
    assert results["lost"] == ["ACME-1[node-1]", "ACME-1[node-2]", "ACME-1[node-3]"]
    why = "interrupted" if number == signal.SIGINT else "SIGTERM"
    assert f"NOT RUN 3 cases: {why}: ACME-1[node-1], ACME-1[node-2], ACME-1[node-3]" in out


def test_interrupted_while_pods_are_made(bench: Bench) -> None:
    bench.cluster("""
        create = fake.on_create
        fake.on_create = lambda name: (create(name), time.sleep(0.3))
    """)
    bench.checks(SLOW)
    with bench.running() as process:
        wait_for(bench.objects, process)
        process.send_signal(signal.SIGINT)
        got, out = ended(process)
    # CPython ends by the signal when it was raised within exec() of a string (a dataclass being made), caught or not.
    assert got in (2, -signal.SIGINT), out
    bench.assert_removed()


def test_interrupted_while_pods_start(bench: Bench) -> None:
    bench.cluster("fake.probe_delay_s = 600.0")
    bench.checks(SLOW)
    with bench.running() as process:
        wait_for(lambda: len(bench.objects()) == 7, process)
        process.send_signal(signal.SIGTERM)
        got, out = ended(process)
    assert got == 143, out
    bench.assert_removed()


def test_terminated_while_the_inventory_is_read(bench: Bench) -> None:
    bench.cluster("""
        def slowly():
            note("reading.txt", "now")
            time.sleep(600)
        fake.read_cluster = slowly
    """)
    bench.checks(SLOW)
    with bench.running() as process:
        wait_for((bench.path / "reading.txt").exists, process)
        process.send_signal(signal.SIGTERM)
        got, out = ended(process)
    assert got == 143, out
    assert bench.objects() == []


def test_sigterm_is_no_error_that_a_check_may_catch(bench: Bench) -> None:
    bench.checks("""
        import os, signal

        @check("ACME-1")
        def test_it(k8snet_node):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except Exception:
                pass
    """)
    ran = bench.own(own_process=True)
    assert ran.status == 143
    assert ran.line("NOT RUN 3 cases: SIGTERM")
    bench.assert_removed()


def test_impatient_signals(bench: Bench) -> None:
    bench.cluster("""
        delete = fake.on_delete
        def slowly(name):
            note("deleting.txt", name)
            time.sleep(1)
            delete(name)
        fake.on_delete = slowly
    """)
    bench.checks(SLOW)
    with bench.running() as process:
        wait_for((bench.path / "started.txt").exists, process)
        process.send_signal(signal.SIGTERM)
        wait_for((bench.path / "deleting.txt").exists, process)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        _, out = ended(process)
    bench.assert_removed()
    assert "INTERNALERROR" not in out


def test_removal_that_fails_is_told(bench: Bench) -> None:
    bench.cluster("""
        def refused(name):
            raise ClusterError("namespace k8snet-x: 403 forbidden")
        fake.on_delete = refused
    """)
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    told = "the probe pods could not be removed: namespace k8snet-x: 403 forbidden; k8snet cleanup does it later"
    assert told in bench.own().out
    bench.checks(SLOW)
    with bench.running() as process:
        wait_for((bench.path / "started.txt").exists, process)
        process.send_signal(signal.SIGTERM)
        _, out = ended(process)
    assert told in out.splitlines()


def test_what_killed_runs_left_is_told(bench: Bench) -> None:
    bench.cluster("fake.left = ['Namespace k8snet-a (run a, made 2026-06-01 09:00 UTC)']")
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    ran = bench.own()
    assert ran.status == 0
    assert ran.line("removed what a killed run had left: ") == (
        "removed what a killed run had left: Namespace k8snet-a (run a, made 2026-06-01 09:00 UTC)"
    )


def test_what_killed_runs_left_and_cannot_be_removed_makes_no_run_red(bench: Bench) -> None:
    bench.cluster("""
        def refused():
            raise ClusterError("namespace k8snet-a: 500 etcd is away")
        fake.sweep = refused
    """)
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    ran = bench.own()
    assert ran.status == 0
    assert ran.line("what killed runs left could not be removed: namespace k8snet-a: 500 etcd is away; k8snet cleanup does it later")


def test_sweeping_that_hangs_keeps_no_run_from_ending(bench: Bench) -> None:
    bench.cluster("""
        from pytest_k8snet import run
        run._SWEEP_S = 0.1
        fake.sweep = lambda: time.sleep(600)
    """)
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    with bench.running() as process:
        status, out = ended(process)
    assert status == 0, out
    bench.assert_removed()


def test_sigterm_of_somebody_else_s_tests(bench: Bench) -> None:
    """Without a cluster the plugin leaves signals as they are."""
    bench.write("test_plain.py", "import os, signal\ndef test_it(): os.kill(os.getpid(), signal.SIGTERM)\n")
    line = [sys.executable, "-m", "pytest", "-q", "test_plain.py"]
    assert subprocess.run(line, cwd=bench.path, capture_output=True, check=False).returncode == -signal.SIGTERM


@pytest.mark.parametrize("arguments", [["--collect-only"], ["--collect-only", "-n2"], ["--k8snet-dry-run", "-n2"]])
def test_nothing_is_made_for_a_plan(bench: Bench, arguments: list[str]) -> None:
    ran = bench.run(*arguments)
    assert ran.status == 0
    assert bench.objects() == []
    assert bench.requests() == []
    assert not (bench.path / ".k8snet").exists()


@pytest.mark.parametrize("option", ["--fixtures", "--markers", "--fixtures-per-test", "--cache-show"])
def test_looking_asks_no_cluster(bench: Bench, option: str) -> None:
    bench.cluster("fake.read_error = ClusterError('was asked')")
    result = bench.pytester.runpytest_inprocess("--k8snet-access=fake", option)
    assert result.ret in (0, 5)
    assert "was asked" not in f"{result.stdout}{result.stderr}"
    assert bench.objects() == []
