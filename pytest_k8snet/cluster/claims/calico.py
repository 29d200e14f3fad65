"""Calico: the operator's Installation, pools of addresses, Felix' and BGP's configuration, or the environment of a manifest install.

A pool is what is in force; the operator's Installation and the environment only make the first one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_k8snet.cluster.claims.objects import Found, Objects, Resource
from pytest_k8snet.cluster.claims.parsing import bytes_of, containers, environment, is_true, items, name_of, section
from pytest_k8snet.cluster.model import parsed_address

NAME = "calico"
DAEMONSETS = ("calico-node",)
NAMESPACE = "kube-system"
CONFIG_MAPS = ("calico-config",)

# Native CRDs (since 3.32) and the aggregated API server both serve v3; before them there is only the older group.
_GROUPS = (("projectcalico.org", "v3"), ("crd.projectcalico.org", "v1"))
INSTALLATION = Resource("Installation", "installations", (("operator.tigera.io", "v1"),))
IP_POOL = Resource("IPPool", "ippools", _GROUPS)
FELIX = Resource("FelixConfiguration", "felixconfigurations", _GROUPS)
BGP = Resource("BGPConfiguration", "bgpconfigurations", _GROUPS)
NODE_STATUS = Resource("CalicoNodeStatus", "caliconodestatuses", _GROUPS)  # see pytest_k8snet.cluster.bgp_status
RESOURCES = (INSTALLATION, IP_POOL, FELIX, BGP, NODE_STATUS)

#: Installation's encapsulation: device and scope (operator.tigera.io_installations.yaml).
ENCAPSULATIONS = {
    "IPIP": ("ipip", "Always"),
    "IPIPCrossSubnet": ("ipip", "CrossSubnet"),
    "VXLAN": ("vxlan", "Always"),
    "VXLANCrossSubnet": ("vxlan", "CrossSubnet"),
    "None": ("none", "Never"),
}
#: IPPool's ipipMode and vxlanMode (projectcalico/v3/ippool.go); an empty one is Never.
POOL_MODES = ("Always", "CrossSubnet", "Never")
#: Words that users take from the one API to the other, and older ones: what they mean.
_MEANT = {
    "never": "Never",
    "none": "Never",
    "off": "Never",
    "always": "Always",
    "crosssubnet": "CrossSubnet",
    "cross-subnet": "CrossSubnet",
}

#: What calico-node writes to Node objects (libcalico-go/lib/backend/k8s/resources/node.go).
_BGP_ADDRESSES = ("projectcalico.org/IPv4Address", "projectcalico.org/IPv6Address")
_REFLECTOR = "projectcalico.org/RouteReflectorClusterID"

Scoped = tuple[str, str, str]  # device, scope, source


def read(objects: Objects, found: Found) -> None:
    """Read encapsulation, MTU and BGP."""
    installations, felix = objects.of(INSTALLATION), objects.of(FELIX)
    of_pools = [way for pool in objects.of(IP_POOL) if (way := _pool(pool, found)) is not None]
    of_installation = [way for item in installations for way in _installed(item, found)]
    node = objects.daemonset(*DAEMONSETS)
    _encapsulation(of_pools or of_installation or [way for way in [node and _by_environment(node, found)] if way], found)
    if "encapsulation" not in found.claims and "encapsulation.cross_subnet" not in found.claims and (why := objects.why_unknown("IPPool")):
        found.unknown("encapsulation", why)
    for item in felix:
        _felix(item, found)
    _mtu(objects, installations, found)
    _bgp(objects, installations, found)


def _pool(pool: Mapping[str, Any], found: Found) -> Scoped | None:
    """Return what a pool does with packets; None when no pods get addresses of it."""
    spec = section(pool, "spec")
    uses = spec.get("allowedUses") or ["Workload", "Tunnel"]
    if spec.get("disabled") or "Workload" not in uses:
        return None
    scoped = ("none", "Never", f"IPPool {name_of(pool)} spec.ipipMode and spec.vxlanMode")
    for kind in ("ipip", "vxlan"):
        source = f"IPPool {name_of(pool)} spec.{kind}Mode"
        mode = _mode(spec.get(f"{kind}Mode") or "Never", source, found)
        if mode in ("Always", "CrossSubnet"):
            scoped = (kind, mode, source)
    return scoped


def _mode(value: str, source: str, found: Found) -> str | None:
    """Return a mode of a pool: a word that is only meant to be one is told, and taken for what it means."""
    if value in POOL_MODES:
        return value
    meant = _MEANT.get(str(value).lower())
    found.mistake(source, value, POOL_MODES, f" (taken for {meant})" if meant else "")
    return meant


def _installed(item: Mapping[str, Any], found: Found) -> list[Scoped]:
    scoped = []
    for number, pool in enumerate(items(item, "spec", "calicoNetwork", "ipPools")):
        source = f"Installation {name_of(item)} spec.calicoNetwork.ipPools[{number}].encapsulation"
        value = pool.get("encapsulation") or "IPIP"  # the default
        if value not in ENCAPSULATIONS:
            meant = "None" if _MEANT.get(str(value).lower()) == "Never" else None
            found.mistake(source, value, tuple(ENCAPSULATIONS), f" (Never is IPPool's word; taken for {meant})" if meant else "")
            if meant is None:
                continue
            value = meant
        scoped.append((*ENCAPSULATIONS[value], source))
    return scoped


def _by_environment(node: Mapping[str, Any], found: Found) -> Scoped | None:
    """Return what a manifest install makes its first pool of; nothing is encapsulated where neither is set (startup.go).

    None where that says nothing: there is no first pool, or the pools are in an etcd, where others put them (kubespray) as they like.
    """
    given = environment(node)
    if is_true(given.get("NO_DEFAULT_POOLS")):
        found.unknown("encapsulation", f"DaemonSet {name_of(node)} NO_DEFAULT_POOLS: no IPPool is known")
        return None
    source = f"DaemonSet {name_of(node)} CALICO_IPV4POOL_IPIP and CALICO_IPV4POOL_VXLAN"
    for kind in ("ipip", "vxlan"):
        value = given.get(name := f"CALICO_IPV4POOL_{kind.upper()}", "")
        if not value:
            continue
        mode = _MEANT.get(value.lower())
        if mode is None:
            found.mistake(f"DaemonSet {name_of(node)} {name}", value, POOL_MODES)
        elif mode != "Never":
            return kind, mode, f"DaemonSet {name_of(node)} {name}"
    if any(entry.get("name") == "ETCD_ENDPOINTS" for container in containers(node) for entry in items(container, "env")):
        found.unknown("encapsulation", f"DaemonSet {name_of(node)} ETCD_ENDPOINTS: IPPools are in an etcd that is not read")
        return None
    return "none", "Never", source


def _encapsulation(scoped: Sequence[Scoped], found: Found) -> None:
    """Claim what all pools have in common. Of different ones each packet meets another."""
    ways = {(kind, scope): source for kind, scope, source in reversed(scoped)}
    if len(ways) == 1:
        ((kind, scope), source) = next(iter(ways.items()))
        found.encapsulate(kind, scope, source)
    elif ways:
        told = "; ".join(f"{kind} {scope} ({source})" for (kind, scope), source in sorted(ways.items()))
        found.unknown("encapsulation", f"pools differ: {told}")


def _felix(item: Mapping[str, Any], found: Found) -> None:
    spec, source = section(item, "spec"), f"FelixConfiguration {name_of(item)}"
    if item["metadata"]["name"] != "default":
        return  # of one node
    if spec.get("wireguardEnabled"):
        found.claims.pop("encapsulation.cross_subnet", None)
        found.claim("encapsulation", "wireguard", f"{source} spec.wireguardEnabled")
    device = found.claims.get("encapsulation") or found.claims.get("encapsulation.cross_subnet")
    key = {"ipip": "ipipMTU", "vxlan": "vxlanMTU", "wireguard": "wireguardMTU"}.get(str(device.value)) if device else None
    if key is not None and spec.get(key):
        found.claim("mtu.tunnel", bytes_of(spec[key], f"{source} spec.{key}"), f"{source} spec.{key}")


def _mtu(objects: Objects, installations: Sequence[Mapping[str, Any]], found: Found) -> None:
    for item in installations:
        if mtu := section(item, "spec", "calicoNetwork").get("mtu"):
            source = f"Installation {name_of(item)} spec.calicoNetwork.mtu"
            found.claim("mtu.pod", bytes_of(mtu, source), source)
    for source, data in objects.maps(*CONFIG_MAPS):
        if (mtu := data.get("veth_mtu", "0")) != "0":  # 0 is found out by Felix
            found.claim("mtu.pod", bytes_of(mtu, f"{source} veth_mtu"), f"{source} veth_mtu")


def _bgp(objects: Objects, installations: Sequence[Mapping[str, Any]], found: Found) -> None:
    """Claim whether routes are told by BGP (``mesh`` between all nodes, ``peers`` otherwise) or not (``none``)."""
    claimed: tuple[bool, str] | None = None
    for source, data in objects.maps(*CONFIG_MAPS):
        if backend := data.get("calico_backend"):
            claimed = (backend == "bird", f"{source} calico_backend")
            if backend not in (known := ("bird", "vxlan", "none")):
                found.mistake(f"{source} calico_backend", backend, known)
    for item in installations:
        source = f"Installation {name_of(item)} spec.calicoNetwork.bgp"
        value = section(item, "spec", "calicoNetwork").get("bgp")
        if value not in (None, "Enabled", "Disabled"):
            found.mistake(source, value, ("Enabled", "Disabled"))
        elif value is not None:
            claimed = (value == "Enabled", source)
    if claimed is None:
        return
    enabled, source = claimed
    mesh = next((item for item in objects.of(BGP) if item["metadata"]["name"] == "default"), None)
    if enabled and mesh is not None and section(mesh, "spec").get("nodeToNodeMeshEnabled") is False:
        found.claim("bgp", "peers", f"BGPConfiguration {name_of(mesh)} spec.nodeToNodeMeshEnabled")
    elif enabled and (why := objects.why_unknown("BGPConfiguration")):
        found.unknown("bgp", why)
    else:
        found.claim("bgp", "mesh" if enabled else "none", source)


def bgp_addresses(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses by which other nodes know a node of the mesh, by its annotations: with etcd as Calico's store there are none."""
    addresses = (annotations.get(key, "").partition("/")[0] for key in _BGP_ADDRESSES)
    return tuple(str(parsed) for address in addresses if (parsed := parsed_address(address)) is not None)


def is_route_reflector(annotations: Mapping[str, str]) -> bool:
    """Whether a node reflects routes: it is in no mesh, whatever the configuration says (bird.cfg.template)."""
    return bool(annotations.get(_REFLECTOR))


def replaces_kube_proxy(objects: Objects, found: Found) -> str | None:
    """Return which setting has Felix' BPF programs serve Services."""
    del found
    for item in objects.of(FELIX):
        if item["metadata"]["name"] == "default" and is_true(section(item, "spec").get("bpfEnabled")):
            return f"FelixConfiguration {name_of(item)} spec.bpfEnabled"
    return None
