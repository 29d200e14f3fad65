"""The cluster as read from its API, and what it claims of itself. Plain values: they are recorded and handed to xdist workers as JSON."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_k8snet.cluster.admission import Webhook, webhooks_from_json
from pytest_k8snet.cluster.bgp_status import BgpStatus
from pytest_k8snet.cluster.dns import Dns
from pytest_k8snet.cluster.ingress import Ingress
from pytest_k8snet.cluster.ranges import Range, ranges_from_json

CNI_OF_NODE = "cni"
"""The claim of a node that has another CNI than the cluster's others."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing the cluster says of itself, and where it says so. A value of None could not be read: `source` says why."""

    value: Any
    source: str  # "ConfigMap kube-system/kube-proxy config.conf mode"


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the API server knows it."""

    name: str
    internal_ip: str | None
    pod_cidrs: tuple[str, ...]
    ready: bool
    not_ready_reason: str | None
    schedulable: bool
    control_plane: bool
    group: str  # equal nodes share it: pool label, OS, kernel, machine type
    os: str
    zone: str | None = None  # label topology.kubernetes.io/zone
    instance_type: str | None = None  # label node.kubernetes.io/instance-type
    max_pods: int | None = None  # how many the kubelet takes (status.allocatable)
    internal_ips: tuple[str, ...] = ()  # the first of each address family
    external_ip: str | None = None
    hostname: str | None = None
    pod_ip: str | None = None  # of a running pod there, None when none is known
    pod_ips: tuple[str, ...] = ()  # the same and that of the other family, where that pod has both
    region: str | None = None  # label topology.kubernetes.io/region, empty without it; None in an older recording
    virtual: str | None = None  # how it is known that there is no machine behind it that could be looked at
    bgp_addresses: tuple[str, ...] = ()  # by which other nodes of a BGP mesh know it, one of each family; empty where nothing says so
    route_reflector: bool = False  # of BGP: it is in no mesh

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its InternalIPs; the one that is known where there is no list of them."""
        return self.internal_ips or ((self.internal_ip,) if self.internal_ip else ())

    @property
    def pod_addresses(self) -> tuple[str, ...]:
        """The addresses of a running pod there, the first of them `pod_ip`."""
        return self.pod_ips or ((self.pod_ip,) if self.pod_ip else ())

    @property
    def excluded(self) -> str | None:
        """Why it is never measured, whatever its state; None when it is."""
        if self.virtual is not None:
            return self.virtual
        return None if self.os == "linux" else f"runs {self.os}; only Linux nodes are measured"

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return {
            "name": self.name,
            "internal_ip": self.internal_ip,
            "pod_cidrs": list(self.pod_cidrs),
            "ready": self.ready,
            "not_ready_reason": self.not_ready_reason,
            "schedulable": self.schedulable,
            "control_plane": self.control_plane,
            "group": self.group,
            "os": self.os,
            "zone": self.zone,
            "instance_type": self.instance_type,
            "max_pods": self.max_pods,
            "internal_ips": list(self.internal_ips),
            "external_ip": self.external_ip,
            "hostname": self.hostname,
            "pod_ip": self.pod_ip,
            "pod_ips": list(self.pod_ips),
            "region": self.region,
            "virtual": self.virtual,
            "bgp_addresses": list(self.bgp_addresses),
            "route_reflector": self.route_reflector,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Node:
        """Read what `to_json` gave."""
        lists = {key: tuple(data.get(key) or ()) for key in ("pod_cidrs", "internal_ips", "pod_ips", "bgp_addresses")}
        return cls(**{**data, **lists})


def parsed_address(address: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, None when it is none."""
    try:
        return None if address is None else ipaddress.ip_address(address)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Cluster:
    """The ``cluster`` document, typed: taken once at the start of a run."""

    version: str
    nodes: tuple[Node, ...]
    claims: Mapping[str, Claim]  # keys: see pytest_k8snet.cluster.claims.reading
    kube_proxy_daemonsets: Sequence[Mapping[str, Any]]  # name, namespace, desired, ready, node_selector, pods
    cni: str | None  # recognised CNI, None when unknown
    mistakes: tuple[str, ...] | None = None  # values that the API of their object does not know; None in records that were not looked at
    ranges: tuple[Range, ...] | None = None  # of pods and Services; None as above
    ingress: Ingress | None = None  # None as above
    webhooks: tuple[Webhook, ...] | None = None  # that are asked about new pods; None as above
    dns: Dns | None = None  # None in records of versions that did not read it
    node_claims: Mapping[str, Mapping[str, Claim]] = field(default_factory=dict)  # by node, over `claims`: only what differs there
    unreadable: Mapping[str, str] = field(default_factory=dict)  # objects that may hold claims and could not be read, and why
    bgp_statuses: Mapping[str, BgpStatus] = field(default_factory=dict)  # by node, where calico-node was told to report
    _by_name: dict[str, Node] = field(init=False, repr=False, compare=False)
    _pod_cidrs: frozenset[str] = field(init=False, repr=False, compare=False)
    addresses: tuple[tuple[str, int, int], ...] = field(
        init=False, repr=False, compare=False
    )  # name, version, InternalIP as a number, each

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {node.name: node for node in self.nodes})
        object.__setattr__(self, "_pod_cidrs", frozenset(cidr for node in self.nodes for cidr in node.pod_cidrs))
        parsed = ((node.name, parsed_address(address)) for node in self.nodes for address in node.addresses)
        object.__setattr__(self, "addresses", tuple((name, item.version, int(item)) for name, item in parsed if item is not None))

    def has_pod_cidr(self, cidr: str) -> bool:
        """Whether this is written as the pod range of a node: the same range may be written otherwise."""
        return cidr in self._pod_cidrs

    def node(self, name: str) -> Node:
        """Return the node called `name`; raise `KeyError` when there is none."""
        return self._by_name[name]

    def claim_of(self, node: str, key: str) -> Claim | None:
        """Return a claim as it is on one node."""
        own = self.node_claims.get(node, {})
        return own[key] if key in own else self.claims.get(key)

    def cni_of(self, node: str) -> str | None:
        """Return the CNI of one node, None when it is unknown."""
        own = self.node_claims.get(node, {}).get(CNI_OF_NODE)
        return self.cni if own is None else own.value

    def to_json(self) -> dict[str, Any]:
        """Return builtin values: the content of the ``cluster`` document."""
        return {
            "version": self.version,
            "nodes": [node.to_json() for node in self.nodes],
            "claims": _claims_to_json(self.claims),
            "node_claims": {name: _claims_to_json(claims) for name, claims in self.node_claims.items()},
            "kube_proxy_daemonsets": [dict(item) for item in self.kube_proxy_daemonsets],
            "cni": self.cni,
            "mistakes": None if self.mistakes is None else [*self.mistakes],
            "unreadable": dict(self.unreadable),
            "bgp_statuses": [status.to_json() for status in self.bgp_statuses.values()],
            "ranges": None if self.ranges is None else [item.to_json() for item in self.ranges],
            "ingress": None if self.ingress is None else self.ingress.to_json(),
            "webhooks": None if self.webhooks is None else [item.to_json() for item in self.webhooks],
            "dns": None if self.dns is None else self.dns.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cluster:
        """Read what `to_json` gave."""
        return cls(
            version=data["version"],
            nodes=tuple(Node.from_json(node) for node in data["nodes"]),
            claims=_claims_from_json(data["claims"]),
            node_claims={name: _claims_from_json(claims) for name, claims in (data.get("node_claims") or {}).items()},
            kube_proxy_daemonsets=tuple(data["kube_proxy_daemonsets"]),
            cni=data["cni"],
            mistakes=None if data.get("mistakes") is None else tuple(data["mistakes"]),
            unreadable=dict(data.get("unreadable") or {}),
            bgp_statuses={item["node"]: BgpStatus.from_json(item) for item in data.get("bgp_statuses") or ()},
            ranges=ranges_from_json(data.get("ranges")),
            ingress=None if data.get("ingress") is None else Ingress.from_json(data["ingress"]),
            webhooks=webhooks_from_json(data.get("webhooks")),
            dns=None if data.get("dns") is None else Dns.from_json(data["dns"]),
        )


def _claims_to_json(claims: Mapping[str, Claim]) -> dict[str, Any]:
    return {key: {"value": claim.value, "source": claim.source} for key, claim in claims.items()}


def _claims_from_json(data: Mapping[str, Any]) -> dict[str, Claim]:
    return {key: Claim(**claim) for key, claim in data.items()}
