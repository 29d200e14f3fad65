"""Ranges of addresses that a cluster gives to pods and Services, as far as its objects tell them."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_k8snet.cluster.claims import calico, cilium, flannel
from pytest_k8snet.cluster.claims.objects import Objects, Resource
from pytest_k8snet.cluster.claims.parsing import NODE_ARGUMENTS, arguments, containers, flags, name_of, read_json, section, words
from pytest_k8snet.cluster.ranges import Network, Range
from pytest_k8snet.errors import ClusterError

SERVICE_CIDR = Resource("ServiceCIDR", "servicecidrs", (("networking.k8s.io", "v1"), ("networking.k8s.io", "v1beta1")))

#: Flags of the control plane's static pods (kubeadm): what the range is for.
_FLAGS = (("cluster-cidr", "pods"), ("service-cluster-ip-range", "services"))
#: Those of the servers of k3s and RKE2 (pkg/cli/cmds/server.go). What they take without them is told by nothing.
_NODE_FLAGS = {"cluster-cidr": "pods", "service-cidr": "services"}


def read_ranges(objects: Objects) -> tuple[Range, ...]:
    """Return every range that is told; of several sources of one range the first."""
    found: dict[tuple[str, Network], Range] = {}
    for item in _told(objects):
        try:
            found.setdefault((item.use, item.network), item)
        except ValueError:
            continue  # an object that tells no range is not ours to judge here
    return tuple(found.values())


def _told(objects: Objects) -> Iterator[Range]:
    for item in objects.of(SERVICE_CIDR):
        for cidr in section(item, "spec").get("cidrs") or ():
            yield Range("services", str(cidr), f"ServiceCIDR {name_of(item)}")
    for pod in objects.pods:
        if (pod["metadata"].get("labels") or {}).get("tier") == "control-plane":
            for container in containers(pod):
                given = flags(words(container))
                for flag, use in _FLAGS:
                    for cidr in filter(None, given.get(flag, "").split(",")):
                        yield Range(use, cidr, f"pod {name_of(pod)} --{flag}")
    for item in objects.nodes:
        for annotation in NODE_ARGUMENTS:
            for flag, value in arguments((item["metadata"].get("annotations") or {}).get(annotation)):
                for cidr in filter(None, value.split(",") if flag in _NODE_FLAGS else ()):
                    yield Range(_NODE_FLAGS[flag], cidr, f"Node {item['metadata']['name']} {annotation} --{flag}")
    for source, data in objects.maps(*flannel.CONFIG_MAPS):
        try:
            network = read_json(data.get("net-conf.json", "{}"), source)
        except ClusterError:
            continue  # its own claims have told that
        for key in ("Network", "IPv6Network"):
            if network.get(key):
                yield Range("pods", str(network[key]), f"{source} net-conf.json {key}")
    for item in objects.of(calico.IP_POOL):
        spec = section(item, "spec")
        if spec.get("cidr") and not spec.get("disabled") and "Workload" in (spec.get("allowedUses") or ["Workload"]):
            yield Range("pods", str(spec["cidr"]), f"IPPool {name_of(item)} spec.cidr")
    for source, data in objects.maps(*cilium.CONFIG_MAPS):
        for key in ("cluster-pool-ipv4-cidr", "cluster-pool-ipv6-cidr"):
            for cidr in data.get(key, "").replace(",", " ").split():
                yield Range("pods", cidr, f"{source} {key}")
