"""What the cluster says of itself, from the configuration objects of kube-proxy and the CNI. A claim is not yet a truth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from pytest_k8snet.cluster.model import Claim
from pytest_k8snet.errors import ClusterError

ConfigMaps = Mapping[tuple[str, str], Mapping[str, str]]  # (namespace, name) to data

LAB_NETWORK = ("kube-system", "k8snet-lab-network")
KUBE_PROXY = ("kube-system", "kube-proxy")  # kubeadm, kind: key config.conf
KUBE_PROXY_EKS = ("kube-system", "kube-proxy-config")  # key config
CILIUM = ("kube-system", "cilium-config")
FLANNEL_CONFIG = "kube-flannel-cfg"  # in the namespace of its DaemonSet

# DaemonSets that say which CNI a cluster runs.
CNI_DAEMONSETS = {
    "calico-node": "calico",
    "canal": "canal",
    "cilium": "cilium",
    "kube-flannel-ds": "flannel",
    "kube-flannel": "flannel",
    "antrea-agent": "antrea",
    "aws-node": "aws-vpc-cni",
    "kube-router": "kube-router",
    "ovnkube-node": "ovn-kubernetes",
    "weave-net": "weave",
}
FLANNEL_BACKENDS = {"vxlan": "vxlan", "host-gw": "none", "ipip": "ipip", "wireguard": "wireguard"}


def recognise_cni(daemonsets: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the CNI whose DaemonSet the cluster has, None when none is known."""
    for item in daemonsets:
        if item["metadata"]["name"] in CNI_DAEMONSETS:
            return CNI_DAEMONSETS[item["metadata"]["name"]]
    return None


