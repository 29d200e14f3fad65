"""OVN-Kubernetes: Geneve between all nodes; OpenShift's network operator says otherwise, its MTU and whether there is a kube-proxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_k8snet.cluster.claims.objects import Found, Objects, Resource
from pytest_k8snet.cluster.claims.parsing import bytes_of, name_of, section

NAME = "ovn-kubernetes"
DAEMONSETS = ("ovnkube-node",)
OPERATOR = Resource("Network (operator.openshift.io)", "networks", (("operator.openshift.io", "v1"),))
STATUS = Resource("Network (config.openshift.io)", "networks", (("config.openshift.io", "v1"),))
RESOURCES = (OPERATOR, STATUS)

#: What the operator is told of the default network, by its name and by an earlier one (openshift/enhancements, no-overlay mode).
_TRANSPORT = ("defaultNetworkTransport", "transport")


def read(objects: Objects, found: Found) -> None:
    """Read encapsulation and MTU."""
    item = objects.daemonset(*DAEMONSETS)
    operator = next(iter(objects.of(OPERATOR)), {})
    no_overlay = next((key for key in _TRANSPORT if _settings(operator).get(key) == "NoOverlay"), None)
    if item is not None and no_overlay is not None:
        source = f"Network {name_of(operator)} (operator.openshift.io) spec.defaultNetwork.ovnKubernetesConfig.{no_overlay}"
        found.encapsulate("none", "Never", source)
    elif item is not None and _encrypts(operator):
        source = f"Network {name_of(operator)} (operator.openshift.io) spec.defaultNetwork.ovnKubernetesConfig.ipsecConfig"
        found.claim("encrypted", "ipsec", source)
    elif item is not None:
        found.encapsulate("geneve", "Always", f"DaemonSet {name_of(item)} (it encapsulates unless it is told otherwise)")
    for network in objects.of(STATUS):
        if mtu := section(network, "status").get("clusterNetworkMTU"):
            source = f"Network {name_of(network)} (config.openshift.io) status.clusterNetworkMTU"
            found.claim("mtu.pod", bytes_of(mtu, source), source)
    for network in objects.of(OPERATOR):
        if mtu := _settings(network).get("mtu"):
            source = f"Network {name_of(network)} (operator.openshift.io) spec.defaultNetwork.ovnKubernetesConfig.mtu"
            found.claim("mtu.pod", bytes_of(mtu, source), source)


def replaces_kube_proxy(objects: Objects, found: Found) -> str | None:
    """Return why there is no kube-proxy: OVN serves Services unless the operator is told to bring one."""
    del found
    item = objects.daemonset(*DAEMONSETS)
    if item is None or any(section(network, "spec").get("deployKubeProxy") for network in objects.of(OPERATOR)):
        return None
    return f"DaemonSet {name_of(item)} (OVN serves Services)"


def _settings(network: Mapping[str, Any]) -> Mapping[str, Any]:
    return section(network, "spec", "defaultNetwork", "ovnKubernetesConfig")


def _encrypts(network: Mapping[str, Any]) -> bool:
    """Whether IPsec hides what pods' traffic is in: a configuration without a mode is one of before 4.15, and means Full (GetIPsecMode)."""
    settings = _settings(network)
    return "ipsecConfig" in settings and (section(settings, "ipsecConfig").get("mode") or "Full") == "Full"
