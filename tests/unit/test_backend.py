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
                "{} lacks: create and delete namespaces; create pods in k8snet-r1; create pods/exec in k8snet-r1. "
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
    ids=["own-namespace", "namespace", "ssh"],
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
