"""A run: its folder, its inventory and plan, and the documents it takes. One object in the controller, one in each xdist worker."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cases import Collection
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.cluster.pairs import pair_nodes
from pytest_k8snet.errors import (
    AccessError,
    AuthenticationError,
    ClusterError,
    ConfigurationError,
    K8sNetError,
    MeasurementError,
    ProbeError,
    RecordError,
    UnsupportedError,
)
from pytest_k8snet.options import Settings
from pytest_k8snet.plan import SERVICE_LOAD_CHECK, Plan, is_selector, make_plan
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.latest import Latest
from pytest_k8snet.record.lock import measuring
from pytest_k8snet.record.schema import version_of
from pytest_k8snet.record.store import (
    COLLECTION,
    INGRESSES,
    LEASE,
    PLAN,
    POLICY_PODS,
    PROBES,
    PROFILES,
    RUN,
    RUN_SCHEMA,
    SERVICES,
    RunFolder,
    remove_older,
)
from pytest_k8snet.shown import shown

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Access, CommandResult, Deadline
    from pytest_k8snet.access.probe_ingresses import ProbeIngress
    from pytest_k8snet.access.probe_policies import PolicyPod
    from pytest_k8snet.access.probe_services import GroupService, ProbeService
    from pytest_k8snet.access.probes import Probe
    from pytest_k8snet.backend import Backend, Probing
    from pytest_k8snet.cluster.ingress import Route
    from pytest_k8snet.cluster.lease import LeaseState, LoadLease
    from pytest_k8snet.expect.profile import Profile
    from pytest_k8snet.expect.resolve import Expectations
    from pytest_k8snet.measure.registry import MeasureContext, Measurement, PolicyTools
    from pytest_k8snet.record.blocking import BlockingRecord
    from pytest_k8snet.record.facts import LateFacts, NodeFacts
    from pytest_k8snet.record.recording import Recorded
    from pytest_k8snet.record.redact import Redactor

PROBES_S = 180.0  # what probe pods are given to start, images pulled included
_POLL_S = 0.05
_CREATE_S = 90.0
_SWEEP_S = 5.0  # what sweeping is given to end when the run does
_SAY_S = 90.0  # more than the controller's last request takes
_END_S = 10.0  # what a measurement is given to end when the run does
KEPT = 16  # subjects whose facts and documents are held in memory: parsed facts are a megabyte each on a cluster of a thousand nodes


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a check may know of the run: the value of the fixture ``k8snet_run``."""

    id: str
    folder: Path
    settings: Settings
    nodes: tuple[str, ...]
    pairs: tuple[str, ...]
    load_pairs: tuple[str, ...]
    has_check: Callable[[str], bool]
    """Whether a check is going to be judged in this run."""


class Documents(Mapping[str, Document]):
    """One measurement of many nodes. Each is read when it is looked at: all facts of a large cluster do not fit into memory."""

    def __init__(self, run: Run, kind: str, nodes: tuple[str, ...]) -> None:
        self._run = run
        self._kind = kind
        self._nodes = dict.fromkeys(nodes)

    def __getitem__(self, name: str) -> Document:
        if name not in self._nodes:
            raise KeyError(name)
        return self._run.document(self._kind, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)


