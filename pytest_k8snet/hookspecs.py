"""Hooks that a conftest may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster


@pytest.hookspec(firstresult=True)
def pytest_k8snet_fake(config: pytest.Config) -> FakeCluster | None:
    """Return the cluster that ``--k8snet-access=fake`` runs on. Called once in every process of a run."""
