"""Typed views of the ``facts`` document of a node: what judges look at.

The agent writes plain JSON (shapes below, made by `pytest_k8snet/agent/agent.py`, and by `collected.py` from what a shell has read); these
classes give its parts names. A part that could not be read is present with its error, so that a judge can say why and never takes it for an
empty one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Any

from pytest_k8snet.record.activity import Activity
from pytest_k8snet.record.conntrack import ConntrackSettings
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.ipvs import exclude_cidrs, ipvs_setting, sync_period_s
from pytest_k8snet.record.kubelet import Kubelet


@dataclass(frozen=True, slots=True)
class Link:
    """A network device, from ``ip -j -d link``."""

    name: str
    mtu: int
    kind: str | None  # linkinfo.info_kind: vxlan, veth, bridge, ...; None for a physical device
    up: bool
    qdisc: str | None
    master: str | None
    lower: str | None  # the device that a VLAN or macvlan is on

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Link:
        """Read one element of ``ip -j -d link``."""
        return cls(
            name=data["ifname"],
            mtu=data["mtu"],
            kind=data.get("linkinfo", {}).get("info_kind"),
            up="UP" in data.get("flags", []),
            qdisc=data.get("qdisc"),
            master=data.get("master"),
            lower=data.get("link"),
        )


@dataclass(frozen=True, slots=True)
class Route:
    """A route, from ``ip -j route``; `mtu` is the route's own (metrics), else that of its device."""

    dst: str
    dev: str
    mtu: int
    gateway: str | None
    source: str | None


@dataclass(frozen=True, slots=True)
class NetNamespace:
    """One network namespace: the node's own, the probe pod's, or that of a pod that was there before."""

    name: str
    links: tuple[Link, ...]
    routes: tuple[Route, ...]  # of a node's own main table the first ones only
    routes_total: int
    sysctls: Mapping[str, str | None]  # None: the kernel has no such file here
    congestion_control: str | None  # what a fresh TCP socket really uses (getsockopt TCP_CONGESTION; by shell the sysctl)

    def link(self, name: str) -> Link | None:
        """Return the device called `name`."""
        return next((link for link in self.links if link.name == name), None)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], name: str) -> NetNamespace:
        """Read ``{"links": [...], "routes": [...], "sysctls": {...}, "congestion_control": ...}``."""
        links = tuple(Link.from_json(link) for link in data["links"])
        mtu_of = {link.name: link.mtu for link in links}
        routes = tuple(
            Route(
                dst=route["dst"],
                dev=route["dev"],
                mtu=_route_mtu(route) or mtu_of.get(route["dev"], 0),
                gateway=route.get("gateway"),
                source=route.get("prefsrc"),
            )
            for route in data["routes"]
            if "dev" in route
        )
        return cls(
            name=name,
            links=links,
            routes=routes,
            # Those without a device (blackholes) are no ways, and are not counted.
            routes_total=max(data.get("routes_total", 0) - (len(data["routes"]) - len(routes)), len(routes)),
            sysctls=dict(data.get("sysctls", {})),
            congestion_control=data.get("congestion_control"),
        )


@dataclass(frozen=True, slots=True)
class Persisted:
    """One assignment in a sysctl.d file of the node."""

    key: str  # may be a pattern
    value: str | None  # None: patterns leave this key alone
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Clock:
    """What the kernel knows of the quality of its clock."""

    problems: tuple[str, ...]  # unsynchronised, ...
    max_error_us: int


