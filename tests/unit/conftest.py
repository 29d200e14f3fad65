from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_k8snet.cluster.api import Api
from tests.unit.fakeapi import FakeApiServer, fake_api, write_kubeconfig


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with fake_api() as server:
        yield server


@pytest.fixture
def api(server: FakeApiServer, tmp_path: Path) -> Iterator[Api]:
    api = Api.from_kubeconfig(str(write_kubeconfig(tmp_path / "config", server.url)))
    yield api
    api.close()
