"""The measurements by name, and what they are given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.cluster.pairs import pair_nodes
from pytest_k8snet.plan import OMIT_S, TAKE_S

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Access
    from pytest_k8snet.access.probe_ingresses import ProbeIngress
    from pytest_k8snet.access.probe_policies import PolicyPod
    from pytest_k8snet.access.probe_services import GroupService, ProbeService
    from pytest_k8snet.access.probes import Probe
    from pytest_k8snet.cluster.ingress import Route
    from pytest_k8snet.cluster.model import Cluster
    from pytest_k8snet.cluster.policies.reading import Policies
    from pytest_k8snet.options import Shard
    from pytest_k8snet.record.document import Document


class ServiceSource(Protocol):
    """Where Services and EndpointSlices come from: `pytest_k8snet.cluster.api.Api` in a real run."""

    def services(self) -> list[dict[str, Any]]:
        """Return all Services as raw objects."""

    def endpoint_slices(self) -> list[dict[str, Any]]:
        """Return all EndpointSlices as raw objects."""


class Regroup(Protocol):
    """Changes of which Services a probe pod is an endpoint."""

    def __call__(self, node: str, *, member: bool) -> None:
        """Let the node's probe pod be an endpoint of Services of several, or no more. Raises `ClusterError` when it is refused."""


@dataclass(frozen=True, slots=True)
class MeasureSettings:
    """How long and how hard to measure."""

    facts_timeout_s: float = 60.0
    facts_threads: int = 16
    settle_s: float = 0.5  # after the last small packet, for those that are on their way still
    existing_pods: int = 20  # network namespaces of pods looked at per node
    take_s: int = TAKE_S
    omit_s: int = OMIT_S
    max_parallel: int = 4  # pairs under load at the same time
    bitrate_bps: int | None = None  # cap of a throughput take; None is as fast as it goes
    streams: int = 0  # of a throughput take; 0: as many as the host path of the first pair needs


@dataclass(frozen=True, slots=True)
class DnsWishes:
    """What expectations say of the questions for DNS."""

    names: Sequence[str] = ()  # outside the cluster, that are to be resolved
    domain: str | None = None  # of the cluster
    slow_ms: float = 50.0  # answers that take longer are asked for again


@dataclass(frozen=True, slots=True)
class BurstWishes:
    """What is asked for of a burst of connections."""

    connections: int = 0  # of every node's pod; 0: none
    forced: bool = False  # whatever room there is for them


@dataclass(frozen=True, slots=True)
class PolicyTools:
    """What a NetworkPolicy is measured with."""

    pods: Callable[[], Sequence[PolicyPod]]  # that it selects; waits until they run
    make: Callable[[], None]
    remove: Callable[[], None]
    settle_s: float = 30.0  # for so long enforcing it may take


