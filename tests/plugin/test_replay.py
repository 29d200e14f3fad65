"""A run is judged again from its folder or from a bundle: the same verdicts, byte for byte the same JUnit, and nothing contacted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.measure.registry import MEASUREMENTS
from pytest_k8snet.plan import SERVICE_LOAD_CHECK
from pytest_k8snet.record.bundle import write_bundle
from pytest_k8snet.record.schema import version_of
from pytest_k8snet.record.store import RunFolder
from tests.junit import without_times
from tests.plugin.bench import Bench, Ran, wait_for

VERSION = version_of("pytest-k8snet")

# Reds of every kind, on a cluster that is missing a node.
BROKEN = """
    fake.change_facts("node-2", lambda facts: facts["kube_proxy"].update(mode="iptables"))
    fake.change_facts("node-2", lambda facts: facts["host"]["links"].append({"ifname": "elsewhere", "mtu": 1500, "flags": ["UP"]}))
    fake.change_facts("node-2", lambda facts: [route.update(dev="elsewhere", real_pod=False) for route in facts["peer_routes"]])
    fake.change_facts("node-3", lambda facts: facts["host"]["links"][1].update(mtu=1400))
    fake.change_facts("node-1", lambda facts: facts.update(kernel="6.1 <&> \\x1b[31m"))
    fake.answer("node-1", "ipvs", AccessError("node-1: the stream broke"))
    fake.answer("node-3", "facts", AccessError("node-3: no answer"), role="pod")
    fake.fail_probe("node-4", "node-4: pod k8snet-x/host-node-4: OutOfpods")
    fake.sent_bytes["node-2"] = 1
    fake.answer("node-2", "counters", {"tx_bytes": 5, "rx_bytes": 5, "processors": {}})
"""
PROFILE = """
extends: base.yaml
throughput: { line_rate: 1gbit }
waivers:
- { check: NET-MTU-002, nodes: [node-3], reason: until the move, expires: 2999-01-01 }
- { check: NET-PROXY-001, nodes: ["*"], reason: was allowed, expires: 2020-01-01 }
"""
NODES = ("node-1", "node-2", "node-3", "node-4")
OPTIONS = ("--k8snet-profile=tuned-node,ours.yaml", "--k8snet-allow-missing=1", "--k8snet-load-pairs=sample:3", "--k8snet-pairs=all")


@dataclass(frozen=True)
class Recorded:
    """A bench that has the recording of a run, and nothing that it was made from."""

    bench: Bench
    ran: Ran
    junit: bytes

    @property
    def folder(self) -> Path:
        return self.bench.path / "recorded"

    @property
    def bundle(self) -> Path:
        return self.bench.path / "run.tar.zst"

    def replay(self, path: Path | str = "run.tar.zst", *arguments: str) -> Ran:
        return self.bench.run(f"--k8snet-replay={path}", *arguments, fake=False)


def record(bench: Bench, *arguments: str, change: str = BROKEN) -> Recorded:
    bench.cluster(change, nodes=NODES)
    sources = [bench.write("base.yaml", "mtu: { uplink: 1500 }\n"), bench.write("ours.yaml", PROFILE), bench.path / "conftest.py"]
    ran = bench.run(*OPTIONS, "--k8snet-save-bundle=run.tar.zst", "--k8snet-run-dir=recorded", *arguments)
    for path in (*sources, bench.path / "requests.txt"):
        path.unlink()
    return Recorded(bench, ran, without_times(bench.path / "junit.xml"))


class Kept:
    """One recording for all tests that do not make their own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._recorded: Recorded | None = None

    def on(self, bench: Bench) -> Recorded:
        if self._recorded is None:
            self._recorded = record(bench)
            shutil.copytree(bench.path, self._path, dirs_exist_ok=True)
        else:
            shutil.copytree(self._path, bench.path, dirs_exist_ok=True)
            (bench.path / "conftest.py").unlink()
        return replace(self._recorded, bench=bench)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def recorded(bench: Bench, kept: Kept) -> Recorded:
    return kept.on(bench)


