"""The cluster's DNS as its API server knows it: Service, CoreDNS' pods and Corefile, NodeLocal DNSCache.

A Corefile may hold credentials (of etcd, of a cloud's zones): of it only the names of plugins and the arguments of some are kept.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LABEL = "k8s-app=kube-dns"
COREFILES = ("coredns", "rke2-coredns-rke2-coredns")  # ConfigMaps of kube-system
NODE_LOCAL = ("node-local-dns", "nodelocaldns")  # DaemonSets

CLOUD_DNS = "169.254.169.254"
"""The metadata server of Google's machines. With Cloud DNS for GKE kubelets give it to pods, and a kube-dns that still runs is not used."""

#: Plugins whose arguments say something about how names are resolved.
KEPT = frozenset({"autopath", "cache", "forward", "kubernetes", "loop", "proxy", "ready", "reload"})


@dataclass(frozen=True, slots=True)
class ServerBlock:
    """A block of a Corefile: its zones, and of each plugin in it the arguments; `options` are the first words of the lines within it."""

    zones: tuple[str, ...]
    plugins: Mapping[str, tuple[str, ...]]
    options: Mapping[str, tuple[str, ...]]

    @property
    def is_root(self) -> bool:
        """Whether it answers for all names: zone ``.``, with any port."""
        return any(re.fullmatch(r"(dns://)?\.(:\d+)?|:\d+", zone) for zone in self.zones)


@dataclass(frozen=True, slots=True)
class DnsServer:
    """A pod of CoreDNS."""

    name: str
    node: str | None
    ready: bool


