"""What the API server knows of the cluster: nodes, kube-proxy, CNI and what they claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster import admission, dns
from pytest_k8snet.cluster.claims import aws, calico, cilium, fetching, ingress, lab, reading
from pytest_k8snet.cluster.claims.bgp_status import bgp_statuses
from pytest_k8snet.cluster.claims.objects import Objects
from pytest_k8snet.cluster.claims.ranges import SERVICE_CIDR, read_ranges
from pytest_k8snet.cluster.model import Cluster, Node

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

SYSTEM = "kube-system"
CONTROL_PLANE_LABELS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
POOL_LABELS = (
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
    "karpenter.sh/nodepool",
    "node.kubernetes.io/instance-type",
)
OS_LABELS = ("kubernetes.io/os", "beta.kubernetes.io/os")
#: Labels and taints of nodes that stand for a service: key, the value where it matters, what it is.
VIRTUAL_LABELS = (
    ("type", "virtual-kubelet", "is a virtual kubelet"),
    ("virtual-kubelet.io/provider", None, "is a virtual kubelet"),
    ("eks.amazonaws.com/compute-type", "fargate", "is EKS Fargate"),
)
VIRTUAL_TAINTS = (("virtual-kubelet.io/provider", "is a virtual kubelet"), ("eks.amazonaws.com/compute-type", "is EKS Fargate"))
LEAVING_TAINTS = (
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "node.kubernetes.io/out-of-service",
    "node.cloudprovider.kubernetes.io/shutdown",
)


def read_cluster(api: Api) -> Cluster:
    """Read the cluster once: nodes by name, kube-proxy's DaemonSets and pods, and the claims.

    Raises a `ClusterError` that says what is missing when the API refuses or does not answer.
    """
    version = api.get("/version")["gitVersion"]
    raw_nodes = [*api.list("/api/v1/nodes")]
    # By name: a list of many pages may tell a node twice.
    read = [(read_node(item), item) for item in raw_nodes]
    nodes = {node.name: node for node, _ in read}
    daemonsets = [*api.list("/apis/apps/v1/daemonsets")]
    pods = [*api.list("/api/v1/namespaces/kube-system/pods")]
    pod_ips = running_pod_ips(pods)
    proxies = kube_proxies(daemonsets, pods)
    deployments, no_deployments = fetching.objects(
        api, "/apis/apps/v1/deployments", ingress.DEPLOYMENTS, labelSelector=f"{ingress.LABEL} in ({','.join(ingress.LABELLED)})"
    )
    nginx = ingress.controllers([*deployments, *daemonsets])
    more_maps = [(SYSTEM, name) for name in dns.COREFILES] + [key for item in nginx if (key := ingress.config_map_of(item)) is not None]
    maps, no_maps = fetching.config_maps(api, [*reading.wanted_config_maps(daemonsets), *more_maps], needed=reading.ALWAYS)
    services, no_services = fetching.objects(api, "/api/v1/services", dns.SERVICE, labelSelector=dns.LABEL)
    custom, no_custom = fetching.custom_objects(
        api, [*reading.wanted_resources(daemonsets), SERVICE_CIDR, *ingress.RESOURCES, *reading.WEBHOOKS]
    )
    objects = Objects(
        daemonsets=daemonsets,
        proxies=proxies,
        pods=pods,
        nodes=raw_nodes,
        config_maps=maps,
        custom=custom,
        unreadable={**no_maps, **no_custom},
    )
    cni = reading.recognise_cni(daemonsets, raw_nodes, maps)
    found = reading.read_claims(objects, cni)
    pod_cidrs = cilium.pod_cidrs(objects)
    notes = {node.name: item["metadata"].get("annotations") or {} for node, item in read}
    return Cluster(
        version=version,
        nodes=tuple(
            replace(
                nodes[name],
                pod_ip=next(iter(pod_ips.get(name, ())), None),
                pod_ips=pod_ips.get(name, ()),
                pod_cidrs=pod_cidrs.get(name, nodes[name].pod_cidrs),
                bgp_addresses=calico.bgp_addresses(notes[name]) if cni == calico.NAME else lab.bgp_addresses(nodes[name], found),
                route_reflector=cni == calico.NAME and calico.is_route_reflector(notes[name]),
            )
            for name in sorted(nodes)
        ),
        claims=found.claims,
        node_claims=cilium.node_claims(objects) if cni == cilium.NAME else aws.node_claims(objects) if cni == aws.NAME else {},
        kube_proxy_daemonsets=proxies,
        cni=cni,
        mistakes=tuple(found.mistakes),
        unreadable=objects.unreadable,
        bgp_statuses=bgp_statuses(objects.of(calico.NODE_STATUS), api.clock),
        ranges=read_ranges(objects),
        webhooks=_webhooks(api, custom),
        ingress=ingress.read_ingress(nginx, maps, custom, {**no_maps, **no_custom, **no_deployments}),
        dns=dns.read_dns(services, pods, daemonsets, maps, {**no_maps, **no_services}),
    )


def read_node(item: Mapping[str, Any]) -> Node:
    """Read a raw Node."""
    metadata, spec, status = item["metadata"], item.get("spec", {}), item.get("status", {})
    labels = metadata.get("labels") or {}
    info = status.get("nodeInfo", {})
    addresses = _addresses(status, "InternalIP")
    reason = _not_ready_reason(metadata, spec, status)
    kinds = [labels[label] for label in POOL_LABELS if label in labels]
    return Node(
        name=str(metadata["name"]).encode("utf-8", "backslashreplace").decode(),  # JSON allows halves of characters
        internal_ip=addresses[0] if addresses else None,
        pod_cidrs=tuple(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])),
        ready=reason is None,
        not_ready_reason=reason,
        schedulable=not spec.get("unschedulable", False),
        control_plane=any(label in labels for label in CONTROL_PLANE_LABELS),
        group=", ".join([*kinds, *(info[key] for key in ("osImage", "kernelVersion", "architecture") if info.get(key))]) or "all",
        os=info.get("operatingSystem") or labels.get("kubernetes.io/os") or "linux",
        zone=labels.get("topology.kubernetes.io/zone"),
        region=labels.get("topology.kubernetes.io/region", ""),
        instance_type=labels.get("node.kubernetes.io/instance-type"),
        max_pods=_count((status.get("allocatable") or {}).get("pods")),
        internal_ips=tuple({":" in address: address for address in reversed(addresses)}.values())[::-1],
        external_ip=next(iter(_addresses(status, "ExternalIP")), None),
        hostname=next(iter(_addresses(status, "Hostname")), None),
        virtual=_virtual(labels, spec),
    )


def _virtual(labels: Mapping[str, str], spec: Mapping[str, Any]) -> str | None:
    """Return how a node is known to be no machine of the cluster's own, on which pods share a kernel."""
    for key, value, what in VIRTUAL_LABELS:
        if key in labels and value in (None, labels[key]):
            return f"{what} (label {key}={labels[key]})"
    taints = {taint.get("key") for taint in spec.get("taints") or ()}
    return next((f"{what} (taint {key})" for key, what in VIRTUAL_TAINTS if key in taints), None)


