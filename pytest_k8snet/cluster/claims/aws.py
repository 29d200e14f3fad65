"""AWS VPC CNI: pods have addresses of the VPC, nothing is encapsulated; the MTU is in the environment of its DaemonSet."""

from __future__ import annotations

from pytest_k8snet.cluster.claims import cilium
from pytest_k8snet.cluster.claims.objects import Found, Object, Objects
from pytest_k8snet.cluster.claims.parsing import bytes_of, environment, name_of
from pytest_k8snet.cluster.model import CNI_OF_NODE, Claim

NAME = "aws-vpc-cni"
DAEMONSETS = ("aws-node",)
#: Nodes that its DaemonSet keeps away from: EKS Hybrid Nodes, where Cilium is, as a rule, and those of Auto Mode, which have their own.
_LABEL = "eks.amazonaws.com/compute-type"
_HYBRID = "hybrid"
_ELSEWHERE = (_HYBRID, "auto")
_CLAIMS = ("encapsulation", "mtu.uplink", "mtu.pod")


def read(objects: Objects, found: Found) -> None:
    """Read MTUs: POD_MTU of pods, where it is set, else that of the network interfaces."""
    item = objects.daemonset(*DAEMONSETS)
    if item is None:
        return
    source = f"DaemonSet {name_of(item)}"
    found.encapsulate("none", "Never", f"{source} (it never encapsulates)")
    given = environment(item)
    for key, names in (("mtu.uplink", ("AWS_VPC_ENI_MTU",)), ("mtu.pod", ("POD_MTU", "AWS_VPC_ENI_MTU"))):
        name = next((name for name in names if given.get(name)), None)
        if name is not None:
            found.claim(key, bytes_of(given[name], f"{source} {name}"), f"{source} {name}")


def node_claims(objects: Objects) -> dict[str, dict[str, Claim]]:
    """Return by node that nothing is claimed of those on which it does not run (EKS User Guide, Configure CNI for hybrid nodes).

    Where Cilium is on hybrid nodes alone, it is theirs that it says of kube-proxy, and nothing is said of policies there.
    """
    found = {}
    theirs = has_cilium_on_hybrid_nodes(objects)
    replaced = cilium.replaces_kube_proxy(objects, Found()) if theirs else None
    for item in objects.nodes:
        kind, name = _kind(item), item["metadata"]["name"]
        if kind in _ELSEWHERE:
            nothing = Claim(None, f"Node {name} has label {_LABEL}={kind}: DaemonSet {DAEMONSETS[0]} does not run there")
            found[name] = dict.fromkeys((*_CLAIMS, CNI_OF_NODE, *(("policy.enforced",) if theirs else ())), nothing)
        if kind == _HYBRID and replaced is not None:
            found[name]["proxy.mode"] = Claim("none", replaced)
    return found


def has_cilium_on_hybrid_nodes(objects: Objects) -> bool:
    """Whether Cilium runs on no more nodes than there are hybrid ones: on others of EKS it is chained to this CNI."""
    item = objects.daemonset(*cilium.DAEMONSETS)
    desired = 0 if item is None else (item.get("status") or {}).get("desiredNumberScheduled", 0)
    return 0 < desired <= sum(_kind(node) == _HYBRID for node in objects.nodes)


def _kind(node: Object) -> str | None:
    kind: str | None = (node["metadata"].get("labels") or {}).get(_LABEL)
    return kind
