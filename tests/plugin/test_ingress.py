"""Checks that send requests through an ingress, with a cluster that is not there."""

from __future__ import annotations

import pytest

from tests.plugin.bench import Bench

PROFILE = """
ingress:
  routes:
    - {name: plain, ingress_class: nginx, address: 198.51.100.7, drain_s: 1}
    - {name: tls, ingress_class: nginx, address: 198.51.100.7, tls: true, hsts_max_age: 31536000, drain_s: 1}
"""
CHECKS = "--k8snet-checks=" + ",".join(f"NET-INGRESS-00{number}" for number in range(4, 10))
ROUTES = "--k8snet-profile=routes.yaml"
MADE = ["+ service ingress", "+ ingress ingress-1", "+ ingress ingress-2"]


@pytest.fixture(autouse=True)
def profile(bench: Bench) -> None:
    bench.write("routes.yaml", PROFILE)


def made(bench: Bench) -> list[str]:
    return [line for line in bench.objects() if "ingress" in line]


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_a_healthy_cluster(bench: Bench, workers: tuple[str, ...]) -> None:
    ran = bench.run(CHECKS, ROUTES, "--k8snet-level=probe", *workers)
    assert (ran.status, set(ran.verdicts.values()), len(ran.cases)) == (0, {"pass"}, 6), ran.out
    assert made(bench) == MADE
    bench.assert_removed()
    asked = [line for line in bench.requests() if "ingress." in line]
    assert asked.count("node-1 pod ingress.serve") == 1, "measured once, however many workers judge"
    assert asked.count("node-2 pod ingress.stream") == 2, "once straight, and once while a pod takes over"


@pytest.mark.parametrize(
    "arguments", [(CHECKS, "--k8snet-level=probe"), (ROUTES, "--k8snet-checks=NET-INGRESS-*,NET-KERNEL-006", "--k8snet-level=read")]
)
def test_nothing_is_made_without_a_profile_or_where_nothing_is_sent(bench: Bench, arguments: tuple[str, ...]) -> None:
    ran = bench.run(*arguments)
    assert made(bench) == []
    assert [line for line in bench.requests() if "ingress." in line] == []
    skipped = [case.text for name, case in ran.cases.items() if name.startswith("NET-INGRESS-00") and int(name[12:15]) > 3]
    assert all("no profile names a way into the cluster to send requests through (ingress.routes)" in text for text in skipped), ran.out


def test_what_is_wrong_is_told(bench: Bench) -> None:
    bench.cluster(
        """
        from pytest_k8snet.access.fakes import ingress

        def untuned(params):
            fake.kept[params["token"]] = params
            if params["port"] == 8721:
                return ingress.answered(params)
            if params["send_bytes"]:
                return ingress.answered(params, answered=0, others={"400": 1})
            if params["requests"] > 1:
                return ingress.answered(params, hsts=None, opened=2, closed_after=[100])
            return ingress.answered(params)

        def seen(params):
            asked = fake.kept[params["token"]]
            return ingress.seen(asked, **({} if asked["port"] == 8721 else {"connections": asked["requests"]}))

        fake.answer("node-2", "ingress.ask", untuned, role="pod")
        fake.answer("node-1", "ingress.seen", seen, role="pod")
        """
    )
    ran = bench.run(CHECKS, ROUTES, "--k8snet-level=probe")
    assert {name: verdict for name, verdict in ran.verdicts.items() if verdict != "pass"} == {
        f"NET-INGRESS-00{number}[cluster]": "fail" for number in (5, 6, 7, 8)
    }
    assert "plain: 200 requests reached the pod over 200 connections" in ran.cases["NET-INGRESS-005[cluster]"].text
    assert "fix: docs/checks/NET-INGRESS-005" in ran.out


def test_an_ingress_that_is_refused_is_an_error(bench: Bench) -> None:
    bench.cluster(
        """
        from pytest_k8snet.errors import ProbeError

        def refuse(name):
            if name == "ingress ingress-1":
                raise ProbeError("Ingress k8snet-1/ingress-1 could not be made: denied by a webhook")
        fake.on_create = refuse
        """
    )
    ran = bench.run(CHECKS, ROUTES, "--k8snet-level=probe")
    assert set(ran.verdicts.values()) == {"error"}
    assert "Ingress k8snet-1/ingress-1 could not be made: denied by a webhook" in ran.cases["NET-INGRESS-004[cluster]"].text


def test_a_check_of_ones_own_has_no_ingresses(bench: Bench) -> None:
    bench.checks(
        """
        @check("ACME-1", level="probe")
        def test_own(k8snet_measure):
            raise k8snet_measure("ingress", "cluster").no_values("requests")
        """
    )
    ran = bench.own(ROUTES)
    (case,) = ran.cases.values()
    assert case.verdict == "error"
    assert "Ingresses are made for checks of the area ingress alone, and none of them is going to send requests" in case.text


def test_the_dry_run_tells_of_them(bench: Bench) -> None:
    ran = bench.run("--k8snet-dry-run", ROUTES, CHECKS)
    assert "  Service ingress in k8snet-<run id>: for one of those pods: what Ingresses and HTTPRoutes lead to" in ran.out
    assert "  2 Ingresses ingress-<number> in k8snet-<run id>: for ingress.routes of the profile; only where checks that send" in ran.out
    assert "--ingress` prints a role that has them" in ran.out
    for arguments in ((CHECKS,), (ROUTES, "--k8snet-checks=NET-DNS-004")):
        assert "Ingress" not in bench.run("--k8snet-dry-run", *arguments).out.partition("Objects")[2]
