"""The pydantic models of a profile: which keys there are and which values they take.

Only `pytest_k8snet.expect.profile` imports this, and only when a profile is read: pydantic is slow to import.
"""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from pytest_k8snet.expect.namespaces import reach
from pytest_k8snet.expect.words import ENCAPSULATIONS, encapsulation_meant

_RATE = re.compile(r"^(\d+(?:\.\d+)?)\s*(bit|kbit|mbit|gbit)$")
_FACTOR = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_SYSCTL_KEY = r"^[a-z0-9_]+([./][A-Za-z0-9_-]+)+$"
_SCHEDULER = r"^[a-z]+$"
_QDISC = r"^[a-z0-9_]+$"
_CONGESTION_CONTROL = r"^[a-z0-9_-]+$"
_DOMAIN = r"^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$"
_NAMESPACED = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_WANT = re.compile(r"^\s*(>=|<=|=|covers\b)?\s*(.*?)\s*$")

#: What the patterns of words stand for.
PATTERNS = {
    _RATE.pattern: "a rate such as 50mbit or 10gbit",
    _SYSCTL_KEY: "the name of a sysctl such as net.ipv4.ip_forward",
    _SCHEDULER: "a scheduler of IPVS in lower-case letters, such as rr",
    _QDISC: "a queueing discipline in lower-case letters, such as fq",
    _CONGESTION_CONTROL: "a congestion control in lower-case letters, such as bbr",
    _DOMAIN: "a name of DNS such as cluster.local",
    _NAMESPACED: "namespace and name such as ingress-nginx/ingress-nginx-controller",
}


def rate_bps(text: str) -> int:
    """Return the bit/s of a rate written as ``50mbit`` or ``10gbit``, as `tc` writes them."""
    match = _RATE.match(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a rate; write it like 50mbit or 10gbit")
    rate = round(float(match.group(1)) * _FACTOR[match.group(2)])
    if rate <= 0:
        raise ValueError("a rate must be more than nothing")
    return rate


def rate_text(bps: int) -> str:
    """Return a rate as `rate_bps` reads it."""
    factor, unit = next(
        (factor, unit) for unit, factor in sorted(_FACTOR.items(), key=lambda item: -item[1]) if bps >= factor or factor == 1
    )
    return f"{bps // factor}{unit}" if bps % factor == 0 else f"{bps / factor:.10g}{unit}"


def split_want(text: str) -> tuple[str, str]:
    """Return operator and value of a wanted sysctl: ``">= 131072"`` is ``(">=", "131072")``, a bare value wants equality."""
    match = _WANT.match(text)
    assert match is not None
    operator, value = match.group(1) or "=", " ".join(match.group(2).split())
    if not value:
        raise ValueError(f"{text!r} has no value")
    if operator in (">=", "<=") and not re.fullmatch(r"-?\d+", value):
        raise ValueError(f"{text!r}: {operator} compares one whole number, not {value!r}")
    if operator == "covers":
        port_ranges(value)
    return operator, value


def dotted_key(key: str) -> str:
    """Return a sysctl's key as sysctl prints it; it takes ``net/ipv4/conf/eth0.100/rp_filter`` as well: the first separator decides."""
    first = next((sign for sign in key if sign in "./"), ".")
    return key if first == "." else key.translate({ord("."): "/", ord("/"): "."})


def port_ranges(text: str) -> list[tuple[int, int]]:
    """Return first and last port of each part of ``30000-32767,10250``, sorted; the kernel's notation of a port list."""
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if match is None:
            raise ValueError(f"{part.strip()!r} is neither a port nor a range of ports")
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        if not 0 <= first <= last <= 65535:
            raise ValueError(f"{part.strip()!r} is no range of ports")
        ranges.append((first, last))
    return sorted(ranges)


def _rate(text: str) -> str:
    rate_bps(text)
    return text


def _several(value: Any) -> Any:
    return [] if value is None else [value] if isinstance(value, str) else value


def _encapsulation(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"YAML reads this as {str(value).lower()}; write none, vxlan, ipip, geneve or wireguard")
    return encapsulation_meant(value) if isinstance(value, str) else value


def _day(value: Any) -> Any:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"got {str(value)!r}, want a date such as 2027-03-31") from None


