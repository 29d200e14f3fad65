"""Join what is always true, what the cluster claims of itself and what the profiles want into the expectations that judges take."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_k8snet.cluster.ingress import DOMAIN, DRAIN_S, SERVED_WITHIN_S, Route
from pytest_k8snet.cluster.pairs import pair_nodes
from pytest_k8snet.expect.model import (
    CROSS_SUBNET,
    ConntrackExpectation,
    ControlPlaneExpectation,
    DnsExpectation,
    EgressExpectation,
    EncapsulationExpectation,
    Expectation,
    IngressExpectation,
    KernelExpectation,
    LatencyExpectation,
    MtuExpectation,
    NodeExpectation,
    PolicyExpectation,
    ProxyExpectation,
    ReachExpectation,
    ReferencePoint,
    RouteExpectation,
    ServiceExpectation,
    SysctlWant,
    ThroughputExpectation,
    Wanted,
)

if TYPE_CHECKING:
    from pytest_k8snet.cluster.model import Cluster
    from pytest_k8snet.expect.profile import Profile
    from pytest_k8snet.expect.schema import RouteModel

T = TypeVar("T")

BUILT_IN = "built-in"

#: Sysctls that are judged on every cluster, whatever the profiles say.
BUILT_IN_SYSCTLS = (
    "net.ipv4.conf.all.arp_announce",
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.ip_forward",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.vs.conntrack",
    "net.ipv4.vs.expire_nodest_conn",
    "net.ipv4.vs.expire_quiescent_template",
    "net.ipv6.conf.all.forwarding",
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_max",
)

#: The shipped profile whose tuning is advice where nobody wants another.
TUNED = "tuned-node"

#: Least share of the host path's rate that the pod path reaches, without encapsulation and with.
POD_TO_HOST_NATIVE = 0.9
POD_TO_HOST_ENCAPSULATED = 0.8


#: What is expected of a way into the cluster where the profile does not say it. Headers as large do not pass nginx' default buffers.
REQUESTS_PER_CONNECTION = 20
HEADER_BYTES = 12 * 1024


@dataclass(frozen=True, slots=True)
class Waiver:
    """A failure that a profile accepts for a time. An expired one excuses nothing."""

    check: str  # id, wildcards allowed
    nodes: tuple[str, ...]  # names, wildcards allowed
    reason: str
    expires: datetime.date
    origin: str
    expired: bool

    def covers(self, check_id: str, subject: str) -> bool:
        """Whether it speaks of this check on this subject: a node, a pair by its name or by one of its ends, or ``cluster``."""
        names = {subject, *pair_nodes(subject)}
        return fnmatchcase(check_id, self.check) and any(fnmatchcase(name, pattern) for name in names for pattern in self.nodes)


@dataclass(frozen=True, slots=True)
class Expectations:
    """What is expected of the cluster and of each of its nodes."""

    common: Expectation = field(default_factory=Expectation)
    nodes: Mapping[str, Expectation] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()

    def node(self, name: str) -> Expectation:
        """Return what is expected of the node called `name`."""
        return self.nodes.get(name, self.common)

    def waiver(self, check_id: str, subject: str, today: datetime.date) -> Waiver | None:
        """Return the waiver of this check on this subject: one in force if there is one, else an expired one, else None."""
        covering = [waiver for waiver in self.waivers if waiver.covers(check_id, subject)]
        for waiver in covering:
            if waiver.expires >= today:
                return waiver
        return replace(covering[-1], expired=True) if covering else None

    def sysctl_keys(self) -> tuple[str, ...]:
        """Return the sysctls that have to be measured, on nodes and in pods: wanted ones, and those that built-in judgements look at."""
        kernels = [expectation.kernel for expectation in (self.common, *self.nodes.values())]
        wanted = {want.key for kernel in kernels for want in (*kernel.host_sysctls, *kernel.pod_sysctls)}
        return tuple(sorted(wanted.union(BUILT_IN_SYSCTLS)))


def resolve(profile: Profile | None, cluster: Cluster) -> Expectations:
    """Return the expectations: built-in ones, over them the cluster's claims (those of one node over those of all), over those the profile.

    Origins are kept.
    """
    common = _expectation(profile, cluster)
    nodes = {
        node.name: _expectation(profile, replace(cluster, claims={**cluster.claims, **own}))
        if (own := cluster.node_claims.get(node.name))
        else common
        for node in cluster.nodes
    }
    return Expectations(common=common, nodes=nodes, waivers=() if profile is None else waivers_of(profile))


def _expectation(profile: Profile | None, cluster: Cluster) -> Expectation:
    source = _Source(profile, cluster)
    encapsulation = _encapsulation(source)
    return Expectation(
        proxy=ProxyExpectation(
            # An empty mode is kube-proxy's default, iptables (platformApplyDefaults, cmd/kube-proxy/app/server_linux.go; written
            # out by kubeadm since 1.37); an empty scheduler is rr (pkg/proxy/ipvs/proxier.go).
            mode=source.value("proxy.mode", lambda mode: str(mode) or "iptables", "proxy", "mode"),
            mode_unknown=source.unknown("proxy.replaced"),
            scheduler=source.value("proxy.scheduler", lambda name: str(name) or "rr", "proxy", "scheduler"),
            strict_arp=source.value("proxy.strict_arp", bool, "proxy", "strict_arp"),
        ),
        encapsulation=encapsulation,
        mtu=MtuExpectation(
            pod=source.value("mtu.pod", _bytes, "mtu", "pod"),
            uplink=source.value("mtu.uplink", _bytes, "mtu", "uplink"),
            tunnel=source.value("mtu.tunnel", _bytes, "mtu", "tunnel"),
        ),
        kernel=_kernel(profile),
        throughput=_throughput(profile, encapsulation.anywhere, source.claim("encrypted", str)),
        reach=ReachExpectation(loss=source.wanted(float, "reach", "loss") or ReachExpectation().loss),
        latency=_latency(source),
        service=ServiceExpectation(
            propagation_s=source.wanted(float, "service", "propagation_s") or ServiceExpectation().propagation_s,
            scale_factor=source.wanted(float, "service", "scale_factor") or ServiceExpectation().scale_factor,
        ),
        egress=EgressExpectation(source=source.wanted(str, "egress", "source")),
        policy=PolicyExpectation(
            enforced=source.value("policy.enforced", bool, "policy", "enforced"),
            settle_s=source.wanted(float, "policy", "settle_s") or PolicyExpectation().settle_s,
        ),
        control_plane=ControlPlaneExpectation(reaches_pods=_reaches_pods(source)),
        ingress=_ingress(profile),
        dns=_dns(source),
        conntrack=_conntrack(source),
        node=_node(source),
        custom=dict(profile.model.custom) if profile else {},
    )


def waivers_of(profile: Profile) -> tuple[Waiver, ...]:
    """Return the waivers of a profile."""
    return tuple(
        Waiver(item.check, tuple(item.nodes), item.reason, item.expires, profile.origin("waivers", index), expired=False)
        for index, item in enumerate(profile.model.waivers)
    )


@dataclass(frozen=True, slots=True)
class _Source:
    profile: Profile | None
    cluster: Cluster

    def value(self, claim: str, convert: Callable[[object], T], *location: str) -> Wanted[T] | None:
        """Return the profile's value at `location`, else the cluster's claim, else None."""
        if (wanted := self.wanted(convert, *location)) is not None:
            return wanted
        return self.claim(claim, convert)

    def claim(self, key: str, convert: Callable[[object], T]) -> Wanted[T] | None:
        """Return what the cluster claims of itself, None when it claims nothing."""
        claimed = self.cluster.claims.get(key)
        if claimed is None or claimed.value is None:
            return None
        return Wanted(convert(claimed.value), f"claim {claimed.source}")

    def unknown(self, key: str) -> str | None:
        """Return why a claim could not be read, None when it was, and where there is none."""
        claimed = self.cluster.claims.get(key)
        return claimed.source if claimed is not None and claimed.value is None else None

    def wanted(self, convert: Callable[[Any], T], *location: str) -> Wanted[T] | None:
        """Return the profile's value at `location`, None when it has none."""
        value: Any = None if self.profile is None else self.profile.model
        for key in location:
            value = None if value is None else getattr(value, key)
        return None if value is None or self.profile is None else Wanted(convert(value), self.profile.origin(*location))


