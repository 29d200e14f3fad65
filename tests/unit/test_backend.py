from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.backend import PodBackend
from pytest_k8snet.cluster.kubeconfig import ignore
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
