"""One run at a time measures load in a cluster; everything else is judged meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugin.bench import Bench

WAYS = pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
OTHER = "k8snet-other measures load in this cluster since 2026-06-01 12:03:11 UTC"

LEASES = '''
import json
from pytest_k8snet.cluster.api_error import ApiError


class FileLeases:
    """A Lease in a file, for controller and workers alike."""

    def __init__(self, path):
        self.path = path

    def get(self):
        try:
            return json.loads(self.path.read_text())
        except FileNotFoundError:
            return None

    def put(self, holder):
        spec = {"holderIdentity": holder, "acquireTime": "2026-06-01T12:03:11.000000Z", "renewTime": "2999-01-01T00:00:00.000000Z"}
        self._write({"metadata": {"name": "k8snet-load", "uid": "other", "resourceVersion": "0"}, "spec": spec})

    def create(self, body):
        if self.get() is not None:
            raise ApiError("there is one", status=409)
        return self._write({**body, "metadata": {**body["metadata"], "uid": "ours", "resourceVersion": "1"}})

    def replace(self, body):
        if self.get()["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ApiError("another version", status=409)
        version = str(int(body["metadata"]["resourceVersion"]) + 1)
        return self._write({**body, "metadata": {**body["metadata"], "resourceVersion": version}})

    def delete(self, uid, version):
        if (self.get()["metadata"]["uid"], self.get()["metadata"]["resourceVersion"]) != (uid, version):
            raise ApiError("another version", status=409)
        self.path.unlink()

    def _write(self, record):
        with self.path.with_suffix(".log").open("a") as log:
            log.write(record["spec"]["holderIdentity"] + "\\n")
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(record))
        temporary.rename(self.path)
        return record
'''

LEAVING = """

class Leaving(FileLeases):
    looks = 0

    def get(self):
        record = super().get()
        if record is not None and record["spec"]["holderIdentity"] == "k8snet-other" and self.path.with_name("load-has-begun").exists():
            self.looks += 1
            if self.looks == 2:
                self.path.unlink()
        return record
"""

CLUSTER = """
from leases import FileLeases
fake.leases = FileLeases(HERE / "held.json")
"""

CHECKS = """
@check("ACME-1")
def test_read(k8snet_node):
    assert k8snet_node.sysctl("net.ipv4.ip_forward") == "1"

@check("ACME-2", level="load")
def test_load(k8snet_measure, k8snet_pair):
    assert k8snet_measure("throughput").values["takes"]
"""


@pytest.fixture
def bench(bench: Bench) -> Bench:
    bench.write("leases.py", LEASES)
    bench.cluster(CLUSTER)
    bench.checks(CHECKS)
    return bench


def hold(bench: Bench, holder: str = "k8snet-other") -> Path:
    """Let another run hold the Lease."""
    spec = {"holderIdentity": holder, "acquireTime": "2026-06-01T12:03:11.000000Z", "renewTime": "2999-01-01T00:00:00.000000Z"}
    record = {"metadata": {"name": "k8snet-load", "uid": "other", "resourceVersion": "0"}, "spec": spec}
    return bench.write("held.json", json.dumps(record))


TRIED = 1  # with more streams


def takes(bench: Bench) -> int:
    return len([request for request in bench.requests() if request.endswith("iperf3_client")])


@WAYS
def test_taken_for_the_load_and_given_back(bench: Bench, way: str) -> None:
    bench.cluster(CLUSTER + 'fake.answer("node-2", "stop", lambda params: note("seen.txt", fake.leases.get()["spec"]["holderIdentity"]))')
    ran = bench.own(way, "--k8snet-load-pairs=sample:1")
    assert (ran.status, ran.verdicts["ACME-2[node-1:node-2]"]) == (0, "pass"), ran.out
    run_id = bench.record("run.json")["id"]
    assert set(bench.noted("seen.txt")) == {f"k8snet-{run_id}"}
    assert not (bench.path / "held.json").exists()
    assert "Lease" not in ran.out


@WAYS
@pytest.mark.parametrize(("wait", "words"), [("0", "and is not waited for"), ("1", "and had not ended after 1 s")])
def test_refused_load_is_an_error_and_everything_else_is_judged(bench: Bench, way: str, wait: str, words: str) -> None:
    file = hold(bench)
    before = file.read_text()
    ran = bench.own(way, f"--k8snet-lock-wait={wait}", "--k8snet-load-pairs=sample:2")
    assert ran.status == 1
    assert {name: verdict for name, verdict in ran.verdicts.items() if name.startswith("ACME-1")} == {
        f"ACME-1[node-{number}]": "pass" for number in (1, 2, 3)
    }
    reason = f"load is not measured: {OTHER}, {words} (Lease default/k8snet-load); "
    for pair in ("node-1:node-2", "node-2:node-3"):
        assert ran.verdicts[f"ACME-2[{pair}]"] == "error"
        assert reason in ran.cases[f"ACME-2[{pair}]"].text
    assert reason in ran.line("ERROR ACME-2[node-1:node-2] and 1 more - ")
    waiting = f"k8snet: {OTHER}: load is not measured until it has ended, or for 1 s (Lease default/k8snet-load)"
    assert ran.lines(f"k8snet: {OTHER}") == ([waiting] if wait == "1" else [])
    assert takes(bench) == 0
    assert file.read_text() == before
    bench.assert_removed()


def test_the_suite_records_why_load_is_not_measured(bench: Bench) -> None:
    hold(bench)
    ran = bench.run("--k8snet-lock-wait=0", "--k8snet-load-pairs=sample:1", "--k8snet-checks=NET-THROUGHPUT-*,NET-MTU-001")
    assert ran.status == 1
    assert {verdict for name, verdict in ran.verdicts.items() if "THROUGHPUT" in name} == {"error"}
    assert {verdict for name, verdict in ran.verdicts.items() if "MTU" in name} == {"pass"}
    assert OTHER in bench.record("throughput/node-1%3Anode-2.json")["reason"]


@WAYS
def test_waiting_is_said_once_and_ends_when_the_other_has_ended(bench: Bench, way: str) -> None:
    hold(bench)
    bench.write(
        "watching.py",
        """
        from pathlib import Path

        def pytest_runtest_logstart(nodeid):
            if "test_load" in nodeid:
                Path(__file__).with_name("load-has-begun").touch()
        """,
    )
    bench.write("leases.py", LEASES + LEAVING)
    bench.cluster(CLUSTER.replace("FileLeases", "Leaving"))
    ran = bench.own(way, "-p", "watching", "--k8snet-load-pairs=sample:1", "--k8snet-lock-wait=60", own_process=True)
    assert ran.status == 0, ran.out
    assert ran.verdicts["ACME-2[node-1:node-2]"] == "pass"
    line = f"k8snet: {OTHER}: load is not measured until it has ended, or for 60 s (Lease default/k8snet-load)"
    assert ran.lines(f"k8snet: {OTHER}") == [line]


@WAYS
def test_load_that_was_measured_after_the_lease_was_lost_does_not_count(bench: Bench, way: str) -> None:
    bench.cluster(
        CLUSTER
        + """
