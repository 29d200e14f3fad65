"""Flannel's own objects, as its Documentation/kube-flannel.yml has them, with the lab's ranges and images."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_k8snet.lab.accounts import account
from pytest_k8snet.lab.addresses import API_PORT
from pytest_k8snet.lab.networks import NETWORKS
from pytest_k8snet.lab.node_files import TUNING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_k8snet.lab.addresses import AddressPlan
    from pytest_k8snet.lab.settings import LabSettings

NAMESPACE = "kube-flannel"
CONFIG_MAP = "kube-flannel-cfg"
LABELS = {"tier": "node", "app": "flannel"}
SUBNET_FILE = "/run/flannel/subnet.env"


def manifests(settings: LabSettings, plan: AddressPlan, image: str) -> Iterator[Mapping[str, Any]]:
    """Give flannel's objects, in an order in which they can be made.

    Unlike the makers' the conflist gives pods the lab's sysctls, the CNI plugin is on nodes already, and flanneld asks the API server
    at its own address, so that it does not wait for kube-proxy.
    """
    labels = {"k8s-app": "flannel", "pod-security.kubernetes.io/enforce": "privileged"}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]
    yield from account(NAMESPACE, "flannel", rules)
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": NAMESPACE, "name": CONFIG_MAP, "labels": LABELS},
        "data": configuration(settings),
    }
    yield _daemon_set(plan, image)


def configuration(settings: LabSettings) -> dict[str, str]:
    """Give the data of flannel's ConfigMap."""
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    delegate = {"hairpinMode": True, "isDefaultGateway": True}
    conflist = {"name": "cbr0", "cniVersion": "1.0.0", "plugins": [{"type": "flannel", "delegate": delegate}, TUNING, portmap]}
    backend = {"Type": NETWORKS[settings.network].flannel_backend, **({"DirectRouting": True} if settings.direct_routing else {})}
    network = {"Network": settings.pod_cidr, "EnableNFTables": False, "Backend": backend}
    return {"cni-conf.json": json.dumps(conflist, indent=2), "net-conf.json": json.dumps(network, indent=2)}


def _daemon_set(plan: AddressPlan, image: str) -> Mapping[str, Any]:
    def fields(path: str) -> dict[str, Any]:
        return {"fieldRef": {"fieldPath": path}}

    pod = {
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": 1,  # of the makers' default nothing is needed in a lab
        "hostNetwork": True,
        "serviceAccountName": "flannel",
        "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "initContainers": [
            {
                "name": "install-cni",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["cp"],
                "args": ["-f", "/etc/kube-flannel/cni-conf.json", "/etc/cni/net.d/10-flannel.conflist"],
                "volumeMounts": [
                    {"name": "cni", "mountPath": "/etc/cni/net.d"},
                    {"name": "flannel-cfg", "mountPath": "/etc/kube-flannel/"},
                ],
            }
        ],
        "containers": [
            {
                "name": "kube-flannel",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["/opt/bin/flanneld"],
                "args": ["--ip-masq", "--kube-subnet-mgr", "--healthz-port=8081"],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8081}, "periodSeconds": 2, "timeoutSeconds": 5},
                "resources": {"requests": {"cpu": "100m", "memory": "50Mi"}},
                "securityContext": {"privileged": False, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
                "env": [
                    {"name": "POD_NAME", "valueFrom": fields("metadata.name")},
                    {"name": "POD_NAMESPACE", "valueFrom": fields("metadata.namespace")},
                    {"name": "KUBERNETES_SERVICE_HOST", "value": plan.api_address},
                    {"name": "KUBERNETES_SERVICE_PORT", "value": str(API_PORT)},
                    {"name": "EVENT_QUEUE_DEPTH", "value": "5000"},
                    {"name": "CONT_WHEN_CACHE_NOT_READY", "value": "false"},
                ],
                "volumeMounts": [
                    {"name": "run", "mountPath": "/run/flannel"},
                    {"name": "flannel-cfg", "mountPath": "/etc/kube-flannel/"},
                    {"name": "xtables-lock", "mountPath": "/run/xtables.lock"},
                ],
            }
        ],
        "volumes": [
            {"name": "run", "hostPath": {"path": "/run/flannel", "type": "DirectoryOrCreate"}},
            {"name": "cni", "hostPath": {"path": "/etc/cni/net.d"}},
            {"name": "flannel-cfg", "configMap": {"name": CONFIG_MAP}},
            {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"namespace": NAMESPACE, "name": "kube-flannel-ds", "labels": {**LABELS, "k8s-app": "flannel"}},
        "spec": {
            "selector": {"matchLabels": {"app": "flannel"}},
            "template": {"metadata": {"labels": LABELS}, "spec": pod},
        },
    }
