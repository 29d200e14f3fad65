from __future__ import annotations

import importlib
import os
import pkgutil

import pytest

import pytest_k8snet
from tests.plugin.bench import Bench

#: Of the plugin's packages, those that a run in this process would load anew, and with them pydantic, for a third of its time. Modules of
#: `measure` are not among them: conftests of tests shorten their waits, which is to be forgotten with them.
_LOADED_ONCE = ("access", "cluster", "expect", "judge", "record")


def pytest_configure() -> None:
    """Load them once: `pytester` forgets after a run what it has loaded, and keeps what was there before."""
    for name in _LOADED_ONCE:
        folder = f"{pytest_k8snet.__path__[0]}/{name}"
        for module in pkgutil.walk_packages([folder], f"pytest_k8snet.{name}."):
            importlib.import_module(module.name)


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
