"""kube-proxy's configuration, wherever distributions keep it.

A ConfigMap (kubeadm, kind, k0s, EKS, OpenShift), one that the DaemonSet alone knows the name of (Talos, Gardener), flags of a DaemonSet
(AKS, older Talos) or of static pods (RKE2, GKE), and k3s' own arguments, in which kube-proxy is no pod at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from posixpath import split
from typing import Any

from pytest_k8snet.cluster.claims.objects import Found, Objects
from pytest_k8snet.cluster.claims.parsing import (
    NODE_ARGUMENTS,
    arguments,
    containers,
    flags,
    is_true,
    items,
    name_of,
    read_yaml,
    section,
    words,
)

KUBEADM = ("kube-system", "kube-proxy")  # kind and k0s too
EKS = ("kube-system", "kube-proxy-config")
OPENSHIFT = ("openshift-kube-proxy", "proxy-config")
#: ConfigMap to its key.
CONFIGURATIONS = {KUBEADM: "config.conf", EKS: "config", OPENSHIFT: "kube-proxy-config.yaml"}

MODES = ("iptables", "ipvs", "nftables")

Entry = tuple[tuple[str, str], str]  # a ConfigMap, and a key in it


def read(objects: Objects, found: Found) -> None:
    """Read mode, scheduler and strict ARP. A ConfigMap often outlives kube-proxy and claims nothing where nothing of it is scheduled."""
    if any(proxy["desired"] or proxy["pods"] for proxy in objects.proxies):
        named = {(proxy["namespace"], proxy["name"]) for proxy in objects.proxies if proxy["desired"]}
        if _from_mounted(objects, mounted(item for item in objects.daemonsets if _key(item) in named), found):
            return
        for key, entry in CONFIGURATIONS.items():
            text = objects.config_maps.get(key, {}).get(entry)
            if text is not None:
                _from_configuration(text, f"ConfigMap {'/'.join(key)} {entry}", found)
                return
        _from_flags(objects, found)
    elif not _from_k3s(objects.nodes, found) and objects.proxies:
        proxy = objects.proxies[0]
        found.claim("proxy.mode", "none", f"DaemonSet {proxy['namespace']}/{proxy['name']} wants 0 pods")


def mounted(daemonsets: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Return which entries of ConfigMaps kube-proxy's ``--config`` is, by what is mounted there: Talos and Gardener give it a hash."""
    found: dict[Entry, None] = {}
    for item in daemonsets:
        volumes = {volume.get("name"): section(volume, "configMap") for volume in items(item, "spec", "template", "spec", "volumes")}
        for container in containers(item):
            folder, file = split(flags(words(container)).get("config", "")) if _is_kube_proxy(container) else ("", "")
            for mount in items(container, "volumeMounts") if folder else ():
                config_map = volumes.get(mount.get("name"), {})
                if config_map.get("name") and str(mount.get("mountPath")).rstrip("/") == folder:
                    entries = {entry.get("path"): str(entry.get("key")) for entry in items(config_map, "items")}
                    found[(item["metadata"]["namespace"], str(config_map["name"])), entries.get(file, file)] = None
    return [*found]


def _is_kube_proxy(container: Mapping[str, Any]) -> bool:
    return any("kube-proxy" in word for word in (*words(container)[:4], str(container.get("image"))))


def _from_mounted(objects: Objects, entries: Sequence[Entry], found: Found) -> bool:
    """Read what kube-proxy has mounted; say whether that is all there is to be read."""
    known = {(key, entry): text for key, entry in entries if (text := objects.config_maps.get(key, {}).get(entry)) is not None}
    read_ = []
    for (key, entry), text in known.items():
        one = Found()
        _from_configuration(text, f"ConfigMap {'/'.join(key)} {entry}", one)
        read_.append(one)
    modes = {one.claims["proxy.mode"].value: one.claims["proxy.mode"].source for one in read_}
    if len(modes) > 1:
        told = "; ".join(f"{mode} in {source}" for mode, source in sorted(modes.items(), key=str))
        found.unknown("proxy.mode", f"DaemonSets of kube-proxy have different modes: {told}")
    elif read_:
        found.claims.update(read_[0].claims)
    elif why := objects.why_unknown(*(f"ConfigMap {'/'.join(key)}" for key, _ in entries if key not in CONFIGURATIONS)):
        found.unknown("proxy.mode", why)
    found.mistakes += [mistake for one in read_ for mistake in one.mistakes]
    return "proxy.mode" in found.claims