class Relay(Protocol):
    """Requests that the API server passes on by connections of its own: `pytest_k8snet.backend.Backend`. They give a status and a text."""

    def relay_to_kubelet(self, probe: Probe) -> tuple[int, str]:
        """Ask for the log of a probe pod. Raises `ClusterError` when the API server does not answer."""

    def relay_to_pod(self, probe: Probe, port: int, path: str) -> tuple[int, str]:
        """Ask a probe pod over HTTP. Raises likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureContext:
    """What a measurement may use."""

    cluster: Cluster
    access: Access
    probes: Mapping[str, Probe]
    services: ServiceSource
    pairs: Sequence[str] = ()  # ordered pairs ``a:b`` that little is sent between
    reference_points: Sequence[tuple[str, str, int]] = ()  # name, address and port of what the profile wants to be near
    sysctl_keys: Sequence[str] = ()  # keys that expectations name; measurements add those that checks always need
    dns: DnsWishes = field(default_factory=DnsWishes)
    probe_services: Callable[[], Sequence[ProbeService]] = tuple  # the run's own; waits until they are made
    probe_groups: Callable[[], Sequence[GroupService]] = tuple
    regroup: Regroup | None = None  # how a node's probe pod is made an endpoint of those, or no more
    service_scale: Sequence[int] = ()  # so many frontends of Services are made
    idle_s: int = 0  # for so long connections are left idle
    burst: BurstWishes = field(default_factory=BurstWishes)
    ask_api: Callable[[], None] = lambda: None  # for something small; raises `ClusterError` when no answer comes
    service_load: bool = False  # whether pairs are measured through Services as well
    udp_bps: int | None = None  # at this rate UDP is sent; None: nobody asks for it
    make_frontends: Callable[[str, int, int], str] | None = None  # by a node, a number and so many ports; gives the ClusterIP
    propagation_s: float = 30.0  # for so long a change of endpoints may take
    routes: Sequence[Route] = ()  # ways into the cluster that the profile names
    probe_ingresses: Callable[[], Sequence[ProbeIngress]] = tuple  # the same
    lead_ingress: Callable[[str], None] | None = None  # leads what they lead to to a node's probe pod; None: nobody asks for that
    policy: PolicyTools | None = None  # None where nobody is known to enforce NetworkPolicies
    policies: Callable[[str], Policies] | None = None  # reads those that may concern pods of a namespace
    relay: Relay | None = None  # None: there is nothing that could be asked for
    settings: MeasureSettings = field(default_factory=MeasureSettings)
    settled: Deadline = field(default_factory=lambda: Deadline.after(0))  # by when a proxy that has just begun has made its tables
    stopped: threading.Event = field(default_factory=threading.Event)  # set when nobody waits for the documents any more

    def targets_of(self, node: str) -> list[str]:
        """Return the nodes that `node` sends to."""
        return [target for source, target in map(pair_nodes, self.pairs) if source == node]

    def place_of(self, node: str) -> str:
        """Return where what is asked of a node is read, for the method of a document."""
        probe = self.probes.get(node)
        return f"by the agent in pod {probe.namespace}/{probe.host_pod}" if probe and probe.host_pod else "on the node"


@dataclass(frozen=True, slots=True)
class Measurement:
    """A kind of document and how it is taken: one document per subject, in any order, none left out; one of the cluster has one."""

    kind: str
    subject: Literal["cluster", "node", "pair"]
    level: Literal["read", "probe", "load"]  # what it does to the cluster
    module: str
    last: tuple[str, ...] = ()  # checks that come last: of what is better the later it is looked at
    breaks: bool = False  # whether others' connections may break meanwhile: checks of it come behind all others, those that come last too
    alone: bool = False  # whether nothing else may be measured beside it, although it is no load
    early: bool = False  # whether it is begun beside the first checks, as it may wait until the cluster has mended itself

    @property
    def exclusive(self) -> bool:
        """Whether nothing else may be measured beside it."""
        return self.load or self.alone

    @property
    def load(self) -> bool:
        """Whether it sends full-rate traffic, beside which nothing else may be measured."""
        return self.level == "load"

    def take(self, context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
        """Measure `subjects` (node names, pairs ``a:b``, or ``cluster``). What cannot be measured becomes a document with the reason."""
        take: Callable[[MeasureContext, Sequence[str]], Iterator[Document]] = import_module(self.module).take
        return take(context, subjects)


#: Checks of what the kernels have counted during the run.
ACTIVITY_CHECKS = ("NET-CONNTRACK-002", "NET-NODE-001", "NET-NODE-002")

#: Checks of tables of Services, which may have to wait until the cluster has mended itself.
TABLE_CHECKS = ("NET-PROXY-006", "NET-PROXY-009", "NET-ABSENCE-007")

#: Checks of what a proxy that has just begun does not do yet: what others measure meanwhile is the time it is given.
API_CHECKS = ("NET-CONTROL-008",)
DNS_CHECKS = ("NET-DNS-004", "NET-DNS-005", "NET-DNS-006", "NET-DNS-007")
SERVICE_CHECKS = ("NET-SERVICE-001", "NET-SERVICE-002", "NET-SERVICE-003")
SCALE_CHECKS = ("NET-SERVICE-008",)
IDLE_CHECKS = ("NET-SERVICE-009",)
OWNERS_CHECKS = ("NET-REACH-006",)
DUPLICATES_CHECKS = ("NET-REACH-008",)
BURST_CHECKS = ("NET-CONNTRACK-004",)
UDP_CHECKS = ("NET-THROUGHPUT-005",)
RESTART_CHECK = "NET-INGRESS-009"
INGRESS_CHECKS = (*(f"NET-INGRESS-00{number}" for number in range(4, 9)), RESTART_CHECK)
POLICY_CHECKS = ("NET-POLICY-001",)
BALANCE_CHECKS = ("NET-SERVICE-004", "NET-SERVICE-005", "NET-SERVICE-006", "NET-SERVICE-007")

MEASUREMENTS: Mapping[str, Measurement] = {
    measurement.kind: measurement
    for measurement in (
        Measurement("facts", "node", "read", module="pytest_k8snet.measure.facts"),
        Measurement("ipvs", "node", "read", module="pytest_k8snet.measure.ipvs", last=TABLE_CHECKS, early=True),
        Measurement("activity", "node", "read", module="pytest_k8snet.measure.activity", last=ACTIVITY_CHECKS),
        Measurement("reach", "node", "probe", module="pytest_k8snet.measure.reach"),
        Measurement("wire", "node", "probe", module="pytest_k8snet.measure.wire"),
        Measurement("api", "node", "probe", module="pytest_k8snet.measure.api", last=API_CHECKS),
        Measurement("relayed", "node", "probe", module="pytest_k8snet.measure.relayed"),
        Measurement("service", "node", "probe", module="pytest_k8snet.measure.service", last=SERVICE_CHECKS),
        Measurement("balance", "node", "probe", module="pytest_k8snet.measure.balance", last=BALANCE_CHECKS),
        Measurement("scale", "node", "probe", module="pytest_k8snet.measure.scale", last=SCALE_CHECKS),
        Measurement("idle", "node", "probe", module="pytest_k8snet.measure.idle", last=IDLE_CHECKS),
        Measurement("policy", "node", "probe", module="pytest_k8snet.measure.policy", last=POLICY_CHECKS, breaks=True),
        Measurement("blocking", "cluster", "probe", module="pytest_k8snet.measure.blocking"),
        Measurement("dns", "node", "probe", module="pytest_k8snet.measure.dns", last=DNS_CHECKS),
        Measurement("pathmtu", "node", "probe", module="pytest_k8snet.measure.pathmtu"),
        Measurement("latency", "node", "probe", module="pytest_k8snet.measure.latency"),
        Measurement("burst", "node", "probe", module="pytest_k8snet.measure.burst", last=BURST_CHECKS, alone=True),
        Measurement("owners", "node", "probe", module="pytest_k8snet.measure.owners", last=OWNERS_CHECKS),
        Measurement("duplicates", "node", "probe", module="pytest_k8snet.measure.duplicates", last=DUPLICATES_CHECKS),
        Measurement("ingress", "cluster", "probe", module="pytest_k8snet.measure.ingress"),
        Measurement("wakeups", "node", "probe", module="pytest_k8snet.measure.wakeups"),
        Measurement("throughput", "pair", "load", module="pytest_k8snet.measure.throughput"),
        Measurement("udp", "pair", "load", module="pytest_k8snet.measure.udp"),
    )
}


def is_of_shard(check: str, shard: Shard) -> bool:
    """Whether a check of the cluster as a whole is one shard's: what one client measures takes no more nodes than the first one has."""
    return shard.index == 0 and check in INGRESS_CHECKS