def _sysctl_text(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("write 1 or 0: a sysctl has no true and false")
    return str(value) if isinstance(value, int) else value


def _sysctl_want(text: str) -> str:
    split_want(text)
    return text


def _pod_key(key: str) -> str:
    if reach(dotted_key(key)) == "host":
        raise ValueError("pods have no such sysctl, nodes alone do; write it below kernel.sysctl.host")
    return key


Rate = Annotated[str, AfterValidator(_rate), Field(pattern=_RATE.pattern, description="A rate as tc writes it: 50mbit, 10gbit.")]
SysctlKey = Annotated[str, Field(pattern=_SYSCTL_KEY)]
PodSysctlKey = Annotated[SysctlKey, AfterValidator(_pod_key)]
SysctlValue = Annotated[
    str,
    BeforeValidator(_sysctl_text),
    AfterValidator(_sysctl_want),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "minLength": 1}, {"type": "integer"}],
            "description": 'A value in the kernel\'s notation, ">= N", "<= N", or "covers" and ports that must be in the kernel\'s list.',
        }
    ),
]
Mtu = Annotated[int, Field(ge=576, le=65536, strict=True, description="Bytes, IP header included.")]
Extends = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(_several),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
            "description": "Names of shipped profiles, or paths relative to this file; later ones win.",
        }
    ),
]
Encapsulation = Annotated[
    Literal["none", "vxlan", "ipip", "geneve", "wireguard", "vxlan-cross-subnet", "ipip-cross-subnet", "geneve-cross-subnet"],
    BeforeValidator(_encapsulation),
    WithJsonSchema(
        {
            "enum": [*ENCAPSULATIONS, "None", "Never", "IPIP", "VXLAN", "IPIPCrossSubnet", "VXLANCrossSubnet"],
            "description": "What packets between nodes' pods are put in. The words of CNIs are taken for what they mean, in any case.",
        }
    ),
]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Share = Annotated[float, Field(gt=0, le=1.5)]
Part = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Proxy(_Section):
    """The service proxy of every node."""

    mode: Literal["iptables", "ipvs", "nftables", "none"] | None = Field(default=None, description="none: no kube-proxy at all.")
    scheduler: Annotated[str, Field(pattern=_SCHEDULER)] | None = Field(default=None, description="Of every virtual server.")
    strict_arp: Annotated[bool, Field(strict=True)] | None = None


class Mtus(_Section):
    """What the MTUs are to be."""

    pod: Mtu | None = None
    uplink: Mtu | None = None
    tunnel: Mtu | None = None


class Throughput(_Section):
    """What the network carries, and which share of it is enough."""

    line_rate: Rate | None = None
    pod_to_host: Share | None = Field(default=None, description="Least share of the host path's rate that the pod path reaches.")
    line_share: Share | None = Field(default=None, description="Least share of the payload that the line rate can carry.")
    service_to_pod: Share | None = Field(
        default=None, description="Least share of what pods carry directly that they carry through a Service; 0.85 without it."
    )
    udp_loss: Part | None = Field(
        default=None, description="Share of UDP packets that pods may lose beyond what their nodes lose; 0.001 without it."
    )
    udp_jitter_ms: float | None = Field(default=None, gt=0, description="Milliseconds of jitter that UDP between pods has at most.")


class Reach(_Section):
    """Packets between pods of different nodes."""

    loss: Part | None = Field(default=None, description="Share of a stream's packets that may be lost.")


class PointModel(_Section):
    """Something that the cluster is to be near."""

    name: Words
    address: Annotated[Words, Field(description="An address or a name.")]
    port: Annotated[int, Field(ge=1, le=65535, strict=True)]
    max_p50_ms: Annotated[float, Field(gt=0, description="Milliseconds in which half of the TCP connections to it open.")]


class Latency(_Section):
    """How long answers may take."""

    pod_to_host: Annotated[float, Field(ge=1)] | None = Field(
        default=None, description="Times as long as between nodes that answers may take between their pods."
    )
    slack_ms: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Milliseconds more that are no fault either, of the p50."
    )
    slack_p99_ms: Annotated[float, Field(ge=0)] | None = Field(default=None, description="The same of the p99.")
    loaded_slack_ms: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Milliseconds more that are no fault while TCP fills the path, of the p50."
    )
    loaded_p50_ms: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Milliseconds within which half of the answers between pods come while TCP fills the path."
    )
    points: list[PointModel] | None = Field(default=None, description="Reached by TCP from a pod on every node.")


class Sysctls(_Section):
    """Wanted sysctls: in the node's own network namespace and in pods'. Most do not reach pods from the node."""

    host: dict[SysctlKey, SysctlValue | None] = Field(default_factory=dict)
    pod: dict[PodSysctlKey, SysctlValue | None] = Field(default_factory=dict)


class Kernel(_Section):
    """Tuning of the nodes' kernels."""

    sysctl: Sysctls = Field(default_factory=Sysctls)
    qdisc: Annotated[str, Field(pattern=_QDISC)] | None = Field(default=None, description="In force on the uplink.")
    congestion_control: Annotated[str, Field(pattern=_CONGESTION_CONTROL)] | None = None
    modules: Names | None = Field(default=None, description="Modules that are loaded or built in: br_netfilter, ip_vs_rr.")
    persisted: Literal["required"] | None = Field(default=None, description="The next boot gives the wanted sysctls, and those in force.")


