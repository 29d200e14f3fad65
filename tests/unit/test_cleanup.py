from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from pytest_k8snet.access.probes import PRIORITY_CLASSES
from pytest_k8snet.cleanup import Leftover, choose, find, remove
from pytest_k8snet.cli import main
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.lease import LEASES
from pytest_k8snet.cluster.ownership import EXPIRES, MANAGED_BY, MANAGER, RUN_ID
from pytest_k8snet.commands.cleanup import age
from tests.unit.fakeapi import FakeApiServer, LeaseCell, fake_api, status, write_kubeconfig

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def leftover(name: str, *, made: timedelta, expires: timedelta | None) -> Leftover:
    return Leftover("Namespace", name, f"/{name}", "r1", NOW - made, None if expires is None else NOW + expires)


FOUND = [
    leftover("running", made=timedelta(minutes=5), expires=timedelta(minutes=55)),
    leftover("dead", made=timedelta(hours=3), expires=-timedelta(hours=2)),
    leftover("unlabelled", made=timedelta(days=9), expires=None),
]


@pytest.mark.parametrize(
    ("older_than", "everything", "names"),
    [
        (None, False, ["dead"]),
        (timedelta(hours=1), False, ["dead", "unlabelled"]),
        (timedelta(hours=4), False, ["unlabelled"]),
        (None, True, ["running", "dead", "unlabelled"]),
    ],
)
def test_choose(older_than: timedelta | None, everything: bool, names: list[str]) -> None:
    assert [item.name for item in choose(FOUND, older_than=older_than, everything=everything, now=NOW)] == names


def test_words() -> None:
    assert str(FOUND[1]) == "Namespace dead (run r1, made 2026-06-01 09:00 UTC)"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172800)])
def test_age(text: str, seconds: int) -> None:
    assert age(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "1", "h", "1w", "-1h", "1.5h"])
