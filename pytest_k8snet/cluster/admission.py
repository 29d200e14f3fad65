"""Admission webhooks that are asked about new pods: who can keep probe pods, or any others, from being made. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

#: Labels of a namespace that a run makes; the API server adds the name.
OWN_NAMESPACE = {"app.kubernetes.io/managed-by": "pytest-k8snet", "kubernetes.io/metadata.name": "k8snet-0"}


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook that is asked about pods."""

    name: str
    configuration: str  # "ValidatingWebhookConfiguration policy"
    fail: bool  # whether pods are refused while nobody answers (failurePolicy)
    asked_about_probes: bool  # in a namespace that a run makes
    service: str | None  # namespace/name; None for a URL
    ready: int | None = None  # endpoints of the Service; None when they are not known

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return {
            "name": self.name,
            "configuration": self.configuration,
            "fail": self.fail,
            "asked_about_probes": self.asked_about_probes,
            "service": self.service,
            "ready": self.ready,
        }


def webhooks_of_pods(kind: str, configurations: Iterable[Mapping[str, Any]]) -> Iterator[Webhook]:
    """Yield the webhooks that rules make the API server ask when a pod is created, in some namespace at least."""
    for configuration in configurations:
        for item in configuration.get("webhooks") or ():
            if not any(_is_of_pods(rule) for rule in item.get("rules") or ()):
                continue
            service = (item.get("clientConfig") or {}).get("service")
            selectors = [item.get("namespaceSelector"), item.get("objectSelector")]
            yield Webhook(
                name=str(item.get("name")),
                configuration=f"{kind} {configuration['metadata']['name']}",
                fail=item.get("failurePolicy", "Fail") == "Fail",
                asked_about_probes=all(selects(selector, OWN_NAMESPACE) for selector in selectors),
                service=None if service is None else f"{service['namespace']}/{service['name']}",
            )


def with_endpoints(webhook: Webhook, slices: Iterable[Mapping[str, Any]]) -> Webhook:
    """Return a webhook with how many endpoints of its Service are ready."""
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or ()]
    return replace(webhook, ready=sum((endpoint.get("conditions") or {}).get("ready") is not False for endpoint in endpoints))


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects an object with these labels; an empty one selects everything."""
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or ():
        key, operator, values = expression.get("key"), expression.get("operator"), expression.get("values") or ()
        there = key in labels
        matches = {
            "In": there and labels.get(key, "") in values,
            "NotIn": not there or labels[key] not in values,
            "Exists": there,
            "DoesNotExist": not there,
        }.get(operator, False)
        if not matches:
            return False
    return True


def webhooks_from_json(data: Iterable[Mapping[str, Any]] | None) -> tuple[Webhook, ...] | None:
    """Read what `Webhook.to_json` gave."""
    return None if data is None else tuple(Webhook(**item) for item in data)


def _is_of_pods(rule: Mapping[str, Any]) -> bool:
    wanted = (("apiGroups", ("", "*")), ("apiVersions", ("v1", "*")), ("resources", ("pods", "*", "*/*")), ("operations", ("CREATE", "*")))
    return all(set(rule.get(key) or ()) & set(values) for key, values in wanted) and rule.get("scope") != "Cluster"
