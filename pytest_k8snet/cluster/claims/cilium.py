"""Cilium: its ConfigMap, which the agent reads when it starts, and CiliumNode, which says what each node has been given."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_k8snet.cluster.admission import selects
from pytest_k8snet.cluster.claims.objects import Found, Objects, Resource
from pytest_k8snet.cluster.claims.parsing import bytes_of, is_true, items, section
from pytest_k8snet.cluster.model import Claim

NAME = "cilium"
DAEMONSETS = ("cilium", "anetd")  # anetd is GKE Dataplane V2's
NAMESPACE = "kube-system"
CONFIG = "cilium-config"
CONFIG_MAPS = (CONFIG,)
NODE = Resource("CiliumNode", "ciliumnodes", (("cilium.io", "v2"),))
NODE_CONFIG = Resource("CiliumNodeConfig", "ciliumnodeconfigs", (("cilium.io", "v2"), ("cilium.io", "v2alpha1")))
RESOURCES = (NODE, NODE_CONFIG)

ROUTING_MODES = ("native", "tunnel", "hybrid")
TUNNELS = ("vxlan", "geneve")
REPLACEMENTS = ("true", "false", "strict", "partial", "probe", "disabled")  # all but the first two until 1.14
_FLAGS = ("--routing-mode", "--tunnel")
OVERHEAD_BYTES = 50  # of either tunnel over IPv4
#: In native mode a tunnel leads to an egress gateway as well, and pods have its MTU (pkg/egressgateway/manager.go, tunnel.NewEnabler).
EGRESS_GATEWAY = ("enable-egress-gateway", "enable-ipv4-egress-gateway", "enable-ipv4-egress-gateway-ha")


def read(objects: Objects, found: Found) -> None:
    """Read encapsulation, MTU, devices; `node_claims` has what is otherwise on some nodes."""
    for source, data in objects.maps(*CONFIG_MAPS):
        read_settings(data, source, found)
    if _told_by_flags(objects):
        found.claims.pop("cilium.routing", None)
    for item in objects.of(NODE_CONFIG):
        overridden = sorted(section(item, "spec", "defaults"))
        if overridden:
            labels = section(item, "spec", "nodeSelector", "matchLabels")
            which = ", ".join(f"{key}={value}" for key, value in labels.items()) or "a selector"
            found.claim(
                f"cilium.node_config.{item['metadata']['name']}",
                ", ".join(overridden),
                f"CiliumNodeConfig {item['metadata']['name']} for nodes with {which}",
            )


def read_settings(data: Mapping[str, str], source: str, found: Found) -> None:
    """Read the settings of one ConfigMap, or what an object puts over them."""
    tunnel = _tunnel(data, source, found)
    whole = any(is_true(data.get(key)) for key in ("enable-wireguard", "enable-ipsec"))
    encrypted = whole or is_true(data.get("enable-ztunnel"))  # which encrypts for those who ask for it
    # What is encrypted is inside another packet as well, but no route shows it: Cilium's programs redirect it. Of a tunnel nothing is seen
    # either: WireGuard goes in its place or around it, and ESP hides what it is in (cilium#29000, encryption-ipsec.rst).
    if tunnel is not None and not (whole or (encrypted and tunnel[0] == "none")):
        found.encapsulate(*tunnel)
    for key, kind in (("enable-wireguard", "wireguard"), ("enable-ipsec", "ipsec")):
        if is_true(data.get(key)):
            found.claim("encrypted", kind, f"{source} {key}")
    if tunnel is not None:
        mode = {"Never": "native", "Always": f"tunnel {tunnel[0]}", "CrossSubnet": f"hybrid {tunnel[0]}"}[tunnel[1]]
        found.claim("cilium.routing", mode, tunnel[2])
    if mtu := data.get("mtu"):
        of_device = bytes_of(mtu, f"{source} mtu")
        if tunnel is not None and not encrypted:
            gateway = next((key for key in EGRESS_GATEWAY if is_true(data.get(key))), None)
            less = 0 if tunnel[0] == "none" and gateway is None else OVERHEAD_BYTES
            by = f"{gateway}'s tunnel" if tunnel[0] == "none" else tunnel[0]
            told = f"{source} mtu" + (f" less {less} bytes of {by}" if less else "")
            found.claim("mtu.pod", of_device - less, told)
    if is_true(data.get("enable-bgp-control-plane")):
        found.claim("bgp", "peers", f"{source} enable-bgp-control-plane")
    if devices := data.get("devices"):
        found.claim("cilium.devices", " ".join(devices.split()), f"{source} devices")


def _told_by_flags(objects: Objects) -> bool:
    """Whether the agent's own arguments, which win over the ConfigMap, tell how to route."""
    item = objects.daemonset(*DAEMONSETS)
    containers = [] if item is None else items(item, "spec", "template", "spec", "containers")
    words = [str(word) for container in containers for key in ("command", "args") for word in container.get(key) or ()]
    return any(word.startswith(_FLAGS) for word in words)


