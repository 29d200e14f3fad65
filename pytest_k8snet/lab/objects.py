"""The objects that make a lab's API server a cluster: nodes, kube-proxy as kubeadm installs it, CoreDNS, and what the network claims."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_k8snet.lab import cilium, flannel, ingress, kube_router
from pytest_k8snet.lab.accounts import role_binding
from pytest_k8snet.lab.addresses import API_PORT, host_and_port
from pytest_k8snet.lab.networks import MTU, NETWORKS

if TYPE_CHECKING:
    from pytest_k8snet.lab.addresses import AddressPlan
    from pytest_k8snet.lab.settings import LabSettings

Manifest = Mapping[str, Any]

SYSTEM = "kube-system"
DNS_LABELS = {"k8s-app": "kube-dns"}
PROXY_LABELS = {"k8s-app": "kube-proxy"}
KUBE_PROXY_ELSEWHERE = "k8snet.lab/kube-proxy"
"""The lab's kube-proxy runs only on nodes without this label."""

REGION_LABEL = "topology.kubernetes.io/region"
REGION = "lab"

_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_EVERYWHERE = [{"operator": "Exists"}]
_COREFILE = """.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus :9153
    cache 30
    reload
    loadbalance
}
"""


def manifests(settings: LabSettings, plan: AddressPlan, images: Mapping[str, str]) -> Iterator[Manifest]:
    """Give all objects, in an order in which they can be made."""
    for node in plan.nodes:
        yield {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.name, "labels": {"kubernetes.io/hostname": node.name, REGION_LABEL: REGION}},
            "spec": {"podCIDR": node.pod_cidr, "podCIDRs": [*node.pod_cidrs]},
        }
    if NETWORKS[settings.network].routes_by == "flannel":
        yield from flannel.manifests(settings, plan, images["flannel"])
    elif NETWORKS[settings.network].routes_by == "cilium":
        yield from cilium.manifests(settings, plan, images)
    else:
        yield _network(settings)
    if settings.proxy_mode != "none":
        yield from _kube_proxy(settings, plan, images["kube-proxy"])
    yield from _core_dns(settings, plan, images["coredns"])
    if settings.ingress == "nginx":
        yield from ingress.manifests(plan, images["ingress"])
    if settings.policy == "kube-router":
        yield from kube_router.manifests(plan, images["kube-router"])