def _reaches_pods(source: _Source) -> Wanted[bool] | None:
    """Return whether the API server is to reach pods: on a node of the cluster it is in the network whose nodes reach all pods."""
    wanted = source.wanted(bool, "control_plane", "reaches_pods")
    if wanted is None and any(node.control_plane for node in source.cluster.nodes):
        return Wanted(True, f"{BUILT_IN}, nodes of the control plane are nodes of the cluster")
    return wanted


def _dns(source: _Source) -> DnsExpectation:
    return DnsExpectation(
        replicas=source.value("dns.replicas", _bytes, "dns", "replicas"),
        p99_ms=source.wanted(float, "dns", "p99_ms") or DnsExpectation().p99_ms,
        questions=source.wanted(int, "dns", "questions"),
        domain=source.wanted(str, "dns", "domain"),
        names=source.wanted(tuple, "dns", "names"),
    )


def _conntrack(source: _Source) -> ConntrackExpectation:
    default = ConntrackExpectation()
    return ConntrackExpectation(
        full=source.wanted(float, "conntrack", "full") or default.full,
        nearly_full=source.wanted(float, "conntrack", "nearly_full") or default.nearly_full,
        losses=source.wanted(int, "conntrack", "losses"),
    )


def _node(source: _Source) -> NodeExpectation:
    default = NodeExpectation()
    return NodeExpectation(
        steal=source.wanted(float, "node", "steal") or default.steal,
        losses=source.wanted(float, "node", "losses") or default.losses,
        late=source.wanted(float, "node", "late") or default.late,
        clock=source.wanted(str, "node", "clock"),
        regions=source.wanted(tuple, "regions"),
        zones=source.wanted(tuple, "zones"),
    )


