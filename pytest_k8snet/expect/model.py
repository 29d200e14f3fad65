"""Expectations as judges take them: every value knows where it came from.

A `None` means that nothing is expected: a judge then skips with that reason or gives advice, it never invents a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pytest_k8snet.cluster.ingress import Route

T = TypeVar("T")

#: What follows the kind of tunnel device in a profile when only what goes to other subnets is to be put into it.
CROSS_SUBNET = "-cross-subnet"


@dataclass(frozen=True, slots=True)
class Wanted(Generic[T]):
    """A wanted value and its origin: ``profile tuned-node.yaml:7``, ``claim ConfigMap kube-system/kube-proxy ...`` or ``built-in``."""

    value: T
    origin: str

    def __str__(self) -> str:
        """Return the value and, in brackets, where it comes from."""
        return f"{self.value} ({self.origin})"


@dataclass(frozen=True, slots=True)
class ProxyExpectation:
    """What the service proxy of a node should be."""

    mode: Wanted[str] | None = None  # ipvs, iptables, nftables, none (no kube-proxy at all)
    mode_unknown: str | None = None  # why it is not known whether something claims that there is none
    scheduler: Wanted[str] | None = None
    strict_arp: Wanted[bool] | None = None


@dataclass(frozen=True, slots=True)
class MtuExpectation:
    """MTUs in bytes."""

    pod: Wanted[int] | None = None
    uplink: Wanted[int] | None = None
    tunnel: Wanted[int] | None = None


@dataclass(frozen=True, slots=True)
class EncapsulationExpectation:
    """``none`` or the kind of tunnel device (vxlan, ipip, geneve, wireguard)."""

    kind: Wanted[str] | None = None
    across: Wanted[str] | None = None  # in the place of `kind`: of what goes to nodes of another subnet alone (CrossSubnet, DirectRouting)

    @property
    def anywhere(self) -> Wanted[str] | None:
        """The kind that some traffic at least is to have."""
        return self.kind or self.across

    @property
    def word(self) -> Wanted[str] | None:
        """It as a profile writes it."""
        return self.kind if self.across is None else Wanted(f"{self.across.value}{CROSS_SUBNET}", self.across.origin)


@dataclass(frozen=True, slots=True)
class SysctlWant:
    """A wanted sysctl: an operator (``=``, ``>=``, ``<=``, ``covers``) and a value in the kernel's own notation.

    ``covers`` is for port lists: every port of the value must be in the kernel's list.
    """

    key: str
    operator: str
    value: str
    origin: str

    def __str__(self) -> str:
        """Return the want as a reader would say it."""
        return f"{'' if self.operator == '=' else self.operator + ' '}{self.value} ({self.origin})"


@dataclass(frozen=True, slots=True)
class KernelExpectation:
    """Tuning of a node's kernel. With `advice` nobody asked for it: it is what the shipped profile tuned-node would want."""

    host_sysctls: tuple[SysctlWant, ...] = ()
    pod_sysctls: tuple[SysctlWant, ...] = ()
    qdisc: Wanted[str] | None = None  # leaf qdisc in force on the uplink
    congestion_control: Wanted[str] | None = None
    modules: Wanted[tuple[str, ...]] | None = None  # loaded or built in
    persisted: Wanted[str] | None = None  # required: what the files of sysctl.d say is judged; None: it is told
    advice: bool = False


@dataclass(frozen=True, slots=True)
class ConntrackExpectation:
    """The connection table: shares of its size, and how many packets it may lose during a run."""

    full: Wanted[float] = field(default_factory=lambda: Wanted(0.9, "built-in"))  # from here on it is a failure
    nearly_full: Wanted[float] = field(default_factory=lambda: Wanted(0.7, "built-in"))  # from here on it is told
    losses: Wanted[int] | None = None  # most that insert_failed and drop may each grow by


@dataclass(frozen=True, slots=True)
class NodeExpectation:
    """The machine under a node. Shares are between 0 and 1."""

    steal: Wanted[float] = field(default_factory=lambda: Wanted(0.2, "built-in"))  # of the processors' time, taken by the hypervisor
    losses: Wanted[float] = field(default_factory=lambda: Wanted(0.01, "built-in"))  # of a device's or the softnet queue's packets
    late: Wanted[float] = field(default_factory=lambda: Wanted(0.1, "built-in"))  # of the time, in wake-ups that come too late
    clock: Wanted[str] | None = None  # synchronised
    regions: Wanted[tuple[str, ...]] | None = None  # patterns of label topology.kubernetes.io/region
    zones: Wanted[tuple[str, ...]] | None = None


@dataclass(frozen=True, slots=True)
class ThroughputExpectation:
    """Rates in bit/s, shares between 0 and 1."""

    line_rate_bps: Wanted[int] | None = None
    pod_to_host: Wanted[float] = field(default_factory=lambda: Wanted(0.9, "built-in"))
    line_share: Wanted[float] = field(default_factory=lambda: Wanted(0.85, "built-in"))
    service_to_pod: Wanted[float] = field(default_factory=lambda: Wanted(0.85, "built-in"))
    udp_loss: Wanted[float] = field(default_factory=lambda: Wanted(0.001, "built-in"))  # of the packets, beyond the host path's
    udp_jitter_ms: Wanted[float] | None = None  # between pods, at most
    encrypted: Wanted[str] | None = None  # by what pods' traffic is: what that costs is told by no share that is built in


