"""`k8snet lab` as a user types it, on labs that are only written down."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pytest_k8snet.cli import main
from pytest_k8snet.lab.faults import table
from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.processes import ProcessRef
from pytest_k8snet.lab.settings import LabSettings, ProxyMode
from pytest_k8snet.lab.state import LabFolder
from tests.unit.lab.samples import running


@pytest.fixture(autouse=True)
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep labs of this test in a folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "k8snet" / "labs"


def lab(*argv: str) -> Result:
    return CliRunner().invoke(main, ["lab", *argv])


def start(labs: Path, proxy_mode: ProxyMode = "ipvs", name: str = "mine") -> LabFolder:
    return running(labs, LabSettings(name=name, proxy_mode=proxy_mode), ports={"api": 4001})


@pytest.mark.parametrize(
    "argv",
    [
        ("status", "--name"),
        ("kubeconfig", "--name"),
        ("logs", "--name"),
        ("ssh", "node-1", "--name"),
        ("fault", "apply", "sysctl-reset", "--node", "node-1", "--name"),
        ("fault", "revert", "sysctl-reset", "--node", "node-1", "--name"),
    ],
    ids=lambda argv: " ".join(argv[:2]),
)
def test_an_unknown_lab_is_an_error_that_names_those_there_are(labs: Path, argv: tuple[str, ...]) -> None:
    start(labs)
    result = lab(*argv, "other")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "Error: no lab is called other (there is mine); start one: k8snet lab up --name other\n"


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (("up", "--nodes", "0"), 1, "--nodes 0: a lab has 1 to 50 nodes"),
        (("up", "--nodes", "many"), 2, "'many' is not a valid integer"),
        (("up", "--proxy-mode", "ebpf"), 2, "'ebpf' is not one of 'ipvs', 'iptables', 'nftables', 'none'"),
        (("up", "--network", "cilium", "--proxy-mode", "ipvs"), 1, "leave --proxy-mode out"),
        (("up", "--node-kernel", "kvm"), 2, "'kvm' is not one of 'auto', 'uml', 'qemu'"),
        (("up", "--network", "ipip"), 2, "'ipip' is not one of 'native', 'vxlan'"),
        (("up", "--line-rate", "fast"), 1, "--line-rate fast: not a speed"),
        (("up", "--pod-cidr", "10.199.0.0/16"), 1, "overlap"),
        (("up", "--components", "/does/not/exist"), 2, "does not exist"),
        (("up", "--name", "A"), 1, "--name 'A': a lab's name"),
        (("down", "--name", "../../etc"), 1, "--name '../../etc': a lab's name"),
        (("status", "--name", "a/b"), 1, "--name 'a/b': a lab's name"),
        (("logs", "--lines", "-1"), 2, "-1 is not in the range x>=0"),
        (("fault", "apply", "sysctl-reset"), 2, "Missing option '--node'"),
        (("fault", "apply", "--node", "node-1"), 2, "Missing argument 'FAULT'"),
        (("fault", "list", "--nodes", "0"), 2, "0 is not in the range x>=1"),
        (("fault", "list", "--json", "--node", "node-4"), 2, "Invalid value for --node: node-4 is none of node-1, node-2, node-3"),
        (("ssh",), 2, "Missing argument 'NODE'"),
        (("start",), 2, "No such command 'start'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_said_and_nothing_is_made(labs: Path, argv: tuple[str, ...], status: int, words: str) -> None:
    result = lab(*argv)
    assert (result.exit_code, result.stdout) == (status, "")
    assert words in result.stderr
    assert not labs.exists()


def test_no_lab() -> None:
    assert lab("status").stdout == "no lab; start one with: k8snet lab up\n"
    assert json.loads(lab("status", "--json").stdout) == []
    stopped = lab("down", "--name", "mine")
    assert (stopped.exit_code, stopped.stderr) == (0, "there is no lab mine\n")


def test_status(labs: Path) -> None:
    folder = start(labs)
    broken = start(labs, name="other")
    state = broken.read()
    broken.write(replace(state, processes=(*state.processes, ProcessRef("node-2", 1, 1))))
    assert lab("status").stdout.splitlines() == [
        f"mine: running, 3 nodes, proxy mode ipvs, network native, line rate not limited, kubeconfig {folder.kubeconfig}",
        f"other: broken, 3 nodes, proxy mode ipvs, network native, line rate not limited, kubeconfig {broken.kubeconfig}",
        "  ended: node-2",
    ]
    (known,) = json.loads(lab("status", "--json", "--name", "mine").stdout)
    assert known == {
        "name": "mine",
        "condition": "running",
        "settings": LabSettings(name="mine").to_json(),
        "kubeconfig": str(folder.kubeconfig),
        "ports": {"api": 4001},
        "ended": [],
        "problem": None,
    }


def test_the_kubeconfigs_path_alone_is_printed(labs: Path) -> None:
    folder = start(labs)
    folder.write(replace(folder.read(), phase="starting"))
    assert lab("kubeconfig", "--name", "mine").stderr == "Error: lab mine has no kubeconfig: it is broken\n"
    with folder.locked():
        assert lab("kubeconfig", "--name", "mine").stderr == "Error: lab mine has no kubeconfig: it is starting\n"
    folder.kubeconfig.touch()
    assert lab("kubeconfig", "--name", "mine").stdout == f"{folder.kubeconfig}\n"


def test_logs(labs: Path) -> None:
    folder = start(labs)
    node = folder.node("node-2") / "log" / "kubelet.log"
    for path in (folder.logs / "etcd.log", node):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"".join(f"line {number}\n".encode() for number in range(50)) + b"\xff\n")
    assert [line.split()[0] for line in lab("logs", "--name", "mine").stdout.splitlines()] == ["etcd", "node-2/kubelet"]
    assert str(node) in lab("logs", "--name", "mine").stdout
    assert lab("logs", "--name", "mine", "etcd").stdout.splitlines() == [*(f"line {number}" for number in range(11, 50)), "\ufffd"]
    assert len(lab("logs", "--name", "mine", "--lines", "0", "node-2/kubelet").stdout.splitlines()) == 51
    assert lab("logs", "--name", "mine", "--lines", "1", "etcd").stdout == "\ufffd\n"
    unknown = lab("logs", "--name", "mine", "kubelet")
    assert (unknown.exit_code, unknown.stderr) == (1, "Error: lab mine has no log 'kubelet'; it has etcd, node-2/kubelet\n")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("node-2",), []),
        (("node-2", "--", "ip", "route"), ["--", "ip route"]),
        (("node-2", "--", "ip", "-j", "route", "--name", "x"), ["--", "ip -j route --name x"]),
        (("node-2", "--", "sh", "-c", "exit 3"), ["--", "sh -c 'exit 3'"]),
        (("node-2", "uptime"), ["--", "uptime"]),
    ],
)
def test_ssh_becomes_ssh(labs: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], words: list[str]) -> None:
    folder = start(labs)
    (labs / "bin").mkdir()
    (labs / "bin" / "ssh").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(labs / "bin"))
    asked: list[tuple[str, list[str]]] = []
    monkeypatch.setattr("pytest_k8snet.commands.lab.os.execv", lambda program, given: asked.append((program, given)))
    result = lab("ssh", "--name", "mine", *argv)
    assert result.exit_code == 0, result.output
    assert asked == [(str(labs / "bin" / "ssh"), ["ssh", "-F", str(folder.ssh / "config"), "node-2", *words])]


def test_ssh_to_a_node_that_is_not_there(labs: Path) -> None:
    start(labs)
    assert (
        lab("ssh", "--name", "mine", "node-9", "--", "id").stderr == "Error: lab mine has no node node-9; it has node-1, node-2, node-3\n"
    )


def test_a_machine_without_ssh(labs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(labs)
    monkeypatch.setenv("PATH", str(labs))
    assert lab("ssh", "--name", "mine", "node-1").stderr == "Error: ssh is not installed; on Debian: apt-get install openssh-client\n"


def test_faults_as_json() -> None:
    listed = json.loads(lab("fault", "list", "--json").stdout)
    assert [item["name"] for item in listed] == [known.name for known in table.FAULTS]
    for item in listed:
        assert set(item) == {"name", "area", "summary", "proxy_modes", "networks", "with_ingress", "with_policy", "with_ipv6", "turns"}
        assert item["turns"], item["name"]
        for turn in item["turns"]:
            assert set(turn) == {"check", "subject", "verdict"}
            assert turn["verdict"] in {"fail", "error", "inconclusive"}
        area = {"encapsulation": "encap", "control plane": "control", "control_plane": "control"}.get(item["area"], item["area"])
        prefix = f"NET-{area.upper()}-"
        assert any(turn["check"].startswith(prefix) for turn in item["turns"]), item["name"]


def test_pairs_are_those_of_the_node_and_the_lab() -> None:
    def subjects(*argv: str) -> set[str]:
        listed = {item["name"]: item for item in json.loads(lab("fault", "list", "--json", *argv).stdout)}
        return {turn["subject"] for turn in listed["pod-path-throttled"]["turns"]}

    assert all(pair.endswith(":node-2") for pair in subjects())
    assert subjects()
    assert all(pair.endswith(":node-1") for pair in subjects("--node", "node-1"))
    assert subjects("--nodes", "2") == {"node-1:node-2"}


def test_faults_as_text() -> None:
    text = lab("fault", "list").stdout
    assert (
        "strict-arp-off: arp_ignore and arp_announce are 0: the node answers ARP for every Service address (labs with proxy mode ipvs)\n"
        in text
    )
    assert "    fail   NET-MTU-001[{node}]\n" in text


def test_the_page_of_faults_is_written(tmp_path: Path) -> None:
    result = lab("fault", "list", "--write-docs", str(tmp_path / "faults.md"))
    assert result.stdout == f"{len(table.FAULTS)} faults written to {tmp_path / 'faults.md'}\n"
    assert (tmp_path / "faults.md").read_text() == table.page()
    nowhere = lab("fault", "list", "--write-docs", str(tmp_path / "no" / "faults.md"))
    assert (nowhere.exit_code, nowhere.output) == (1, f"Error: {tmp_path}/no/faults.md: cannot be written: No such file or directory\n")


@pytest.mark.parametrize("word", ["apply", "revert"])
@pytest.mark.parametrize(
    ("proxy_mode", "fault", "node", "message"),
    [
        ("ipvs", "flood", "node-1", "no fault is called 'flood'; there are: proxy-mode-iptables, "),
        (
            "iptables",
            "ipvs-scheduler",
            "node-1",
            "fault ipvs-scheduler is for labs with proxy mode ipvs; lab mine has proxy mode iptables",
        ),
        (
            "ipvs",
            "ingress-without-hsts",
            "node-1",
            (
                "fault ingress-without-hsts is for labs with proxy mode ipvs or iptables or nftables, --ingress nginx; "
                "lab mine has proxy mode ipvs, network native, and no ingress\n"
            ),
        ),
        (
            "ipvs",
            "policies-not-enforced",
            "node-1",
            (
                "fault policies-not-enforced is for labs with any proxy mode, --policy kube-router; "
                "lab mine has proxy mode ipvs, network native, and nothing that enforces NetworkPolicies\n"
            ),
        ),
        (
            "ipvs",
            "kube-proxy-left-running",
            "node-1",
            "fault kube-proxy-left-running is for labs with proxy mode none; lab mine has proxy mode ipvs, network native\n",
        ),
        ("ipvs", "sysctl-reset", "node-9", "lab mine has no node node-9; it has node-1, node-2, node-3\n"),
    ],
)
def test_a_fault_that_cannot_be(labs: Path, word: str, proxy_mode: ProxyMode, fault: str, node: str, message: str) -> None:
    start(labs, proxy_mode)
    result = lab("fault", word, "--name", "mine", fault, "--node", node)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {message}")


def test_a_fault_is_applied_and_reverted_on_its_node(labs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, str, str]] = []

    def act(word: str) -> Any:
        return lambda lab, node: done.append((word, type(lab).__name__, node.name))

    known = Fault("tried", area="mtu", summary="x", turns=(Turns("NET-MTU-001"),), apply=act("apply"), revert=act("revert"))
    monkeypatch.setattr(table, "FAULTS", (known,))
    start(labs)
    for word in ("apply", "revert"):
        result = lab("fault", word, "--name", "mine", "tried", "--node", "node-2")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.startswith(f"tried on node-2: {word} ...\ntried on node-2: {word}: ")
    assert done == [("apply", "RunningLab", "node-2"), ("revert", "RunningLab", "node-2")]


def test_a_fault_that_fails_is_an_error(labs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, ["true"])

    known = Fault("tried", area="mtu", summary="x", turns=(Turns("NET-MTU-001"),), apply=refuse, revert=refuse)
    monkeypatch.setattr(table, "FAULTS", (known,))
    start(labs)
    (labs / "bin").mkdir()
    (labs / "bin" / "ssh").write_text("#!/bin/sh\nexit 255\n")
    (labs / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(labs / "bin"), prepend=":")
    result = lab("fault", "apply", "--name", "mine", "tried", "--node", "node-2")
    assert result.exit_code == 1
    assert "tried on node-2: apply: failed after" in result.stderr
    assert "Error: node-2: not reached by SSH" in result.stderr


def test_a_termination_ends_a_command_as_ctrl_c_does(labs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def terminated(lab: FaultyLab, node: FaultyNode) -> None:
        del lab, node
        os.kill(os.getpid(), signal.SIGTERM)

    known = Fault("tried", area="mtu", summary="x", turns=(Turns("NET-MTU-001"),), apply=terminated, revert=terminated)
    monkeypatch.setattr(table, "FAULTS", (known,))
    start(labs)
    before = signal.getsignal(signal.SIGTERM)
    result = lab("fault", "apply", "--name", "mine", "tried", "--node", "node-2")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "Aborted!"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_damaged_state_is_an_error_that_names_its_file(labs: Path) -> None:
    folder = start(labs)
    (folder.path / "state.json").write_text("{")
    result = lab("kubeconfig", "--name", "mine")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: {folder.path / 'state.json'}: not readable: ")


def test_a_damaged_lab_is_listed_and_can_be_removed(labs: Path) -> None:
    folder = start(labs)
    (folder.path / "state.json").write_text("{")
    listed = lab("status")
    assert listed.exit_code == 0
    assert listed.stdout.startswith(f"mine: broken, {folder.path / 'state.json'}: not readable: ")
    assert listed.stdout.endswith("; remove it: k8snet lab down --name mine\n")
    described = json.loads(lab("status", "--json").stdout)
    assert [(item["name"], item["condition"]) for item in described] == [("mine", "broken")]
    assert lab("down", "--name", "mine").exit_code == 0
    assert not folder.path.exists()