@dataclass(frozen=True, slots=True)
class KubeProxy:
    """What of kube-proxy is seen on the node: its own word, and its processes."""

    mode: str | None  # body of /proxyMode when it answered 200
    mode_error: str | None  # why there is no mode: "connection refused", "HTTP 404", ...
    port: int  # where it was asked for its mode, on loopback: what its configuration names, 10249 by default
    listening: bool  # something accepts connections there
    exclude_cidrs: tuple[str, ...]  # ipvs.excludeCIDRs: virtual servers there are somebody else's
    conntrack: ConntrackSettings | None  # None: it does not tell
    processes: tuple[str, ...]  # "pid 812: /usr/local/bin/kube-proxy --config=..."
    scheduler: str | None  # what it runs with, by /configz; empty is kube-proxy's default, None that it does not tell
    strict_arp: bool | None
    sync_period_s: float  # between two syncs of everything, though nothing has changed
    metrics: Mapping[str, float] | None  # series about syncs, by name and labels; None when they were not read
    metrics_error: str | None
    at_s: float | None  # when metrics were read, by the node's clock, in seconds since 1970
    livez: int | None  # HTTP status of its own /livez: 503 while changes wait for longer than two sync periods; None: it tells nothing

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> KubeProxy:
        """Read the part ``kube_proxy`` of the facts."""
        return cls(
            mode=data["mode"],
            mode_error=data["mode_error"],
            port=data.get("port", 10249),
            listening=data["listening"],
            exclude_cidrs=exclude_cidrs(configz := data.get("configz")),
            conntrack=ConntrackSettings.from_configz(configz),
            processes=tuple(data["processes"]),
            scheduler=ipvs_setting(configz, "scheduler"),
            strict_arp=ipvs_setting(configz, "strictARP"),
            sync_period_s=sync_period_s(configz),
            metrics=data.get("metrics"),
            metrics_error=data.get("metrics_error"),
            at_s=data.get("at_s"),
            livez=data.get("livez"),
        )

    def ask(self, path: str) -> str:
        """Return the command that asks it for what it tells of itself."""
        return f"curl http://127.0.0.1:{self.port}{path}"

    @classmethod
    def from_document(cls, document: Document) -> KubeProxy:
        """Read this part alone of a ``facts`` document: a check of many nodes has no use for the rest.

        Raises `RecordError` as `NodeFacts.from_document` does.
        """
        with document.reading("facts") as data:
            return cls.from_json(data["kube_proxy"])


@dataclass(frozen=True, slots=True)
class Uplink:
    """The device that holds the node's InternalIP, as the kernel and its driver tell it."""

    device: str | None
    speed_mbit: int | None
    duplex: str | None  # full or half
    virtual: str | None  # why the machine is taken for a virtual one, None for bare metal
    mtu: int | None  # bytes; None where no device holds the address
    on_link: tuple[str, ...]  # ranges that it reaches without a gateway
    processors: int | None  # of the node; None in an older recording

    @classmethod
    def from_document(cls, document: Document) -> Uplink:
        """Read this part alone of a ``facts`` document: a check of many nodes has no use for the rest.

        Raises `RecordError` as `NodeFacts.from_document` does.
        """
        with document.reading("facts") as data:
            device = data["uplink"]
            return cls(
                device=device,
                speed_mbit=data.get("uplink_speed_mbit"),
                duplex=data.get("uplink_duplex"),
                virtual=data.get("virtual"),
                mtu=next((link["mtu"] for link in data["host"]["links"] if link["ifname"] == device), None),
                on_link=tuple(
                    route["dst"]
                    for route in data["host"]["routes"]
                    if route.get("dev") == device and not route.get("gateway") and "/" in route["dst"]
                ),
                processors=((data.get("activity") or {}).get("processor") or {}).get("online"),
            )


@dataclass(frozen=True, slots=True)
class Chains:
    """KUBE chains of table nat. Of kinds whose names are hashes (``KUBE-SVC-``) only the first are named, the rest is counted."""

    names: tuple[str, ...]
    more: Mapping[str, int]  # by kind

    def of(self, kinds: tuple[str, ...]) -> Chains:
        """Return those whose names begin with one of `kinds`."""
        return Chains(
            tuple(name for name in self.names if name.startswith(kinds)),
            {kind: count for kind, count in self.more.items() if kind.startswith(kinds)},
        )

    def less(self, others: Chains) -> Chains:
        """Return these without `others`, which are some of them."""
        counts = {kind: count - others.more.get(kind, 0) for kind, count in self.more.items()}
        return Chains(tuple(name for name in self.names if name not in others.names), counts)

    def __len__(self) -> int:
        return len(self.names) + sum(self.more.values())


@dataclass(frozen=True, slots=True)
class IptablesBackend:
    """One iptables back end (``legacy`` or ``nft``): its KUBE- chains in table nat, and which of them a packet can reach."""

    tables: tuple[str, ...]
    chains: Chains  # every KUBE-* chain of table nat
    reachable: Chains  # those that jumps lead to from a base chain
    error: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> IptablesBackend:
        """Read one back end's part of the facts."""
        return cls(
            tables=tuple(data["tables"]),
            chains=Chains(tuple(data["chains"]), dict(data.get("more_chains") or {})),
            reachable=Chains(tuple(data["reachable"]), dict(data.get("more_reachable") or {})),
            error=data.get("error"),
        )


