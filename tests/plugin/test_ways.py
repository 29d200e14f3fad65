"""Access by ssh and local as a user gets it: runs against an API server that is only read; nodes are sshds on loopback, or this machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.cluster.reviews import REVIEWS
from tests.plugin.bench import Bench, Ran
from tests.unit.access.sshserver import SshServer, make_key, ssh_server
from tests.unit.fakeapi import FakeApiServer, fake_api, write_kubeconfig

NAMES = ("node-1", "node-2")
PODLESS = ("NET-KERNEL-002", "NET-MTU-001")
PROFILE = "name: x\nmtu: {pod: 1500}\nkernel: {sysctl: {pod: {net.ipv4.tcp_tw_reuse: 1}}}\n"


def raw_node(name: str, address: str = "127.0.0.1") -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"operatingSystem": "linux"},
        },
    }


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with fake_api() as server:
        server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
        server.items("/api/v1/nodes", *map(raw_node, NAMES))
        for path in ("/apis/apps/v1/daemonsets", "/api/v1/namespaces/kube-system/pods"):
            server.items(path)
        server.routes["POST", REVIEWS] = lambda path, query, body: (
            201,
            {"status": {"allowed": body["spec"]["resourceAttributes"]["verb"] in ("get", "list")}},
        )
        yield server


class SshBench:
    """A bench whose cluster is `api`, with nodes that are all `sshd`."""

    def __init__(self, bench: Bench, api: FakeApiServer, sshd: SshServer, folder: Path) -> None:
        self.bench, self.api, self.sshd = bench, api, sshd
        (bench.path / "conftest.py").unlink()
        key = make_key(folder / "key")
        sshd.authorized.add(key.public)
        self.known_hosts = bench.write("known_hosts", sshd.known_line())
        self._options = [
            f"--k8snet-kubeconfig={write_kubeconfig(folder / 'kubeconfig', api.url)}",
            "--k8snet-access=ssh",
            "--k8snet-ssh-config=none",
            "--k8snet-ssh-user=root",
            f"--k8snet-ssh-port={sshd.port}",
            f"--k8snet-ssh-key={key.path}",
            f"--k8snet-ssh-known-hosts={self.known_hosts}",
        ]

    def run(self, *arguments: str) -> Ran:
        return self.bench.run(*self._options, *arguments, fake=False)


@pytest.fixture
def lab(bench: Bench, api: FakeApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshBench]:
    folder = tmp_path_factory.mktemp("ssh")
    with ssh_server(folder / "sshd") as sshd:
        yield SshBench(bench, api, sshd, folder)


OWN = """
@check("ACME-001")
def test_it(k8snet_node):
    assert k8snet_node.run(["echo", k8snet_node.name]).stdout == k8snet_node.name + "\\n"