@dataclass(frozen=True, slots=True)
class NodeLocal:
    """NodeLocal DNSCache."""

    name: str  # namespace/name of the DaemonSet
    desired: int
    ready: int
    addresses: tuple[str, ...]  # it listens on
    makes_device: bool = True  # with these addresses; else nobody may have them, as a policy of Cilium leads to its pods


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """Everything that could be read; `unreadable` says what could not, and why."""

    service: str | None = None  # namespace/name
    addresses: tuple[str, ...] = ()  # of the Service
    servers: tuple[DnsServer, ...] = ()
    corefile: str | None = None  # where it was read
    blocks: tuple[ServerBlock, ...] = ()
    damaged: str | None = None  # why the Corefile is none
    node_local: NodeLocal | None = None
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return {
            "service": self.service,
            "addresses": [*self.addresses],
            "servers": [{"name": server.name, "node": server.node, "ready": server.ready} for server in self.servers],
            "corefile": self.corefile,
            "blocks": [
                {
                    "zones": [*block.zones],
                    "plugins": {name: [*words] for name, words in block.plugins.items()},
                    "options": {name: [*words] for name, words in block.options.items()},
                }
                for block in self.blocks
            ],
            "damaged": self.damaged,
            "node_local": None
            if self.node_local is None
            else {
                "name": self.node_local.name,
                "desired": self.node_local.desired,
                "ready": self.node_local.ready,
                "addresses": [*self.node_local.addresses],
                "makes_device": self.node_local.makes_device,
            },
            "unreadable": dict(self.unreadable),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Dns:
        """Read what `to_json` gave."""
        local = data["node_local"]
        return cls(
            service=data["service"],
            addresses=tuple(data["addresses"]),
            servers=tuple(DnsServer(**item) for item in data["servers"]),
            corefile=data["corefile"],
            blocks=tuple(
                ServerBlock(
                    tuple(item["zones"]),
                    {name: tuple(words) for name, words in item["plugins"].items()},
                    {name: tuple(words) for name, words in item["options"].items()},
                )
                for item in data["blocks"]
            ),
            damaged=data["damaged"],
            node_local=None
            if local is None
            else NodeLocal(local["name"], local["desired"], local["ready"], tuple(local["addresses"]), local.get("makes_device", True)),
            unreadable=dict(data["unreadable"]),
        )


def read_dns(
    services: Iterable[Mapping[str, Any]],
    pods: Iterable[Mapping[str, Any]],
    daemonsets: Iterable[Mapping[str, Any]],
    config_maps: Mapping[tuple[str, str], Mapping[str, str]],
    unreadable: Mapping[str, str],
) -> Dns:
    """Read the objects of kube-system."""
    service = next(iter(services), None)
    key = next((key for key, data in config_maps.items() if key[1] in COREFILES and "Corefile" in data), None)
    blocks: tuple[ServerBlock, ...] = ()
    damaged = None
    if key is not None:
        try:
            blocks = tuple(parse_corefile(config_maps[key]["Corefile"]))
        except ValueError as error:
            damaged = str(error)
    named = {f"ConfigMap kube-system/{name}" for name in COREFILES}
    return Dns(
        service=None if service is None else f"{service['metadata']['namespace']}/{service['metadata']['name']}",
        addresses=_addresses(service),
        servers=tuple(sorted((_server(pod) for pod in pods if _is_core_dns(pod)), key=lambda server: server.name)),
        corefile=None if key is None else f"ConfigMap {'/'.join(key)} Corefile",
        blocks=blocks,
        damaged=damaged,
        node_local=next((_node_local(item) for item in daemonsets if item["metadata"]["name"] in NODE_LOCAL), None),
        unreadable={name: why for name, why in unreadable.items() if name in named or name == SERVICE},
    )


SERVICE = "Services with label k8s-app=kube-dns"


def may_be_of_cloud(version: str) -> bool:
    """Whether a cluster of this version may have Cloud DNS in kube-dns' place: no object of the API says that it has."""
    return "-gke." in version


def parse_corefile(text: str) -> Iterator[ServerBlock]:
    """Yield the server blocks of a Corefile; snippets ``(name) { ... }`` are left out.

    Raises `ValueError` with the line when braces do not close.
    """
    depth, number = 0, 0
    zones: tuple[str, ...] = ()
    plugins: dict[str, tuple[str, ...]] = {}
    options: dict[str, tuple[str, ...]] = {}
    within = ""
    for number, line in enumerate(text.splitlines(), 1):
        words = re.sub(r"(^|\s)#.*", "", line).split()
        if not words:
            continue
        if words[0] == "}":
            depth -= 1
            if depth < 0:
                raise ValueError(f"line {number}: a brace that opens nothing")
            if depth == 0 and not zones[0].startswith("("):
                yield ServerBlock(zones, plugins, options)
            continue
        opens = words[-1] == "{"
        words = words[:-1] if opens else words
        if depth == 0 and opens:
            zones, plugins, options = tuple(word.rstrip(",") for word in words) or (".",), {}, {}
        elif depth == 1 and words:
            within = words[0]
            plugins[within] = tuple(words[1:]) if within in KEPT else ()
        elif depth == 2 and within in KEPT:
            options[within] = (*options.get(within, ()), " ".join(words[:2]) if words[0] == "pods" else words[0])
        depth += opens
    if depth:
        raise ValueError(f"line {number}: a brace does not close")


def _is_core_dns(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is one of CoreDNS that is to answer: one that was evicted stays as an object, and another has taken its place."""
    labels = pod["metadata"].get("labels") or {}
    key, value = LABEL.split("=")
    ended = pod["metadata"].get("deletionTimestamp") or (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")
    return bool(labels.get(key) == value) and not ended


def _server(pod: Mapping[str, Any]) -> DnsServer:
    conditions = {item.get("type"): item.get("status") for item in pod.get("status", {}).get("conditions") or ()}
    return DnsServer(pod["metadata"]["name"], pod["spec"].get("nodeName"), conditions.get("Ready") == "True")


def _addresses(service: Mapping[str, Any] | None) -> tuple[str, ...]:
    spec = {} if service is None else service.get("spec") or {}
    given: Sequence[str] = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    return tuple(address for address in given if address not in ("", "None"))


def _node_local(item: Mapping[str, Any]) -> NodeLocal:
    metadata, status = item["metadata"], item.get("status") or {}
    words = [str(word) for container in item["spec"]["template"]["spec"].get("containers") or () for word in container.get("args") or ()]
    addresses = next((after for word, after in itertools.pairwise(words) if word in ("-localip", "--localip")), "")
    return NodeLocal(
        f"{metadata['namespace']}/{metadata['name']}",
        status.get("desiredNumberScheduled", 0),
        status.get("numberReady", 0),
        tuple(filter(None, addresses.split(","))),
        # So Cilium's examples/kubernetes-local-redirect/node-local-dns.yaml has it: in pods of the pod network, behind the DNS Service.
        makes_device=not any(word.lstrip("-") == "setupinterface=false" for word in words),
    )
