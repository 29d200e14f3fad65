"""kube-router as what enforces NetworkPolicies, and nothing else: its makers' daemonset/kube-router-firewall-daemonset.yaml.

Unlike that it has an account in the place of a kubeconfig, leaves the CNI's configuration alone, and asks the API server at its own
address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_k8snet.lab.accounts import account
from pytest_k8snet.lab.addresses import API_PORT
from pytest_k8snet.lab.settings import SERVICE_CIDR

if TYPE_CHECKING:
    from pytest_k8snet.lab.addresses import AddressPlan

NAMESPACE = "kube-system"
NAME = "kube-router"
LABELS = {"k8s-app": NAME}
ELSEWHERE = "k8snet.lab/kube-router"
"""kube-router runs only on nodes without this label."""
HEALTH_PORT = 20244
ARGUMENTS = (
    "--run-firewall=true",
    "--run-router=false",
    "--run-service-proxy=false",
    "--enable-cni=false",
    f"--service-cluster-ip-range={SERVICE_CIDR}",
    f"--health-port={HEALTH_PORT}",
)


def manifests(plan: AddressPlan, image: str) -> Iterator[Mapping[str, Any]]:
    """Give the objects, in an order in which they can be made."""
    watched = ["get", "list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["namespaces", "pods", "services", "nodes", "endpoints"], "verbs": watched},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": watched},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watched},
    ]
    yield from account(NAMESPACE, NAME, rules)
    yield _daemon_set(plan, image)


def daemon_set() -> dict[str, Any]:
    """Give what names the DaemonSet."""
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"namespace": NAMESPACE, "name": NAME, "labels": LABELS}}


def _daemon_set(plan: AddressPlan, image: str) -> Mapping[str, Any]:
    environment = [
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "KUBERNETES_SERVICE_HOST", "value": plan.api_address},
        {"name": "KUBERNETES_SERVICE_PORT", "value": str(API_PORT)},
    ]
    container = {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/local/bin/kube-router"],
        "args": [*ARGUMENTS],
        "env": environment,
        "securityContext": {"privileged": True},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": HEALTH_PORT}, "periodSeconds": 2, "timeoutSeconds": 5},
        "volumeMounts": [
            {"name": "lib-modules", "mountPath": "/lib/modules", "readOnly": True},
            {"name": "xtables-lock", "mountPath": "/run/xtables.lock"},
        ],
    }
    not_elsewhere = {"matchExpressions": [{"key": ELSEWHERE, "operator": "DoesNotExist"}]}
    pod = {
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": 1,
        "hostNetwork": True,
        "serviceAccountName": NAME,
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [not_elsewhere]}}},
        "containers": [container],
        "volumes": [
            {"name": "lib-modules", "hostPath": {"path": "/lib/modules"}},
            {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
        ],
    }
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    return {**daemon_set(), "spec": {"selector": {"matchLabels": LABELS}, "template": template}}
