"""Cilium's objects: as its Helm chart writes them for a cluster without kube-proxy, with the lab's ranges and images."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_k8snet.lab.accounts import account
from pytest_k8snet.lab.addresses import API_PORT
from pytest_k8snet.lab.networks import MTU, NETWORKS
from pytest_k8snet.lab.node_files import TUNING, UPLINK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_k8snet.lab.addresses import AddressPlan
    from pytest_k8snet.lab.settings import LabSettings

NAMESPACE = "kube-system"
CONFIG_MAP = "cilium-config"
CNI_CONFIG_MAP = "cni-configuration"
LABELS = {"k8s-app": "cilium"}
OPERATOR_LABELS = {"io.cilium/app": "operator", "name": "cilium-operator"}
HEALTH_PORT = 9879
OPERATOR_PORT = 9234

_CONFIG_FOLDER = "/tmp/cilium/config-map"  # noqa: S108 - where the chart mounts it
_CNI_FOLDER = "/host/etc/cni/net.d"
_CNI_TEMPLATE = "cni-config"
_CNI_TEMPLATE_FOLDER = "/tmp/cni-configuration"  # noqa: S108 - where the chart mounts it
_CGROUPS = "/sys/fs/cgroup"
_OF_CILIUM = "cilium.io"
_CUSTOM = tuple(
    f"cilium{name}.{_OF_CILIUM}"
    for name in (
        "bgpadvertisements",
        "bgpclusterconfigs",
        "bgpnodeconfigoverrides",
        "bgpnodeconfigs",
        "bgppeerconfigs",
        "bgppeeringpolicies",
        "cidrgroups",
        "clusterwideenvoyconfigs",
        "clusterwidenetworkpolicies",
        "egressgatewaypolicies",
        "endpoints",
        "endpointslices",
        "envoyconfigs",
        "externalworkloads",
        "identities",
        "l2announcementpolicies",
        "loadbalancerippools",
        "localredirectpolicies",
        "networkpolicies",
        "nodeconfigs",
        "nodes",
        "podippools",
    )
)


def manifests(settings: LabSettings, plan: AddressPlan, images: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    """Give Cilium's objects, in an order in which they can be made.

    Unlike the chart's the CNI configuration gives pods the lab's sysctls, the CNI plugin is on nodes already, nodes mount what agents
    need of their file systems themselves, and maps are small.
    """
    yield from account(NAMESPACE, "cilium", _AGENT_RULES)
    yield from account(NAMESPACE, "cilium-operator", _OPERATOR_RULES)
    yield _object("v1", "ConfigMap", CONFIG_MAP, data=configuration(settings))
    cni = {"cniVersion": "0.3.1", "name": "cilium", "plugins": [{"type": "cilium-cni"}, TUNING]}
    yield _object("v1", "ConfigMap", CNI_CONFIG_MAP, data={_CNI_TEMPLATE: json.dumps(cni, indent=2)})
    yield daemon_set(plan, images["cilium"])
    yield _operator(plan, images["cilium-operator"])


def configuration(settings: LabSettings) -> dict[str, str]:
    """Give the data of Cilium's ConfigMap."""
    if NETWORKS[settings.network].encapsulation == "none":
        routing = {
            "routing-mode": "native",
            "auto-direct-node-routes": "true",
            "ipv4-native-routing-cidr": settings.pod_cidr,
        }
    else:
        routing = {"routing-mode": "tunnel", "tunnel-protocol": NETWORKS[settings.network].encapsulation}
    return routing | {
        "agent-health-port": str(HEALTH_PORT),
        # A share of the machine's memory for maps; a node of a lab has few connections.
        "bpf-map-dynamic-size-ratio": "0.0005",
        "cgroup-root": _CGROUPS,
        "cluster-name": "default",
        "cni-exclusive": "true",
        "debug": "false",
        "devices": UPLINK,
        "enable-endpoint-health-checking": "false",
        "enable-health-checking": "false",
        "enable-hubble": "false",
        "enable-ipv4": "true",
        "enable-ipv4-masquerade": "false",  # from a lab no way leads outside
        "enable-ipv6": "false",
        "enable-l7-proxy": "false",
        "enable-policy": "default",
        "identity-allocation-mode": "crd",
        "ipam": "kubernetes",
        "k8s-require-ipv4-pod-cidr": "true",
        "kube-proxy-replacement": "true",
        "mtu": str(MTU),
        "operator-api-serve-addr": f"127.0.0.1:{OPERATOR_PORT}",
        "preallocate-bpf-maps": "false",
        "read-cni-conf": f"{_CNI_TEMPLATE_FOLDER}/{_CNI_TEMPLATE}",
        "write-cni-conf-when-ready": f"{_CNI_FOLDER}/05-cilium.conflist",
    }


def _object(api_version: str, kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"namespace": NAMESPACE, "name": name}, **content}


def _environment(plan: AddressPlan) -> list[dict[str, Any]]:
    return [
        {"name": "K8S_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "CILIUM_K8S_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "KUBERNETES_SERVICE_HOST", "value": plan.api_address},
        {"name": "KUBERNETES_SERVICE_PORT", "value": str(API_PORT)},
    ]


