from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.access.probes import PRIORITY_CLASSES
from pytest_k8snet.backend import LocalBackend, PodBackend, SshBackend
from pytest_k8snet.cluster.kubeconfig import ignore
from pytest_k8snet.cluster.ownership import EXPIRES, MANAGED_BY, MANAGER, RUN_ID
from pytest_k8snet.cluster.reviews import REVIEWS
from pytest_k8snet.options import Settings
from tests.unit.fakeapi import Answer, FakeApiServer, write_kubeconfig


@pytest.fixture
def config(server: FakeApiServer, tmp_path: Path) -> str:
    return str(write_kubeconfig(tmp_path / "config", server.url))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {},
            (
                "{} lacks: create and delete namespaces; create pods in k8snet-r1; create pods/exec in k8snet-r1; "
                "create services in k8snet-r1; create leases.coordination.k8s.io in default; "
                "update and delete leases.coordination.k8s.io k8snet-load in default. "
                "`k8snet manifests rbac --level load`"
            ),
        ),
        (
            {"no_lock": True},
            (
                "{} lacks: create and delete namespaces; create pods in k8snet-r1; create pods/exec in k8snet-r1; "
                "create services in k8snet-r1. "
                "`k8snet manifests rbac --level load`"
            ),
        ),
        (
            {"level": "read", "namespace": "net", "context": "lab"},
            (
                "{} (context lab) lacks: create and deletecollection pods in net; create pods/exec in net. "
                "`k8snet manifests rbac --level read --namespace net`"
            ),
        ),
        ({"access": "ssh"}, None),
    ],
    ids=["own-namespace", "no-lock", "namespace", "ssh"],
)
def test_one_message_for_all_that_is_missing(server: FakeApiServer, config: str, settings: dict[str, Any], message: str | None) -> None:
    """The identity may list and get, and nothing else."""

    def answer(path: str, query: dict[str, str], body: Any) -> Answer:
        return 201, {"status": {"allowed": body["spec"]["resourceAttributes"]["verb"] in ("list", "get")}}

    server.routes["POST", REVIEWS] = answer
    backend = PodBackend(Settings(kubeconfig=config, **settings), ignore)
    try:
        wanted = message and f"the identity of kubeconfig {message.format(config)} prints a role that has everything that is needed."
        assert backend.missing_rights("r1") == wanted
    finally:
        backend.close()


def test_who_lacks_nothing_but_the_lease_is_told_how_to_do_without(server: FakeApiServer, config: str) -> None:
    def answer(path: str, query: dict[str, str], body: Any) -> Answer:
        return 201, {"status": {"allowed": body["spec"]["resourceAttributes"]["resource"] != "leases"}}

    server.routes["POST", REVIEWS] = answer
    backend = PodBackend(Settings(kubeconfig=config), ignore)
    message = backend.missing_rights("r1")
    backend.close()
    assert message is not None
    assert message.endswith("Without these, --k8snet-level=probe measures no load, and --k8snet-no-lock measures it beside others.")


@pytest.mark.parametrize(("namespace", "left"), [(None, "Namespace k8snet-old"), ("net", "Pod net/host-node-1")])
def test_what_killed_runs_left_is_removed_where_a_run_makes_its_own(
    server: FakeApiServer, config: str, namespace: str | None, left: str
) -> None:
    def of_a_killed_run(**metadata: str) -> dict[str, Any]:
        labels = {MANAGED_BY: MANAGER, RUN_ID: "old"}
        expired = {EXPIRES: "2020-01-01T01:00:00+00:00"}
        return {"metadata": {"labels": labels, "annotations": expired, "creationTimestamp": "2020-01-01T00:00:00Z", **metadata}}

    server.items("/api/v1/namespaces", of_a_killed_run(name="k8snet-old"))
    server.items("/api/v1/namespaces/net/pods", of_a_killed_run(name="host-node-1", namespace="net"))
    for path in ("/api/v1/namespaces/net/services", PRIORITY_CLASSES):
        server.items(path)
    for path in ("/api/v1/namespaces/k8snet-old", "/api/v1/namespaces/net/pods"):
        server.routes["DELETE", path] = (200, {})
    backend = PodBackend(Settings(kubeconfig=config, namespace=namespace), ignore)
    try:
        assert backend.sweep() == [f"{left} (run old, made 2020-01-01 00:00 UTC)"]
    finally:
        backend.close()
    assert len(server.asked("DELETE")) == 1


@pytest.mark.parametrize("backend", [SshBackend, LocalBackend])
def test_runs_that_make_nothing_remove_nothing(server: FakeApiServer, config: str, backend: type[SshBackend | LocalBackend]) -> None:
    opened = backend(Settings(kubeconfig=config, access="ssh"), ignore)
    assert opened.sweep() == ()
    opened.close()
    assert server.requests == []