class Run:
    """What controller and workers share. A worker only reads plan and probes, and never creates or deletes objects.

    `open_backend` is called when the cluster is first asked for. `failure` says why the controller could not read the inventory.
    `judged_on` is the day as of which waivers hold, `recorded` the run that measured when this one only judges.
    """

    def __init__(
        self,
        settings: Settings,
        open_backend: Callable[[], Backend],
        profile: Profile | None,
        *,
        redactor: Redactor,
        run_id: str,
        judged_on: date,
        folder: RunFolder | None = None,
        failure: str | None = None,
        recorded: Recorded | None = None,
    ) -> None:
        self.settings = settings
        self.redactor = redactor
        self.id = run_id
        self.judged_on = judged_on
        self.recorded = recorded
        self._open_backend = open_backend
        self._backend: Backend | None = None
        self._failure: K8sNetError | None = None if failure is None else ClusterError(failure)
        self._profile = profile
        self._folder = folder
        self._cluster: Cluster | None = None
        self._plan: Plan | None = None
        self._expectations: Expectations | None = None
        self._probes: Mapping[str, Probe] | None = None
        self._words: dict[str, Mapping[str, Any]] = {}  # of the controller, by file
        self.on_wait: Callable[[], None] | None = None  # called by the thread that waits for another run, again and again
        self._access: Access | None = None
        self._facts: Latest[NodeFacts] = Latest(KEPT)
        self._late_facts: dict[str, LateFacts] = {}
        self._read: defaultdict[str, Latest[Document]] = defaultdict(lambda: Latest(KEPT))  # by kind
        self._early: list[threading.Thread] = []
        self._checks: set[str] = set()  # once they are collected
        self._settled: Deadline | None = None  # from the first measurement on
        self._stopped = threading.Event()

    def shown(self, text: str, *, keep: str = "\n\t") -> str:
        """Return a message as it may be shown."""
        return shown(text, self.redactor, keep=keep)

    @property
    def recording(self) -> bool:
        """Whether there is a folder to write to."""
        return self._folder is not None

    def start(self) -> None:
        """Be ready for `cluster` and `plan`: a worker finds them in the folder."""
        if self._failure is not None:
            raise self._failure

    @property
    def backend(self) -> Backend:
        """The cluster's backend; opened on first use.

        Raises a `K8sNetError` when what names the cluster is not usable.
        """
        if self._backend is None:
            self._backend = self._open_backend()
        return self._backend

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        self.start()
        assert self._folder is not None
        return self._folder

    @property
    def cluster(self) -> Cluster:
        """The inventory."""
        self.start()
        if self._cluster is None:
            document = self.folder.get("cluster", "cluster")
            if document is None or document.values is None:
                raise MeasurementError(f"{self.folder.path}: the controller has left no inventory")
            self._cluster = Cluster.from_json(document.values)
        return self._cluster

    @property
    def plan(self) -> Plan:
        """Nodes and pairs."""
        self.start()
        if self._plan is None:
            self._plan = Plan.from_json(self.folder.read_json(PLAN))
            self.redactor.spare(self._plan.probed)
        return self._plan

    @property
    def expectations(self) -> Expectations:
        """What is expected of the cluster and its nodes."""
        if self._expectations is None:
            from pytest_k8snet.expect.resolve import resolve

            self._expectations = resolve(self._profile, self.cluster)
        return self._expectations

    @property
    def info(self) -> RunInfo:
        """What checks may know."""
        plan = self.plan
        return RunInfo(self.id, self.folder.path, self.settings, plan.nodes, plan.pairs, plan.load_pairs, self._has_check)

    @property
    def probes(self) -> Mapping[str, Probe]:
        """The probe pods, once it is settled which of them run. When none could be made every node's has that error."""
        if self._probes is None:
            from pytest_k8snet.access.probes import Probe

            answer = self._wait_for_probes()
            failure = answer.get("error")
            self._probes = {
                name: Probe.from_json(answer["probes"][name]) if failure is None else Probe.none(name, failure) for name in self.plan.probed
            }
        return self._probes

    def probe_services(self) -> list[ProbeService]:
        """Return the run's own Services, once they are made. Raises `ProbeError` when they could not be."""
        from pytest_k8snet.access.probe_services import ProbeService

        return [ProbeService.from_json(item) for item in self._made_services()["services"]]

    def probe_groups(self) -> list[GroupService]:
        """Return those that lead to several probe pods, likewise."""
        from pytest_k8snet.access.probe_services import GroupService

        return [GroupService.from_json(item) for item in self._made_services()["groups"]]

    def regroup(self, node: str, *, member: bool) -> None:
        """Let the node's probe pod be an endpoint of those, or no more."""
        self.backend.regroup(self.probes[node], self.id, member=member)

    def make_frontends(self, node: str, number: int, ports: int) -> str:
        """Make a Service of so many ports for the node's probe pod; return its ClusterIP."""
        return self.backend.make_frontends(self.probes[node], self.id, number, ports)

    def _made_services(self) -> Mapping[str, Any]:
        if "service" not in self._read_collection().areas:
            raise ConfigurationError("Services are made for checks of the area service alone, and none of them is going to run")
        answer = self._wait_for_word(SERVICES, "the probe pods have their Services")
        if answer["error"] is not None:
            raise ProbeError(answer["error"])
        return answer

    @property
    def routes(self) -> list[Route]:
        """The ways into the cluster that requests are to be sent through."""
        return [item.route for item in self.expectations.common.ingress.routes]

    def probe_ingresses(self) -> list[ProbeIngress]:
        """Return the run's own Ingresses, once they are made. Raises `ProbeError` when they could not be."""
        from pytest_k8snet.access.probe_ingresses import ProbeIngress

        if not self._read_collection().sends("ingress"):
            raise ConfigurationError("Ingresses are made for checks of the area ingress alone, and none of them is going to send requests")
        answer = self._wait_for_word(INGRESSES, "there are Ingresses of the run's own")
        if answer["error"] is not None:
            raise ProbeError(answer["error"])
        return [ProbeIngress.from_json(item) for item in answer["ingresses"]]

    def lead_ingress(self, node: str) -> None:
        """Lead the Service behind those to the node's probe pod."""
        self.backend.lead_ingress(self.probes[node])

    @property
    def policies_enforced(self) -> bool:
        """Whether somebody is known to enforce NetworkPolicies: only then one is made."""
        enforced = self.expectations.common.policy.enforced
        return enforced is not None and enforced.value

    def blocking(self) -> BlockingRecord | None:
        """Return which policies may keep the run's packets away; None where none is enforced, or that is not known.

        They are read when this is first asked for. A record that has none was of a run in which nobody asked.
        """
        from pytest_k8snet.record.blocking import BlockingRecord

        enforced = self.expectations.common.policy.enforced
        if enforced is not None and not enforced.value:
            return None
        try:
            return BlockingRecord.from_document(self.document("blocking", "cluster"))
        except K8sNetError:
            return None

    def policy_pods(self) -> list[PolicyPod]:
        """Return the pods for a NetworkPolicy, once they run. Raises `ProbeError` when they could not be made."""
        from pytest_k8snet.access.probe_policies import PolicyPod

        if not self._read_collection().sends("policy"):
            raise ConfigurationError("pods for a NetworkPolicy are made for checks of the area policy alone, and none of them is to run")
        answer = self._wait_for_word(POLICY_PODS, "the pods for a NetworkPolicy run")
        if answer["error"] is not None:
            raise ProbeError(answer["error"])
        return [PolicyPod.from_json(item) for item in answer["pods"]]

    def _policy_tools(self) -> PolicyTools | None:
        from pytest_k8snet.measure.registry import PolicyTools

        if not self.policies_enforced:
            return None
        namespace = next((probe.namespace for probe in self.probes.values() if probe.namespace), "")
        return PolicyTools(
            pods=self.policy_pods,
            make=lambda: self.backend.make_policy(namespace, self.id),
            remove=lambda: self.backend.remove_policy(namespace),
            settle_s=self.expectations.common.policy.settle_s.value,
        )

    @property
    def access(self) -> Access:
        """The way to the nodes; opened on first use."""
        if self._access is None:
            self._access = self.backend.open_access(self.cluster, self.probes)
        return self._access

    def missing(self) -> dict[str, str]:
        """Return the planned nodes that cannot be measured, with the reasons known by now."""
        missing = {item.node: item.reason for item in self.plan.absent}
        for name, probe in (self._read_word(PROBES) or {}).get("probes", {}).items():
            if probe["error"] is not None:
                missing.setdefault(name, probe["error"])
        return missing

    def may_miss(self, subject: str) -> str | None:
        """Return why it does not matter that `subject` could not be measured, None when it does."""
        missing = self._settled_missing()
        return self.may_miss_all() if any(name in missing for name in (subject, *pair_nodes(subject))) else None

    def may_miss_all(self) -> str | None:
        """Return why it does not matter that the missing nodes could not be measured, None when it does."""
        count = len(self._settled_missing())
        if count > self.settings.allow_missing.of(len(self.plan.nodes)):
            return None
        return f"{count} missing, {self.settings.allow_missing} allowed"

    def _settled_missing(self) -> dict[str, str]:
        self._wait_for_probes()  # before, it is not known what is missing
        return self.missing()

    def document(self, kind: str, subject: str) -> Document:
        """Return a document. When it is not there yet, it is taken with all planned ones of its kind."""
        from pytest_k8snet.measure.registry import MEASUREMENTS

        document = self._recorded_document(kind, subject)
        if document is not None:
            return document
        measurement = MEASUREMENTS.get(kind)
        if measurement is None:
            raise ConfigurationError(f"no measurement is called {kind!r}; there are: {', '.join(sorted(MEASUREMENTS))}")
        if not self.settings.allows(measurement.level):
            what = "sends load" if measurement.load else "sends packets"
            level = measurement.level
            raise ConfigurationError(f"{kind} {what}, and the level is {self.settings.level}; mark the check with level={level!r}")
        if self.recorded is not None:
            if kind not in self.recorded.measurements:
                raise UnsupportedError(f"the recording of run {self.recorded.id} is of a version that did not measure {kind}")
            raise RecordError(f"the recording of run {self.recorded.id} has no {kind} of {subject}")
        self.folder.check()  # what cannot be kept is not measured again for every case
        context = self._context()
        if measurement.load:
            self.load_problem()  # another run is waited for here, not where nobody else can measure
        with measuring(self.folder.locks, kind, alone=measurement.exclusive):
            document = self.folder.get(kind, subject)
            if document is None:
                self._begin_early(beside=kind)
                batch = [name for name in self._batch(measurement, subject) if self.folder.get(kind, name) is None]
                taken: set[str] = set()
                failure = "the measurement broke off"
                try:
                    documents = measurement.take(context, batch)
                    for item in self._under_lease(documents) if measurement.load else documents:
                        self.folder.put(item)
                        taken.add(item.subject)
                    failure = "the measurement gave no document"
                except (MeasurementError, ConfigurationError, AccessError, ClusterError) as error:
                    failure = str(error)
                finally:
                    # Whatever happened: no other case is to take all of it again.
                    for name in batch:
                        if name not in taken:
                            self.folder.put(_untaken(kind, name, failure))
                document = self.folder.get(kind, subject)
        if document is None:
            raise MeasurementError(f"{subject}: no {kind}: it is not a subject of this run")
        return document

    def _recorded_document(self, kind: str, subject: str) -> Document | None:
        """Return a document of the record, None when there is none yet. The last few stay in memory: a node's checks follow one another."""
        if kind == "facts":  # those are held parsed
            return self.folder.get(kind, subject)
        return self._read[kind].get(subject, lambda: self.folder.get(kind, subject))

    def _begin_early(self, *, beside: str) -> None:
        """Take beside the facts what may have to wait until the cluster has mended itself; the checks of that come last."""
        from pytest_k8snet.measure.registry import MEASUREMENTS

        if beside != "facts":
            return
        wanted = self._collected_checks()
        for measurement in MEASUREMENTS.values():
            if measurement.early and wanted.intersection(measurement.last):
                thread = threading.Thread(target=self._take_early, args=(measurement.kind,), name=f"k8snet-{measurement.kind}", daemon=True)
                self._early.append(thread)
                thread.start()

    def _take_early(self, kind: str) -> None:
        with contextlib.suppress(K8sNetError):  # the check that needs it says so
            self.document(kind, self.plan.nodes[0])

    def load_problem(self) -> str | None:
        """Return why load must not be measured now, None when it may. Waits for as long as the controller does for other runs."""
        leases = None if self.settings.no_lock else self.backend.leases
        return None if leases is None else self._wait_for_lease().problem(leases)

    def documents(self, kind: str) -> Mapping[str, Document]:
        """Return the documents of all planned nodes but those that may be missing; failed ones are there with their reason."""
        excused = self._settled_missing() if self.may_miss_all() is not None else {}
        return Documents(self, kind, tuple(name for name in self.plan.nodes if name not in excused))

    def facts(self, node: str) -> NodeFacts:
        """Return the facts of a node; the last few stay in memory."""
        from pytest_k8snet.record.facts import NodeFacts

        def read() -> NodeFacts:
            facts = NodeFacts.from_document(self.document("facts", node))
            self._late_facts[node] = facts.late()
            return facts

        facts = self._facts.get(node, read)
        assert facts is not None
        return facts

    def late_facts(self, node: str) -> LateFacts:
        """Return those facts of a node that checks which come last ask for; once read they stay in memory."""
        return self._late_facts.get(node) or self.facts(node)

    def command(self, node: str, argv: Sequence[str], timeout_s: float) -> CommandResult:
        """Run a command in the host namespaces of a node."""
        from pytest_k8snet.access.base import run

        return run(self.access.host(node), argv, timeout_s=timeout_s)

    def close(self) -> None:
        """End agents and connections."""
        self._stopped.set()
        access, self._access = self._access, None
        if access is not None:
            access.close()
        for thread in self._early:
            thread.join(_END_S)
        if self._backend is not None:
            self._backend.close()

    def _context(self) -> MeasureContext:
        from pytest_k8snet.access.base import Deadline
        from pytest_k8snet.cluster.serving import is_served
        from pytest_k8snet.measure.registry import RESTART_CHECK, BurstWishes, DnsWishes, MeasureContext, MeasureSettings
        from pytest_k8snet.record.ipvs import SYNC_PERIOD_S, SYNC_SLACK_S

        probes = self.probes
        if self._settled is None:
            self._settled = Deadline.after(SYNC_PERIOD_S + SYNC_SLACK_S if is_served(self.cluster) else 0.0)
        dns = self.expectations.common.dns
        return MeasureContext(
            cluster=self.cluster,
            access=self.access,
            probes=probes,
            services=self.backend.services,
            pairs=self.plan.pairs,
            reference_points=[(point.name, point.address, point.port) for point in self.expectations.common.latency.points],
            sysctl_keys=self.expectations.sysctl_keys(),
            dns=DnsWishes(() if dns.names is None else dns.names.value, None if dns.domain is None else dns.domain.value, dns.p99_ms.value),
            probe_services=self.probe_services,
            probe_groups=self.probe_groups,
            regroup=self.regroup,
            service_scale=self.settings.service_scale,
            idle_s=self.settings.idle,
            ask_api=self.backend.ask_api,
            service_load=SERVICE_LOAD_CHECK in self._collected_checks(),
            udp_bps=None if self.settings.udp is None else self.settings.udp.bps,
            burst=BurstWishes(self.settings.conntrack_burst, self.settings.conntrack_burst_anyway),
            make_frontends=self.make_frontends,
            propagation_s=self.expectations.common.service.propagation_s.value,
            routes=self.routes,
            probe_ingresses=self.probe_ingresses,
            lead_ingress=self.lead_ingress if RESTART_CHECK in self._collected_checks() else None,
            policy=self._policy_tools(),
            policies=self.backend.read_policies,
            relay=self.backend,
            settings=MeasureSettings(
                max_parallel=self.settings.max_parallel,
                streams=self.settings.streams,
                take_s=self.settings.take_seconds,
                bitrate_bps=None if self.settings.bitrate is None else self.settings.bitrate.bps,
            ),
            settled=self._settled,
            stopped=self._stopped,
        )

    def _batch(self, measurement: Measurement, subject: str) -> list[str]:
        """Return what is measured together: all planned nodes, or the pairs that the collected cases ask for."""
        if measurement.subject == "cluster":
            return [subject]
        if measurement.subject == "node":
            planned = [*self.plan.nodes]
        else:
            collected = self._read_collection().subjects(measurement.level)
            planned = [pair for pair in (self.plan.load_pairs if measurement.load else self.plan.pairs) if pair in collected]
        return planned if subject in planned else [*planned, subject]

    def _under_lease(self, documents: Iterator[Document]) -> Iterator[Document]:
        """Yield documents of load for as long as no other run may have measured beside them.

        Raises `MeasurementError` with the reason when that cannot be ruled out any more.
        """
        while (problem := self.load_problem()) is None and (document := next(documents, None)) is not None:
            if (problem := self.load_problem()) is not None:
                break
            yield document
        if problem is not None:
            raise MeasurementError(problem)

    def _has_check(self, check_id: str) -> bool:
        self._checks = self._checks or self._collected_checks()
        return check_id in self._checks

    def _collected_checks(self) -> set[str]:
        return {case.id for case in self._read_collection().cases.values()}

    def _read_collection(self) -> Collection:
        return Collection.from_json(self.folder.read_json(COLLECTION))

    def _wait_for_lease(self) -> LeaseState:
        if (state := self._read_lease()) is not None:
            return state
        if not self._read_collection().subjects("load"):
            raise ConfigurationError("load is measured by checks of level load only; mark the check with level='load'")
        until = time.monotonic() + self.settings.lock_wait + _SAY_S
        while (state := self._read_lease()) is None:
            self.folder.check()
            if time.monotonic() > until:
                raise MeasurementError("the controller has not said whether load may be measured; it may have been killed")
            if self.on_wait is not None:
                self.on_wait()
            time.sleep(_POLL_S)
        return state

    def _read_lease(self) -> LeaseState | None:
        from pytest_k8snet.cluster.lease import LeaseState

        data = self.folder.read_json(LEASE)
        return None if data is None else LeaseState.from_json(data)

    def _wait_for_probes(self) -> Mapping[str, Any]:
        return self._wait_for_word(PROBES, "the probe pods run")

    def _wait_for_word(self, file: str, what: str) -> Mapping[str, Any]:
        """Return what the controller has written into `file`, once it has."""
        until = time.monotonic() + PROBES_S + _CREATE_S
        while True:
            answer = self._read_word(file)
            if answer is not None:
                return answer
            self.folder.check()
            if time.monotonic() > until:
                raise ProbeError(f"the controller has not said whether {what}; it may have been killed")
            time.sleep(_POLL_S)

    def _read_word(self, file: str) -> Mapping[str, Any] | None:
        if file not in self._words and (word := self.folder.read_json(file)) is not None:
            self._words[file] = word
        return self._words.get(file)


