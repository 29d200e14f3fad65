from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet import agent

PROGRAMS = sorted(path.stem for path in Path(agent.__file__).parent.glob("*.py") if "\nOPERATIONS" in path.read_text())


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_a_program_says_that_it_does_it_does(name: str) -> None:
    """A client knows operations by what the program says of them; the agent knows only those of its table."""
    program = import_module(f"pytest_k8snet.agent.{name}")
    operations: Mapping[str, Any] = program.OPERATIONS
    assert set(re.findall(r"^- ``(\w+)``", program.__doc__ or "", re.MULTILINE)) == set(operations)
