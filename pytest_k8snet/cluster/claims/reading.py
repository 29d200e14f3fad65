"""All claims of a cluster: which CNI it has, what that and kube-proxy say, and which objects there are to read for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from pytest_k8snet.cluster.claims import antrea, aws, calico, cilium, flannel, kube_proxy, kube_router, lab, ovn, policy, weave
from pytest_k8snet.cluster.claims.objects import Found, Object, Objects, Resource

#: Those that carry packets before those that may be there for policies alone: Calico beside Flannel or on EKS, Cilium chained to another.
CNIS: Sequence[ModuleType] = (aws, flannel, ovn, antrea, kube_router, weave, cilium, calico)

#: Who is asked about new objects.
WEBHOOKS = tuple(
    Resource(f"{kind}WebhookConfiguration", f"{kind.lower()}webhookconfigurations", (("admissionregistration.k8s.io", "v1"),))
    for kind in ("Validating", "Mutating")
)

#: ConfigMaps that every cluster is asked for.
ALWAYS = (lab.NETWORK, kube_proxy.KUBEADM, kube_proxy.EKS, (cilium.NAMESPACE, cilium.CONFIG))


def recognise_cni(daemonsets: Iterable[Object], nodes: Iterable[Object] = (), config_maps: Collection[tuple[str, str]] = ()) -> str | None:
    """Return the CNI whose DaemonSet the cluster has, or, where there is none, whose ConfigMap or whose notes on nodes; None is unknown."""
    if lab.NETWORK in config_maps:
        return lab.NAME
    names = {item["metadata"]["name"] for item in daemonsets if (item.get("status") or {}).get("desiredNumberScheduled") != 0}
    for cni in CNIS:
        if names.intersection(cni.DAEMONSETS):
            return str(cni.NAME)
    if any(flannel.BACKEND_ANNOTATION in (item["metadata"].get("annotations") or {}) for item in nodes):
        return flannel.NAME
    for cni in (flannel, cilium):
        if {name for _, name in config_maps}.intersection(cni.CONFIG_MAPS):
            return str(cni.NAME)
    return None


def wanted_config_maps(daemonsets: Sequence[Object]) -> list[tuple[str, str]]:
    """Return which ConfigMaps may hold claims: (namespace, name), those that there may be on any cluster first."""
    wanted = [*ALWAYS, (flannel.NAMESPACE, flannel.CONFIG), *(key for key, _ in kube_proxy.mounted(daemonsets))]
    for item in daemonsets:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        if namespace == kube_proxy.OPENSHIFT[0]:
            wanted.append(kube_proxy.OPENSHIFT)
        for cni in CNIS:
            if name in cni.DAEMONSETS:
                wanted += [(namespace, config) for config in getattr(cni, "CONFIG_MAPS", ())]
    return list(dict.fromkeys(wanted))


def wanted_resources(daemonsets: Iterable[Object]) -> list[Resource]:
    """Return which custom objects may hold claims."""
    names = {item["metadata"]["name"] for item in daemonsets}
    return [resource for cni in CNIS if names.intersection(cni.DAEMONSETS) for resource in getattr(cni, "RESOURCES", ())]


def all_resources() -> list[Resource]:
    """Return every kind of custom object that claims may be read from."""
    return [resource for cni in CNIS for resource in getattr(cni, "RESOURCES", ())]


def all_config_maps() -> list[str]:
    """Return the names of ConfigMaps whose namespace only the cluster knows."""
    names = {name for cni in CNIS for name in getattr(cni, "CONFIG_MAPS", ())} | {kube_proxy.OPENSHIFT[1]}
    return sorted(names)


def read_claims(objects: Objects, cni: str | None) -> Found:
    """Return all claims.

    Keys: ``proxy.mode``, ``proxy.mode_defaulted``, ``proxy.scheduler``, ``proxy.strict_arp``, ``proxy.replaced`` (only where it could not
    be read whether something serves in kube-proxy's place), ``encapsulation`` (of all traffic between nodes) or
    ``encapsulation.cross_subnet`` (only of what leaves the subnet), ``encrypted`` (``wireguard``, ``ipsec``: where that hides the
    encapsulation), ``mtu.pod``, ``mtu.uplink``, ``mtu.tunnel``, ``bgp`` (``mesh``, ``peers``, ``none``), ``policy.enforced``,
    ``cilium.*``. A claim whose value is None could not be read; its source says why.
    """
    found = Found()
    kube_proxy.read(objects, found)
    network: Mapping[str, Any] = {module.NAME: module for module in (lab, *CNIS)}
    if cni is not None and cni in network:
        network[cni].read(objects, found)
    policy.read(objects, found)
    _replaced(objects, found, cni)
    return found


def _replaced(objects: Objects, found: Found, cni: str | None) -> None:
    """Claim that there is no kube-proxy where a CNI says that it serves all Services.

    Under Cilium one that is left works on silently beside it (kubeproxy-free.rst): that is what the absence checks are for. The others
    support one beside themselves, so its own configuration counts. Of Cilium on EKS Hybrid Nodes alone it is a claim of those nodes.
    """
    source = cilium.replaces_kube_proxy(objects, found)
    if source is not None and not (cni == aws.NAME and aws.has_cilium_on_hybrid_nodes(objects)):
        for key in ("proxy.mode_defaulted", "proxy.scheduler", "proxy.strict_arp"):
            found.claims.pop(key, None)
        found.claim("proxy.mode", "none", source)
    elif "proxy.mode" not in found.claims:
        sources = (cni.replaces_kube_proxy(objects, found) for cni in (calico, antrea, ovn))
        if (source := next(filter(None, sources), None)) is not None:
            found.claim("proxy.mode", "none", source)
        elif (why := objects.why_unknown(calico.FELIX.kind, *_unread_maps(objects))) is not None:
            found.unknown("proxy.replaced", why)


def _unread_maps(objects: Objects) -> list[str]:
    """Return those ConfigMaps that may say that a CNI serves all Services, and could not be read."""
    names = {*cilium.CONFIG_MAPS, *antrea.CONFIG_MAPS}
    return [kind for kind in objects.unreadable if kind.startswith("ConfigMap ") and kind.rpartition("/")[2] in names]
