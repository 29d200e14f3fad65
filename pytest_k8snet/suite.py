"""The packaged suite as arguments for pytest."""

from __future__ import annotations

from pathlib import Path

import pytest


class SuiteModule(pytest.Module):
    """A file of the suite. Its checks are found whatever a user's ``python_functions`` calls tests."""

    def funcnamefilter(self, name: str) -> bool:
        """Whether a function is a check by its name."""
        return name.startswith("test_")


def suite_files() -> list[Path]:
    """Return the suite's test files. Files are named rather than the folder: a user's python_files or norecursedirs then leave none out."""
    from pytest_k8snet.catalogue import suite_folder

    return sorted(suite_folder().glob("*/test_*.py"))


def area_of(path: Path) -> str | None:
    """Return the area of a file of the suite, None for any other file."""
    from pytest_k8snet.catalogue import suite_folder

    folder = suite_folder()
    return path.parent.name if path.parent.parent == folder else None


def packaged_path(path: Path) -> str | None:
    """Return what a file of the suite is called wherever it is installed, None for any other file."""
    area = area_of(path)
    return None if area is None else f"pytest_k8snet/conformance/{area}/{path.name}"