def _latency(source: _Source) -> LatencyExpectation:
    default = LatencyExpectation()
    profile = source.profile
    points = None if profile is None else profile.model.latency.points
    return LatencyExpectation(
        pod_to_host=source.wanted(float, "latency", "pod_to_host") or default.pod_to_host,
        slack_ms=source.wanted(float, "latency", "slack_ms") or default.slack_ms,
        slack_p99_ms=source.wanted(float, "latency", "slack_p99_ms") or default.slack_p99_ms,
        loaded_slack_ms=source.wanted(float, "latency", "loaded_slack_ms") or default.loaded_slack_ms,
        loaded_p50_ms=source.wanted(float, "latency", "loaded_p50_ms"),
        points=tuple(
            ReferencePoint(item.name, item.address, item.port, item.max_p50_ms, profile.origin("latency", "points", index))
            for index, item in enumerate(points or ())
        )
        if profile is not None
        else (),
    )


def _encapsulation(source: _Source) -> EncapsulationExpectation:
    """Return what the profile wants, else what the cluster claims: that only what leaves a subnet is encapsulated is a claim of its own."""
    wanted = source.value("encapsulation", str, "encapsulation")
    if wanted is None:
        return EncapsulationExpectation(across=source.claim("encapsulation.cross_subnet", str))
    if wanted.value.endswith(CROSS_SUBNET):
        return EncapsulationExpectation(across=Wanted(wanted.value.removesuffix(CROSS_SUBNET), wanted.origin))
    return EncapsulationExpectation(kind=wanted)


def _ingress(profile: Profile | None) -> IngressExpectation:
    if profile is None:
        return IngressExpectation()
    from pytest_k8snet.expect.schema import split_want

    wanted = profile.model.ingress.settings
    return IngressExpectation(
        tuple(
            SysctlWant(key, *split_want(text), origin=profile.origin("ingress", "settings", key))
            for key, text in wanted.items()
            if text is not None
        ),
        tuple(_route(profile, index, item) for index, item in enumerate(profile.model.ingress.routes or ())),
    )


def _route(profile: Profile, index: int, item: RouteModel) -> RouteExpectation:
    def wanted(key: str, value: int | None) -> Wanted[int] | None:
        return None if value is None else Wanted(value, profile.origin("ingress", "routes", index, key))

    header_bytes = wanted("header_bytes", item.header_bytes) or Wanted(HEADER_BYTES, BUILT_IN)
    return RouteExpectation(
        route=Route(
            name=item.name,
            ingress_class=item.ingress_class,
            gateway=item.gateway,
            listener=item.listener,
            domain=DOMAIN if item.domain is None else item.domain.strip("."),
            service=item.service,
            address=item.address,
            port=item.port or (443 if item.tls else 80),
            tls=item.tls,
            annotations=dict(item.annotations),
            served_within_s=item.served_within_s or SERVED_WITHIN_S,
            drain_s=item.drain_s or DRAIN_S,
            header_bytes=header_bytes.value,
        ),
        requests_per_connection=wanted("requests_per_connection", item.requests_per_connection)
        or Wanted(REQUESTS_PER_CONNECTION, BUILT_IN),
        header_bytes=header_bytes,
        hsts_max_age=wanted("hsts_max_age", item.hsts_max_age),
        origin=profile.origin("ingress", "routes", index),
    )