class Conntrack(_Section):
    """The connection table of every node."""

    full: Part | None = Field(default=None, description="Share of the table in use from which on it fails.")
    nearly_full: Part | None = Field(default=None, description="Share of the table in use from which on it is told.")
    losses: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        default=None, description="Most packets by which insert_failed and drop may each grow during a run."
    )


class Machine(_Section):
    """The machine under every node."""

    steal: Part | None = Field(default=None, description="Share of the processors' time that the hypervisor may take.")
    losses: Part | None = Field(default=None, description="Share of packets that a network device or the softnet queue may lose.")
    late: Part | None = Field(default=None, description="Share of the time that wake-ups may come too late by.")
    clock: Literal["synchronised"] | None = None


class Dns(_Section):
    """The cluster's DNS."""

    replicas: Annotated[int, Field(ge=1, strict=True, description="Least pods of CoreDNS, on more than one node.")] | None = None
    p99_ms: (
        Annotated[float, Field(gt=0, description="Milliseconds in which 99 of 100 questions of pods are answered; 50 without it.")] | None
    ) = None
    questions: Annotated[int, Field(ge=2, strict=True, description="Most questions that a name may take by the search list.")] | None = None
    domain: Annotated[str, Field(pattern=_DOMAIN, description="The cluster's domain, where the Corefile does not tell it.")] | None = None
    names: Annotated[list[Annotated[str, Field(pattern=_DOMAIN)]], Field(max_length=10)] | None = Field(
        default=None, description="Names outside the cluster that every node's pods resolve. None is asked for without it."
    )


class Service(_Section):
    """Services by packets."""

    propagation_s: Annotated[float, Field(gt=0, le=600)] | None = Field(
        default=None, description="Seconds until every node uses an endpoint that has come, and one that has left no more; 30 without it."
    )
    scale_factor: Annotated[float, Field(ge=1)] | None = Field(
        default=None,
        description="Times as long that connecting may take with many Services (--k8snet-service-scale) as with few; 2 without it.",
    )


class Egress(_Section):
    """What leaves the pod network."""

    source: Literal["pod", "node"] | None = Field(
        default=None,
        description="Whose address other nodes see of a pod: its own, or its node's, where that masquerades. Not judged without it.",
    )


class ControlPlane(_Section):
    """The API server's own connections."""

    reaches_pods: Annotated[bool, Field(strict=True)] | None = Field(
        default=None,
        description="Whether the API server reaches pods by their addresses; without it that it does where nodes of the control plane are "
        "nodes of the cluster, and elsewhere if it reaches some.",
    )


class Policy(_Section):
    """NetworkPolicies."""

    enforced: bool | None = Field(
        default=None, description="Whether something enforces NetworkPolicies; without it what the CNI and others say of themselves."
    )
    settle_s: Annotated[float, Field(gt=0, le=600)] | None = Field(
        default=None,
        description="Seconds until every node enforces a NetworkPolicy that was made, and one no more that is gone; 30 without it.",
    )


def _setting(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool | int) else value


def _setting_want(text: str) -> str:
    if split_want(text)[0] == "covers":
        raise ValueError(f"{text!r}: covers is for lists of ports")
    return text


def _nginx_key(key: str) -> str:
    from pytest_k8snet.cluster.nginx_keys import JUDGED

    if key not in JUDGED:
        raise ValueError(f"{key!r} is no key that is judged; there are: {', '.join(sorted(JUDGED))}")
    return key


Namespaced = Annotated[str, Field(pattern=_NAMESPACED)]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]


