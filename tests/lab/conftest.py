"""The lab ring: real Kubernetes on real kernels. It takes many minutes, so it runs only when its folder is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_k8snet.lab.settings import NETWORK_KINDS

HERE = Path(__file__).parent
NETWORKS_VARIABLE = "K8SNET_TEST_NETWORKS"
"""Environment: which networks of test_networks.py to start a lab with, separated by commas, or all."""


def chosen_networks() -> frozenset[str]:
    """Return the networks to start a lab with: flannel-vxlan, unless the environment says otherwise."""
    chosen = os.environ.get(NETWORKS_VARIABLE, "flannel-vxlan")
    return frozenset(NETWORK_KINDS if chosen == "all" else chosen.split(","))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the lab tests out of a bare ``pytest`` in the checkout."""
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        return
    skip = pytest.mark.skip(reason="lab tests run when named: pytest tests/lab")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Path:
    """Return the folder that keeps what the runs of a module said."""
    folder = request.config.rootpath / "build" / "lab" / request.path.stem
    folder.mkdir(parents=True, exist_ok=True)
    return folder
