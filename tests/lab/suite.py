"""Starts labs and runs the suite on them as a user would: by the commands, reading only exit statuses and JUnit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

from pytest_k8snet.catalogue import checks
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.lease import LEASES
from pytest_k8snet.lab.client import LabClient
from pytest_k8snet.lab.faults.matrix import Row, merged, read_rows, write_rows
from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.lab.faults.table import FAULTS, fault
from pytest_k8snet.lab.settings import LabSettings
from pytest_k8snet.options import LEVELS
from pytest_k8snet.record.store import LOCKS
from tests.junit import without_times

BIN = Path(sys.executable).parent
MATRIX = Path(__file__).parents[2] / "build" / "lab" / "matrix.json"
Case = tuple[str, str]

#: Checks that have nothing to judge in labs without flannel, BIRD, Cilium, ingress controllers and nftables mode.
NOTHING_TO_JUDGE = frozenset(
    {
        "NET-ABSENCE-006",
        "NET-ABSENCE-007",  # of Cilium
        "NET-CONNTRACK-004",  # nobody asks for a burst of connections
        "NET-CONTROL-007",
        "NET-DNS-003",  # CoreDNS asks the node's resolver, and there is no other pod
        "NET-INGRESS-001",
        "NET-INGRESS-002",
        "NET-INGRESS-003",
        "NET-INGRESS-010",
        *(f"NET-INGRESS-00{number}" for number in range(4, 10)),  # no profile names a way into the cluster
        "NET-ENCAP-003",
        "NET-KERNEL-009",
        "NET-LATENCY-002",  # no profile names a point
        "NET-NODE-003",
        "NET-POLICY-001",  # nothing enforces NetworkPolicies
        "NET-PROXY-009",
        "NET-REACH-005",  # no profile says
        "NET-REACH-006",  # no Service of type LoadBalancer
        "NET-SERVICE-008",  # nobody asks for many Services
        "NET-SERVICE-009",  # and nobody for idle connections
        "NET-THROUGHPUT-005",  # and for UDP
    }
)
Verdicts = dict[Case, str]
INGRESSES = "/apis/networking.k8s.io/v1/ingresses"
NETWORK_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of the suite said."""

    exit_status: int
    verdicts: Verdicts
    messages: dict[Case, str]
    output: str

    @property
    def noteworthy(self) -> set[tuple[str, str, str]]:
        """Every (check, subject, verdict) that is neither pass nor skip."""
        return {(check, subject, verdict) for (check, subject), verdict in self.verdicts.items() if verdict not in {"pass", "skip"}}

    @property
    def skipped_checks(self) -> set[str]:
        """The checks that were skipped, on every subject; one that was skipped on some subjects only is named with them."""
        skipped: dict[str, set[str]] = {}
        judged: set[str] = set()
        for (check, subject), verdict in self.verdicts.items():
            if verdict == "skip":
                skipped.setdefault(check, set()).add(subject)
            else:
                judged.add(check)
        return {check if check not in judged else f"{check}{sorted(subjects)}" for check, subjects in skipped.items()}


@dataclass(frozen=True, slots=True)
class FaultOutcome(Outcome):
    """What a run on a broken lab said, and what the faults declare that they turn."""

    declared: set[tuple[str, str, str]]