@dataclass(frozen=True, slots=True)
class PeerRoutes:
    """The kernel's routes (``ip -j route get``) to addresses in other nodes' pod ranges, of those peers to which the way is the same.

    The addresses are of one family: where pods have two, a peer is in the routes of each.
    """

    dev: str | None
    error: str | None
    real_pod: bool  # whether the addresses are running pods', or only some of the ranges
    peers: Mapping[str, str]  # node name to the address that was asked for
    gateways: Mapping[str, str | None] = field(default_factory=dict)  # node name to the next hop; None or absent: there is none

    @classmethod
    def from_json(cls, data: Iterable[Mapping[str, Any]]) -> tuple[PeerRoutes, ...]:
        """Read the part ``peer_routes`` of the facts."""
        ways: dict[tuple[Any, ...], dict[str, tuple[str, str | None]]] = {}
        for item in data:
            # Schema 1 has an element for each peer.
            found = {item["peer"]: (item["address"], item.get("gateway"))} if "peer" in item else item["peers"]
            for name, (address, gateway) in found.items():
                peers = ways.setdefault((item["dev"], item.get("error"), item["real_pod"], ":" in address), {})
                peers[name] = (address, gateway)
        return tuple(
            cls(
                dev,
                error,
                real_pod,
                {name: address for name, (address, _) in peers.items()},
                {name: gateway for name, (_, gateway) in peers.items()},
            )
            for (dev, error, real_pod, _), peers in ways.items()
        )


#: Mesh_10_0_0_2, Node_fd00__2, Global_10_0_0_2_port_180: a kind of peer and its address.
_OF_CALICO = re.compile(r"(?:Mesh|Node|Global)_(.+?)(?:_port_\d+)?")


@dataclass(frozen=True, slots=True)
class BgpSession:
    """A BGP session as BIRD or Cilium shows it."""

    name: str
    state: str  # of BIRD: up, start, down; of Cilium: established, active, idle, ...
    info: str  # of BIRD: Established, or what it waits for

    @property
    def peer_address(self) -> str | None:
        """Whom it leads to, where the name has that: so Calico names BIRD's sessions (node/pkg/status/populators/peers.go)."""
        found = _OF_CALICO.fullmatch(self.name)
        if found is None:
            return None
        for separator in ".:":
            with suppress(ValueError):
                return str(ip_address(found[1].replace("_", separator)))
        return None

    @property
    def established(self) -> bool:
        """Whether routes are exchanged."""
        return self.state == "established" or (self.state == "up" and self.info.startswith("Established"))


@dataclass(frozen=True, slots=True)
class Bgp:
    """The BGP sessions of one who speaks it on a node: of a BIRD, or of Cilium's agent."""

    socket: str
    sessions: tuple[BgpSession, ...]
    error: str | None = None  # why there are no sessions: what it was asked for it did not tell

    @property
    def of_cilium(self) -> bool:
        """Whether it is Cilium's agent, which mostly speaks no BGP."""
        return self.socket.endswith("/cilium.sock")

    @property
    def of_calico(self) -> bool:
        """Whether it is one of Calico's two BIRDs."""
        return "/calico/" in self.socket

    @property
    def family(self) -> int:
        """The address family of a BIRD of Calico's: it runs one for each."""
        return 6 if self.socket.endswith("/bird6.ctl") else 4

    @property
    def is_gone(self) -> bool:
        """Whether nobody listens at its socket any more."""
        return self.error is not None and self.error.endswith(("Connection refused", "curl: exit status 7"))

    @property
    def who(self) -> str:
        """Name it."""
        return "Cilium's agent" if self.of_cilium else f"the BIRD at {self.socket}"

    @property
    def wanted(self) -> str:
        """Say in its own words what a session should be."""
        return "established" if self.of_cilium else "up (Established)"

    @property
    def command(self) -> str:
        """Say how a human asks the same."""
        return "cilium-dbg bgp peers" if self.of_cilium else f"birdc -s {self.socket} show protocols"

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None) -> tuple[Bgp, ...]:
        """Read the part ``bgp`` of the facts. Older recordings have one speaker at most."""
        speakers: Sequence[Mapping[str, Any]] = [data] if isinstance(data, Mapping) else data or ()
        return tuple(
            cls(
                item["socket"],
                tuple(BgpSession(session["name"], session["state"], session["info"]) for session in item["sessions"] or ()),
                item.get("error"),
            )
            for item in speakers
        )


