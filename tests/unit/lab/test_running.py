"""A lab that runs: commands reach its nodes as they were written, and nodes know the API server by another address."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.faults.model import FaultyLab, FaultyNode
from pytest_k8snet.lab.running import RunningLab
from pytest_k8snet.lab.settings import LabSettings
from tests.unit.fakeapi import FakeApiServer, fake_api, write_kubeconfig
from tests.unit.lab.samples import running


@pytest.fixture
def lab(tmp_path: Path) -> RunningLab:
    return RunningLab.find(running(tmp_path, LabSettings(name="mine"), ports={"api": 4001, "node-1": 4002}))


HOSTILE = [
    "",
    " ",
    "a b",
    "'",
    '"',
    "$HOME",
    "`id`",
    "$(id)",
    ";",
    "&&",
    "|",
    ">x",
    "*",
    "~",
    "\\",
    "a\nb",
    "--",
    "-o",
    "#",
    "!",
    "é",
    "%h",
]


def test_hostile_arguments_arrive_as_they_are(lab: RunningLab) -> None:
    command = lab.ssh_command("node-2", ["printf", "%s\\0", *HOSTILE])
    assert command[command.index("node-2") + 1] == "--", "no option of ssh can follow"
    # What sshd does with the words: it gives them, joined by blanks, to the user's shell.
    line = " ".join(command[command.index("--") + 1 :])
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == HOSTILE


@pytest.mark.parametrize("word", ["ip -j route | head -c 1", "uptime", "a; b"])
def test_one_word_is_a_command_line(lab: RunningLab, word: str) -> None:
    assert lab.ssh_command("node-1", [word])[-2:] == ["--", word]


def test_no_command_is_a_shell(lab: RunningLab, tmp_path: Path) -> None:
    assert lab.ssh_command("node-1", []) == ["ssh", "-F", str(tmp_path / "mine" / "ssh" / "config"), "node-1"]


@pytest.mark.parametrize("name", ["node-4", "", "-oProxyCommand=id"])
def test_an_unknown_node_names_those_there_are(lab: RunningLab, name: str) -> None:
    for use in (lab.node, lambda node: lab.ssh_command(node, ["id"])):
        with pytest.raises(LabError, match=f"lab mine has no node {name}; it has node-1, node-2, node-3"):
            use(name)


def test_faults_find_what_they_need(lab: RunningLab, tmp_path: Path) -> None:
    faulty: FaultyLab = lab
    assert faulty.proxy_mode == "ipvs"
    assert faulty.pause_image == "k8snet.lab/pause:1"
    assert list(faulty.nodes)[1] == FaultyNode("node-2", ("10.199.0.12",), ("10.200.2.0/24",))
    (tmp_path / "mine" / "kubeconfig").write_text("server: https://127.0.0.1:4001\n")
    assert faulty.node_kubeconfig == "server: https://10.199.0.1:6443\n"


def test_only_a_lab_that_runs_is_found(tmp_path: Path) -> None:
    folder = running(tmp_path, LabSettings(name="mine"))
    folder.write(replace(folder.read(), phase="starting"))
    with folder.locked(), pytest.raises(LabError, match=r"^lab mine is starting; wait for it$"):
        RunningLab.find(folder)
    with pytest.raises(LabError, match=r"^lab mine is broken; remove it and start it again: k8snet lab down --name mine$"):
        RunningLab.find(folder)


@pytest.fixture
def ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put a program called ssh before all others on the PATH; return its script."""
    script = tmp_path / "bin" / "ssh"
    script.parent.mkdir()
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    return script


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no route >&2; exit 255", "node-1: not reached by SSH: no route; look at `k8snet lab logs --name mine`"),
        ("echo out; echo bad >&2; exit 3", "node-1: ip 'a b' exited with 3: bad"),
        ("echo said; exit 1", "node-1: ip 'a b' exited with 1: said"),
    ],
)
def test_commands_that_fail_are_told_apart(lab: RunningLab, ssh: Path, script: str, message: str) -> None:
    ssh.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(LabError) as error:
        lab.run("node-1", ["ip", "a b"])
    assert str(error.value) == message


def test_a_command_gets_its_input_and_gives_its_output(lab: RunningLab, ssh: Path) -> None:
    ssh.write_text('#!/bin/sh\ncat; echo "$5"\n')
    assert lab.run("node-1", ["ip", "a b"], stdin="in\n").stdout == f"in\n{shlex.join(['ip', 'a b'])}\n"
    assert lab.run("node-1", ["true"]).stdout == "true\n", "no input is an empty one, not that of the caller"


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with fake_api() as server:
        yield server


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ({"a": "1"}, "x", {"a": "1", "key": "x"}),
        ({"a": "1", "key": "y"}, "x", {"a": "1", "key": "x"}),
        ({"a": "1", "key": "y"}, None, {"a": "1"}),
        (None, None, {}),
    ],
)
def test_labels_of_nodes(
    lab: RunningLab, server: FakeApiServer, tmp_path: Path, before: dict[str, str] | None, value: str | None, after: dict[str, str]
) -> None:
    write_kubeconfig(tmp_path / "mine" / "kubeconfig", server.url)
    metadata = {"name": "node-1", "resourceVersion": "1", **({} if before is None else {"labels": before})}
    server.routes["GET", "/api/v1/nodes/node-1"] = (200, {"metadata": metadata})
    server.routes["PUT", "/api/v1/nodes/node-1"] = (200, {})
    lab.label_node("node-1", "key", value)
    assert server.requests[-1][3]["metadata"]["labels"] == after
    lab.client.api.close()
