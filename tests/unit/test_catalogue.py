from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_k8snet import catalogue
from pytest_k8snet.catalogue import Check, checks, pages, suite_folder
from pytest_k8snet.cli import main
from pytest_k8snet.errors import ConfigurationError
from pytest_k8snet.options import LEVELS

ROOT = Path(__file__).parents[2]
AREAS = {
    "absence",
    "conntrack",
    "control_plane",
    "dns",
    "encapsulation",
    "ingress",
    "kernel",
    "loss",
    "latency",
    "mtu",
    "node",
    "pods",
    "policy",
    "proxy",
    "reach",
    "service",
    "throughput",
}
EVERY = pytest.mark.parametrize("check", checks(), ids=lambda check: check.id)


def function_of(check: Check) -> tuple[Path, ast.FunctionDef]:
    for path in suite_folder().glob(f"{check.area}/test_*.py"):
        for function in ast.parse(path.read_text()).body:
            if isinstance(function, ast.FunctionDef) and any(check.id in ast.unparse(item) for item in function.decorator_list):
                return path, function
    raise AssertionError(check.id)


def test_the_suite() -> None:
    assert {check.area for check in checks()} == AREAS
    assert len(checks()) == len({check.id for check in checks()}) == len({check.title for check in checks()})
    assert [check.id for check in checks()] == sorted(check.id for check in checks())


@EVERY
def test_identity(check: Check) -> None:
    assert re.fullmatch(r"NET-[A-Z]+-\d{3}", check.id)
    assert check.level in LEVELS
    assert not check.title.endswith(".")
    assert check.doc == f"docs/checks/{check.id}.md"


@EVERY
def test_page(check: Check) -> None:
    assert (ROOT / check.doc).read_text() == check.page(), "run: k8snet checks --write-docs docs/checks"
    for section in ("## Why", "## How it is measured", "## Expected", "## Fix", "## References"):
        assert check.page().count(f"\n{section}\n") == 1
    assert ("\n## Blind spots\n" in check.page()) == (check.level != "read"), "what is measured says what its method does not see"
    assert f"Area {check.area}, level {check.level}, judged per {check.subject}." in check.page()


@EVERY
def test_a_judge_and_a_body_of_a_few_lines(check: Check) -> None:
    """A check measures by a fixture and judges by a pure function of the area's module; it has no logic of its own."""
    path, function = function_of(check)
    body = function.body[1:]
    assert 1 <= len(body) <= 5, f"{path}: {function.name}"
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and ast.unparse(node.func) == "verdict"]
    assert len(calls) == 1
    judge = ast.unparse(calls[0].args[0]).partition("(")[0]
    module, _, name = judge.partition(".")
    assert module == check.area
    source = ast.parse((ROOT / "pytest_k8snet" / "judge" / f"{module}.py").read_text())
    assert name in {item.name for item in source.body if isinstance(item, ast.FunctionDef)}
    judges_tests = "".join(path.read_text() for path in (ROOT / "tests" / "unit" / "judge").glob(f"test_{module}*.py"))
    assert f"{module}.{name}" in judges_tests or f" {name}" in judges_tests, f"{judge} has no unit test"


def test_functions_of_the_suite_have_names_of_their_own() -> None:
    names = [function_of(check)[1].name for check in checks()]
    assert len(names) == len(set(names))


def test_no_page_is_left_over() -> None:
    assert {path.name for path in (ROOT / "docs" / "checks").iterdir()} == set(pages())
    assert (ROOT / "docs" / "checks" / "README.md").read_text() == pages()["README.md"]


def test_command_lists_them(tmp_path: Path) -> None:
    run = CliRunner().invoke(main, ["checks", "--json"])
    assert run.exit_code == 0
    rows = json.loads(run.output)
    assert [row["id"] for row in rows] == [check.id for check in checks()]
    assert set(rows[0]) == {"id", "title", "area", "level", "subject", "doc"}
    plain = CliRunner().invoke(main, ["checks"]).output.splitlines()
    assert len(plain) == len(checks())
    assert re.fullmatch(r"NET-MTU-001 +read +node +pods use exactly the MTU.*", next(line for line in plain if "NET-MTU-001" in line))
    written = CliRunner().invoke(main, ["checks", "--write-docs", str(tmp_path / "pages")])
    assert written.output == f"{len(checks())} checks written to {tmp_path / 'pages'}\n"
    assert {path.name for path in (tmp_path / "pages").iterdir()} == set(pages())
    (tmp_path / "file").write_text("")
    nowhere = CliRunner().invoke(main, ["checks", "--write-docs", str(tmp_path / "file" / "pages")])
    assert (nowhere.exit_code, nowhere.output) == (1, f"Error: {tmp_path}/file/pages: cannot be written: Not a directory\n")


def test_the_page_of_a_check_is_printed() -> None:
    def run(*argv: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["checks", *argv])
        return result.exit_code, result.output

    assert run("NET-MTU-001") == (0, (ROOT / "docs/checks/NET-MTU-001.md").read_text())
    assert run("net-mtu-001") == run("NET-MTU-001")
    status, text = run("NET-MTU-*", "NET-DNS-001")
    assert (status, [line.split(":")[0] for line in text.splitlines() if line.startswith("# ")]) == (
        0,
        ["# NET-DNS-001", *(f"# NET-MTU-00{number}" for number in range(1, 7))],
    )
    assert run("NET-MTU-01") == (1, "Error: there is no check 'NET-MTU-01'; did you mean 'NET-MTU-001'?\n")
    assert run("NET-MUT-*") == (1, "Error: there is no check 'NET-MUT-*'; `k8snet checks` lists them\n")
    assert run("--json", "NET-MTU-001")[0] == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ('@pytest.mark.k8snet_check(id="A-1", level="read", title="t")\ndef test_it(node): pass', "a check needs a docstring"),
        (
            '@pytest.mark.k8snet_check(id="A-1", level="read")\ndef test_it(node):\n    """D."""',
            "takes id, level and title as literal strings",
        ),
        (
            '@pytest.mark.k8snet_check(id=ID, level="read", title="t")\ndef test_it(node):\n    """D."""',
            "takes id, level and title as literal strings",
        ),
    ],
    ids=["no-docstring", "no-title", "not-literal"],
)
def test_checks_that_are_not_well_formed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str) -> None:
    (tmp_path / "area").mkdir()
    path = tmp_path / "area" / "test_x.py"
    path.write_text(f"import pytest\n\n{code}\n")
    monkeypatch.setattr(catalogue, "suite_folder", lambda: tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        checks.__wrapped__()
    assert str(caught.value).startswith(f"{path}:4: ")
    assert message in str(caught.value)


def test_an_id_that_is_there_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "area").mkdir()
    code = '@pytest.mark.k8snet_check(id="A-1", level="read", title="t")\ndef test_it(node):\n    """D."""\n'
    (tmp_path / "area" / "test_x.py").write_text(code)
    (tmp_path / "area" / "test_y.py").write_text(code)
    monkeypatch.setattr(catalogue, "suite_folder", lambda: tmp_path)
    with pytest.raises(ConfigurationError, match=r"test_y\.py: check A-1 is there twice"):
        checks.__wrapped__()
