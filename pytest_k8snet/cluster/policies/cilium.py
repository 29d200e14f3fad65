"""Cilium's own policies: CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (pkg/policy/api). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_k8snet.cluster.policies.kubernetes import DNS_PODS
from pytest_k8snet.cluster.policies.model import (
    EGRESS,
    FLOWS,
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
    selector_known,
)

KIND, CLUSTERWIDE = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"
CONFIG = "ConfigMap"
_NAMESPACE = "io.kubernetes.pod.namespace"
_NAMESPACE_LABEL = "io.cilium.k8s.namespace.labels."
_PREFIXES = ("k8s:", "any:", "k8s.", "any.")
#: Which entities take in the other side of a flow; `world` is what is outside the cluster.
_ENTITIES: Mapping[str, Sequence[str]] = {
    FROM_PODS: ("all", "cluster"),
    TO_PODS: ("all", "cluster"),
    FROM_OTHERS: ("all", "cluster"),
    TO_DNS: ("all", "cluster"),
    FROM_NODES: ("all", "cluster", "remote-node"),
    TO_OTHERS: ("all",),
}
_MAYBE: Mapping[str, Sequence[str]] = {
    FROM_NODES: ("host", "kube-apiserver"),
    TO_OTHERS: ("cluster", "host", "remote-node", "kube-apiserver", "world"),
    FROM_OTHERS: ("ingress",),
}
_PEERS = ("Endpoints", "Entities", "CIDR", "CIDRSet", "Requires", "Services", "FQDNs", "Groups", "Nodes")


def read(objects: Mapping[str, Sequence[Object]], pods: Pods) -> Iterator[Policy]:
    """Yield those that may select the probe pods, and the agents' own setting by which every pod is closed without one."""
    for item in objects.get(CONFIG, ()):
        if str((item.get("data") or {}).get("enable-policy", "")).lower() == "always":
            yield Policy(f"{CONFIG} {item['metadata']['name']} (enable-policy: always)", dict.fromkeys(FLOWS, Sure.YES))
    for kind in (KIND, CLUSTERWIDE):
        for item in objects.get(kind, ()):
            metadata = item["metadata"]
            if kind == KIND and metadata.get("namespace") != pods.namespace:
                continue
            name = f"{kind} {metadata['namespace']}/{metadata['name']}" if kind == KIND else f"{kind} {metadata['name']}"
            for spec in [item.get("spec"), *(item.get("specs") or ())]:
                if spec and spec.get("endpointSelector") is not None and _selects(spec["endpointSelector"], pods):
                    yield _policy(name, spec, pods)


def _selects(selector: Object, pods: Pods) -> bool:
    return selector_known(_plain(selector), _labels(pods)) is not Sure.NO


def _policy(name: str, spec: Object, pods: Pods) -> Policy:
    isolates, admits, denies = {}, {}, {}
    default = spec.get("enableDefaultDeny") or {}
    for flows, key, side in ((INGRESS, "ingress", "from"), (EGRESS, "egress", "to")):
        there = spec.get(key) is not None or spec.get(f"{key}Deny") is not None
        for flow in flows:
            isolates[flow] = Sure.YES if there and default.get(key) is not False else Sure.NO
            admits[flow] = best(_matches(rule, side, flow, pods) for rule in spec.get(key) or ())
            denies[flow] = best(_matches(rule, side, flow, pods) for rule in spec.get(f"{key}Deny") or ())
    return Policy(name, isolates, admits, denies)


def _matches(rule: Object, side: str, flow: str, pods: Pods) -> Sure:
    """Return whether a rule matches a flow; one that names nobody matches everybody (and so does ``{}``), an empty list nobody."""
    named = [f"{side}{peer}" for peer in _PEERS if f"{side}{peer}" in rule]
    limited = _limited(rule, flow)
    if not named:
        return limited
    found = Sure.NO
    for key in named:
        if key.endswith("Endpoints"):
            found = max(found, best(_endpoints(selector, flow, pods) for selector in rule[key] or ()))
        elif key.endswith("Entities"):
            found = max(found, best(_entity(str(entity), flow) for entity in rule[key] or ()))
        elif rule[key]:
            # Addresses of pods are in no CIDR for Cilium, those of nodes may be.
            found = max(found, Sure.MAYBE if flow in (TO_OTHERS, FROM_NODES, TO_DNS) else Sure.NO)
    return min(found, limited)


def _limited(rule: Object, flow: str) -> Sure:
    """Return whether ports and protocols of a rule take in those of a flow."""
    if rule.get("icmps"):
        return Sure.NO
    groups = rule.get("toPorts") or ()
    ports = [port for group in groups for port in group.get("ports") or ()]
    if not ports:
        return Sure.YES
    if flow == TO_DNS and any(str(port.get("port")) == "53" and port.get("protocol", "ANY") == "ANY" for port in ports):
        return Sure.YES
    return Sure.MAYBE


def _entity(entity: str, flow: str) -> Sure:
    if entity in _ENTITIES[flow]:
        return Sure.YES
    return Sure.MAYBE if entity in _MAYBE.get(flow, ()) else Sure.NO


def _endpoints(selector: Object, flow: str, pods: Pods) -> Sure:
    """Return whether a selector of endpoints takes in the other side: of pods, never of nodes or what is outside."""
    plain = _plain(selector)
    keys = [*plain["matchLabels"], *(item["key"] for item in plain["matchExpressions"])]
    elsewhere = any(str(key).startswith((_NAMESPACE, _NAMESPACE_LABEL)) for key in keys)
    if flow in (FROM_PODS, TO_PODS):
        return selector_known(plain, _labels(pods))
    if flow == TO_DNS:
        return selector_known(plain, {**DNS_PODS, _NAMESPACE: "kube-system"}, known=not elsewhere)
    if flow == FROM_OTHERS:
        return Sure.MAYBE if elsewhere or not keys else Sure.NO
    return Sure.NO


def _labels(pods: Pods) -> dict[str, str]:
    of_namespace = {f"{_NAMESPACE_LABEL}{key}": value for key, value in pods.namespace_labels.items()}
    return {**pods.labels, _NAMESPACE: pods.namespace, **of_namespace}


def _plain(selector: Object) -> dict[str, Any]:
    """Return a selector without the sources of labels."""
    return {
        "matchLabels": {_key(key): value for key, value in (selector.get("matchLabels") or {}).items()},
        "matchExpressions": [{**item, "key": _key(str(item.get("key")))} for item in selector.get("matchExpressions") or ()],
    }


def _key(key: str) -> str:
    return next((key.removeprefix(prefix) for prefix in _PREFIXES if key.startswith(prefix)), key)
