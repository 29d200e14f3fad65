from __future__ import annotations

import os

import pytest

from tests.plugin.bench import Bench


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("K8SNET_", "PYTEST_XDIST"))]:
        monkeypatch.delenv(name)
    for name in ("PYTEST_ADDOPTS", "KUBECONFIG", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def bench(pytester: pytest.Pytester) -> Bench:
    return Bench(pytester)
