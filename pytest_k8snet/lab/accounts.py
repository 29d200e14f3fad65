"""Accounts of what runs in a lab's cluster, and what they may do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_GROUP = "rbac.authorization.k8s.io"


def account(namespace: str, name: str, rules: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Give a service account that may do what `rules` say in the whole cluster, by a role of the same name."""
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": name}}
    yield {"apiVersion": f"{_GROUP}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": [*rules]}
    yield role_binding(name, name, namespace, name)


def role_binding(name: str, role: str, namespace: str, account: str) -> dict[str, Any]:
    """Give a service account a role in the whole cluster."""
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }
