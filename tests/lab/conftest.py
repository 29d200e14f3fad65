"""The lab ring: real Kubernetes on real kernels. It takes many minutes, so it runs only when its folder is named."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


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
