"""Short names, for this suite only, of the plugin's public fixtures."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def node(k8snet_node: Any) -> Any:
    """Return the node that the check is judged on."""
    return k8snet_node


@pytest.fixture
def pair(k8snet_pair: Any) -> Any:
    """Return the pair of nodes that the check is judged on."""
    return k8snet_pair


@pytest.fixture
def cluster(k8snet_cluster: Any) -> Any:
    """Return the cluster as its API describes it."""
    return k8snet_cluster


@pytest.fixture
def expect(k8snet_expect: Any) -> Any:
    """Return what is expected of the subject."""
    return k8snet_expect


@pytest.fixture
def documents(k8snet_documents: Any) -> Any:
    """Return the function that gives one measurement of all nodes."""
    return k8snet_documents


@pytest.fixture
def measure(k8snet_measure: Any) -> Any:
    """Return the function that gives a measurement by name."""
    return k8snet_measure


@pytest.fixture
def verdict(k8snet_verdict: Any) -> Any:
    """Return the function that records a judgement and raises its outcome."""
    return k8snet_verdict