"""


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_checks_run_by_ssh_and_the_cluster_is_only_read(lab: SshBench, workers: tuple[str, ...]) -> None:
    lab.bench.checks(OWN)
    ran = lab.run("--k8snet-no-suite", *workers)
    assert ran.status == 0, ran.out
    assert ran.verdicts == {f"ACME-001[{name}]": "pass" for name in NAMES}
    assert ran.line("k8snet: access") == "k8snet: access ssh as root; no object is made in the cluster"
    assert set(lab.api.asked("POST")) == {REVIEWS}, "a review is the only thing that is posted"
    assert {method for method, *_ in lab.api.requests} == {"GET", "POST"}
    assert lab.sshd.connections >= len(NAMES)


def test_dry_run_goes_to_no_node(lab: SshBench) -> None:
    lab.bench.checks(OWN)
    ran = lab.run("--k8snet-no-suite", "--k8snet-dry-run")
    assert ran.status == 0, ran.out
    assert ran.line("Objects") == "Objects: none (access ssh)"
    assert lab.sshd.connections == 0


@pytest.mark.skipif(not shutil.which("ip"), reason="no ip here")
def test_checks_of_the_probe_pod_are_skipped_with_the_reason(lab: SshBench) -> None:
    profile = lab.bench.write("p.yaml", PROFILE)
    arguments = (f"--k8snet-profile={profile}", "--k8snet-level=read", f"--k8snet-checks={','.join(PODLESS)}")
    ran = lab.run(*arguments)
    assert ran.verdicts == {f"{check}[{name}]": "skip" for check in PODLESS for name in NAMES}, ran.out
    assert all("access ssh makes no probe pods" in case.text for case in ran.cases.values())
    values = json.loads((lab.bench.run_folder() / "facts" / "node-1.json").read_text())["values"]
    assert (values["pod"], values["pod_error"], values["pod_absent"]) == (None, None, "access ssh makes no probe pods")
    strict = lab.run(*arguments, "--k8snet-strict")
    assert strict.status == 1
    assert "NET-MTU-001[node-1]: skipped, and --k8snet-strict allows only what does not apply: access ssh makes no probe pods" in "".join(
        case.text for case in strict.cases.values()
    )


def test_host_that_is_not_known(lab: SshBench) -> None:
    lab.known_hosts.write_text("")
    lab.bench.checks(OWN)
    ran = lab.run("--k8snet-no-suite")
    assert ran.status == 1
    assert set(ran.verdicts.values()) == {"error"}
    line = ran.lines("ERROR ACME-001[node-1]")[0]
    assert f"ED25519 {lab.sshd.host_key.fingerprint}" in line
    assert f"ssh-keyscan -t ed25519 -p {lab.sshd.port} 127.0.0.1 >> {lab.known_hosts}" in line


def test_node_that_is_down(lab: SshBench) -> None:
    lab.sshd.stop()
    lab.bench.checks(OWN)
    ran = lab.run("--k8snet-no-suite")
    assert ran.status == 1
    assert set(ran.verdicts.values()) == {"error"}
    assert "ERROR ACME-001[node-1]" in ran.out
    assert f"127.0.0.1 port {lab.sshd.port}: Connection refused" in ran.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--k8snet-ssh-key=/no/such/key"], "--k8snet-ssh-key: there is no file /no/such/key"),
        (["--k8snet-ssh-config=/no/such/config"], "--k8snet-ssh-config: there is no file /no/such/config"),
        (["--k8snet-ssh-config=config"], "config: Unparsable line nonsense"),
        (["--k8snet-ssh-map=node-1"], "--k8snet-ssh-map: node-1: No such file or directory; want a file, or node=host[:port],..."),
        (["--k8snet-ssh-jump=a b"], "ssh: 'a b' is no jump host; want [USER@]HOST[:PORT]"),
        (["--k8snet-ssh-connect-timeout=0"], "--k8snet-ssh-connect-timeout: got '0', want a whole number of at least 1"),
    ],
    ids=lambda value: str(value[0]).replace("--k8snet-", "") if isinstance(value, list) else "",
)
@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_settings_that_cannot_be_used(lab: SshBench, arguments: list[str], message: str, workers: tuple[str, ...]) -> None:
    lab.bench.write("config", "nonsense\n")
    lab.bench.checks(OWN)
    ran = lab.run("--k8snet-no-suite", *arguments, *workers)
    assert ran.status == 4, ran.out
    (error,) = ran.lines("ERROR: ")
    assert message in error
    assert "Traceback" not in ran.out
    assert lab.sshd.connections == 0


def test_secrets_of_ssh_are_in_no_report(lab: SshBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase, right and wrong, and the key itself: with everything that pytest can be asked to show."""
    locked = make_key(tmp_path / "locked", "correct-horse-battery")
    lab.sshd.authorized = {locked.public}
    lab.bench.checks(OWN + "    assert False, 'so that variables are shown'\n")
    body = locked.path.read_text().splitlines()[1:-1]
    for passphrase, verdict in (("correct-horse-battery", "fail"), ("wrong-horse-staple", "error")):
        monkeypatch.setenv("K8SNET_SSH_PASSPHRASE", passphrase)
        ran = lab.run("--k8snet-no-suite", f"--k8snet-ssh-key={locked.path}", "-vv", "--showlocals", "--log-level=DEBUG", "-rA")
        assert set(ran.verdicts.values()) == {verdict}, ran.out
        files = [file.read_text(errors="replace") for file in lab.bench.path.rglob("*") if file.is_file() and file.suffix != ".pyc"]
        for text in (ran.out, *files):
            assert passphrase not in text
            assert not any(line in text for line in body)


# ---- local

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="reads the kernel's state as root")


def local(bench: Bench, api: FakeApiServer, *arguments: str) -> Ran:
    (bench.path / "conftest.py").unlink(missing_ok=True)
    kubeconfig = write_kubeconfig(bench.path / "kubeconfig", api.url)
    return bench.run(f"--k8snet-kubeconfig={kubeconfig}", "--k8snet-access=local", *arguments, fake=False)


@needs_root
@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_this_machine_alone_is_measured(bench: Bench, api: FakeApiServer, workers: tuple[str, ...]) -> None:
    api.items("/api/v1/nodes", raw_node("node-1", "198.51.100.1"), raw_node("node-2"), raw_node("node-3", "198.51.100.3"))
    bench.checks(OWN)
    ran = local(bench, api, "--k8snet-no-suite", *workers)
    assert ran.status == 0, ran.out
    assert ran.verdicts == {"ACME-001[node-2]": "pass"}
    assert ran.line("k8snet: access") == "k8snet: access local: this machine is node-2; no object is made in the cluster"
    reason = "access local reaches only the machine it runs on"
    assert ran.line("k8snet: left out") == f"k8snet: left out: node-1 ({reason}), node-3 ({reason})"
    assert set(api.asked("POST")) == {REVIEWS}


@needs_root
def test_node_that_somebody_says_this_machine_is(bench: Bench, api: FakeApiServer) -> None:
    api.items("/api/v1/nodes", raw_node("node-1", "198.51.100.1"), raw_node("node-2", "198.51.100.2"))
    bench.checks(OWN)
    ran = local(bench, api, "--k8snet-no-suite", "--k8snet-nodes=node-1")
    assert ran.verdicts == {"ACME-001[node-1]": "pass"}, ran.out


def test_machine_that_is_no_node(bench: Bench, api: FakeApiServer) -> None:
    api.items("/api/v1/nodes", raw_node("node-1", "198.51.100.1"), raw_node("node-2", "198.51.100.2"))
    bench.checks(OWN)
    ran = local(bench, api, "--k8snet-no-suite")
    assert ran.status == 4
    message = "--k8snet-access=local: no node has an address of this machine or its name"
    assert message in ran.line("ERROR: ")
    assert ran.line("ERROR: ").endswith("; say which node it is with --k8snet-nodes=NAME")