def _bytes(value: object) -> int:
    return int(str(value))


def _kernel(profile: Profile | None) -> KernelExpectation:
    """Return the wanted tuning; where no profile says anything of it, that of tuned-node as advice."""
    wanted = KernelExpectation() if profile is None else _wanted_kernel(profile)
    if replace(wanted, modules=None, persisted=None) != KernelExpectation():
        return wanted
    from pytest_k8snet.expect.profile import load_profiles

    return replace(_wanted_kernel(load_profiles([TUNED])), modules=wanted.modules, persisted=wanted.persisted, advice=True)


def _wanted_kernel(profile: Profile) -> KernelExpectation:
    kernel = profile.model.kernel
    return KernelExpectation(
        host_sysctls=_sysctls(profile, "host", kernel.sysctl.host),
        pod_sysctls=_sysctls(profile, "pod", kernel.sysctl.pod),
        qdisc=None if kernel.qdisc is None else Wanted(kernel.qdisc, profile.origin("kernel", "qdisc")),
        congestion_control=None
        if kernel.congestion_control is None
        else Wanted(kernel.congestion_control, profile.origin("kernel", "congestion_control")),
        modules=None if kernel.modules is None else Wanted(tuple(kernel.modules), profile.origin("kernel", "modules")),
        persisted=None if kernel.persisted is None else Wanted(kernel.persisted, profile.origin("kernel", "persisted")),
    )


def _sysctls(profile: Profile, where: str, wanted: Mapping[str, str | None]) -> tuple[SysctlWant, ...]:
    from pytest_k8snet.expect.schema import dotted_key, split_want

    found: dict[str, SysctlWant] = {}
    for key, text in wanted.items():
        found.pop(dotted_key(key), None)  # the other notation of one that was wanted before
        if text is not None:
            found[dotted_key(key)] = SysctlWant(dotted_key(key), *split_want(text), origin=profile.origin("kernel", "sysctl", where, key))
    return tuple(found.values())


def _throughput(profile: Profile | None, kind: Wanted[str] | None, encrypted: Wanted[str] | None) -> ThroughputExpectation:
    default = ThroughputExpectation()
    section = profile.model.throughput if profile else None
    line_rate, pod_to_host, line_share = None, default.pod_to_host, default.line_share
    service_to_pod, udp_loss, udp_jitter_ms = default.service_to_pod, default.udp_loss, default.udp_jitter_ms
    if kind is not None and kind.value == "wireguard":
        encrypted = kind
    if kind is not None:
        share = POD_TO_HOST_NATIVE if kind.value == "none" else POD_TO_HOST_ENCAPSULATED
        pod_to_host = Wanted(share, f"{BUILT_IN}, encapsulation {kind.value}")
    if profile is not None and section is not None:
        if section.line_rate is not None:
            from pytest_k8snet.expect.schema import rate_bps

            line_rate = Wanted(rate_bps(section.line_rate), profile.origin("throughput", "line_rate"))
        if section.pod_to_host is not None:
            pod_to_host = Wanted(section.pod_to_host, profile.origin("throughput", "pod_to_host"))
        if section.line_share is not None:
            line_share = Wanted(section.line_share, profile.origin("throughput", "line_share"))
        if section.service_to_pod is not None:
            service_to_pod = Wanted(section.service_to_pod, profile.origin("throughput", "service_to_pod"))
        if section.udp_loss is not None:
            udp_loss = Wanted(section.udp_loss, profile.origin("throughput", "udp_loss"))
        if section.udp_jitter_ms is not None:
            udp_jitter_ms = Wanted(section.udp_jitter_ms, profile.origin("throughput", "udp_jitter_ms"))
    return ThroughputExpectation(line_rate, pod_to_host, line_share, service_to_pod, udp_loss, udp_jitter_ms, encrypted)