def wanted_config_maps(daemonsets: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Return which ConfigMaps may hold claims."""
    flannel = tuple(
        (item["metadata"]["namespace"], FLANNEL_CONFIG) for item in daemonsets if item["metadata"]["name"].startswith("kube-flannel")
    )
    return (LAB_NETWORK, KUBE_PROXY, KUBE_PROXY_EKS, CILIUM, *flannel)


def read_claims(maps: ConfigMaps, daemonsets: Sequence[Mapping[str, Any]], proxies: Sequence[Mapping[str, Any]]) -> dict[str, Claim]:
    """Return all claims. Keys: proxy.mode, proxy.scheduler, proxy.strict_arp, encapsulation, mtu.pod, mtu.uplink, mtu.tunnel."""
    return {**proxy_claims(maps, daemonsets, proxies), **network_claims(maps)}


def proxy_claims(maps: ConfigMaps, daemonsets: Sequence[Mapping[str, Any]], proxies: Sequence[Mapping[str, Any]]) -> dict[str, Claim]:
    """Return kube-proxy's claims. Its ConfigMap often outlives it and claims nothing where nothing of kube-proxy is scheduled."""
    if not any(proxy["desired"] or proxy["pods"] for proxy in proxies):
        if _is_true(maps.get(CILIUM, {}).get("kube-proxy-replacement")):
            return {"proxy.mode": Claim("none", "ConfigMap kube-system/cilium-config kube-proxy-replacement")}
        if proxies:
            proxy = proxies[0]
            return {"proxy.mode": Claim("none", f"DaemonSet {proxy['namespace']}/{proxy['name']} wants 0 pods")}
        return {}
    for key, entry in ((KUBE_PROXY, "config.conf"), (KUBE_PROXY_EKS, "config")):
        text = maps.get(key, {}).get(entry)
        if text is not None:
            return _from_configuration(text, f"ConfigMap {key[0]}/{key[1]} {entry}")
    return _from_flags(daemonsets, {(proxy["namespace"], proxy["name"]) for proxy in proxies})


def network_claims(maps: ConfigMaps) -> dict[str, Claim]:
    """Return what the CNI claims of encapsulation and MTU."""
    found: dict[str, Claim] = {}
    text = maps.get(LAB_NETWORK, {}).get("network.json")
    if text is not None:
        source = "ConfigMap kube-system/k8snet-lab-network network.json"
        network = _json(text, source)
        if "encapsulation" in network:
            found["encapsulation"] = Claim(network["encapsulation"], f"{source} encapsulation")
        for key, value in _section(network, "mtu").items():
            if value:
                found[f"mtu.{key}"] = Claim(_mtu(value, f"{source} mtu.{key}"), f"{source} mtu.{key}")
        return found
    for (namespace, name), data in maps.items():
        if name == FLANNEL_CONFIG and "net-conf.json" in data:
            source = f"ConfigMap {namespace}/{name} net-conf.json"
            backend = _section(_json(data["net-conf.json"], source), "Backend")
            kind = FLANNEL_BACKENDS.get(str(backend.get("Type")))
            # With DirectRouting it depends on the pair of nodes.
            if kind is not None and not backend.get("DirectRouting"):
                found["encapsulation"] = Claim(kind, f"{source} Backend.Type")
            # It is the underlay's MTU; device and pods get what VXLAN leaves of it (pkg/backend/vxlan: device.go, vxlan_network.go).
            if kind == "vxlan" and backend.get("MTU"):
                claim = Claim(_mtu(backend["MTU"], f"{source} Backend.MTU") - 50, f"{source} Backend.MTU less VXLAN's 50 bytes")
                found["mtu.pod"] = found["mtu.tunnel"] = claim
    cilium = maps.get(CILIUM, {})
    encrypted = any(_is_true(cilium.get(key)) for key in ("enable-wireguard", "enable-ipsec", "enable-ztunnel"))
    # What is encrypted is inside another packet as well, but no route shows it: Cilium's programs redirect it.
    if cilium.get("routing-mode") == "native" and not encrypted:
        found["encapsulation"] = Claim("none", "ConfigMap kube-system/cilium-config routing-mode")
    elif cilium.get("routing-mode") == "tunnel" and cilium.get("tunnel-protocol"):
        found["encapsulation"] = Claim(cilium["tunnel-protocol"], "ConfigMap kube-system/cilium-config tunnel-protocol")
    return found


def _from_configuration(text: str, source: str) -> dict[str, Claim]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # Not the parser's own message: it quotes the line, which may hold a secret.
        mark = getattr(error, "problem_mark", None)
        raise ClusterError(f"{source}: not YAML" + (f" (line {mark.line + 1})" if mark else "")) from None
    except (ValueError, RecursionError):
        raise ClusterError(f"{source}: not YAML") from None
    if not isinstance(data, dict):
        raise ClusterError(f"{source}: not a KubeProxyConfiguration")
    mode = data.get("mode")
    found = {"proxy.mode": Claim(mode, f"{source} mode") if mode else Claim("iptables", f"{source} mode (empty means iptables)")}
    if mode == "ipvs":
        ipvs = _section(data, "ipvs")
        scheduler = ipvs.get("scheduler")
        found["proxy.scheduler"] = (
            Claim(scheduler, f"{source} ipvs.scheduler") if scheduler else Claim("rr", f"{source} ipvs.scheduler (empty means rr)")
        )
        if isinstance(ipvs.get("strictARP"), bool):
            found["proxy.strict_arp"] = Claim(ipvs["strictARP"], f"{source} ipvs.strictARP")
    return found


def _from_flags(daemonsets: Iterable[Mapping[str, Any]], proxies: set[tuple[str, str]]) -> dict[str, Claim]:
    """Read flags on the command line; they count only without --config."""
    for item in daemonsets:
        key = (item["metadata"]["namespace"], item["metadata"]["name"])
        if key not in proxies:
            continue
        for container in item["spec"]["template"]["spec"].get("containers") or ():
            words = [*(container.get("command") or ()), *(container.get("args") or ())]
            flags = dict(word.lstrip("-").split("=", 1) for word in words if word.startswith("--") and "=" in word)
            if "proxy-mode" in flags and "config" not in flags:
                return {"proxy.mode": Claim(flags["proxy-mode"], f"DaemonSet {key[0]}/{key[1]} --proxy-mode")}
    return {}


def _json(text: str, source: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ClusterError(f"{source}: not JSON: {error}") from error
    except RecursionError:
        raise ClusterError(f"{source}: not JSON") from None
    if not isinstance(data, dict):
        raise ClusterError(f"{source}: not an object")
    return data


def _section(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a mapping within another; an empty one where something else, or nothing, is."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _mtu(value: object, source: str) -> int:
    if isinstance(value, int | str) and str(value).isdecimal():
        return int(value)
    raise ClusterError(f"{source}: not a number of bytes")


def _is_true(value: str | None) -> bool:
    return value in ("true", "strict")