def _object(api_version: str, kind: str, name: str, *, labels: Mapping[str, str] | None = None, **content: Any) -> dict[str, Any]:
    metadata = {"namespace": SYSTEM, "name": name, **({"labels": dict(labels)} if labels else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def _network(settings: LabSettings) -> Manifest:
    """Give what a CNI's own configuration object says elsewhere."""
    network = NETWORKS[settings.network]
    mtu = {"pod": network.pod_mtu, "uplink": MTU}
    if network.encapsulation != "none":
        mtu["tunnel"] = network.pod_mtu
    claim = {"encapsulation": network.encapsulation, "mtu": mtu, **({"bgp": "mesh"} if network.routes_by == "bird" else {})}
    return _object("v1", "ConfigMap", "k8snet-lab-network", data={"network.json": json.dumps(claim)})


def _kube_proxy(settings: LabSettings, plan: AddressPlan, image: str) -> Iterator[Manifest]:
    # Field for field what kubeadm writes, where kubeadm leaves it to kube-proxy's defaults too.
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0" if plan.families[0] == 4 else "::",  # noqa: S104 - of the node
        "clientConnection": {"kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf"},
        "clusterCIDR": ",".join(plan.pod_cidrs),
        "healthzBindAddress": "",
        "ipvs": {"scheduler": "", "strictARP": settings.proxy_mode == "ipvs"},
        "metricsBindAddress": "",
        "mode": settings.proxy_mode,
    }
    credentials = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "default",
                "cluster": {
                    "certificate-authority": f"{_TOKEN}/ca.crt",
                    "server": f"https://{host_and_port(plan.proxy_api_address, API_PORT)}",
                },
            }
        ],
        "contexts": [{"name": "default", "context": {"cluster": "default", "namespace": "default", "user": "default"}}],
        "current-context": "default",
        "users": [{"name": "default", "user": {"tokenFile": f"{_TOKEN}/token"}}],
    }
    yield _object("v1", "ServiceAccount", "kube-proxy")
    yield role_binding("kubeadm:node-proxier", "system:node-proxier", SYSTEM, "kube-proxy")
    data = {"config.conf": json.dumps(configuration, indent=2), "kubeconfig.conf": json.dumps(credentials, indent=2)}  # JSON is YAML
    yield _object("v1", "ConfigMap", "kube-proxy", labels={"app": "kube-proxy"}, data=data)
    container = {
        "name": "kube-proxy",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/local/bin/kube-proxy", "--config=/var/lib/kube-proxy/config.conf", "--hostname-override=$(NODE_NAME)"],
        "env": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "securityContext": {"privileged": True},
        "volumeMounts": [
            {"name": "kube-proxy", "mountPath": "/var/lib/kube-proxy"},
            {"name": "xtables-lock", "mountPath": "/run/xtables.lock"},
            {"name": "lib-modules", "mountPath": "/lib/modules", "readOnly": True},
        ],
    }
    not_elsewhere = {"matchExpressions": [{"key": KUBE_PROXY_ELSEWHERE, "operator": "DoesNotExist"}]}
    pod = {
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": 1,  # it would use up the default's 30 s
        "hostNetwork": True,
        "serviceAccountName": "kube-proxy",
        "tolerations": _EVERYWHERE,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [not_elsewhere]}}},
        "containers": [container],
        "volumes": [
            {"name": "kube-proxy", "configMap": {"name": "kube-proxy"}},
            {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
            {"name": "lib-modules", "hostPath": {"path": "/lib/modules"}},
        ],
    }
    yield _object(
        "apps/v1",
        "DaemonSet",
        "kube-proxy",
        labels=PROXY_LABELS,
        spec={
            "selector": {"matchLabels": PROXY_LABELS},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": PROXY_LABELS}, "spec": pod},
        },
    )


def _core_dns(settings: LabSettings, plan: AddressPlan, image: str) -> Iterator[Manifest]:
    has_services = settings.has_services
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    yield _object("v1", "ServiceAccount", "coredns")
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "system:coredns"}, "rules": rules}
    yield role
    yield role_binding("system:coredns", "system:coredns", SYSTEM, "coredns")
    yield _object("v1", "ConfigMap", "coredns", data={"Corefile": _COREFILE})
    ports = [
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
        {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
    ]
    container: dict[str, Any] = {
        "name": "coredns",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": ports,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 2, "timeoutSeconds": 5},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    pod: dict[str, Any] = {
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": "coredns",
        "tolerations": _EVERYWHERE,
        "dnsPolicy": "Default",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    if has_services:
        # One a node, on up to three nodes: then it is the same at every start which nodes have pods.
        apart = [{"labelSelector": {"matchLabels": DNS_LABELS}, "topologyKey": "kubernetes.io/hostname"}]
        pod["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": apart}}
    else:
        # Nobody leads from Service addresses to pods: the API server is asked by its own address, DNS by that of the first node.
        pod |= {"hostNetwork": True, "nodeSelector": {"kubernetes.io/hostname": plan.nodes[0].name}}
        container["env"] = [
            {"name": "KUBERNETES_SERVICE_HOST", "value": plan.api_address},
            {"name": "KUBERNETES_SERVICE_PORT", "value": str(API_PORT)},
        ]
    yield _object(
        "apps/v1",
        "Deployment",
        "coredns",
        labels=DNS_LABELS,
        spec={
            "replicas": min(3, len(plan.nodes)) if has_services else 1,
            "selector": {"matchLabels": DNS_LABELS},
            "template": {"metadata": {"labels": DNS_LABELS}, "spec": pod},
        },
    )
    yield _object(
        "v1",
        "Service",
        "kube-dns",
        labels=DNS_LABELS,
        spec={
            "selector": DNS_LABELS,
            "clusterIP": plan.dns_service_address,
            "clusterIPs": [*plan.dns_service_addresses],
            "ipFamilyPolicy": "SingleStack" if len(plan.families) == 1 else "RequireDualStack",
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                {"name": "metrics", "port": 9153, "protocol": "TCP"},
            ],
        },
    )