class RouteModel(_Section):
    """A way into the cluster that requests are sent through, from a pod to a pod, by an Ingress or an HTTPRoute that the run makes."""

    name: Words
    ingress_class: Annotated[Words, Field(description="The IngressClass of the Ingress that the run makes for it.")] | None = None
    gateway: Namespaced | None = Field(default=None, description="namespace/name of the Gateway, for an HTTPRoute instead.")
    listener: Words | None = Field(default=None, description="Of the Gateway; all that take it without it.")
    domain: Annotated[str, Field(pattern=_DOMAIN)] | None = Field(
        default=None, description="Domain of the name that requests are for; k8snet.invalid without it."
    )
    service: Namespaced | None = Field(default=None, description="namespace/name of the controller's Service.")
    address: Annotated[Words, Field(description="Where the controller answers, instead of its Service: an address or a name.")] | None = (
        None
    )
    port: Port | None = Field(default=None, description="80 without it, with tls 443.")
    tls: Annotated[bool, Field(strict=True, description="All requests are sent over TLS; certificates are not judged.")] = False
    annotations: dict[str, str] = Field(default_factory=dict, description="Of what the run makes.")
    served_within_s: Annotated[int, Field(ge=1, le=600, strict=True)] | None = Field(
        default=None, description="Seconds in which the controller serves what is new; 60 without it."
    )
    drain_s: Annotated[int, Field(ge=1, le=120, strict=True)] | None = Field(
        default=None, description="Seconds that a pod goes on to answer when it is replaced, as by a preStop hook; 10 without it."
    )
    requests_per_connection: Annotated[int, Field(ge=1, le=200, strict=True)] | None = Field(
        default=None, description="Least requests of one client that a connection to a pod carries, on average; 20 without it."
    )
    header_bytes: Annotated[int, Field(ge=1, le=61440, strict=True)] | None = Field(
        default=None, description="Length of a header that passes both ways; 12288 without it."
    )
    hsts_max_age: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        default=None, description="Least seconds in Strict-Transport-Security; not judged without it."
    )

    @model_validator(mode="after")
    def _fits(self) -> RouteModel:
        if (self.ingress_class is None) == (self.gateway is None):
            both = "neither ingress_class nor gateway" if self.gateway is None else "both ingress_class and gateway"
            raise ValueError(f"got {both}, want one of the two: whose way it is")
        if self.listener is not None and self.gateway is None:
            raise ValueError("got listener without gateway; an IngressClass has none")
        if (self.service is None) == (self.address is None):
            both = "neither service nor address" if self.service is None else "both service and address"
            raise ValueError(f"got {both}, want one of the two: where the controller answers")
        if self.hsts_max_age is not None and not self.tls:
            raise ValueError("got hsts_max_age without tls: true; the header counts over TLS alone")
        return self


class Ingress(_Section):
    """Ingress controllers."""

    settings: dict[
        Annotated[str, AfterValidator(_nginx_key)],
        Annotated[
            str,
            BeforeValidator(_setting),
            AfterValidator(_setting_want),
            WithJsonSchema({"type": ["string", "integer", "boolean"], "description": 'A value of ingress-nginx, ">= N" or "<= N".'}),
        ]
        | None,
    ] = Field(default_factory=dict, description="Of ingress-nginx, by the keys of its ConfigMap.")
    routes: list[RouteModel] = Field(
        default_factory=list, max_length=8, description="Ways into the cluster that requests are sent through. None is without it."
    )

    @field_validator("routes")
    @classmethod
    def _apart(cls, routes: list[RouteModel]) -> list[RouteModel]:
        names = [route.name for route in routes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"got the name {name!r} more than once; checks tell routes apart by it")
        return routes


class WaiverModel(_Section):
    """A failure that is known and accepted until a date."""

    check: Annotated[Words, Field(description="Id of a check, wildcards allowed: NET-MTU-*.")]
    nodes: Annotated[list[Words], Field(min_length=1, description='Names of nodes, pairs ("a:b") or cluster, wildcards allowed.')] = ["*"]
    reason: Words
    expires: Annotated[datetime.date, BeforeValidator(_day), Field(description="The last day it holds: 2027-03-31.")]


class ProfileModel(_Section):
    """What a cluster's network is meant to be."""

    name: str | None = None
    description: str | None = None
    extends: Extends = Field(default_factory=list)
    proxy: Proxy = Field(default_factory=Proxy)
    encapsulation: Encapsulation | None = None
    mtu: Mtus = Field(default_factory=Mtus)
    throughput: Throughput = Field(default_factory=Throughput)
    reach: Reach = Field(default_factory=Reach)
    latency: Latency = Field(default_factory=Latency)
    service: Service = Field(default_factory=Service)
    egress: Egress = Field(default_factory=Egress)
    policy: Policy = Field(default_factory=Policy)
    control_plane: ControlPlane = Field(default_factory=ControlPlane)
    kernel: Kernel = Field(default_factory=Kernel)
    ingress: Ingress = Field(default_factory=Ingress)
    dns: Dns = Field(default_factory=Dns)
    conntrack: Conntrack = Field(default_factory=Conntrack)
    node: Machine = Field(default_factory=Machine)
    regions: Names | None = Field(default=None, description="Where nodes may be: label topology.kubernetes.io/region, wildcards allowed.")
    zones: Names | None = Field(default=None, description="The same for label topology.kubernetes.io/zone.")
    waivers: list[WaiverModel] = Field(default_factory=list)
    custom: dict[str, Any] = Field(default_factory=dict, description="Free: for one's own checks.")