def _from_configuration(text: str, source: str, found: Found) -> None:
    data = read_yaml(text, source, "KubeProxyConfiguration")
    ipvs = section(data, "ipvs")
    strict_arp = ipvs.get("strictARP") if isinstance(ipvs.get("strictARP"), bool) else None
    _claim(
        found,
        (data.get("mode"), f"{source} mode"),
        (ipvs.get("scheduler"), f"{source} ipvs.scheduler"),
        (strict_arp, f"{source} ipvs.strictARP"),
    )


def _from_flags(objects: Objects, found: Found) -> None:
    """Read flags on the command lines of the DaemonSet or of static pods; they count only without --config."""
    named = {(proxy["namespace"], proxy["name"]) for proxy in objects.proxies}
    pods = {(proxy["namespace"], pod["name"]) for proxy in objects.proxies for pod in proxy["pods"] if pod["static"]}
    sources = [("DaemonSet", item) for item in objects.daemonsets if _key(item) in named]
    sources += [("static pod", item) for item in objects.pods if _key(item) in pods]
    read_: list[tuple[str, Mapping[str, str]]] = []
    for kind, item in sources:
        for container in containers(item):
            given = flags(words(container))
            if "config" not in given and _is_kube_proxy(container):
                read_.append((f"{kind} {name_of(item)}", given))
                break
    _of_equal_flags(read_, found)


def _from_k3s(nodes: Sequence[Mapping[str, Any]], found: Found) -> bool:
    """Read the arguments of k3s, in whose process kube-proxy runs; say whether it is k3s."""
    read_: list[tuple[str, Mapping[str, str]]] = []
    for item in nodes:
        annotations = item["metadata"].get("annotations") or {}
        given = list(arguments(annotations.get(NODE_ARGUMENTS[0])))
        if not given:
            continue
        source = f"Node {item['metadata']['name']} {NODE_ARGUMENTS[0]}"
        if is_true(dict(given).get("disable-kube-proxy")):
            found.claim("proxy.mode", "none", f"{source} --disable-kube-proxy")
            return True
        read_.append((source, dict(value.lstrip("-").split("=", 1) for name, value in given if name == "kube-proxy-arg" and "=" in value)))
    _of_equal_flags(read_, found)
    return bool(read_)


def _of_equal_flags(read_: Sequence[tuple[str, Mapping[str, str]]], found: Found) -> None:
    """Claim what all say; where they differ nothing is claimed for all nodes, and that is told."""
    if not read_:
        return
    modes = {given.get("proxy-mode", ""): source for source, given in read_}
    if len(modes) > 1:
        told = "; ".join(f"{mode or 'no mode'} in {source}" for mode, source in sorted(modes.items()))
        found.mistakes.append(f"kube-proxy's flags differ: {told}")
        found.unknown("proxy.mode", f"flags differ: {told}")
        return
    source, given = read_[0]
    strict_arp = is_true(given["ipvs-strict-arp"]) if "ipvs-strict-arp" in given else None
    _claim(
        found,
        (given.get("proxy-mode"), f"{source} --proxy-mode"),
        (given.get("ipvs-scheduler"), f"{source} --ipvs-scheduler"),
        (strict_arp, f"{source} --ipvs-strict-arp"),
    )


def _claim(found: Found, mode: tuple[Any, str], scheduler: tuple[Any, str], strict_arp: tuple[bool | None, str]) -> None:
    """Claim values with their sources. An empty mode means iptables, an empty scheduler rr."""
    value, source = mode
    if value and value not in MODES:
        found.mistake(source, value, MODES)
        found.unknown("proxy.mode", f"{source} is no mode")
        return
    found.claim("proxy.mode", value or "iptables", source if value else f"{source} (empty means iptables)")
    if not value:
        found.claim("proxy.mode_defaulted", True, source)
    if value == "ipvs":
        found.claim("proxy.scheduler", scheduler[0] or "rr", scheduler[1] if scheduler[0] else f"{scheduler[1]} (empty means rr)")
        if strict_arp[0] is not None:
            found.claim("proxy.strict_arp", *strict_arp)


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]