def daemon_set(plan: AddressPlan, image: str) -> Mapping[str, Any]:
    """Give the agents' DaemonSet."""
    healthy = {
        "host": "127.0.0.1",
        "path": "/healthz",
        "port": HEALTH_PORT,
        "scheme": "HTTP",
        "httpHeaders": [{"name": "brief", "value": "true"}],
    }
    mounts = {
        "bpf-maps": "/sys/fs/bpf",
        "cilium-cgroup": _CGROUPS,
        "cilium-run": "/var/run/cilium",
        "etc-cni-netd": _CNI_FOLDER,
        "lib-modules": "/lib/modules",
        "xtables-lock": "/run/xtables.lock",
        "cilium-config": _CONFIG_FOLDER,
        "cni-configuration": _CNI_TEMPLATE_FOLDER,
    }
    agent = {
        "name": "cilium-agent",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["cilium-agent"],
        "args": [f"--config-dir={_CONFIG_FOLDER}"],
        # An emulated processor compiles for minutes before the agent answers.
        "startupProbe": {"httpGet": healthy, "periodSeconds": 2, "failureThreshold": 600, "timeoutSeconds": 5},
        "readinessProbe": {"httpGet": healthy, "periodSeconds": 5, "failureThreshold": 3, "timeoutSeconds": 5},
        "env": _environment(plan),
        "securityContext": {"privileged": True},
        "volumeMounts": [
            {"name": name, "mountPath": path, **({"mountPropagation": "Bidirectional"} if name == "bpf-maps" else {})}
            for name, path in mounts.items()
        ],
    }
    pod = {
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": 1,
        "hostNetwork": True,
        "serviceAccountName": "cilium",
        "tolerations": [{"operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "containers": [agent],
        "volumes": [
            {"name": "bpf-maps", "hostPath": {"path": "/sys/fs/bpf", "type": "Directory"}},
            {"name": "cilium-cgroup", "hostPath": {"path": _CGROUPS, "type": "Directory"}},
            {"name": "cilium-run", "hostPath": {"path": "/var/run/cilium", "type": "DirectoryOrCreate"}},
            {"name": "etc-cni-netd", "hostPath": {"path": "/etc/cni/net.d", "type": "DirectoryOrCreate"}},
            {"name": "lib-modules", "hostPath": {"path": "/lib/modules"}},
            {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
            {"name": "cilium-config", "configMap": {"name": CONFIG_MAP}},
            {"name": "cni-configuration", "configMap": {"name": CNI_CONFIG_MAP}},
        ],
    }
    return _workload("DaemonSet", "cilium", LABELS, pod, {})


def _operator(plan: AddressPlan, image: str) -> Mapping[str, Any]:
    container = {
        "name": "cilium-operator",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["cilium-operator-generic"],
        "args": [f"--config-dir={_CONFIG_FOLDER}"],
        "env": _environment(plan),
        "readinessProbe": {
            "httpGet": {"host": "127.0.0.1", "path": "/healthz", "port": OPERATOR_PORT},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 5,
        },
        "volumeMounts": [{"name": "cilium-config", "mountPath": _CONFIG_FOLDER, "readOnly": True}],
    }
    pod = {
        "priorityClassName": "system-cluster-critical",
        "terminationGracePeriodSeconds": 1,
        "hostNetwork": True,
        "serviceAccountName": "cilium-operator",
        "tolerations": [{"operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/hostname": plan.nodes[0].name},
        "containers": [container],
        "volumes": [{"name": "cilium-config", "configMap": {"name": CONFIG_MAP}}],
    }
    return _workload("Deployment", "cilium-operator", OPERATOR_LABELS, pod, {"replicas": 1})


def _workload(kind: str, name: str, labels: Mapping[str, str], pod: Mapping[str, Any], spec: Mapping[str, Any]) -> Mapping[str, Any]:
    template = {"metadata": {"labels": labels}, "spec": pod}
    made = _object("apps/v1", kind, name, spec={"selector": {"matchLabels": labels}, "template": template, **spec})
    made["metadata"]["labels"] = labels
    return made


def _rule(group: str, resources: str, verbs: str, **more: Any) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split(), **more}


_AGENT_RULES = [
    _rule("networking.k8s.io", "networkpolicies", "get list watch"),
    _rule("discovery.k8s.io", "endpointslices", "get list watch"),
    _rule("", "namespaces services pods endpoints nodes", "get list watch"),
    _rule("apiextensions.k8s.io", "customresourcedefinitions", "list watch get"),
    _rule(_OF_CILIUM, "*", "list watch"),
    _rule(_OF_CILIUM, "ciliumidentities ciliumendpoints ciliumnodes", "create"),
    _rule(_OF_CILIUM, "ciliumidentities", "update"),
    _rule(_OF_CILIUM, "ciliumendpoints", "delete get patch"),
    _rule(_OF_CILIUM, "ciliumnodes ciliumnodes/status", "get update"),
    _rule(
        _OF_CILIUM,
        "ciliumnetworkpolicies/status ciliumclusterwidenetworkpolicies/status ciliumendpoints/status ciliuml2announcementpolicies/status "
        "ciliumbgpnodeconfigs/status",
        "patch",
    ),
]
_OPERATOR_RULES = [
    _rule("", "pods", "get list watch delete"),
    _rule("", "nodes", "list watch patch"),
    _rule("", "nodes/status", "patch"),
    _rule("discovery.k8s.io", "endpointslices", "get list watch"),
    _rule("", "services/status", "update patch"),
    _rule("", "namespaces services endpoints secrets", "get list watch"),
    _rule(_OF_CILIUM, "*", "create get list watch update patch delete deletecollection"),
    _rule("apiextensions.k8s.io", "customresourcedefinitions", "create get list watch"),
    _rule("apiextensions.k8s.io", "customresourcedefinitions", "update", resourceNames=list(_CUSTOM)),
    _rule("coordination.k8s.io", "leases", "create get update"),
]
