"""Policies that may keep the run's own packets away, read when a check has got no answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.hindrance import MESH_LABELS
from pytest_k8snet.cluster.ownership import MANAGED_BY, MANAGER
from pytest_k8snet.measure.taking import take_document

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

#: Labels that every probe pod has.
LABELS: Mapping[str, str] = {MANAGED_BY: MANAGER, **MESH_LABELS}


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Read them once."""
    method = "NetworkPolicies of the probe pods' namespace and those of the whole cluster and of CNIs, from the API"
    for subject in subjects:
        yield take_document("blocking", subject, method, lambda: _blocked(context))


def _blocked(context: MeasureContext) -> Mapping[str, Any]:
    namespace = next((probe.namespace for probe in context.probes.values() if probe.namespace), "")
    if not namespace or context.policies is None:
        return {"namespace": namespace, "blocked": [], "unreadable": {}}
    policies = context.policies(namespace)
    found = policies.blocked(namespace, LABELS)
    return {"namespace": namespace, "blocked": [item.to_json() for item in found], "unreadable": dict(policies.unreadable)}