class ControllerRun(Run):
    """The run in the process that plans it, and that alone creates and deletes objects. With `plan_only` it creates none, and no folder."""

    def __init__(
        self,
        settings: Settings,
        open_backend: Callable[[], Backend],
        profile: Profile | None,
        *,
        redactor: Redactor,
        base: Path,
        plan_only: bool = False,
        recorded: Recorded | None = None,
    ) -> None:
        self._started_at = datetime.now(UTC)
        judged_on = (self._started_at if recorded is None else recorded.at).date()
        super().__init__(
            settings, open_backend, profile, redactor=redactor, run_id=secrets.token_hex(4), judged_on=judged_on, recorded=recorded
        )
        self._base = base
        self.plan_only = plan_only
        self._starter: ProbeStarter | None = None
        self.lacking: str | None = None  # the rights that the identity does not have
        self._lease: LoadLease | None = None
        self._lease_state: LeaseState | None = None
        self._say: Callable[[str], None] | None = None  # set when load is going to be measured
        self._held: int | None = None

    @property
    def started(self) -> bool:
        """Whether there is an inventory and, unless only the plan is wanted, a folder."""
        return self._plan is not None

    def start(self, *, probes: bool = True) -> None:
        """Read the inventory, plan, make the run folder and start the probe pods. Once: what failed is not tried again."""
        super().start()
        if self.started:
            return
        try:
            self._read_inventory()
        except K8sNetError as error:
            self._failure = error
            self._plan = None
            raise
        if probes:
            self.start_probes()
        self._take_lease()

    def start_probes(self) -> None:
        """Start the probe pods in the background, once."""
        if self._folder is not None and self._starter is None:
            self._starter = ProbeStarter(self, self.cluster, self.plan)
            self._starter.start()

    def tell(self, file: str, answer: Mapping[str, Any]) -> None:
        """Take the starter's word, here and for the workers. A folder that cannot be written is told by the next document."""
        self._words[file] = answer
        with contextlib.suppress(K8sNetError):
            self.folder.write_json(file, answer)

    def make_services(self) -> None:
        """Make the probe pods' Services in the background, once."""
        if self._starter is not None:
            self._starter.make_services()

    def make_ingresses(self) -> None:
        """Make Ingresses for the routes of the profile in the background, once."""
        if self._starter is not None and self.routes:
            self._starter.make_ingresses(self.routes)

    def make_policy_pods(self) -> None:
        """Make pods for a NetworkPolicy in the background, once, where somebody is known to enforce one."""
        if self._starter is not None and self.policies_enforced:
            self._starter.make_policy_pods()

    def take_lease(self, say: Callable[[str], None]) -> None:
        """Take the Lease that measuring load needs, in the background and once; `say` gets a line when another run is waited for."""
        self._say = say
        self._take_lease()

    def release_lease(self) -> None:
        """Let go of the Lease: no more load is measured."""
        if self._lease is not None:
            self._lease.release()

    def _take_lease(self) -> None:
        if self._say is None or self._folder is None or self._lease is not None or self.settings.no_lock:
            return
        if (leases := self.backend.leases) is not None:
            from pytest_k8snet.cluster.lease import LoadLease

            self._lease = LoadLease(leases, self.id, wait_s=self.settings.lock_wait, say=self._say, tell=self._tell_lease)
            self._lease.start()

    def _tell_lease(self, state: LeaseState) -> None:
        self._lease_state = state
        with contextlib.suppress(K8sNetError):
            self.folder.write_json(LEASE, state.to_json())

    def _read_lease(self) -> LeaseState | None:
        return self._lease_state

    def _read_inventory(self) -> None:
        settings = self.settings
        begun = time.monotonic()
        at = datetime.now(UTC)
        if not self.plan_only or settings.dry_run:
            self.lacking = self.backend.missing_rights(self.id)
            if self.lacking is not None and not self.plan_only:
                raise AuthenticationError(self.lacking)
        try:
            cluster = self.backend.read_cluster()
        except AuthenticationError as error:
            if self.lacking is not None:  # which says this and more
                raise AuthenticationError(self.lacking) from error
            raise
        self.redactor.spare(node.name for node in cluster.nodes)
        selected = self.backend.select_nodes(settings.nodes) if settings.nodes is not None and is_selector(settings.nodes) else None
        plan = make_plan(settings, cluster, selected, self.backend.beyond)
        self._cluster, self._plan = cluster, plan
        if self.plan_only:
            return
        self._folder = self._make_folder()
        self._folder.put(
            Document(
                kind="cluster",
                subject="cluster",
                started=at.isoformat(timespec="milliseconds"),
                duration_s=round(time.monotonic() - begun, 3),
                method=f"API of {self.backend.origin}",
                values=cluster.to_json(),
            )
        )
        self._write_head()

    def _write_head(self) -> None:
        """Write what is known before anything is judged."""
        from pytest_k8snet.expect.profile import profile_to_json

        self.folder.write_json(PLAN, self.plan.to_json())
        self.folder.write_json(PROFILES, profile_to_json(self._profile))
        self.write_summary(None)

    def write_summary(self, results: Mapping[str, Any] | None) -> None:
        """Write run.json: settings without secrets, versions, plan, and the results once there are some."""
        if self._folder is None:
            return
        from pytest_k8snet.measure.registry import MEASUREMENTS

        packages = ("pytest-k8snet", "pytest", "pytest-xdist", "kubernetes")
        self._folder.write_json(
            RUN,
            {
                "schema": RUN_SCHEMA,
                "id": self.id,
                "measured_by": None
                if self.recorded is None
                else {"id": self.recorded.id, "started": self.recorded.started, "version": self.recorded.version},
                "started": self._started_at.isoformat(timespec="seconds"),
                "ended": None if results is None else datetime.now(UTC).isoformat(timespec="seconds"),
                "settings": self.settings.to_json(),
                "versions": {name: version for name in packages if (version := version_of(name))},
                "cluster": self.cluster.version,
                "plan": self.plan.to_json(),
                "measurements": sorted(MEASUREMENTS) if self.recorded is None else list(self.recorded.measurements),
                "results": results,
            },
        )

    @property
    def bundle(self) -> Path | None:
        """Where a bundle is to be written."""
        return None if self.settings.save_bundle is None or self.plan_only else self._base / self.settings.save_bundle

    def save_bundle(self) -> Path | None:
        """Write the record to the bundle that is asked for, and return where it is.

        Raises `RecordError` when that cannot be done.
        """
        if self.bundle is not None:
            from pytest_k8snet.record.bundle import write_bundle

            write_bundle(self.folder, self.bundle, run_id=self.id)
        return self.bundle

    def remove_objects(self) -> list[str]:
        """Remove what was created; return what went wrong. It may be called twice."""
        # The pods first: until they are gone load may go on.
        problems = [owner.remove() for owner in (self._starter, self._lease) if owner is not None]
        if self._starter is not None:
            problems.append(self._starter.sweep_problem)
        return [problem for problem in problems if problem is not None]

    @property
    def swept(self) -> Sequence[str]:
        """What killed runs had left, and this one has removed."""
        return () if self._starter is None else self._starter.swept

    def close(self) -> None:
        """End everything; the run folder may be removed by later runs from now on."""
        super().close()
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _make_folder(self) -> RunFolder:
        settings = self.settings
        if settings.run_dir is not None:
            folder = RunFolder.create(self._base / settings.run_dir, self.redactor)
        else:
            parent = self._base / ".k8snet"
            folder = RunFolder.create(parent / f"{self._started_at:%Y%m%dT%H%M%SZ}-{self.id}", self.redactor, ignored=parent)
        self._held = folder.hold()
        if self._held is None:
            raise ConfigurationError(f"run folder {folder.path}: another run is using it; name another one")
        if settings.run_dir is None:
            remove_older(folder.path.parent, settings.keep_runs)  # not before this one is held: it may look like the oldest
        return folder