def test_what_is_recorded_has_everything(recorded: Recorded) -> None:
    """The other tests compare with it: it has to be worth it."""
    assert recorded.ran.status == 1
    assert set(recorded.ran.verdicts.values()) == {"pass", "fail", "error", "skip", "inconclusive"}
    assert {word for word in ("FAILED", "ERROR", "INCONCLUSIVE", "WAIVED", "ALLOWED", "ADVICE") if recorded.ran.lines(f"{word} ")} == {
        *("FAILED", "ERROR", "INCONCLUSIVE", "WAIVED", "ALLOWED", "ADVICE")
    }
    assert "its waiver has expired on 2020-01-01 (profile ours.yaml:6): was allowed" in recorded.ran.out


def summary(ran: Ran) -> list[str]:
    lines = ran.out.splitlines()
    start = next(index for index, line in enumerate(lines) if re.fullmatch(r"=+ k8snet =+", line))
    end = next(index for index, line in enumerate(lines) if line.startswith("run folder: "))
    return lines[start:end]


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
@pytest.mark.parametrize("kind", ["bundle", "folder"])
def test_the_same_verdicts(recorded: Recorded, kind: str, way: str) -> None:
    ran = recorded.replay(getattr(recorded, kind), way)
    assert ran.status == 1
    assert ran.verdicts == recorded.ran.verdicts
    assert without_times(recorded.bench.path / "junit.xml") == recorded.junit
    assert summary(ran) == summary(recorded.ran)
    assert recorded.bench.requests() == []


def test_a_run_under_xdist(bench: Bench) -> None:
    recorded = record(bench, "-n2")
    alone = recorded.replay("run.tar.zst", "-pno:xdist")
    assert alone.verdicts == recorded.ran.verdicts
    assert without_times(bench.path / "junit.xml") == recorded.junit


