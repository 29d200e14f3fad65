"""Calico's own policies: GlobalNetworkPolicy and NetworkPolicy of projectcalico.org. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytest_k8snet.cluster.policies.kubernetes import DNS_NAMESPACE, DNS_PODS
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
    in_order,
)
from pytest_k8snet.cluster.policies.selectors import SelectorError, matches

KIND, GLOBAL = "Calico NetworkPolicy", "GlobalNetworkPolicy"
_KNOWN_BY = "projectcalico.org/"
#: What Kubernetes' own NetworkPolicies become in Calico's data store: they are read themselves.
_COPY = "knp.default."


def read(objects: Mapping[str, Sequence[Object]], pods: Pods) -> Iterator[Policy]:
    """Yield those that may select the probe pods. Order and tiers between them are not looked at."""
    for kind in (GLOBAL, KIND):
        for item in objects.get(kind, ()):
            metadata, spec = item["metadata"], item.get("spec") or {}
            if kind == KIND and (metadata.get("namespace") != pods.namespace or metadata["name"].startswith(_COPY)):
                continue
            name = f"{kind} {metadata['namespace']}/{metadata['name']}" if kind == KIND else f"{kind} {metadata['name']}"
            selected = _selects(spec, pods)
            if selected is not Sure.NO and not spec.get("doNotTrack") and not spec.get("preDNAT"):
                policy = _policy(name, spec, pods)
                yield policy if selected is Sure.YES else policy.doubted()


def _selects(spec: Object, pods: Pods) -> Sure:
    labels = _labels(pods)
    namespace = {f"{_KNOWN_BY}name": pods.namespace, **pods.namespace_labels}
    account = {f"{_KNOWN_BY}name": "default"}
    asked = (
        (spec.get("selector"), labels),
        (spec.get("namespaceSelector"), namespace),
        (spec.get("serviceAccountSelector"), account),
    )
    return min(_matches(selector, of) for selector, of in asked)


def _matches(selector: str | None, labels: Mapping[str, str]) -> Sure:
    try:
        return Sure.YES if matches(selector or "", labels) else Sure.NO
    except SelectorError:
        return Sure.MAYBE


def _labels(pods: Pods) -> dict[str, str]:
    of_namespace = {f"pcns.{key}": value for key, value in pods.namespace_labels.items()}
    own = {"namespace": pods.namespace, "orchestrator": "k8s", "serviceaccount": "default"}
    return {**pods.labels, **of_namespace, **{f"{_KNOWN_BY}{key}": value for key, value in own.items()}}


def _policy(name: str, spec: Object, pods: Pods) -> Policy:
    types = spec.get("types") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    isolates, admits, denies = {}, {}, {}
    for kind, flows, key in (("Ingress", INGRESS, "ingress"), ("Egress", EGRESS, "egress")):
        if kind not in types:
            continue
        rules = [rule for rule in spec.get(key) or () if rule.get("action") != "Log"]
        for flow in flows:
            asked = [(str(rule.get("action")), _rule(rule, flow, pods)) for rule in rules]
            admits[flow], denies[flow] = in_order(asked, allow="Allow", deny="Deny")
            passed = any(verb == "Pass" and found is not Sure.NO for verb, found in asked)
            isolates[flow] = Sure.MAYBE if passed else Sure.YES
    return Policy(name, isolates, admits, denies)


def _rule(rule: Object, flow: str, pods: Pods) -> Sure:
    other = (rule.get("destination") if flow in EGRESS else rule.get("source")) or {}
    ports = (rule.get("destination") or {}).get("ports") or ()
    limited = Sure.YES
    if flow == TO_DNS and 53 in ports and rule.get("protocol") in ("UDP", "TCP"):
        limited = Sure.YES  # there is one rule for each, as a rule
    elif ports or rule.get("protocol") or rule.get("http") or rule.get("icmp") or (rule.get("source") or {}).get("ports"):
        limited = Sure.MAYBE
    return min(_side(other, flow, pods), limited)


def _side(side: Object, flow: str, pods: Pods) -> Sure:
    """Return whether one side of a rule takes in the other side of a flow."""
    if any(side.get(key) for key in ("nets", "notNets", "domains", "services", "notSelector", "serviceAccounts")):
        return Sure.MAYBE
    selector, namespaces = side.get("selector"), side.get("namespaceSelector")
    if not selector and not namespaces:
        return Sure.YES
    if flow in (FROM_PODS, TO_PODS):
        return min(_matches(selector, _labels(pods)), _matches(namespaces, {f"{_KNOWN_BY}name": pods.namespace, **pods.namespace_labels}))
    if flow == TO_DNS:
        labels = {**DNS_PODS, f"{_KNOWN_BY}namespace": "kube-system", f"{_KNOWN_BY}orchestrator": "k8s"}
        inside = _matches(namespaces, {f"{_KNOWN_BY}name": "kube-system", **DNS_NAMESPACE}) if namespaces else Sure.YES
        found = min(_matches(selector, labels), inside)
        return found if found is Sure.YES else Sure.MAYBE
    if flow in (FROM_OTHERS, FROM_NODES, TO_OTHERS):
        return Sure.MAYBE
    return Sure.NO