def test_no_age(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not an age"):
        age(text)


def raw(
    name: str, *, namespace: str | None = None, made: str = "2020-01-01T00:00:00Z", expires: str | None = "2020-01-01T01:00:00+00:00"
) -> Any:
    return {
        "metadata": {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            "creationTimestamp": made,
            "labels": {MANAGED_BY: MANAGER, RUN_ID: "r1"},
            **({"annotations": {EXPIRES: expires}} if expires else {}),
        }
    }


INGRESSES = "/apis/networking.k8s.io/v1/ingresses"
HTTP_ROUTES = "/apis/gateway.networking.k8s.io/v1/httproutes"
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
OLD = (
    "/api/v1/namespaces/team/pods/host-b",
    "/api/v1/namespaces/team/services/probe-2",
    "/apis/networking.k8s.io/v1/namespaces/team/ingresses/ingress-1",
    "/apis/gateway.networking.k8s.io/v1/namespaces/team/httproutes/ingress-2",
    "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/policy",
)


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with fake_api() as server:
        server.items("/api/v1/namespaces", raw("k8snet-r1"), raw("k8snet-young", made="2020-01-01T00:00:00Z", expires=None))
        server.items(
            "/api/v1/pods",
            raw("host-a", namespace="k8snet-r1"),
            raw("host-b", namespace="team"),
            raw("host-c", namespace="team", expires="2999-01-01T00:00:00+00:00"),
        )
        server.items("/api/v1/services", raw("probe-1", namespace="k8snet-r1"), raw("probe-2", namespace="team"))
        server.items(INGRESSES, raw("ingress-1", namespace="k8snet-r1"), raw("ingress-1", namespace="team"))
        server.items(HTTP_ROUTES, raw("ingress-2", namespace="team"))
        server.items(POLICIES, raw("policy", namespace="k8snet-r1"), raw("policy", namespace="team"))
        server.items(PRIORITY_CLASSES, raw("k8snet-r1", expires="nonsense"))
        for path in (*OLD, "/api/v1/namespaces/k8snet-r1"):
            server.routes["DELETE", path] = (200, {})
        yield server


def cleanup(server: FakeApiServer, folder: Path, *arguments: str) -> Result:
    config = write_kubeconfig(folder / "config", server.url)
    return CliRunner().invoke(main, ["cleanup", "--kubeconfig", str(config), *arguments])


def test_command(server: FakeApiServer, tmp_path: Path) -> None:
    ran = cleanup(server, tmp_path)
    assert ran.exit_code == 0, ran.output
    assert ran.output.splitlines() == [
        "removed Namespace k8snet-r1 (run r1, made 2020-01-01 00:00 UTC)",
        "removed Pod team/host-b (run r1, made 2020-01-01 00:00 UTC)",
        "removed Service team/probe-2 (run r1, made 2020-01-01 00:00 UTC)",
        "removed Ingress team/ingress-1 (run r1, made 2020-01-01 00:00 UTC)",
        "removed HTTPRoute team/ingress-2 (run r1, made 2020-01-01 00:00 UTC)",
        "removed NetworkPolicy team/policy (run r1, made 2020-01-01 00:00 UTC)",
        "kept 3 that are younger; --older-than or --all removes more",
    ]
    assert server.asked("DELETE") == ["/api/v1/namespaces/k8snet-r1", *OLD]


def test_dry_run(server: FakeApiServer, tmp_path: Path) -> None:
    ran = cleanup(server, tmp_path, "--dry-run", "--all")
    assert ran.exit_code == 0
    assert len([line for line in ran.output.splitlines() if line.startswith("would remove ")]) == 9
    assert server.asked("DELETE") == []


def test_the_lease(server: FakeApiServer, tmp_path: Path) -> None:
    cell = LeaseCell(server)
    cell.put("k8snet-r1")
    assert cell.record is not None
    cell.record["metadata"] |= {**raw("k8snet-load", namespace="default")["metadata"], "resourceVersion": "1"}
    assert "removed Lease default/k8snet-load (run r1, made 2020-01-01 00:00 UTC)" in cleanup(server, tmp_path).output
    assert cell.record is None


def test_a_lease_that_a_run_takes_over_meanwhile_stays(server: FakeApiServer, tmp_path: Path) -> None:
    cell = LeaseCell(server)
    cell.put("k8snet-r1")
    assert cell.record is not None
    cell.record["metadata"] |= {**raw("k8snet-load", namespace="default")["metadata"], "resourceVersion": "1"}
    api = Api.from_kubeconfig(str(write_kubeconfig(tmp_path / "config", server.url)))
    (found,) = (item for item in find(api) if item.kind == "Lease")
    cell.put("k8snet-r2")
    remove(api, found)
    api.close()
    assert cell.holder == "k8snet-r2"


def test_a_lease_of_somebody_elses_is_left_alone(server: FakeApiServer, tmp_path: Path) -> None:
    cell = LeaseCell(server)
    cell.put("controller-of-theirs")
    assert "Lease" not in cleanup(server, tmp_path, "--all").output
    assert cell.holder == "controller-of-theirs"


def test_nothing_there(tmp_path: Path) -> None:
    with fake_api() as server:
        for path in (INGRESSES, POLICIES):
            server.routes["GET", path] = status(403, "Forbidden", "may not list them")
        for path in ("/api/v1/namespaces", "/api/v1/pods", "/api/v1/services"):
            server.items(path)
        server.routes["GET", PRIORITY_CLASSES] = status(403, "Forbidden", "may not list them")
        server.routes["GET", f"{LEASES}/k8snet-load"] = status(403, "Forbidden", "may not read it")
        ran = cleanup(server, tmp_path)
    assert (ran.exit_code, ran.output) == (0, "nothing to remove\n")


def test_options_that_exclude_each_other(server: FakeApiServer, tmp_path: Path) -> None:
    ran = cleanup(server, tmp_path, "--all", "--older-than", "1h")
    assert ran.exit_code == 2
    assert "--all and --older-than exclude each other" in ran.output


def test_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["cleanup", "--kubeconfig", str(tmp_path / "none")])
    assert (ran.exit_code, ran.output) == (1, f"Error: kubeconfig {tmp_path / 'none'}: there is no such file\n")
