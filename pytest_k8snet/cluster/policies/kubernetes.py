"""NetworkPolicies, and the cluster-wide ones of the same API group. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytest_k8snet.cluster.policies.model import (
    EGRESS,
    FROM_NODES,
    FROM_OTHERS,
    FROM_PODS,
    INGRESS,
    TO_DNS,
    TO_OTHERS,
    TO_PODS,
    Object,
    Pods,
    Policy,
    Sure,
    best,
    in_order,
    selector_known,
)

#: What the cluster's DNS is known by.
DNS_NAMESPACE = {"kubernetes.io/metadata.name": "kube-system"}
DNS_PODS = {"k8s-app": "kube-dns"}
_EVERYWHERE = ("0.0.0.0/0", "::/0")


def network_policy(item: Object, pods: Pods) -> Policy | None:
    """Read a NetworkPolicy of the probe pods' namespace; None when it does not select them."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    if selector_known(spec.get("podSelector"), pods.labels) is Sure.NO:
        return None
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") is not None else [])]
    isolates, admits = {}, {}
    for kind, flows, key, peers in (("Ingress", INGRESS, "ingress", "from"), ("Egress", EGRESS, "egress", "to")):
        if kind not in types:
            continue
        for flow in flows:
            isolates[flow] = Sure.YES
            admits[flow] = best(_admits(rule, rule.get(peers), flow, pods) for rule in spec.get(key) or ())
    return Policy(f"NetworkPolicy {metadata['namespace']}/{metadata['name']}", isolates, admits)


def _admits(rule: Object, peers: Sequence[Object] | None, flow: str, pods: Pods) -> Sure:
    matches = best(_peer(peer, flow, pods) for peer in peers) if peers else Sure.YES
    return min(matches, _ports(rule.get("ports"), flow))


def _ports(ports: Sequence[Object] | None, flow: str) -> Sure:
    """Return whether ports of a rule take in those of a flow: which ones a run uses is not fixed, but for DNS."""
    if not ports:
        return Sure.YES
    if flow == TO_DNS and {"TCP", "UDP"} <= {item.get("protocol", "TCP") for item in ports if item.get("port") in (53, "53", None)}:
        return Sure.YES
    return Sure.MAYBE


def _peer(peer: Object, flow: str, pods: Pods) -> Sure:
    if "ipBlock" in peer:
        # Whether addresses of pods and nodes are in one, is for each implementation to say.
        block = peer["ipBlock"]
        everything = block.get("cidr") in _EVERYWHERE and not block.get("except")
        return Sure.YES if everything and flow == TO_OTHERS else Sure.MAYBE
    return pods_selected(flow, pods, peer.get("namespaceSelector"), peer.get("podSelector"))


def pods_selected(flow: str, pods: Pods, namespaces: Object | None, selected: Object | None) -> Sure:
    """Return whether selectors of namespaces (None: that of the probe pods alone) and of pods take in the other side of a flow."""
    if flow in (FROM_PODS, TO_PODS):
        inside = Sure.YES if namespaces is None else selector_known(namespaces, pods.namespace_labels)
        return min(inside, selector_known(selected, pods.labels))
    if flow == TO_DNS and namespaces is not None:
        return min(selector_known(namespaces, DNS_NAMESPACE, known=False), selector_known(selected, DNS_PODS))
    if flow == FROM_OTHERS and namespaces is not None:
        return Sure.YES if not namespaces and not selected else Sure.MAYBE
    if flow == TO_OTHERS and namespaces is not None:
        return Sure.MAYBE  # an API server or a reference point may be a pod
    return Sure.NO


def admin_policy(kind: str, item: Object, pods: Pods) -> Policy | None:
    """Read an AdminNetworkPolicy, its baseline, or a ClusterNetworkPolicy; None when it does not select the probe pods."""
    spec = item.get("spec") or {}
    if _subject(spec.get("subject") or {}, pods) is Sure.NO:
        return None
    admits, denies = {}, {}
    for flows, key, peers in ((INGRESS, "ingress", "from"), (EGRESS, "egress", "to")):
        rules = spec.get(key) or ()
        for flow in flows:
            asked = [(_verb(rule), _admin_admits(rule, rule.get(peers) or (), flow, pods)) for rule in rules]
            admits[flow], denies[flow] = in_order(asked, allow="Allow", deny="Deny")
    return Policy(f"{kind} {item['metadata']['name']}", {}, admits, denies)


def _verb(rule: Object) -> str:
    verb = str(rule.get("action"))
    return "Allow" if verb == "Accept" else verb  # as ClusterNetworkPolicy has it


def _subject(subject: Object, pods: Pods) -> Sure:
    if "pods" in subject:
        chosen = subject["pods"]
        return min(
            selector_known(chosen.get("namespaceSelector"), pods.namespace_labels), selector_known(chosen.get("podSelector"), pods.labels)
        )
    return selector_known(subject.get("namespaces"), pods.namespace_labels)


def _admin_admits(rule: Object, peers: Sequence[Object], flow: str, pods: Pods) -> Sure:
    limited = any(rule.get(key) for key in ("ports", "protocols"))
    return min(best(_admin_peer(peer, flow, pods) for peer in peers), Sure.MAYBE if limited else Sure.YES)


def _admin_peer(peer: Object, flow: str, pods: Pods) -> Sure:
    if "namespaces" in peer:
        return pods_selected(flow, pods, peer["namespaces"] or {}, None)
    if "pods" in peer:
        chosen = peer["pods"]
        return pods_selected(flow, pods, chosen.get("namespaceSelector") or {}, chosen.get("podSelector"))
    if "networks" in peer:
        return (Sure.YES if set(peer["networks"]) & set(_EVERYWHERE) else Sure.MAYBE) if flow in EGRESS else Sure.NO
    if "nodes" in peer:
        return Sure.MAYBE if flow in (TO_OTHERS, FROM_NODES) else Sure.NO
    return Sure.MAYBE


def read(objects: Mapping[str, Sequence[Object]], pods: Pods) -> Iterator[Policy]:
    """Yield the policies of these kinds that select the probe pods."""
    for item in objects.get("NetworkPolicy", ()):
        if (policy := network_policy(item, pods)) is not None:
            yield policy
    for kind in ADMIN_KINDS:
        for item in objects.get(kind, ()):
            if (policy := admin_policy(kind, item, pods)) is not None:
                yield policy


ADMIN_KINDS = ("AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy")