@dataclass(frozen=True, slots=True)
class CiliumRouting:
    """How a node's Cilium agent routes to other nodes' pods, by its own word: it runs with what it read at its start."""

    mode: str  # native, tunnel, hybrid
    tunnel: str | None  # vxlan, geneve; None and empty where it does not say, and in mode native nothing follows from it
    path: str  # of its API

    @property
    def described(self) -> str:
        """Say it."""
        return f"{self.mode} ({self.tunnel})" if self.tunnel and self.mode != "native" else self.mode


@dataclass(frozen=True, slots=True)
class Cilium:
    """What a node's Cilium agent says of itself."""

    state: str | None  # Ok, Warning, Failure, Disabled
    message: str
    replacement: str | None  # of kube-proxy: True, False; until 1.13 Strict, Partial, Probe, Disabled. None: it does not say
    routing: CiliumRouting | None = None  # None: it does not say, and in an older recording

    @property
    def replaces_kube_proxy(self) -> bool:
        """Whether it serves everything that kube-proxy would."""
        return (self.replacement or "").lower() in ("true", "strict")

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Cilium | None:
        """Read the part ``cilium`` of the facts."""
        if data is None:
            return None
        routing = CiliumRouting(**data["routing"]) if data.get("routing") else None
        return cls(data["state"], data["message"], data["replacement"], routing)


@dataclass(frozen=True, slots=True)
class RunningNginx:
    """An nginx in a pod, and what its file says before the first server."""

    pod: str  # namespace/name when known, else its uid
    path: str  # of the file
    directives: Mapping[str, str] | None  # None when it could not be read
    upstream: Mapping[str, str] | None  # of upstream_balancer; None where it has none

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunningNginx:
        """Read one element of the part ``nginx`` of the facts."""
        return cls(data["pod"], data["path"], data["directives"], data["upstream"])


def flannel_mtu(text: str | None) -> int | None:
    """Return the MTU (bytes) that flanneld has written for new pods, from the text of /run/flannel/subnet.env."""
    for line in (text or "").splitlines():
        key, _, value = line.partition("=")
        if key == "FLANNEL_MTU" and value.isdecimal():
            return int(value)
    return None


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """A pod's /etc/resolv.conf."""

    nameservers: tuple[str, ...]
    search: tuple[str, ...]
    ndots: int

    @property
    def of_cluster(self) -> bool:
        """Whether it is that of a pod that uses the cluster's names."""
        return any(domain.startswith("svc.") for domain in self.search)

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> ResolvConf | None:
        """Read ``{"nameservers": [...], "search": [...], "ndots": 5}``."""
        return None if data is None else cls(tuple(data["nameservers"]), tuple(data["search"]), data["ndots"])


