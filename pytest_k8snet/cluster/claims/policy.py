"""Who enforces NetworkPolicies: most CNIs do, some only when they are told to, and some are there for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pytest_k8snet.cluster.claims import antrea, aws, cilium, flannel, kube_router, ovn, weave
from pytest_k8snet.cluster.claims.objects import Found, Object, Objects
from pytest_k8snet.cluster.claims.parsing import containers, flags, is_true, name_of, words

KEY = "policy.enforced"
#: DaemonSets whose pods enforce NetworkPolicies and cannot be told not to.
ALWAYS: Mapping[str, str] = {
    "calico-node": "Calico",
    "canal": "Calico, in Canal",
    "rke2-canal": "Calico, in Canal",
    **dict.fromkeys(antrea.DAEMONSETS, "Antrea"),
    **dict.fromkeys(ovn.DAEMONSETS, "OVN-Kubernetes"),
    "azure-npm": "Azure Network Policy Manager",
    "kube-network-policies": "kube-network-policies",
}
_WEAVE_CONTAINER = "weave-npc"
_FLANNEL_CONTAINER = "kube-network-policies"  # by its chart's netpol.enabled, and by Talos (Documentation/netpol.md)


def read(objects: Objects, found: Found) -> None:
    """Claim that NetworkPolicies are enforced where one says so; that they are not where all who could say that they do not.

    None is a claim that says nothing of pods such as those of a run.
    """
    said: list[tuple[bool | None, str]] = [*_always(objects), *_told(objects)]
    for enforced in (True, None, False):
        for claimed, source in said:
            if claimed is enforced:
                found.claim(KEY, enforced, source)
                return


def _always(objects: Objects) -> Iterator[tuple[bool, str]]:
    for item in objects.daemonsets:
        name = item["metadata"]["name"]
        if not _is_scheduled(item):
            continue
        if (who := ALWAYS.get(name)) is not None:
            yield True, f"DaemonSet {name_of(item)} ({who} enforces them)"
        elif name in flannel.DAEMONSETS and any(container.get("name") == _FLANNEL_CONTAINER for container in containers(item)):
            yield True, f"DaemonSet {name_of(item)} container {_FLANNEL_CONTAINER}"


def _told(objects: Objects) -> Iterator[tuple[bool | None, str]]:
    """Yield what those say that have a setting for it."""
    settings: Sequence[tuple[tuple[str, ...], Callable[[Objects, Object], tuple[bool | None, str]]]] = (
        (cilium.DAEMONSETS, _cilium),
        (kube_router.DAEMONSETS, _kube_router),
        (weave.DAEMONSETS, _weave),
        (aws.DAEMONSETS, _aws),
    )
    of_hybrid_nodes = objects.daemonset(*aws.DAEMONSETS) is not None and aws.has_cilium_on_hybrid_nodes(objects)
    for names, told in settings:
        item = objects.daemonset(*names)
        if item is not None and _is_scheduled(item) and not (of_hybrid_nodes and names == cilium.DAEMONSETS):
            yield told(objects, item)


def _is_scheduled(item: Object) -> bool:
    return (item.get("status") or {}).get("desiredNumberScheduled") != 0


def _cilium(objects: Objects, item: Object) -> tuple[bool, str]:
    """Cilium enforces by default; in mode ``never`` nothing, in audit mode it only tells, and it may leave Kubernetes' own kind alone."""
    for source, data in objects.maps(*cilium.CONFIG_MAPS):
        if str(data.get("enable-policy", "")).lower() == "never":
            return False, f"{source} enable-policy"
        if is_true(data.get("policy-audit-mode")):
            return False, f"{source} policy-audit-mode"
        if "enable-k8s-networkpolicy" in data and not is_true(data["enable-k8s-networkpolicy"]):
            return False, f"{source} enable-k8s-networkpolicy"
        if "enable-policy" in data:
            return True, f"{source} enable-policy"
    return True, f"DaemonSet {name_of(item)} (Cilium enforces them unless it is told not to)"


def _kube_router(objects: Objects, item: Object) -> tuple[bool, str]:
    del objects
    given = flags([word for container in containers(item) for word in words(container)])
    told = "--run-firewall" + ("" if "run-firewall" in given else " (true is the default)")
    return given.get("run-firewall", "true").lower() != "false", f"DaemonSet {name_of(item)} {told}"


def _weave(objects: Objects, item: Object) -> tuple[bool, str]:
    del objects
    names = [container.get("name") for container in containers(item)]
    return (
        _WEAVE_CONTAINER in names,
        f"DaemonSet {name_of(item)} {'container' if _WEAVE_CONTAINER in names else 'without'} {_WEAVE_CONTAINER}",
    )


def _aws(objects: Objects, item: Object) -> tuple[bool | None, str]:
    """Read what the agent of the AWS VPC CNI is told. Those of a run are pods that it leaves alone (aws-network-policy-agent#327)."""
    del objects
    given = flags([word for container in containers(item) for word in words(container)])
    told = "--enable-network-policy" + ("" if "enable-network-policy" in given else " (false is the default)")
    if is_true(given.get("enable-network-policy")):
        return None, f"DaemonSet {name_of(item)} {told}: for pods that have an owner, and those of a run have none"
    return False, f"DaemonSet {name_of(item)} {told}"
