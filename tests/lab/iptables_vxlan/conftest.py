"""One lab for this folder: iptables mode over vxlan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.suite import Lab, running_lab


@pytest.fixture(scope="package")
def results(request: pytest.FixtureRequest) -> Path:
    """Return the folder that keeps what the runs said."""
    folder = request.config.rootpath / "build" / "lab" / "iptables_vxlan"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="package")
def lab(results: Path) -> Iterator[Lab]:
    """Run the lab."""
    options = ("--nodes", "3", "--proxy-mode", "iptables", "--network", "vxlan", "--line-rate", "50mbit", "--ingress", "nginx")
    with running_lab("test-iptables", results, *options) as lab:
        yield lab