def test_in_another_folder_by_another_user(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    bundle = shutil.move(recorded.bundle, place / "b.tar.zst")
    shutil.rmtree(recorded.folder)
    monkeypatch.setenv("HOME", str(place))
    line = [sys.executable, "-m", "pytest", f"--k8snet-replay={bundle}", "--junitxml=junit.xml", "-p", "no:cacheprovider"]
    ran = subprocess.run(line, cwd=place, capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stdout
    assert without_times(place / "junit.xml") == recorded.junit


@pytest.mark.parametrize(
    ("arguments", "change", "status"),
    [
        (["--k8snet-level=read"], "", 0),
        (["--k8snet-shard=1/2"], "", 0),
        (["--k8snet-strict"], "fake.pods = False", 1),
    ],
    ids=["healthy", "shard", "without-pods"],
)
def test_other_runs(bench: Bench, arguments: list[str], change: str, status: int) -> None:
    recorded = record(bench, *arguments, change=change)
    assert recorded.ran.status == status, recorded.ran.out
    ran = recorded.replay()
    assert ran.status == status
    assert without_times(bench.path / "junit.xml") == recorded.junit
    assert ran.line("verdicts: ") == recorded.ran.line("verdicts: ")


def test_a_replay_of_a_replay(recorded: Recorded) -> None:
    first = recorded.replay(recorded.folder, "--k8snet-save-bundle=again.tar.zst")
    assert first.status == 1
    shutil.rmtree(recorded.folder)
    recorded.bundle.unlink()
    ran = recorded.replay("again.tar.zst")
    assert without_times(recorded.bench.path / "junit.xml") == recorded.junit
    assert ran.line("k8snet: replay of run ") == first.line("k8snet: replay of run ")


def test_header(recorded: Recorded) -> None:
    about = json.loads((recorded.folder / "run.json").read_text())
    ran = recorded.replay("run.tar.zst", "--k8snet-strict")
    at = f"{about['started'][:10]} {about['started'][11:16]} UTC"
    assert ran.line("k8snet: replay of run ") == f"k8snet: replay of run {about['id']} of {at}; nothing is contacted"
    assert ran.line("k8snet: Kubernetes ") == f"k8snet: Kubernetes v1.37.0, CNI fake ({recorded.bundle})"
    assert ran.line("k8snet: profile ").split(", ") == [
        "k8snet: profile tuned-node",
        "ours.yaml (recording)",
        "access replay (command line)",
        "pairs all (recording)",
        "load-pairs sample:3 (recording)",
        "allow-missing 1 (recording)",
        "replay run.tar.zst (command line)",
        "strict yes (command line)",
    ]
    assert "load: " not in ran.out
    assert ran.lines("run folder: ") == [f"run folder: {recorded.bench.run_folder()}"]


def test_the_folder_is_like_any_other(recorded: Recorded) -> None:
    before = json.loads((recorded.folder / "run.json").read_text())
    recorded.replay()
    folder = recorded.bench.run_folder()
    assert RunFolder(folder).files() == RunFolder(recorded.folder).files()
    about = json.loads((folder / "run.json").read_text())
    assert about["id"] != before["id"]
    assert folder.name.endswith(about["id"])
    assert about["measured_by"] == {"id": before["id"], "started": before["started"], "version": VERSION}
    assert before["measured_by"] is None
    assert {**about["results"], "exit_status": 1} == before["results"]


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_the_recording_is_left_as_it_is(recorded: Recorded) -> None:
    before = state(recorded.folder)
    recorded.bench.checks("""
        from pytest_k8snet.record.store import RunFolder

        @check("ACME-1")
        def test_it(k8snet_run, k8snet_measure):
            document = k8snet_measure("facts", "node-1")
            assert (k8snet_run.folder / "facts" / "node-1.json").stat().st_nlink == 2
            RunFolder(k8snet_run.folder).put(document)
    """)
    ran = recorded.replay(recorded.folder, "test_own.py")
    assert ran.status == 0, ran.out
    assert state(recorded.folder) == before


def test_waivers_hold_as_of_the_day_of_the_run(recorded: Recorded) -> None:
    """Or last year's recording would turn red by itself, and nobody could say what the night before had looked like."""
    for started, excused, way in (
        ("2019-12-31T23:59:59+00:00", True, "-n2"),
        ("2020-01-01T23:59:59+00:00", True, "-pno:xdist"),
        ("2020-01-02T00:00:00+00:00", False, "-pno:xdist"),
    ):
        change(recorded.folder / "run.json", started=started)
        ran = recorded.replay(recorded.folder, "--k8snet-checks=NET-PROXY-001", "--k8snet-nodes=node-2", way)
        assert ran.status == (0 if excused else 1)
        assert bool(ran.lines("WAIVED NET-PROXY-001[node-2]")) == excused
        assert ("its waiver has expired on 2020-01-01" in ran.out) != excused


# ---- what the command line changes


def test_with_the_profile_of_today(recorded: Recorded) -> None:
    recorded.bench.write("today.yaml", "mtu: { uplink: 1400 }\n")
    ran = recorded.replay("run.tar.zst", "--k8snet-profile=today.yaml", "--k8snet-checks=NET-MTU-002", "--k8snet-nodes=node-1,node-3")
    assert ran.verdicts == {"NET-MTU-002[node-1]": "fail", "NET-MTU-002[node-3]": "pass"}
    assert "want 1400 (profile today.yaml:1)" in ran.line("FAILED NET-MTU-002[node-1]")
    assert "profile today.yaml (command line)" in ran.line("k8snet: profile ")
    again = recorded.replay(recorded.bench.run_folder(), "--k8snet-run-dir=again")
    assert again.verdicts == ran.verdicts


def test_without_a_profile(recorded: Recorded) -> None:
    ran = recorded.replay("run.tar.zst", "--k8snet-profile=", "--k8snet-checks=NET-KERNEL-001")
    assert set(ran.verdicts.values()) <= {"pass", "error", "skip"}
    assert "k8snet: profile  (command line), " in ran.out


def test_other_sources_decide_nothing(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K8SNET_LEVEL", "read")
    monkeypatch.setenv("K8SNET_ALLOW_MISSING", "100%")
    monkeypatch.setenv("K8SNET_KUBECONFIG", "/nonexistent")
    recorded.bench.write("pytest.ini", "[pytest]\nk8snet_strict = true\nk8snet_checks = NET-MTU-*\nk8snet_access = pod\n")
    recorded.replay()
    assert without_times(recorded.bench.path / "junit.xml") == recorded.junit


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_what_was_not_measured_is_an_error(bench: Bench, way: str) -> None:
    recorded = record(bench, "--k8snet-level=read", change="")
    about = json.loads((recorded.folder / "run.json").read_text())
    ran = recorded.replay("run.tar.zst", "--k8snet-level=load", "--k8snet-load-pairs=sample:1", "--k8snet-checks=NET-THROUGHPUT-001", way)
    assert ran.status == 1
    assert ran.verdicts == {"NET-THROUGHPUT-001[node-1:node-2]": "error"}
    said = f"ERROR NET-THROUGHPUT-001[node-1:node-2] - the recording of run {about['id']} has no throughput of node-1:node-2"
    assert ran.line("ERROR NET") == said
    assert not (bench.run_folder() / "throughput").exists()


def test_a_recording_of_a_run_that_was_cut(bench: Bench) -> None:
    """Killed in the middle: what is there is judged, the rest is an error."""
    bench.cluster("fake.answer('node-1', 'iperf3_client', lambda params: note('loading.txt', 'x') or time.sleep(60))")
    with bench.running("--k8snet-run-dir=cut", "--pyargs", "pytest_k8snet.conformance") as process:
        wait_for(lambda: (bench.path / "loading.txt").exists(), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert json.loads((bench.path / "cut" / "run.json").read_text())["results"] is None
    (bench.path / "conftest.py").unlink()
    ran = bench.run("--k8snet-replay=cut", fake=False)
    assert ran.status == 1
    # What is better looked at late comes after the load.
    late = (check for measurement in MEASUREMENTS.values() if not measurement.early for check in measurement.last)
    not_there = ("NET-THROUGHPUT", SERVICE_LOAD_CHECK, *late)
    assert {name for name, verdict in ran.verdicts.items() if verdict == "error"} == {
        name for name in ran.verdicts if name.startswith(not_there)
    }
    assert "pass" in ran.verdicts.values()


def test_a_run_that_was_cut_before_its_probe_pods_ran(recorded: Recorded) -> None:
    about = json.loads((recorded.folder / "run.json").read_text())
    for name in RunFolder(recorded.folder).files():
        if name not in ("run.json", "plan.json", "profiles.json", "cluster/cluster.json"):
            (recorded.folder / name).unlink()
    ran = recorded.replay(recorded.folder, "-n2")
    assert ran.status == 1
    judged = {name for name, verdict in ran.verdicts.items() if verdict not in ("error", "skip")}
    assert judged == {name for name in judged if name.endswith("[cluster]") and ran.verdicts[name] == "pass"}, "what the API tells is there"
    assert f"the recording of run {about['id']} has no facts of node-1" in ran.out


def test_own_checks(recorded: Recorded) -> None:
    about = json.loads((recorded.folder / "run.json").read_text())
    recorded.bench.checks("""
        @check("ACME-1")
        def test_facts(k8snet_node):
            assert k8snet_node.sysctl("net.ipv4.ip_forward") == "1"

        @check("ACME-2")
        def test_run(k8snet_node):
            k8snet_node.run(["ip", "-j", "link", "show", "a b"])

        @check("ACME-3")
        def test_sysctl(k8snet_node):
            k8snet_node.sysctl("vm.swappiness")
    """)
    ran = recorded.replay("run.tar.zst", "test_own.py", "--k8snet-nodes=node-2,node-4")
    assert ran.verdicts == {
        **{f"ACME-{number}[node-4]": "error" for number in (1, 2, 3)},
        "ACME-1[node-2]": "pass",
        "ACME-2[node-2]": "error",
        "ACME-3[node-2]": "error",
    }
    said = f"node-2: this is a replay of run {about['id']}: there is no node to run "
    assert ran.line("ERROR ACME-2[node-2]") == f"ERROR ACME-2[node-2] - {said}ip -j link show 'a b' on"
    assert ran.line("ERROR ACME-3[node-2]") == f"ERROR ACME-3[node-2] - {said}cat /proc/sys/vm/swappiness on"
    assert "OutOfpods" in ran.cases["ACME-2[node-4]"].text


def test_dry_run(recorded: Recorded) -> None:
    about = json.loads((recorded.folder / "run.json").read_text())
    for path in (recorded.folder, recorded.bundle):
        ran = recorded.replay(path, "--k8snet-dry-run", "--k8snet-save-bundle=dry.tar.zst")
        assert ran.status == 0
        assert ran.line("Nothing is measured: ") == f"Nothing is measured: this is a replay of run {about['id']}."
        assert "Objects" not in ran.out
        assert not (recorded.bench.path / ".k8snet").exists()
        assert not (recorded.bench.path / "dry.tar.zst").exists()


def test_it_starts_the_suite_only_from_the_command_line(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded.bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): assert k8snet_node.facts.kernel")
    monkeypatch.setenv("K8SNET_REPLAY", "run.tar.zst")
    ran = recorded.bench.run("--k8snet-nodes=node-2", fake=False)
    assert ran.status == 0, ran.out
    assert set(ran.cases) == {"ACME-1[node-2]"}
    assert "replay run.tar.zst (environment K8SNET_REPLAY)" in ran.out
    assert "; the recording is left alone until a check asks for it" in ran.out


def test_what_the_environment_names_gives_way_to_the_command_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K8SNET_REPLAY", "nowhere.tar.zst")
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    ran = bench.own()
    assert ran.status == 0
    assert "replay" not in "".join(ran.lines("k8snet: "))


def test_the_recording_is_not_removed_while_it_is_judged(bench: Bench) -> None:
    recorded = record(bench, change="")
    oldest = bench.path / ".k8snet" / "20200101T000000Z-0123abcd"
    oldest.parent.mkdir()
    shutil.move(recorded.folder, oldest)
    ran = recorded.replay(oldest, "--k8snet-keep-runs=1", "--k8snet-checks=NET-MTU-*")
    assert ran.status == 0
    assert oldest.is_dir()
    assert recorded.replay(oldest, "--k8snet-checks=NET-MTU-*").status == 0


# ---- what cannot be replayed


def refused(recorded: Recorded, path: Path | str, *arguments: str) -> str:
    """Replay, and return the one line that says why it cannot be; nothing is left behind."""
    before = {item for item in recorded.bench.path.rglob("*") if "runpytest" not in item.name}
    ran = recorded.replay(path, *arguments)
    assert ran.status == 4, ran.out
    assert "Traceback" not in ran.out
    after = {item for item in recorded.bench.path.rglob("*") if "runpytest" not in item.name}
    assert {item.name for item in after - before} <= {"std", "stdout", "stderr"}
    return ran.line("ERROR: ").removeprefix("ERROR: ")


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("kind", ["bundle", "folder"])
def test_recordings_that_cannot_be_used(recorded: Recorded, kind: str) -> None:
    """One recording, broken in one way after the other."""
    whole = recorded.bench.path / "whole"
    shutil.copytree(recorded.folder, whole)
    run_id = json.loads((whole / "run.json").read_text())["id"]
    path = recorded.bench.path / ("b.tar.zst" if kind == "bundle" else "recorded")

    def said() -> str:
        if kind == "bundle":
            write_bundle(RunFolder(recorded.folder), path, run_id=run_id)
        message = refused(recorded, path)
        shutil.rmtree(recorded.folder)
        shutil.copytree(whole, recorded.folder)
        assert message.startswith(f"--k8snet-replay: {path}")
        return message.removeprefix(f"--k8snet-replay: {path}").lstrip(":/ ")

    at = recorded.folder
    change(at / "run.json", schema=2, versions={"pytest-k8snet": "9.9"})
    newer = f"schema 2, written by pytest-k8snet 9.9; this is pytest-k8snet {VERSION}, which reads schema 1: use the version that wrote it"
    assert said() == f"run.json: {newer}"
    change(at / "run.json", started="yesterday")
    assert said().startswith("run.json: damaged: ValueError(")
    change(at / "run.json", settings={"level": {"value": "loud"}})
    assert said() == "the recorded setting level: got 'loud', want one of read, probe, load"
    (at / "run.json").write_text("[]")
    assert said() == "run.json: not what pytest-k8snet writes (no schema)"
    (at / "run.json").write_text("{")
    assert said().startswith("run.json: cannot be read: ")
    (at / "run.json").unlink()
    assert said() in ("it has no run.json", "not the folder of a run: it has no run.json")
    (at / "profiles.json").unlink()
    assert said() == (
        f"the recording of run {run_id}, made by pytest-k8snet {VERSION}, does not hold its profiles (tuned-node, ours.yaml); "
        "name them with --k8snet-profile"
    )
    (at / "plan.json").unlink()
    assert said() == f"the recording of run {run_id} has no plan"
    change(at / "plan.json", nodes=["node-9"])
    assert said() == "plan.json: damaged: KeyError('node-9')"
    (at / "plan.json").write_text("[" * 100_000)
    assert said().startswith("plan.json: cannot be read: ")
    (at / "cluster" / "cluster.json").unlink()
    assert said() == f"the recording of run {run_id} has no inventory"
    change(at / "cluster" / "cluster.json", schema=3)
    assert said() == "cluster/cluster.json: schema 3, this version reads 1 and 2; use the version that wrote it"
    change(at / "cluster" / "cluster.json", values={})
    assert said() == "cluster/cluster.json: damaged: KeyError('version')"


def test_older_recordings_take_profiles_of_the_command_line(recorded: Recorded) -> None:
    (recorded.folder / "profiles.json").unlink()
    ran = recorded.replay(recorded.folder, "--k8snet-profile=tuned-node")
    assert ran.status == 1
    assert "pass" in ran.verdicts.values()


def test_damaged_documents_are_errors(recorded: Recorded) -> None:
    (recorded.folder / "facts" / "node-2.json").write_text("{")
    ran = recorded.replay(recorded.folder, "--k8snet-checks=NET-MTU-002")
    assert ran.verdicts["NET-MTU-002[node-2]"] == "error"
    assert "node-2.json: cannot be read" in ran.out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such file or folder"),
        (lambda path: path.write_text("text"), "not a bundle: it is not compressed by zstd"),
        (lambda path: path.mkdir(), "not the folder of a run: it has no run.json"),
    ],
    ids=["missing", "text", "folder"],
)
def test_what_is_no_recording(bench: Bench, make: Any, message: str) -> None:
    path = bench.path / "it"
    make(path)
    ran = bench.run("--k8snet-replay=it", fake=False)
    assert ran.status == 4
    assert ran.line("ERROR: ") == f"ERROR: --k8snet-replay: {path}: {message}"


def test_a_bundle_that_is_cut(recorded: Recorded) -> None:
    whole = recorded.bundle.read_bytes()
    recorded.bundle.write_bytes(whole[: len(whole) // 2])
    assert refused(recorded, "run.tar.zst") == f"--k8snet-replay: {recorded.bundle}: truncated: it ends before its end"


def test_a_hostile_bundle(recorded: Recorded) -> None:
    import io

    from pytest_k8snet.record import bundle

    with bundle._zstd().open(recorded.bundle) as packed, tarfile.open(fileobj=io.BytesIO(packed.read())) as tar:
        members = [(member, tar.extractfile(member)) for member in tar.getmembers()]
        members[3][0].name = "../../owned.json"
        with recorded.bundle.open("wb") as file, bundle._compressing(file) as out, tarfile.open(fileobj=out, mode="w|") as changed:
            for member, content in members:
                changed.addfile(member, content)
    assert refused(recorded, "run.tar.zst").endswith(": member '../../owned.json' leads out of the folder")


def test_runs_that_are_meant_instead_of_their_folder(bench: Bench) -> None:
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    bench.own()
    ran = bench.run("--k8snet-replay=.k8snet", fake=False)
    hint = f"name one of the runs in it, the last one is {bench.run_folder()}"
    assert ran.line("ERROR: ") == f"ERROR: --k8snet-replay: {bench.path}/.k8snet: not the folder of a run: it has no run.json; {hint}"


def test_a_run_that_is_going_on(bench: Bench) -> None:
    bench.checks(f"""
        import subprocess, sys

        @check("ACME-1")
        def test_it(k8snet_run):
            line = [sys.executable, "-m", "pytest", f"--k8snet-replay={{k8snet_run.folder}}", "-p", "no:cacheprovider"]
            second = subprocess.run(line, capture_output=True, text=True, cwd={str(bench.path)!r})
            assert second.returncode == 4
            assert f"{{k8snet_run.folder}}: its run is still going on; wait for its end" in second.stderr
    """)
    ran = bench.own()
    assert ran.status == 0, ran.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--k8snet-kubeconfig=x"], "--k8snet-replay and --k8snet-kubeconfig: a replay reaches no cluster; give one of them"),
        (["--k8snet-context=x"], "--k8snet-replay and --k8snet-context: a replay reaches no cluster; give one of them"),
        (["--k8snet-access=fake"], "--k8snet-replay and --k8snet-access: a replay reaches no cluster; give one of them"),
        (["--k8snet-namespace=x"], "--k8snet-namespace: has no effect in a replay, where nothing is measured; leave it out"),
        (["--k8snet-nodes=node-9"], "--k8snet-nodes: the recorded run did not look at node-9; it did at: node-1, node-2, node-3, node-4"),
        (["--k8snet-nodes=pool=x"], "--k8snet-nodes: got 'pool=x', and a recording has no labels to select by; name the nodes"),
        (["--k8snet-profile=nothing.yaml"], "--k8snet-profile: no profile 'nothing.yaml'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_does_not_go_together(recorded: Recorded, arguments: list[str], message: str) -> None:
    assert refused(recorded, "run.tar.zst", *arguments).startswith(message)


@pytest.mark.parametrize(
    ("kind", "target"), [("run.tar.zst", "run.tar.zst"), ("recorded", "recorded/b.tar.zst"), ("run.tar.zst", "link.tar.zst")]
)
def test_a_bundle_that_would_replace_the_recording(recorded: Recorded, kind: str, target: str) -> None:
    path = recorded.bench.path
    (path / "link.tar.zst").symlink_to(path / "run.tar.zst")
    before = state(recorded.folder), (path / "run.tar.zst").read_bytes()
    said = refused(recorded, kind, f"--k8snet-save-bundle={target}")
    assert said == f"--k8snet-save-bundle: {path / target}: is of the recording that is judged; name another file"
    assert before == (state(recorded.folder), (path / "run.tar.zst").read_bytes())


@pytest.mark.parametrize("run_dir", ["recorded", ".", "recorded/again"])
def test_a_run_folder_that_would_change_the_recording(recorded: Recorded, run_dir: str) -> None:
    before = state(recorded.folder)
    said = refused(recorded, "recorded", f"--k8snet-run-dir={run_dir}")
    path = recorded.bench.path / run_dir
    assert said == f"run folder {path}: the recording that is judged lies there; name another one with --k8snet-run-dir"
    assert state(recorded.folder) == before
