"""``--k8snet-save-bundle`` leaves a bundle however the run ends, or says that there is none."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from pytest_k8snet.record.bundle import read_bundle
from tests.plugin.bench import Bench, ended, wait_for

OWN = "@check('ACME-1')\ndef test_it(k8snet_node): assert k8snet_node.facts.kernel == 'never'"


def results(bundle: Path) -> dict[str, object]:
    """Return the results in a bundle."""
    index, found = read_bundle(bundle, ("run.json",))
    run = json.loads(found["run.json"])
    assert index["run"] == run["id"]
    return dict(run["results"])


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_a_red_run(bench: Bench, way: str) -> None:
    bench.checks(OWN)
    ran = bench.own("--k8snet-save-bundle=b.tar.zst", way)
    assert ran.status == 1
    bundle = bench.path / "b.tar.zst"
    size = bundle.stat().st_size
    assert ran.line("bundle: ") == f"bundle: {bundle} ({size / 1000:.0f} kB)"
    found = results(bundle)
    assert (found["exit_status"], found["verdicts"]) == (1, {"fail": 3})
    _, files = read_bundle(bundle, ("facts/node-1.json", "collection.json", "probes.json", "profiles.json"))
    for name, content in files.items():
        assert content == (bench.run_folder() / name).read_bytes()
    assert len(files) == 4


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 2), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_run_that_is_interrupted(bench: Bench, number: signal.Signals, status: int) -> None:
    bench.checks("""
        import time
        from pathlib import Path

        @check("ACME-1")
        def test_it(k8snet_node):
            assert k8snet_node.facts.kernel
            Path("running.txt").touch()
            time.sleep(60)
    """)
    with bench.running("--k8snet-save-bundle=b.tar.zst") as process:
        wait_for(lambda: (bench.path / "running.txt").exists(), process)
        process.send_signal(number)
        code, out = ended(process)
    assert code == status
    assert f"bundle: {bench.path / 'b.tar.zst'} (" in out
    found = results(bench.path / "b.tar.zst")
    assert found["exit_status"] == status
    assert found["lost"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("gone/b.tar.zst", "there is no folder {path}/gone"),
        ("there", "is a folder; name a file"),
        ("pytest.ini/b.tar.zst", "there is no folder {path}/pytest.ini"),
        ("/proc/b.tar.zst", "cannot be written: No such file or directory"),
    ],
)
def test_it_is_refused_before_anything_is_measured(bench: Bench, target: str, message: str) -> None:
    bench.checks(OWN)
    (bench.path / "there").mkdir()
    bench.write("pytest.ini", "[pytest]\n")
    before = {item.name for item in bench.path.iterdir()}
    ran = bench.own(f"--k8snet-save-bundle={target}")
    assert ran.status == 4
    path = bench.path / target
    assert ran.line("ERROR: ") == f"ERROR: --k8snet-save-bundle: {path}: {message.format(path=bench.path)}"
    assert bench.objects() == []
    assert {item.name for item in bench.path.iterdir()} - before <= {"__pycache__"}


@pytest.mark.parametrize(
    ("arguments", "status", "left"),
    [
        pytest.param(["--k8snet-checks=NET-NONE-*"], 4, False, id="a-check-that-there-is-not"),
        pytest.param(["--k8snet-access=pod", "--k8snet-kubeconfig=none"], 4, False, id="no-kubeconfig"),
        pytest.param(["--k8snet-dry-run"], 0, True, id="dry-run"),
        pytest.param(["--collect-only"], 0, True, id="collect-only"),
    ],
)
def test_none_of_an_earlier_run_is_left_by_one_that_ends_before_it_begins(
    bench: Bench, arguments: list[str], status: int, left: bool
) -> None:
    bench.checks(OWN)
    bundle = bench.write("b.tar.zst", "of an earlier run")
    assert bench.own("--k8snet-save-bundle=b.tar.zst", *arguments).status == status
    assert bundle.exists() is left


def test_a_recording_that_is_judged_is_not_removed(bench: Bench) -> None:
    bundle = bench.write("b.tar.zst", "a recording")
    ran = bench.run("--k8snet-replay=b.tar.zst", "--k8snet-save-bundle=b.tar.zst", fake=False)
    assert ran.status == 4
    assert bundle.exists()


GREEN = """
    import os, resource, shutil
    from pathlib import Path

    @check("ACME-1")
    def test_it(k8snet_node, k8snet_run):
        assert k8snet_node.facts.kernel
        {then}