def running_pod_ips(pods: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return node to the addresses, one of each family, of a pod that runs there in a network namespace of its own."""
    found: dict[str, tuple[str, ...]] = {}
    for item in pods:
        spec, status = item["spec"], item.get("status", {})
        if spec.get("nodeName") and status.get("podIP") and status.get("phase") == "Running" and not spec.get("hostNetwork"):
            both = tuple(item["ip"] for item in status.get("podIPs") or () if item.get("ip"))
            found.setdefault(spec["nodeName"], both or (status["podIP"],))
    return found


def kube_proxies(daemonsets: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the kube-proxy DaemonSets with their pods; pods of none of them (static ones) come under a name of their own.

    That of Windows nodes is left out: it is there whatever serves the Linux nodes, and those alone are measured.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    of_windows = set()
    for item in daemonsets:
        if is_kube_proxy(item["metadata"], item["spec"]["template"]["spec"].get("containers") or ()):
            spec, status = item["spec"]["template"]["spec"], item.get("status", {})
            key = (item["metadata"]["namespace"], item["metadata"]["name"])
            if is_for_windows(spec):
                of_windows.add(key)
                continue
            found[key] = {
                "name": key[1],
                "namespace": key[0],
                "desired": status.get("desiredNumberScheduled", 0),
                "ready": status.get("numberReady", 0),
                "node_selector": dict(spec.get("nodeSelector") or {}),
                "pods": [],
            }
    for item in pods:
        metadata = item["metadata"]
        if not is_kube_proxy(metadata, item["spec"].get("containers") or ()):
            continue
        owners = [owner["name"] for owner in metadata.get("ownerReferences") or () if owner.get("kind") == "DaemonSet"]
        static = "kubernetes.io/config.mirror" in (metadata.get("annotations") or {})
        key = (metadata["namespace"], owners[0] if owners else "(static pods)" if static else "(pods)")
        if key in of_windows or is_for_windows(item["spec"]):
            continue
        entry = found.setdefault(key, {"name": key[1], "namespace": key[0], "desired": 0, "ready": 0, "node_selector": {}, "pods": []})
        entry["pods"].append({"name": metadata["name"], "node": item["spec"].get("nodeName"), "static": static, **_state(item)})
        if not owners:
            entry["desired"] += 1
            entry["ready"] += item.get("status", {}).get("phase") == "Running"
    return [found[key] for key in sorted(found)]


def _state(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a pod's containers do: restarts, what they wait for, how the last one that ended did."""
    restarts, waiting, ended = 0, None, None
    for container in pod.get("status", {}).get("containerStatuses") or ():
        restarts += container.get("restartCount", 0)
        waiting = (container.get("state") or {}).get("waiting", {}).get("reason") or waiting
        if last := (container.get("lastState") or {}).get("terminated"):
            ended = f"{last.get('reason')}, exit status {last.get('exitCode')}, at {last.get('finishedAt')}"
    return {"restarts": restarts, "waiting": waiting, "last_end": ended}


def is_kube_proxy(metadata: Mapping[str, Any], containers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an object is kube-proxy by label, by name or by the image it runs."""
    labels = metadata.get("labels") or {}
    # Exporters of its metrics carry component: kube-proxy beside a k8s-app of their own (rancher-pushprox).
    if (labels.get("k8s-app") or labels.get("component")) == "kube-proxy":
        return True
    if metadata["name"] in ("kube-proxy", "openshift-kube-proxy") or metadata["name"].startswith("kube-proxy-"):
        return True
    return any(str(container.get("image", "")).rsplit("/", 1)[-1].split("@")[0].split(":")[0] == "kube-proxy" for container in containers)


def is_for_windows(spec: Mapping[str, Any]) -> bool:
    """Whether a pod's spec lets it run on Windows nodes alone: by its os, its node selector, or each term of the affinity it requires."""
    selector = spec.get("nodeSelector") or {}
    if (spec.get("os") or {}).get("name") == "windows" or any(selector.get(label) == "windows" for label in OS_LABELS):
        return True
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
    return bool(terms) and all(
        any(
            wanted.get("key") in OS_LABELS and wanted.get("operator") == "In" and wanted.get("values") == ["windows"]
            for wanted in term.get("matchExpressions") or ()
        )
        for term in terms
    )


def _addresses(status: Mapping[str, Any], kind: str) -> list[str]:
    return [address["address"] for address in status.get("addresses") or () if address.get("type") == kind]


def _not_ready_reason(metadata: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]) -> str | None:
    if metadata.get("deletionTimestamp"):
        return "is being deleted"
    for taint in spec.get("taints") or ():
        if taint.get("key") in LEAVING_TAINTS:
            return f"is being removed (taint {taint['key']})"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready":
            if condition.get("status") == "True":
                return None
            return f"{condition.get('reason')}: {condition.get('message')}"
    return "has reported no condition Ready"


def _webhooks(api: Api, custom: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[admission.Webhook, ...]:
    """Return the webhooks that are asked about pods, those on which pods depend with their endpoints."""
    found = []
    for resource in reading.WEBHOOKS:
        for webhook in admission.webhooks_of_pods(resource.kind, custom.get(resource.kind, ())):
            if webhook.fail and webhook.service is not None:
                namespace, _, name = webhook.service.partition("/")
                path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
                slices, refused = fetching.objects(api, path, webhook.name, labelSelector=f"kubernetes.io/service-name={name}")
                webhook = webhook if refused else admission.with_endpoints(webhook, slices)
            found.append(webhook)
    return tuple(found)


def _count(text: object) -> int | None:
    return int(str(text)) if str(text).isdecimal() else None