@dataclass(frozen=True, slots=True)
class ReachExpectation:
    """Packets between pods of different nodes. Shares are between 0 and 1."""

    loss: Wanted[float] = field(default_factory=lambda: Wanted(0.0, "built-in"))  # of a stream's packets, at most


@dataclass(frozen=True, slots=True)
class ReferencePoint:
    """What is to be near: connections to it open within `max_p50_ms` milliseconds, half of them at least."""

    name: str
    address: str
    port: int
    max_p50_ms: float
    origin: str

    def __str__(self) -> str:
        """Return it as a reader would say it."""
        return f"{self.name} ({self.address} port {self.port}) within {self.max_p50_ms:g} ms"


@dataclass(frozen=True, slots=True)
class LatencyExpectation:
    """Round trips: how much slower pods may be than their nodes, as a factor or in milliseconds, whichever is more."""

    pod_to_host: Wanted[float] = field(default_factory=lambda: Wanted(2.0, "built-in"))
    slack_ms: Wanted[float] = field(default_factory=lambda: Wanted(1.0, "built-in"))  # of the p50
    slack_p99_ms: Wanted[float] = field(default_factory=lambda: Wanted(20.0, "built-in"))
    loaded_slack_ms: Wanted[float] = field(default_factory=lambda: Wanted(50.0, "built-in"))  # of the p50 while the path is full
    loaded_p50_ms: Wanted[float] | None = None  # at most, between pods while the path is full
    points: tuple[ReferencePoint, ...] = ()


@dataclass(frozen=True, slots=True)
class DnsExpectation:
    """What the cluster's DNS should be."""

    replicas: Wanted[int] | None = None  # at least
    p99_ms: Wanted[float] = field(default_factory=lambda: Wanted(50.0, "built-in"))  # of the cluster's DNS, from pods
    questions: Wanted[int] | None = None  # most that a short name may take
    domain: Wanted[str] | None = None  # of the cluster
    names: Wanted[tuple[str, ...]] | None = None  # outside the cluster, that are to be resolved


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteExpectation:
    """A way into the cluster, and what is expected of requests that are sent through it."""

    route: Route
    requests_per_connection: Wanted[int]  # to a pod, at least
    header_bytes: Wanted[int]  # of one that passes both ways
    hsts_max_age: Wanted[int] | None = None  # seconds, at least
    origin: str

    def __str__(self) -> str:
        """Return it as a reader would say it."""
        where = self.route.service or self.route.address
        whose = self.route.gateway or self.route.ingress_class
        hsts = "" if self.hsts_max_age is None else f", HSTS for {self.hsts_max_age.value} s"
        return (
            f"{self.route.name} ({whose} at {where} port {self.route.port}{' by TLS' if self.route.tls else ''}): "
            f"{self.requests_per_connection.value} requests a connection, headers of {self.header_bytes.value} bytes{hsts}"
        )


@dataclass(frozen=True, slots=True)
class ServiceExpectation:
    """Services by packets."""

    propagation_s: Wanted[float] = field(default_factory=lambda: Wanted(30.0, "built-in"))  # until every node knows a change of endpoints
    scale_factor: Wanted[float] = field(default_factory=lambda: Wanted(2.0, "built-in"))  # times as long, with many Services


@dataclass(frozen=True, slots=True)
class EgressExpectation:
    """What leaves the pod network."""

    source: Wanted[str] | None = None  # whose address others see: pod, node


@dataclass(frozen=True, slots=True)
class PolicyExpectation:
    """NetworkPolicies."""

    enforced: Wanted[bool] | None = None  # None: nobody is known to enforce them
    settle_s: Wanted[float] = field(default_factory=lambda: Wanted(30.0, "built-in"))  # until every node enforces one that was made


@dataclass(frozen=True, slots=True)
class ControlPlaneExpectation:
    """The API server's own connections."""

    reaches_pods: Wanted[bool] | None = None  # None: nobody says, and no node of the cluster is one of the control plane


@dataclass(frozen=True, slots=True)
class IngressExpectation:
    """Settings of ingress-nginx, by the keys of its ConfigMap, and ways into the cluster."""

    settings: tuple[SysctlWant, ...] = ()
    routes: tuple[RouteExpectation, ...] = ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """Everything expected of one node (or, for a pair, of its source node)."""

    proxy: ProxyExpectation = field(default_factory=ProxyExpectation)
    encapsulation: EncapsulationExpectation = field(default_factory=EncapsulationExpectation)
    mtu: MtuExpectation = field(default_factory=MtuExpectation)
    kernel: KernelExpectation = field(default_factory=KernelExpectation)
    throughput: ThroughputExpectation = field(default_factory=ThroughputExpectation)
    reach: ReachExpectation = field(default_factory=ReachExpectation)
    latency: LatencyExpectation = field(default_factory=LatencyExpectation)
    service: ServiceExpectation = field(default_factory=ServiceExpectation)
    egress: EgressExpectation = field(default_factory=EgressExpectation)
    policy: PolicyExpectation = field(default_factory=PolicyExpectation)
    control_plane: ControlPlaneExpectation = field(default_factory=ControlPlaneExpectation)
    ingress: IngressExpectation = field(default_factory=IngressExpectation)
    dns: DnsExpectation = field(default_factory=DnsExpectation)
    conntrack: ConntrackExpectation = field(default_factory=ConntrackExpectation)
    node: NodeExpectation = field(default_factory=NodeExpectation)
    custom: Mapping[str, object] = field(default_factory=dict)