"""


NO_ROOM = """(k8snet_run.folder / 'big.pcap').write_bytes(os.urandom(99_999))
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))"""


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("shutil.rmtree('out', ignore_errors=True)", "cannot be written: No such file or directory"),
        (NO_ROOM, "cannot be written: File too large"),
    ],
    ids=["folder-gone", "no-room"],
)
def test_a_bundle_that_cannot_be_written_fails_the_run(bench: Bench, then: str, message: str) -> None:
    bench.checks(GREEN.format(then=then))
    out = bench.path / "out"
    out.mkdir()
    ran = bench.own("--k8snet-save-bundle=out/b.tar.zst", "--k8snet-nodes=node-1", own_process=True)
    assert ran.status == 1
    assert ran.verdicts == {"ACME-1[node-1]": "pass"}
    assert f"{out / 'b.tar.zst'}: {message}" in ran.out
    assert "bundle: " not in ran.out
    assert not out.exists() or list(out.iterdir()) == []


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
@pytest.mark.parametrize("report", ["/dev/full", "out/x.xml"], ids=["full", "folder-gone"])
def test_a_junit_report_that_cannot_be_written_loses_no_result(bench: Bench, report: str, way: str) -> None:
    bench.checks(GREEN.format(then="(k8snet_run.folder.parents[1] / 'out').write_text('')"))
    ran = bench.own(f"--junitxml={report}", "--k8snet-nodes=node-1", "--k8snet-save-bundle=b.tar.zst", way, own_process=True)
    assert ran.status == 1, ran.out
    path, why = (report, "No space left on device") if report == "/dev/full" else (bench.path / report, "File exists")
    assert ran.line("--junitxml") == f"--junitxml: {path}: cannot be written: {why}"
    assert "verdicts: 1 pass" in ran.out
    assert "generated xml file" not in ran.out
    assert "Traceback" not in ran.out
    assert (bench.path / "b.tar.zst").is_file()
    found = bench.record("run.json")["results"]
    assert (found["exit_status"], found["verdicts"]) == (1, {"pass": 1})
    bench.assert_removed()


def test_half_a_junit_report_is_none(bench: Bench) -> None:
    bench.checks("""
    import resource

    @check("ACME-1")
    def test_it(k8snet_node, record_property):
        record_property("large", "x" * 99_999)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    """)
    ran = bench.own("--junitxml=x.xml", "--k8snet-nodes=node-1", own_process=True)
    assert ran.status == 1, ran.out
    assert ran.line("--junitxml") == f"--junitxml: {bench.path / 'x.xml'}: cannot be written: File too large"
    assert not (bench.path / "x.xml").exists()


@pytest.mark.parametrize(("report", "message"), [("pytest.ini/a/x.xml", "Not a directory"), ("/proc/a/x.xml", "No such file or directory")])
def test_a_junit_report_is_refused_before_anything_is_measured(bench: Bench, report: str, message: str) -> None:
    bench.checks(OWN)
    bench.write("pytest.ini", "[pytest]\n")
    ran = bench.own(f"--junitxml={report}")
    path = bench.path / report
    there = bench.path / "pytest.ini" if "ini" in report else "/proc"
    assert (ran.status, bench.objects()) == (4, [])
    assert ran.line("ERROR: ") == f"ERROR: --junitxml: {path}: cannot be written: {there}: {message}"


def test_the_record_says_how_it_ended(bench: Bench) -> None:
    bench.checks(GREEN.format(then="shutil.rmtree('out', ignore_errors=True)"))
    (bench.path / "out").mkdir()
    assert bench.own("--k8snet-save-bundle=out/b.tar.zst").status == 1
    assert bench.record("run.json")["results"]["exit_status"] == 1


def test_where_nothing_is_tested(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write("test_plain.py", "def test_it(): pass\n")
    ran = bench.run("--k8snet-save-bundle=b.tar.zst", fake=False)
    assert ran.status == 4
    assert ran.line("ERROR: ") == "ERROR: --k8snet-save-bundle: no cluster is tested; name one with --k8snet-kubeconfig"
    monkeypatch.setenv("K8SNET_SAVE_BUNDLE", "b.tar.zst")
    assert bench.run(fake=False).status == 0


def test_where_nothing_is_recorded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that only the environment names, and no check that asks for it."""
    bench.write("test_plain.py", "def test_it(): pass\n")
    monkeypatch.setenv("K8SNET_ACCESS", "fake")
    ran = bench.run("--k8snet-save-bundle=b.tar.zst", "test_plain.py", fake=False)
    assert ran.status == 1
    assert f"{bench.path / 'b.tar.zst'}: not written, because nothing was recorded" in ran.out
    monkeypatch.setenv("K8SNET_SAVE_BUNDLE", "b.tar.zst")
    assert bench.run("test_plain.py", fake=False).status == 0


@pytest.mark.parametrize("option", ["--collect-only", "--k8snet-dry-run"])
def test_a_plan_is_no_record(bench: Bench, option: str) -> None:
    bench.checks(OWN)
    ran = bench.own("--k8snet-save-bundle=b.tar.zst", option)
    assert ran.status == 0
    assert not (bench.path / "b.tar.zst").exists()


def test_an_older_bundle_is_replaced(bench: Bench) -> None:
    bench.checks(OWN)
    (bench.path / "b.tar.zst").write_text("last night's")
    bench.own("--k8snet-save-bundle=b.tar.zst")
    assert results(bench.path / "b.tar.zst")["verdicts"] == {"fail": 3}
    assert [item.name for item in bench.path.iterdir() if item.name.endswith(".tmp")] == []