class ProbeStarter:
    """Starts the probe pods beside the collection, and leaves word in the run folder."""

    def __init__(self, run: ControllerRun, cluster: Cluster, plan: Plan) -> None:
        self._run = run
        self._cluster = cluster
        self._plan = plan
        self._probing: Probing | None = None
        self._created = threading.Event()
        self._services: threading.Thread | None = None
        self._ingresses: threading.Thread | None = None
        self._policy_pods: threading.Thread | None = None
        self._thread = threading.Thread(target=self._work, name="k8snet-probes", daemon=True)
        self._sweeper = threading.Thread(target=self._sweep, name="k8snet-sweep", daemon=True)
        self.swept: Sequence[str] = ()
        self.sweep_problem: str | None = None

    def start(self) -> None:
        """Begin; and remove meanwhile what killed runs left."""
        self._sweeper.start()
        self._thread.start()

    def make_services(self) -> None:
        """Begin to make Services, which need no pod that runs."""
        if self._services is None:
            self._services = threading.Thread(target=self._make_services, name="k8snet-services", daemon=True)
            self._services.start()

    def make_ingresses(self, routes: Sequence[Route]) -> None:
        """Begin to make Ingresses, as soon as it is known which pods run."""
        if self._ingresses is None:
            self._ingresses = threading.Thread(target=self._make_ingresses, args=(routes,), name="k8snet-ingresses", daemon=True)
            self._ingresses.start()

    def make_policy_pods(self) -> None:
        """Begin to make pods for a NetworkPolicy, as soon as the others are made."""
        if self._policy_pods is None:
            self._policy_pods = threading.Thread(target=self._make_policy_pods, name="k8snet-policy-pods", daemon=True)
            self._policy_pods.start()

    def remove(self) -> str | None:
        """Remove the pods, half made ones too; return what went wrong."""
        try:
            return self._remove()
        finally:
            self._sweeper.join(_SWEEP_S)

    def _remove(self) -> str | None:
        if self._probing is None:
            self._thread.join(_CREATE_S)
        if self._probing is None:
            return (
                f"creating probe pods has not ended after {_CREATE_S:g} s; k8snet cleanup removes them later"
                if self._thread.is_alive()
                else None
            )
        try:
            self._probing.delete()
        except K8sNetError as error:
            return f"the probe pods could not be removed: {error}; k8snet cleanup does it later"
        finally:
            self._thread.join(10.0)
        return None

    def _sweep(self) -> None:
        try:
            self.swept = self._run.backend.sweep()
        except K8sNetError as error:
            self.sweep_problem = f"what killed runs left could not be removed: {error}; k8snet cleanup does it later"

    def _work(self) -> None:
        from pytest_k8snet.access.base import Deadline

        answer: dict[str, Any] = {"error": "probe pods: starting them broke off"}
        try:
            if self._run.settings.namespace is not None:
                self._sweeper.join()  # what is left in there has the names of what is to be made
            self._probing = self._run.backend.start_probes(self._cluster, self._plan.probed, self._run.id)
            self._created.set()
            probes = self._probing.wait(Deadline.after(PROBES_S))
            answer = {"error": None, "probes": {name: probe.to_json() for name, probe in probes.items()}}
        except K8sNetError as error:
            answer = {"error": str(error)}
        finally:
            self._created.set()
            self._run.tell(PROBES, answer)

    def _make_services(self) -> None:
        answer: dict[str, Any] = {"error": "making the probe pods' Services broke off", "services": [], "groups": []}
        try:
            self._created.wait()
            if self._probing is None:
                answer["error"] = "there are no probe pods that Services could lead to"
                return
            services = self._probing.make_services(self._plan.probed)
            groups = self._probing.make_groups()
            answer = {"error": None, "services": [item.to_json() for item in services], "groups": [item.to_json() for item in groups]}
        except K8sNetError as error:
            answer["error"] = str(error)
        finally:
            self._run.tell(SERVICES, answer)

    def _make_ingresses(self, routes: Sequence[Route]) -> None:
        answer: dict[str, Any] = {"error": "making Ingresses broke off", "ingresses": []}
        try:
            self._thread.join()
            node = next((name for name, probe in self._run.probes.items() if probe.error is None), None)
            if self._probing is None or node is None:
                answer["error"] = "there is no probe pod that an Ingress could lead to"
                return
            made = self._probing.make_ingresses(node, routes)
            answer = {"error": None, "ingresses": [item.to_json() for item in made]}
        except K8sNetError as error:
            answer["error"] = str(error)
        finally:
            self._run.tell(INGRESSES, answer)

    def _make_policy_pods(self) -> None:
        from pytest_k8snet.access.base import Deadline

        answer: dict[str, Any] = {"error": "making pods for a NetworkPolicy broke off", "pods": []}
        try:
            self._created.wait()
            if self._probing is None:
                answer["error"] = "there are no probe pods that could ask others"
                return
            made = self._probing.make_policy_pods(self._plan.probed, Deadline.after(PROBES_S))
            answer = {"error": None, "pods": [item.to_json() for item in made]}
        except K8sNetError as error:
            answer["error"] = str(error)
        finally:
            self._run.tell(POLICY_PODS, answer)


def _untaken(kind: str, subject: str, reason: str) -> Document:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Document(kind=kind, subject=subject, started=at, duration_s=0.0, method="none", reason=reason)