def steal(params):
    fake.leases.put("k8snet-other")
    return {"exit_status": 0, "output": ""}

fake.answer("node-3", "stop", steal)
"""
    )
    ran = bench.run(way, "--k8snet-load-pairs=sample:3", "--k8snet-checks=NET-THROUGHPUT-001")
    assert ran.status == 1
    verdicts = {"node-1:node-2": "pass", "node-2:node-3": "error", "node-3:node-1": "error"}
    assert ran.verdicts == {f"NET-THROUGHPUT-001[{pair}]": verdict for pair, verdict in verdicts.items()}
    line = ran.line("ERROR NET-THROUGHPUT-001[node-2:node-3] - node-2:node-3: no throughput: load does not count without Lease")
    assert f"and it was lost: {OTHER}" in line
    assert takes(bench) == 2 * 3 + TRIED, "what comes after it is not measured any more"
    assert '"k8snet-other"' in (bench.path / "held.json").read_text(), "another run's is not deleted"


def test_no_lock(bench: Bench) -> None:
    hold(bench)
    ran = bench.own("--k8snet-no-lock", "--k8snet-load-pairs=sample:1")
    assert ran.status == 0
    assert takes(bench) == 3 + TRIED
    assert ", no-lock yes (command line), " in ran.line("k8snet: access fake")


def test_without_load_nobody_takes_it(bench: Bench) -> None:
    ran = bench.own("--k8snet-level=probe")
    assert ran.status == 0
    assert not (bench.path / "held.log").exists()


@WAYS
def test_load_of_a_users_own_is_refused_before_it_runs(bench: Bench, way: str) -> None:
    hold(bench)
    bench.checks("""
        @check("ACME-1", level="load")
        def test_own_traffic(k8snet_cluster, request):
            (request.config.rootpath / "sent").touch()
    """)
    ran = bench.own(way, "--k8snet-lock-wait=0")
    assert ran.status == 1
    assert f"load is not measured: {OTHER}" in ran.line("ERROR ACME-1[cluster] - ")
    assert not (bench.path / "sent").exists()


def test_load_in_a_check_of_another_level(bench: Bench) -> None:
    bench.checks("""
        @check("ACME-1", level="probe")
        def test_it(k8snet_measure, k8snet_pair):
            k8snet_measure("throughput")
    """)
    ran = bench.own("--k8snet-pairs=sample:1")
    assert ran.status == 1
    assert ran.line("ERROR ACME-1[node-1:node-2]") == (
        "ERROR ACME-1[node-1:node-2] - load is measured by checks of level load only; mark the check with level='load'"
    )
    assert takes(bench) == 0


def test_given_back_as_soon_as_the_load_has_ended(bench: Bench) -> None:
    bench.checks(
        CHECKS
        + """
@check("ACME-3")
def test_after(k8snet_cluster, request):
    import time
    until = time.monotonic() + 60
    while (request.config.rootpath / "held.json").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
"""
    )
    ran = bench.own("--k8snet-load-pairs=sample:1")
    assert ran.status == 0, ran.out
    assert (bench.path / "held.log").exists()
