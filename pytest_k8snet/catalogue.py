"""The catalogue of the packaged checks, read from the sources of the suite: nothing is imported, nothing is collected."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pytest_k8snet.errors import ConfigurationError

#: Where the pages of the checks are, from the root of the project.
PAGES = "docs/checks"

_SECTIONS = ("Why", "How it is measured", "Expected", "Blind spots", "Fix", "References")
_SUBJECT_OF = {"node": "node", "k8snet_node": "node", "pair": "pair", "k8snet_pair": "pair"}


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the suite: what it is called, what it is judged on, and what its page says."""

    id: str
    title: str
    area: str
    level: str  # read, probe, load
    subject: str  # cluster, node, pair
    doc: str  # its page, from the root of the project
    text: str  # its docstring

    def to_json(self) -> dict[str, str]:
        """Return the catalogue's row."""
        return {"id": self.id, "title": self.title, "area": self.area, "level": self.level, "subject": self.subject, "doc": self.doc}

    def page(self) -> str:
        """Return the check's page in Markdown."""
        lines = self.text.splitlines()
        summary, body = _paragraph(lines)
        out = [f"# {self.id}: {self.title}", "", summary, "", f"Area {self.area}, level {self.level}, judged per {self.subject}.", ""]
        for line in body:
            if line in _SECTIONS:
                out += [f"## {line}", ""]
            else:
                out.append(line.removeprefix("    "))
                if not line:
                    continue
        return "\n".join(_spaced(out)).rstrip() + "\n"


@cache
def checks() -> tuple[Check, ...]:
    """Return every check of the packaged suite, in the order of their ids.

    Raises `ConfigurationError` when the suite is not installed or a check in it is not well formed.
    """
    found: dict[str, Check] = {}
    for path in sorted(suite_folder().glob("*/test_*.py")):
        for check in _checks_of(path):
            if check.id in found:
                raise ConfigurationError(f"{path}: check {check.id} is there twice")
            found[check.id] = check
    return tuple(found[check_id] for check_id in sorted(found))


@cache
def suite_folder() -> Path:
    """Return the folder of the packaged suite: ``conformance/`` of a checkout, or where it is installed. Every skipped case asks."""
    spec = importlib.util.find_spec("pytest_k8snet.conformance")
    if spec is None or spec.origin is None:
        raise ConfigurationError("the package pytest_k8snet.conformance is not installed")
    return Path(spec.origin).parent


def pages() -> Mapping[str, str]:
    """Return the documentation pages of all checks by file name, and their index."""
    rows = ["# Checks", "", "| id | title | level | judged per |", "|---|---|---|---|"]
    rows += [f"| [{check.id}]({check.id}.md) | {check.title} | {check.level} | {check.subject} |" for check in checks()]
    return {"README.md": "\n".join(rows) + "\n"} | {f"{check.id}.md": check.page() for check in checks()}


def _checks_of(path: Path) -> Iterator[Check]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.k8snet_check":
                yield _check(path, function, decorator)


def _check(path: Path, function: ast.FunctionDef, marker: ast.Call) -> Check:
    where = f"{path}:{function.lineno}"
    try:
        given: dict[str, Any] = {str(item.arg): ast.literal_eval(item.value) for item in marker.keywords}
        names = {argument.arg for argument in function.args.args}
        subjects = {subject for name, subject in _SUBJECT_OF.items() if name in names}
        docstring = ast.get_docstring(function, clean=False)
        if docstring is None:
            raise ConfigurationError(f"{where}: a check needs a docstring: it becomes its documentation page")
        return Check(
            id=given["id"],
            title=given["title"],
            area=path.parent.name,
            level=given["level"],
            subject=subjects.pop() if subjects else "cluster",
            doc=given.get("doc") or f"{PAGES}/{given['id']}.md",
            text=inspect.cleandoc(docstring),
        )
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"{where}: k8snet_check takes id, level and title as literal strings: {error!r}") from error


def _paragraph(lines: list[str]) -> tuple[str, list[str]]:
    end = lines.index("") if "" in lines else len(lines)
    return " ".join(lines[:end]), lines[end + 1 :]


def _spaced(lines: list[str]) -> Iterator[str]:
    """Yield the lines with one empty line before each heading and none twice."""
    previous = ""
    for line in lines:
        if line.startswith("## ") and previous:
            yield ""
        if line or previous:
            yield line
        previous = line