def _tunnel(data: Mapping[str, str], source: str, found: Found) -> tuple[str, str, str] | None:
    """Return tunnel, scope and where that is said. The chart writes tunnel-protocol in native mode as well."""
    mode, protocol = data.get("routing-mode"), data.get("tunnel-protocol") or "vxlan"
    if mode is None and "tunnel" in data:  # until 1.14
        kind = data["tunnel"]
        if kind not in (*TUNNELS, "disabled"):
            found.mistake(f"{source} tunnel", kind, (*TUNNELS, "disabled"))
            return None
        return ("none", "Never", f"{source} tunnel") if kind == "disabled" else (kind, "Always", f"{source} tunnel")
    if protocol not in TUNNELS:
        found.mistake(f"{source} tunnel-protocol", protocol, TUNNELS)
        return None
    if mode == "native":
        return "none", "Never", f"{source} routing-mode"
    if mode in ("tunnel", "hybrid"):
        return protocol, "Always" if mode == "tunnel" else "CrossSubnet", f"{source} tunnel-protocol"
    if mode is not None:
        found.mistake(f"{source} routing-mode", mode, ROUTING_MODES)
    return None


def replaces_kube_proxy(objects: Objects, found: Found) -> str | None:
    """Return which setting has Cilium replace all of kube-proxy."""
    for source, data in objects.maps(*CONFIG_MAPS):
        value = data.get("kube-proxy-replacement")
        if value in ("true", "strict"):
            return f"{source} kube-proxy-replacement"
        if value is not None and value not in REPLACEMENTS:
            found.mistake(f"{source} kube-proxy-replacement", value, REPLACEMENTS[:2])
    return None


def node_claims(objects: Objects) -> dict[str, dict[str, Claim]]:
    """Return by node what CiliumNodeConfigs put over the ConfigMap there; of several the last one by name counts."""
    whole = next(iter(objects.maps(*CONFIG_MAPS)), None)
    overrides = sorted(objects.of(NODE_CONFIG), key=lambda item: str(item["metadata"]["name"]))
    found: dict[str, dict[str, Claim]] = {}
    for node in objects.nodes if whole is not None and overrides else ():
        labels = node["metadata"].get("labels") or {}
        source, data = whole or ("", {})
        everywhere, here = Found(), Found()
        read_settings(data, source, everywhere)
        names = []
        for item in overrides:
            if selects(section(item, "spec").get("nodeSelector"), labels):
                data = {**data, **{str(key): str(value) for key, value in section(item, "spec", "defaults").items()}}
                names.append(item["metadata"]["name"])
        read_settings(data, f"CiliumNodeConfig {', '.join(names)} over {source}", here)
        differing = {key: claim for key, claim in here.claims.items() if everywhere.claims.get(key, Claim(None, "")).value != claim.value}
        gone = {key: Claim(None, f"CiliumNodeConfig {', '.join(names)}") for key in everywhere.claims.keys() - here.claims.keys()}
        if differing or gone:
            found[node["metadata"]["name"]] = differing | gone
    return found


def pod_cidrs(objects: Objects) -> dict[str, tuple[str, ...]]:
    """Return the pod ranges that Cilium has given to nodes: with its own IPAM those of Node objects mean nothing."""
    found = {}
    for item in objects.of(NODE):
        ranges = section(item, "spec", "ipam").get("podCIDRs")
        if isinstance(ranges, list) and ranges:
            found[item["metadata"]["name"]] = tuple(map(str, ranges))
    return found
