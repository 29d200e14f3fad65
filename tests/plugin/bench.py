"""A project of a user's in a folder of its own: a fake cluster, checks, and runs of pytest that are read by what a user gets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

DEADLINE_S = 90.0  # patience with a busy machine, never a measure

CONFTEST = """
import os
import time
from pathlib import Path

from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.cluster.model import Claim
from pytest_k8snet.errors import AccessError, ClusterError

HERE = Path(__file__).parent


def note(file, text):
    with (HERE / file).open("a") as stream:
        stream.write(text + "\\n")


class Noting(FakeCluster):
    def on_create(self, name):
        note("objects.txt", f"+ {name}")

    def on_delete(self, name):
        note("objects.txt", f"- {name}")

    def respond(self, node, role, op, params):
        note("requests.txt", f"{node} {role} {op}")
        return super().respond(node, role, op, params)


def pytest_k8snet_fake(config):
    fake = Noting(NODES)
    change(fake)
    return fake

"""

CHECK = """
import pytest
from pytest_k8snet.errors import MeasurementError
from pytest_k8snet.judge.model import Judgement


def check(id, level="read"):
    return pytest.mark.k8snet_check(id=id, level=level, title=f"title of {id}")


"""


@dataclass(frozen=True, slots=True)
class Case:
    """A testcase of a JUnit file."""

    classname: str
    name: str
    outcome: str  # passed, failure, error, skipped
    text: str
    properties: dict[str, str]

    @property
    def verdict(self) -> str | None:
        return self.properties.get("k8snet_verdict")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run of pytest ended."""

    status: int
    out: str
    cases: dict[str, Case]

    @property
    def verdicts(self) -> dict[str, str | None]:
        return {name: case.verdict for name, case in self.cases.items()}

    def line(self, start: str) -> str:
        """Return the only line that begins with `start`."""
        found = [line for line in self.out.splitlines() if line.startswith(start)]
        assert len(found) == 1, f"{start!r}: {len(found)} lines\n{self.out}"
        return found[0]

    def lines(self, start: str) -> list[str]:
        return [line for line in self.out.splitlines() if line.startswith(start)]


class Bench:
    """The project, and the ways to run it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.cluster()

    def cluster(self, change: str = "", nodes: tuple[str, ...] = ("node-1", "node-2", "node-3")) -> None:
        """Write the conftest: `change` is the body of a function of ``fake``."""
        body = textwrap.indent(textwrap.dedent(change).strip() or "pass", "    ")
        self.write("conftest.py", f"{CONFTEST}\nNODES = {nodes!r}\n\n\ndef change(fake):\n{body}\n")

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def checks(self, text: str, name: str = "test_own.py") -> None:
        """Write checks of the user's own; `CHECK` stands before them."""
        self.write(name, CHECK + textwrap.dedent(text))

    def run(self, *arguments: str, fake: bool = True, own_process: bool = False) -> Ran:
        """Run pytest, with the fake access unless told otherwise."""
        report = self.path / "junit.xml"
        report.unlink(missing_ok=True)
        line = [*(["--k8snet-access=fake"] if fake else []), f"--junitxml={report}", "-p", "no:cacheprovider", *arguments]
        own_process = own_process or any(argument.startswith("-n") for argument in arguments)
        result = self.pytester.runpytest_subprocess(*line) if own_process else self.pytester.runpytest_inprocess(*line)
        return Ran(int(result.ret), f"{result.stdout}\n{result.stderr}", read_junit(report) if report.exists() else {})

    def own(self, *arguments: str, **more: Any) -> Ran:
        """Run the user's checks alone."""
        return self.run("--k8snet-no-suite", *arguments, **more)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start pytest on the user's checks and make sure that it ends."""
        line = [sys.executable, "-m", "pytest", "--k8snet-access=fake", "--k8snet-no-suite", "-p", "no:cacheprovider", *arguments]
        process = subprocess.Popen(line, cwd=self.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # workers too, should there be any left
            process.communicate()

    def objects(self) -> list[str]:
        return self.noted("objects.txt")

    def requests(self) -> list[str]:
        return self.noted("requests.txt")

    def noted(self, file: str) -> list[str]:
        path = self.path / file
        return path.read_text().splitlines() if path.exists() else []

    def run_folders(self) -> list[Path]:
        return sorted(path for path in (self.path / ".k8snet").glob("*") if path.is_dir())

    def run_folder(self) -> Path:
        (folder,) = self.run_folders()
        return folder

    def record(self, name: str) -> Any:
        return json.loads((self.run_folder() / name).read_text())

    def assert_removed(self) -> None:
        """Check that everything that was created was removed, once."""
        objects = self.objects()
        created = [line for line in objects if line.startswith("+ namespace")]
        assert len(created) == 1, objects
        assert [line for line in objects if line.startswith("-")] == [created[0].replace("+", "-", 1)]


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Poll until `what` is true; fail when the process ends before, or at the deadline."""
    until = time.monotonic() + DEADLINE_S
    while not what():
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < until, "it has not happened"
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; return exit status and output."""
    out, _ = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out


def read_junit(report: Path) -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for element in ET.parse(report).iter("testcase"):  # noqa: S314 - our own file
        properties = {str(item.get("name")): str(item.get("value")) for item in element.iter("property")}
        outcome = next((child for child in element if child.tag in ("failure", "error", "skipped")), None)
        text = "" if outcome is None else f"{outcome.get('message')}\n{outcome.text}"
        name = str(element.get("name"))
        assert name not in cases, f"{name} is reported twice"
        cases[name] = Case(str(element.get("classname")), name, "passed" if outcome is None else outcome.tag, text, properties)
    return cases
