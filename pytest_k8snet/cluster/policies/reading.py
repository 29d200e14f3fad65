"""Which policies there are to read, and what becomes of those that were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.api_error import ApiError
from pytest_k8snet.cluster.claims import cilium as cilium_claims
from pytest_k8snet.cluster.claims import fetching
from pytest_k8snet.cluster.claims.objects import Resource
from pytest_k8snet.cluster.policies import calico, cilium, kubernetes
from pytest_k8snet.cluster.policies.model import Blocked, Object, Pods, blocked

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

NETWORK_POLICY = "NetworkPolicy"
CILIUM_CONFIG = (cilium_claims.NAMESPACE, cilium_claims.CONFIG)
_POLICY_GROUP = "policy.networking.k8s.io"
_CALICO = (("projectcalico.org", "v3"), ("crd.projectcalico.org", "v1"))
#: Kinds of the whole cluster, or of CNIs: lists of all namespaces.
RESOURCES = (
    Resource("AdminNetworkPolicy", "adminnetworkpolicies", ((_POLICY_GROUP, "v1alpha1"),)),
    Resource("BaselineAdminNetworkPolicy", "baselineadminnetworkpolicies", ((_POLICY_GROUP, "v1alpha1"),)),
    Resource("ClusterNetworkPolicy", "clusternetworkpolicies", ((_POLICY_GROUP, "v1alpha2"),)),
    Resource(cilium.KIND, "ciliumnetworkpolicies", (("cilium.io", "v2"),)),
    Resource(cilium.CLUSTERWIDE, "ciliumclusterwidenetworkpolicies", (("cilium.io", "v2"),)),
    Resource(calico.GLOBAL, "globalnetworkpolicies", _CALICO),
    Resource(calico.KIND, "networkpolicies", _CALICO),
)


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of a cluster that may be of concern to pods of one namespace, as they were read."""

    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    objects: Mapping[str, Sequence[Object]] = field(default_factory=dict)  # by kind
    unreadable: Mapping[str, str] = field(default_factory=dict)  # by kind, and why

    def blocked(self, namespace: str, labels: Mapping[str, str]) -> list[Blocked]:
        """Return what they keep from pods of `namespace` with these labels, and from whom they keep them away."""
        pods = Pods(namespace, labels, {"kubernetes.io/metadata.name": namespace, **self.namespace_labels})
        return blocked([policy for module in (kubernetes, cilium, calico) for policy in module.read(self.objects, pods)])


def read_policies(api: Api, namespace: str) -> Policies:
    """Read them. What may not be read is named with the reason."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    own, refused = fetching.objects(api, path, NETWORK_POLICY)
    custom, more = fetching.custom_objects(api, RESOURCES)
    maps, _ = fetching.config_maps(api, [CILIUM_CONFIG], needed=())
    settings = [{"metadata": {"name": "/".join(key)}, "data": data} for key, data in maps.items()]
    labels: dict[str, str] = {}
    try:
        found: Mapping[str, Any] = api.get(f"/api/v1/namespaces/{namespace}")
        labels = dict(found.get("metadata", {}).get("labels") or {})
    except ApiError as error:
        refused = {**refused, "Namespace": str(error)} if error.status != 404 else refused
    return Policies(labels, {NETWORK_POLICY: own, cilium.CONFIG: settings, **custom}, {**refused, **more})
