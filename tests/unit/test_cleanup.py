from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from pytest_k8snet.access.probes import PRIORITY_CLASSES
from pytest_k8snet.cleanup import Leftover, choose, find, remove, sweep
from pytest_k8snet.cli import main
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.api_error import ApiError
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
TEAM_PODS = "/api/v1/namespaces/team/pods"
OLD = (
    TEAM_PODS,
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
    assert deleted_pods(server) == ["metadata.name=host-b"]


def deleted_pods(server: FakeApiServer) -> list[str]:
    """Return which pods were deleted, each by itself, and none that is not of a run."""
    asked = [query for verb, path, query, _ in server.requests if (verb, path) == ("DELETE", TEAM_PODS)]
    assert all(query["labelSelector"] == f"{MANAGED_BY}={MANAGER},{RUN_ID}" for query in asked)
    return [query["fieldSelector"] for query in asked]


def inside(path: str) -> str:
    """Return where objects are listed in one namespace, by where they are listed in all."""
    base, _, plural = path.rpartition("/")
    return f"{base}/namespaces/team/{plural}"


@pytest.fixture
def tenant(server: FakeApiServer) -> FakeApiServer:
    """Let the identity see nothing but what is in its namespace."""
    for path in ("/api/v1/pods", "/api/v1/services", INGRESSES, HTTP_ROUTES, POLICIES):
        answer = server.routes["GET", path]
        assert isinstance(answer, tuple)
        server.items(inside(path), *(item for item in answer[1]["items"] if item["metadata"]["namespace"] == "team"))
    for path in ("/api/v1/namespaces", "/api/v1/pods", "/api/v1/services", INGRESSES, HTTP_ROUTES, POLICIES, PRIORITY_CLASSES):
        server.routes["GET", path] = status(403, "Forbidden", 'User "tenant" cannot list it at the cluster scope')
    return server


def test_with_rights_in_one_namespace(tenant: FakeApiServer, tmp_path: Path) -> None:
    ran = cleanup(tenant, tmp_path, "--namespace", "team")
    assert ran.exit_code == 0, ran.output
    assert ran.output.splitlines() == [
        "removed Pod team/host-b (run r1, made 2020-01-01 00:00 UTC)",
        "removed Service team/probe-2 (run r1, made 2020-01-01 00:00 UTC)",
        "removed Ingress team/ingress-1 (run r1, made 2020-01-01 00:00 UTC)",
        "removed HTTPRoute team/ingress-2 (run r1, made 2020-01-01 00:00 UTC)",
        "removed NetworkPolicy team/policy (run r1, made 2020-01-01 00:00 UTC)",
        "kept 1 that is younger; --older-than or --all removes more",
    ]
    assert tenant.asked("DELETE") == [*OLD]
    assert deleted_pods(tenant) == ["metadata.name=host-b"]
    assert all("/namespaces/team/" in path or path.startswith(LEASES) for path in tenant.asked("GET"))


def test_without_rights_in_all_namespaces(tenant: FakeApiServer, tmp_path: Path) -> None:
    ran = cleanup(tenant, tmp_path)
    assert ran.exit_code == 1
    assert ran.output.startswith("Error: GET /api/v1/namespaces: HTTP 403: ")
    assert ran.output.endswith(" An account that may only look into one namespace: k8snet cleanup --namespace NAME\n")
    assert tenant.asked("DELETE") == []


def test_without_rights_in_the_namespace(tenant: FakeApiServer, tmp_path: Path) -> None:
    tenant.routes["GET", TEAM_PODS] = status(403, "Forbidden", 'User "tenant" cannot list pods')
    ran = cleanup(tenant, tmp_path, "--namespace", "team")
    assert ran.exit_code == 1
    assert "needs the verb list on pods" in ran.output
    assert "An account" not in ran.output


@pytest.mark.parametrize("name", ["", "Team", "a/b", "../x"])
def test_no_name_of_a_namespace(server: FakeApiServer, tmp_path: Path, name: str) -> None:
    ran = cleanup(server, tmp_path, "--namespace", name)
    assert ran.exit_code == 2
    assert "is no name of a namespace" in ran.output
    assert server.requests == []


def swept(server: FakeApiServer, folder: Path, namespace: str | None = None) -> list[str]:
    with closing(Api.from_kubeconfig(str(write_kubeconfig(folder / "config", server.url)))) as api:
        return [f"{item.kind} {item.name}" for item in sweep(api, namespace, after=timedelta(hours=1))]


def ago(**how_long: float) -> str:
    return (datetime.now(UTC) - timedelta(**how_long)).isoformat(timespec="seconds")


def test_sweep(server: FakeApiServer, tmp_path: Path) -> None:
    """Namespaces of runs and priority classes, and nothing that another run may use: not what says no time, nor what is young."""
    server.items(
        "/api/v1/namespaces",
        raw("k8snet-dead", made=ago(hours=3), expires=ago(hours=2)),
        raw("k8snet-of-a-clock-that-is-slow", made=ago(minutes=5), expires=ago(hours=7)),
        raw("k8snet-of-a-clock-that-is-fast", made=ago(hours=3), expires=ago(hours=-7)),
        raw("k8snet-of-no-time", made=ago(hours=3), expires=None),
    )
    server.items(PRIORITY_CLASSES, raw("k8snet-dead", made=ago(hours=3), expires=ago(hours=2)))
    for path in ("/api/v1/namespaces/k8snet-dead", f"{PRIORITY_CLASSES}/k8snet-dead"):
        server.routes["DELETE", path] = (200, {})
    assert swept(server, tmp_path) == ["Namespace k8snet-dead", "PriorityClass k8snet-dead"]
    assert server.asked("DELETE") == ["/api/v1/namespaces/k8snet-dead", f"{PRIORITY_CLASSES}/k8snet-dead"]


@pytest.mark.parametrize("hours", [-2, 2])
def test_sweep_goes_by_the_server_s_clock(server: FakeApiServer, tmp_path: Path, hours: int) -> None:
    """Whatever this machine's clock says: here the server's is another one by two hours."""
    server.headers["Date"] = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    server.items("/api/v1/namespaces", raw("k8snet-r1", made=ago(minutes=5), expires=ago(minutes=1)))
    server.items(PRIORITY_CLASSES)
    assert swept(server, tmp_path) == (["Namespace k8snet-r1"] if hours > 0 else [])


def test_sweep_in_a_namespace(tenant: FakeApiServer, tmp_path: Path) -> None:
    tenant.routes["DELETE", "/api/v1/namespaces/team/services/probe-2"] = status(403, "Forbidden", "may not")
    assert swept(tenant, tmp_path, "team") == [
        "Pod team/host-b",
        "Ingress team/ingress-1",
        "HTTPRoute team/ingress-2",
        "NetworkPolicy team/policy",
    ]
    assert deleted_pods(tenant) == ["metadata.name=host-b"]


def test_sweep_without_rights(tenant: FakeApiServer, tmp_path: Path) -> None:
    """They are not needed for a run."""
    assert swept(tenant, tmp_path) == []


def test_sweep_that_fails(server: FakeApiServer, tmp_path: Path) -> None:
    server.routes["DELETE", "/api/v1/namespaces/k8snet-r1"] = status(500, "InternalError", "etcd is away")
    with pytest.raises(ApiError, match="etcd is away"):
        swept(server, tmp_path)


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
