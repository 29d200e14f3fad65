"""The lab ring: real Kubernetes on real kernels. It takes many minutes, so it runs only when its folder is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.parts import MARK, is_chosen, why_not

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the lab tests out of a bare ``pytest`` in the checkout, and parts of them that nobody asked for out of any other."""
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    for item in items:
        if HERE in item.path.parents:
            part = item.get_closest_marker(MARK)
            if not named:
                item.add_marker(pytest.mark.skip(reason="lab tests run when named: pytest tests/lab"))
            elif part is not None and not is_chosen(part.args[0]):
                item.add_marker(pytest.mark.skip(reason=why_not(part.args[0])))


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Path:
    """Return the folder that keeps what the runs of a module said."""
    folder = request.config.rootpath / "build" / "lab" / request.path.stem
    folder.mkdir(parents=True, exist_ok=True)
    return folder