@dataclass(frozen=True, slots=True)
class ExistingPod:
    """A pod that ran before us, seen from the node through its network namespace."""

    name: str  # namespace/name when known, else its pod uid
    network: NetNamespace
    resolv: ResolvConf | None  # None when it was not read, or has none


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that facts are read with."""

    path: str
    origin: str  # image, or node


@dataclass(frozen=True, slots=True)
class LateFacts:
    """Those facts of a node that the checks which come last ask for: few enough to hold of all nodes, as the rest is not."""

    node: str
    kube_proxy: KubeProxy
    cilium: Cilium | None  # None where it has no socket, and when it could not be asked
    activity: Activity | None  # first reading; None in an older recording
    conntrack: Mapping[str, int | None]  # count, max, buckets
    virtual: str | None  # why the machine is taken for a virtual one, None for bare metal


@dataclass(frozen=True, slots=True)
class NodeFacts(LateFacts):
    """All facts of one node, read in one round trip to its agent and one to the agent in its probe pod."""

    host: NetNamespace
    pod: NetNamespace | None  # the probe pod's network namespace
    pod_error: str | None
    pod_absent: str | None  # why there is none to look into, on purpose: no error then
    existing_pods: tuple[ExistingPod, ...]  # as many as were looked at
    existing_pods_running: int  # as many as there were
    uplink: str | None  # device that holds the node's InternalIP
    physical: tuple[str, ...]  # devices with /sys/class/net/X/device, and the uplink
    persisted: tuple[Persisted, ...]  # in the order in which a boot applies them
    running: Mapping[str, str] | None  # values in force of those keys; None in an older recording
    modules: frozenset[str] | None  # of networks, loaded or built in; None in an older recording
    modules_built_in: bool  # whether there was a list of those that are built in
    clock: Clock | None
    ipvs_loaded: bool  # /proc/net/ip_vs exists
    ipvs_table: str | None  # its text
    iptables: Mapping[str, IptablesBackend]  # legacy, nft
    nft_tables: tuple[str, ...]  # "ip kube-proxy", ...
    nft_error: str | None
    qdiscs: Sequence[Mapping[str, Any]]  # tc -j qdisc show
    neighbours: Mapping[str, int]  # of IPv4, in all network namespaces: entries, table_fulls (since boot); empty when not read
    neighbours_ipv6: Mapping[str, int]  # the same of IPv6
    uplink_speed_mbit: int | None  # /sys/class/net/UPLINK/speed; only bare metal's is believed
    speeds_mbit: Mapping[str, int]  # of devices with hardware that tell one; empty in an older recording
    uplink_duplex: str | None  # full or half
    peer_routes: tuple[PeerRoutes, ...]
    forwarding: Mapping[str, Mapping[str, Sequence[str]]]  # vxlan device that has to be told: next hop to addresses of nodes
    bgp: tuple[Bgp, ...]
    flannel_mtu: int | None  # what flanneld gives new pods; None where there is no flannel
    kubelet: Kubelet | None  # None where no process is one, and when it was not looked for
    kubelet_looked_for: bool
    nginx: tuple[RunningNginx, ...] | None  # in pods of the node; None in an older recording
    kernel: str
    agent: str  # what read them on the node: python, or shell where there is no python3
    tools: Mapping[str, Tool | None]  # by name; None is one that is missing
    errors: Mapping[str, str]  # parts of the node's facts that could not be read: they are empty, and mean nothing
    raw: Mapping[str, Any]

    def late(self) -> LateFacts:
        """Return what is held of all nodes."""
        return LateFacts(**{part.name: getattr(self, part.name) for part in fields(LateFacts)})

    def at_boot(self, key: str) -> Persisted | None:
        """Return the assignment that decides a sysctl's value at the next boot, None when no file speaks of it.

        The last one counts. Patterns leave alone what is assigned by its own name, and what a file excludes (sysctl.d(5)).
        """
        own = [item for item in self.persisted if key in (item.key, item.key.replace("/", "."))]
        if own:
            return next((item for item in reversed(own) if item.value is not None), None)
        return next((item for item in reversed(self.persisted) if item.value is not None and _matches(key, item.key)), None)

    @property
    def bridges_pods(self) -> bool:
        """Whether a bridge of the node has veth devices, and so pods, for ports."""
        bridges = {link.name for link in self.host.links if link.kind == "bridge"}
        return any(link.kind == "veth" and link.master in bridges for link in self.host.links)

    def hardware_below(self, device: str) -> list[str]:
        """Return the hardware that packets to `device` leave by when it only stands for other devices, nothing when it does not.

        Of a bridge of Open vSwitch (OpenShift's br-ex) the kernel does not tell the ports: all bridges' have one master. One alone is it.
        """
        link = self.host.link(device)
        by_ovs = link is not None and link.kind == "openvswitch"
        master = "ovs-system" if by_ovs else device
        below = [member.name for member in self.host.links if member.master == master and not (by_ovs and member.kind == "openvswitch")]
        if link is not None and link.lower is not None and link.kind in ("vlan", "macvlan", "ipvlan"):
            below.append(link.lower)
        found = [self.hardware_below(name) or ([name] if name in self.physical else []) for name in below]
        if by_ovs and sum(bool(names) for names in found) != 1:
            return []
        return sorted({name for names in found for name in names})

    def path_speed(self) -> tuple[int, str] | None:
        """Return the speed (Mbit/s) of the way to one other node, and which device has it; None where it is not known.

        A bond has the speed of all its devices (drivers/net/bonding/bond_main.c, bond_ethtool_get_link_ksettings), and packets of two nodes
        go by one of them, as long as it chooses by addresses; a bridge has that of its quickest port, which may be a pod's
        (net/bridge/br_device.c, br_get_link_ksettings).
        """
        if self.uplink is None:
            return None
        below = self.hardware_below(self.uplink)
        if not below:
            return (self.uplink_speed_mbit, self.uplink) if self.uplink_speed_mbit and self.uplink_speed_mbit > 0 else None
        if any(name not in self.speeds_mbit for name in below):
            return None
        name = min(below, key=lambda name: (self.speeds_mbit[name], name))
        return self.speeds_mbit[name], f"{name} below {self.uplink}"

    def why(self, part: str) -> str:
        """Return ``: reason`` when a part of the facts could not be read, nothing when it was."""
        return f": {self.errors[part]}" if part in self.errors else ""

    @classmethod
    def from_document(cls, document: Document) -> NodeFacts:
        """Read the typed view of a ``facts`` document.

        Raises `RecordError` with the recorded reason when the facts could not be taken, and when the document is not one of facts.
        """
        with document.reading("facts") as data:
            pod = data.get("pod")
            return cls(
                node=document.subject,
                host=NetNamespace.from_json(data["host"], document.subject),
                pod=NetNamespace.from_json(pod, pod["name"]) if pod else None,
                pod_error=data.get("pod_error"),
                pod_absent=data.get("pod_absent"),
                existing_pods=tuple(
                    ExistingPod(item["name"], NetNamespace.from_json(item, item["name"]), ResolvConf.from_json(item.get("resolv")))
                    for item in data["existing_pods"]
                ),
                existing_pods_running=max(data.get("existing_pods_running", 0), len(data["existing_pods"])),
                uplink=data["uplink"],
                physical=tuple(data["physical"]),
                persisted=tuple(Persisted(**item) for item in data["persisted"]),
                running=data.get("running"),
                modules=frozenset(data["modules"]) if "modules" in data else None,
                modules_built_in=data.get("modules_built_in", True),
                activity=Activity.from_json(data["activity"]) if "activity" in data else None,
                clock=Clock(tuple(data["clock"]["problems"]), data["clock"]["max_error_us"]) if data.get("clock") else None,
                kube_proxy=KubeProxy.from_json(data["kube_proxy"]),
                ipvs_loaded=data["ipvs"]["loaded"],
                ipvs_table=data["ipvs"]["table"],
                iptables={name: IptablesBackend.from_json(item) for name, item in data["iptables"].items()},
                nft_tables=tuple(data["nft"]["tables"]),
                nft_error=data["nft"].get("error"),
                qdiscs=tuple(data["qdiscs"]),
                conntrack=dict(data["conntrack"]),
                neighbours=dict(data.get("neighbours") or {}),
                neighbours_ipv6=dict(data.get("neighbours_ipv6") or {}),
                uplink_speed_mbit=data.get("uplink_speed_mbit"),
                speeds_mbit=dict(data.get("speeds_mbit") or {}),
                uplink_duplex=data.get("uplink_duplex"),
                virtual=data.get("virtual"),
                peer_routes=PeerRoutes.from_json(data["peer_routes"]),
                forwarding=dict(data.get("forwarding") or {}),
                bgp=Bgp.from_json(data.get("bgp")),
                flannel_mtu=flannel_mtu(data.get("flannel")),
                cilium=Cilium.from_json(data.get("cilium")),
                kubelet=None if data.get("kubelet") is None else Kubelet.from_json(data["kubelet"]),
                kubelet_looked_for="kubelet" in data,
                nginx=tuple(map(RunningNginx.from_json, data["nginx"])) if "nginx" in data else None,
                kernel=data["kernel"],
                agent=data.get("agent", "python"),
                tools={
                    name: None if item == "missing" else Tool(item["path"], item["from"]) for name, item in data.get("tools", {}).items()
                },
                errors=dict(data.get("errors") or {}),
                raw=data,
            )


def _matches(key: str, pattern: str) -> bool:
    """Whether a pattern of sysctl.d means a key: as in paths a wildcard stays within its part."""
    parts, patterns = key.split("."), pattern.split(".")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _route_mtu(route: Mapping[str, Any]) -> int | None:
    for metrics in route.get("metrics", []):
        if "mtu" in metrics:
            return int(metrics["mtu"])
    return None
