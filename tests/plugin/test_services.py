"""Checks of DNS, of Services and of the way to the API server, with a cluster that is not there."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from pytest_k8snet.cli import main
from tests.plugin.bench import Bench

CHECKS = "--k8snet-checks=NET-DNS-004,NET-DNS-006,NET-DNS-007,NET-SERVICE-*,NET-CONTROL-008"
SERVICES = ["+ service probe-1", "+ service probe-2", "+ service probe-3", "+ service probe-spread", "+ service probe-sticky"]


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_a_healthy_cluster(bench: Bench, workers: tuple[str, ...]) -> None:
    ran = bench.run(CHECKS, "--k8snet-level=probe", *workers)
    assert ran.status == 0, ran.out
    assert len(ran.cases) == 13 * 3
    assert ran.line("k8snet: small packets:") == "k8snet: small packets: 6 pairs of nodes, about 4 MB in all"
    asked_for = {f"NET-SERVICE-00{check}[node-{n}]" for check in (8, 9) for n in (1, 2, 3)}
    assert {name for name, verdict in ran.verdicts.items() if verdict != "pass"} == asked_for
    assert {ran.verdicts[name] for name in asked_for} == {"skip"}
    assert [line for line in bench.objects() if "service" in line] == SERVICES
    bench.assert_removed()
    asked = [line for line in bench.requests() if not line.endswith(" facts")]
    # Every agent is asked once a batch, however many workers judge.
    for op, times in (
        ("host traffic.connect", 1),
        ("pod traffic.connect", 1),
        ("pod dns.ask", 2),
        ("host hello.greet", 1),
        ("pod balance.connect", 8),
    ):
        assert [line for line in asked if line.endswith(op)].count(f"node-2 {op}") == times, op


@pytest.mark.parametrize("arguments", [(CHECKS, "--k8snet-level=read"), ("--k8snet-checks=NET-DNS-004", "--k8snet-level=probe")])
def test_services_are_made_for_checks_that_need_them_alone(bench: Bench, arguments: tuple[str, ...]) -> None:
    bench.run(*arguments)
    assert [line for line in bench.objects() if "service" in line] == []


def test_what_is_wrong_is_told_where_it_is(bench: Bench) -> None:
    bench.cluster(
        """
        from pytest_k8snet.access.fakes import dns, traffic
        from pytest_k8snet.measure import service

        service.MADE_S = 0.0

        def lost(params):
            answers = {series["key"]: dns.answered(series) for series in params["series"]}
            for key, answer in answers.items():
                if key.endswith("TCP"):
                    answer.update(answered=0, ms=[], errors={"timed out": 2})
            return answers

        fake.answer("node-2", "dns.ask", lost, role="pod")
        silent = lambda params: {target["key"]: traffic.answered(None, None) for target in params["targets"]}
        fake.answer("node-3", "traffic.connect", silent)
        fake.answer("node-1", "hello.greet", lambda params: {
            target["key"]: {"connected_ms": None, "answered_ms": None, "tries": 3, "error": "timed out"} for target in params["targets"]
        }, role="pod")
        """
    )
    ran = bench.run(CHECKS, "--k8snet-level=probe", own_process=True)
    red = {name for name, verdict in ran.verdicts.items() if verdict not in ("pass", "skip")}
    assert red == {"NET-DNS-004[node-2]", "NET-SERVICE-001[node-3]", "NET-CONTROL-008[node-1]"}, ran.out
    assert re.search(
        r"node-2: Service kube-system/kube-dns \(10\.96\.0\.10\) over TCP: (\d+) of \d+ questions for "
        r"kubernetes\.default\.svc\.cluster\.local\. "
        r"failed: timed out \(\1\) \(dig \+tcp @10\.96\.0\.10 kubernetes\.default\.svc\.cluster\.local\.\)",
        ran.cases["NET-DNS-004[node-2]"].text,
    )
    assert "node-3: node-3's host network to ClusterIP 10.96.1.2 port 80, whose only endpoint is on node-2: timed out (3 of 3), after " in (
        ran.cases["NET-SERVICE-001[node-3]"].text
    )
    assert "node-1: the pod network does not reach kubernetes.default 10.96.0.1 port 443: timed out (3 tries)" in (
        ran.cases["NET-CONTROL-008[node-1]"].text
    )


def test_services_that_are_refused_are_errors_of_their_checks_alone(bench: Bench) -> None:
    bench.cluster(
        """
        from pytest_k8snet.errors import ProbeError

        def refuse(name):
            if name.startswith("service"):
                raise ProbeError("Service k8snet-1/probe-1 could not be made: exceeded quota: services")
        fake.on_create = refuse
        """
    )
    ran = bench.run(CHECKS, "--k8snet-level=probe")
    assert {name.partition("[")[0] for name, verdict in ran.verdicts.items() if verdict != "pass"} == {
        f"NET-SERVICE-00{number}" for number in range(1, 10)
    }
    assert ran.cases["NET-SERVICE-001[node-1]"].verdict == "error"
    assert "Service k8snet-1/probe-1 could not be made: exceeded quota: services" in ran.cases["NET-SERVICE-001[node-1]"].text


def test_a_check_of_ones_own_has_no_services(bench: Bench) -> None:
    bench.checks(
        """
        @check("ACME-1", level="probe")
        def test_own(k8snet_node):
            k8snet_node.document("service").no_values("x")
            raise k8snet_node.document("service").no_values("connections")
        """
    )
    ran = bench.own()
    assert ran.cases["ACME-1[node-1]"].verdict == "error"
    assert "Services are made for checks of the area service alone, and none of them is going to run" in ran.cases["ACME-1[node-1]"].text


def test_connections_are_left_idle_when_it_is_asked_for(bench: Bench) -> None:
    ran = bench.run("--k8snet-checks=NET-SERVICE-009", "--k8snet-level=probe", "--k8snet-idle=1")
    assert (ran.status, set(ran.verdicts.values())) == (0, {"pass"}), ran.out
    bench.assert_removed()
    assert bench.record("idle/node-1.json")["values"]["opened"]["waited_s"] >= 1
    assert "NET-SERVICE-009[node-1, node-2, node-3] - ...: connections through Services that nobody uses do not live for ever" in ran.out


@pytest.mark.parametrize("value", ["x", "2401", "-1"])
def test_times_for_idle_connections_that_are_none(bench: Bench, value: str) -> None:
    ran = bench.run(f"--k8snet-idle={value}")
    assert ran.status == 4
    assert f"--k8snet-idle: got {value!r}, want a whole number of seconds, at most 2400" in ran.out


def test_many_services_are_made_when_they_are_asked_for(bench: Bench) -> None:
    ran = bench.run("--k8snet-checks=NET-SERVICE-008", "--k8snet-level=probe", "--k8snet-service-scale=10,250")
    assert (ran.status, set(ran.verdicts.values())) == (0, {"pass"}), ran.out
    assert [line for line in bench.objects() if "service scale" in line] == [f"+ service scale-{number}" for number in range(1, 5)]
    bench.assert_removed()
    sizes = bench.record("scale/node-1.json")["values"]["sizes"]
    assert [(size["frontends"], len(size["connected_ms"])) for size in sizes] == [(10, 200), (250, 200)]


def test_a_picture_of_many_services(bench: Bench) -> None:
    out = bench.path / "scale.svg"
    run = ["--k8snet-checks=NET-SERVICE-008", "--k8snet-level=probe", "--k8snet-save-bundle=b.tar.zst"]
    bench.run(*run, "--k8snet-service-scale=10,250")
    for place in (bench.run_folder(), bench.path / "b.tar.zst"):
        drawn = CliRunner().invoke(main, ["plot", str(place), "-o", str(out)])
        assert (drawn.exit_code, drawn.output) == (0, f"{out}: milliseconds to connect by the number of Services\n")
        assert out.read_text().count("<polyline") == 6
        out.unlink()
    nowhere = CliRunner().invoke(main, ["plot", str(bench.run_folder()), "-o", str(bench.path / "no" / "x.svg")])
    assert (nowhere.exit_code, "x.svg: cannot be written: No such file or directory" in nowhere.output) == (1, True)


def test_no_picture_of_services_that_were_not_made(bench: Bench) -> None:
    bench.run("--k8snet-checks=NET-SERVICE-008", "--k8snet-level=probe")
    drawn = CliRunner().invoke(main, ["plot", str(bench.run_folder()), "-o", str(bench.path / "scale.svg")])
    assert drawn.exit_code == 1
    assert "no two numbers of Services were measured; run with --k8snet-service-scale=10,1000" in drawn.output


@pytest.mark.parametrize("value", ["10,x", "0", "10001", "10,,20"])
def test_numbers_of_services_that_are_none(bench: Bench, value: str) -> None:
    ran = bench.run(f"--k8snet-service-scale={value}")
    assert ran.status == 4
    assert f"--k8snet-service-scale: got {value!r}, want numbers from 1 to 10000 separated by commas, such as 10,1000" in ran.out


def test_the_dry_run_tells_of_services(bench: Bench) -> None:
    ran = bench.run("--k8snet-dry-run", "--k8snet-checks=NET-SERVICE-001")
    assert "\n  small packets: 6 pairs of nodes, about 4 MB in all\n" in ran.out
    assert "3 Services probe-<number> in k8snet-<run id>: of type NodePort for one of those pods, TCP" in ran.out
    ran = bench.run("--k8snet-dry-run", "--k8snet-checks=NET-SERVICE-008", "--k8snet-service-scale=10,1000")
    assert (
        "10 Services scale-<number> in k8snet-<run id>: of a ClusterIP and up to 100 ports, as --k8snet-service-scale asks for" in ran.out
    )
    ran = bench.run("--k8snet-dry-run", "--k8snet-checks=NET-DNS-004")
    assert "Services probe-" not in ran.out
