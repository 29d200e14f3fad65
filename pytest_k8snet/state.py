"""Where the plugin keeps what belongs to one pytest session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_k8snet.options import Settings
    from pytest_k8snet.run import Run

SETTINGS_KEY: pytest.StashKey[Settings] = pytest.StashKey()
RUN: pytest.StashKey[Run] = pytest.StashKey()  # there is one only when there is a cluster to test