@dataclass(frozen=True)
class Lab:
    """A running lab and the folder its runs are kept in."""

    name: str
    kubeconfig: str
    results: Path

    @cached_property
    def settings(self) -> LabSettings:
        """Return what it was asked to be."""
        (status,) = json.loads(self.command("status", "--json"))
        return LabSettings.from_json(status["settings"])

    def command(self, *argv: str, ok: bool = True) -> str:
        """Run ``k8snet lab ... --name NAME``; return what it printed."""
        return k8snet("lab", *argv, "--name", self.name, ok=ok)

    def ssh(self, node: str, *argv: str) -> str:
        """Run a command on a node; return what it printed."""
        return k8snet("lab", "ssh", "--name", self.name, node, "--", *argv)

    @cached_property
    def client(self) -> LabClient:
        """Return the API server, as its administrator."""
        return LabClient(Api.from_kubeconfig(self.kubeconfig))

    def run_suite(self, title: str, *arguments: str, kubeconfig: str | None = None) -> Outcome:
        """Run the packaged suite with a JUnit report; return what it says."""
        with self.started_suite(title, *arguments, kubeconfig=kubeconfig) as running:
            return self.outcome(title, running)

    def run_healthy(self, title: str, *arguments: str, kubeconfig: str | None = None) -> Outcome:
        """Run the suite on what is healthy: once more when something was inconclusive and nothing worse.

        The nodes of a lab share their machine with whatever else it does, and a run that lacked a processor for a moment says so rightly.
        That this is rare the part ``again`` proves, which measures nothing twice.
        """
        outcome = self.run_suite(title, *arguments, kubeconfig=kubeconfig)
        if {verdict for *_, verdict in outcome.noteworthy} == {"inconclusive"}:
            said = "; ".join(outcome.messages[check, subject] for check, subject, _ in sorted(outcome.noteworthy))
            warnings.warn(f"made a healthy run again: {title}: {said}", stacklevel=2)
            outcome = self.run_suite(title, *arguments, kubeconfig=kubeconfig)
        return outcome

    def outcome(self, title: str, running: subprocess.Popen[str]) -> Outcome:
        """Wait for the end of a run and return what it says."""
        running.wait(600)
        report = self.results / f"{title}.xml"
        output = (self.results / f"{title}.txt").read_text()
        assert report.exists(), output
        verdicts, messages = read_junit(report)
        return Outcome(running.returncode, verdicts, messages, output)

    def replay(self, title: str, recording: Path) -> Outcome:
        """Judge a recorded run, without the lab."""
        place = self.results / title
        argv = [str(BIN / "pytest"), f"--k8snet-replay={recording}", f"--k8snet-run-dir={place}", f"--junitxml={place}.xml"]
        with (
            (self.results / f"{title}.txt").open("w") as out,
            subprocess.Popen([*argv, "-p", "no:cacheprovider"], cwd=self.results, stdout=out, stderr=out, text=True) as run,
        ):
            return self.outcome(title, run)

    @contextmanager
    def started_suite(self, title: str, *arguments: str, kubeconfig: str | None = None) -> Iterator[subprocess.Popen[str]]:
        """Start the packaged suite; what still runs at the end is killed."""
        shutil.rmtree(self.results / title, ignore_errors=True)  # an earlier one's would be taken for this one's
        argv = [
            str(BIN / "pytest"),
            f"--k8snet-kubeconfig={kubeconfig or self.kubeconfig}",
            f"--k8snet-run-dir={self.results / title}",
            f"--junitxml={self.results / title}.xml",
            "-p",
            "no:cacheprovider",
            *arguments,
        ]
        with (
            (self.results / f"{title}.txt").open("w") as out,
            subprocess.Popen(argv, cwd=self.results, stdout=out, stderr=out, text=True) as run,
        ):
            try:
                yield run
            finally:
                if run.poll() is None:
                    run.kill()

    def assert_replayed(self, title: str, recording: str, place: Path, *arguments: str) -> None:
        """Check that what a run left is judged in `place` as the run itself was, in an environment that knows of no lab."""
        report = place / "replay.xml"
        argv = [str(BIN / "pytest"), f"--k8snet-replay={self.results / recording}", f"--junitxml={report}", "-p", "no:cacheprovider"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(place)}
        ran = subprocess.run([*argv, *arguments], cwd=place, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert report.exists(), ran.stdout + ran.stderr
        assert without_times(report) == without_times(self.results / f"{title}.xml"), ran.stdout
        assert ran.returncode in (0, 1)  # JUnit, being equal, says which

    def objects_of_runs(self) -> list[str]:
        """Return every object of a kind that runs make which carries the label of one and is not on its way out."""
        api = self.client.api
        selector = "app.kubernetes.io/managed-by=pytest-k8snet"
        core = ("/api/v1/namespaces", "/api/v1/pods", "/api/v1/services")
        paths = (*core, INGRESSES, NETWORK_POLICIES, "/apis/scheduling.k8s.io/v1/priorityclasses", LEASES)
        found = [item["metadata"] for path in paths for item in api.list(path, labelSelector=selector)]
        return [metadata["name"] for metadata in found if not metadata.get("deletionTimestamp")]


def has_begun(lab: Lab, title: str) -> bool:
    """Whether a run has begun to measure throughput, which it locks others out of."""
    return (lab.results / title / LOCKS / "throughput.lock").exists()


def assert_nothing_is_left(lab: Lab) -> None:
    """Pods go a moment after the namespace that a run has deleted."""
    wait_until(lambda: lab.objects_of_runs() == [], "everything of the run to go", timeout_s=60)


def turned_on(lab: Lab, faults: Mapping[str, str], *arguments: str) -> FaultOutcome:
    """Apply faults, each to a node and those of several nodes at the same time, run the suite, revert them whatever happened.

    The level is that of the checks that they turn: without load a run takes half a minute less. One that is given wins.
    """
    levels = {check.id: LEVELS.index(check.level) for check in checks()}
    needed = max(levels[turns.check] for name in faults for turns in fault(name).turns)
    arguments = (f"--k8snet-level={LEVELS[needed]}", *arguments)
    level = next(given.partition("=")[2] for given in reversed(arguments) if given.startswith("--k8snet-level="))
    title = "+".join(faults)
    by_node: dict[str, list[str]] = {}
    for name, node in faults.items():
        by_node.setdefault(node, []).append(name)

    def on_each_node(action: str, step: int) -> None:
        def act(node: str) -> None:
            for name in by_node[node][::step]:
                lab.command("fault", action, name, "--node", node)

        with ThreadPoolExecutor(max_workers=len(by_node)) as nodes:
            [*nodes.map(act, by_node)]

    times = [time.monotonic()]
    try:
        on_each_node("apply", 1)
        times.append(time.monotonic())
        outcome = lab.run_suite(title, *arguments)
        times.append(time.monotonic())
    finally:
        on_each_node("revert", -1)
    times.append(time.monotonic())
    declared = set()
    for name, node in faults.items():
        listed = {item["name"]: item["turns"] for item in json.loads(k8snet("lab", "fault", "list", "--json", "--node", node))}
        declared |= {(turn["check"], turn["subject"].format(node=node), turn["verdict"]) for turn in listed[name]}
    apply_s, run_s, revert_s = (round(end - begin, 1) for begin, end in pairwise(times))
    row = Row(
        faults=dict(faults),
        network=lab.settings.network,
        proxy_mode=lab.settings.proxy_mode,
        ip_family=lab.settings.ip_family,
        node_kernel=lab.settings.kernel,
        nodes=lab.settings.nodes,
        level=level,
        day=datetime.now(UTC).date().isoformat(),
        apply_s=apply_s,
        run_s=run_s,
        revert_s=revert_s,
        turned=len(outcome.noteworthy),
        missing=tuple(sorted(declared - outcome.noteworthy)),
        beyond=tuple(sorted(outcome.noteworthy - declared)),
    )
    write_rows(MATRIX, merged(read_rows(MATRIX), [row], faults=[known.name for known in FAULTS]))
    return FaultOutcome(outcome.exit_status, outcome.verdicts, outcome.messages, outcome.output, declared)


def k8snet(*argv: str, ok: bool = True) -> str:
    """Run the ``k8snet`` command; fail with its output when it fails."""
    ran = subprocess.run([str(BIN / "k8snet"), *argv], capture_output=True, text=True, timeout=3000, check=False)
    assert not ok or ran.returncode == 0, f"k8snet {' '.join(argv)}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def read_junit(report: Path) -> tuple[Verdicts, dict[Case, str]]:
    """Read the verdict and message of every case; check that names and properties agree and that no name appears twice."""
    verdicts: Verdicts = {}
    messages: dict[Case, str] = {}
    for element in ET.parse(report).iter("testcase"):  # noqa: S314 - our own file
        properties = {item.get("name"): item.get("value") for item in element.iter("property")}
        case = (str(properties["k8snet_check"]), str(properties["k8snet_subject"]))
        assert element.get("name") == f"{case[0]}[{case[1]}]"
        assert case not in verdicts, f"{case} is reported twice"
        verdicts[case] = str(properties["k8snet_verdict"])
        messages[case] = " ".join(str(child.get("message") or "") + (child.text or "") for child in element if child.tag != "properties")
    return verdicts, messages


@contextmanager
def running_lab(name: str, results: Path, *options: str) -> Iterator[Lab]:
    """Start a lab, and stop it whatever happens; afterwards nothing of it is left."""
    results.mkdir(parents=True, exist_ok=True)
    k8snet("lab", "down", "--name", name)
    try:
        started = k8snet("lab", "up", "--name", name, *options)
        (results / f"up-{name}.txt").write_text(started)
        yield Lab(name=name, kubeconfig=k8snet("lab", "kubeconfig", "--name", name).strip(), results=results)
    finally:
        k8snet("lab", "down", "--name", name)
    assert name not in json.dumps(json.loads(k8snet("lab", "status", "--json"))), f"lab {name} is still known after down"
