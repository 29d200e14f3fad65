"""A service account with the least rights that a run needs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import yaml

from pytest_k8snet.cluster.permissions import Right, command, rights

NAME = "k8snet"  # of the account, its roles and bindings, and of its namespace where none is named
_RBAC = "rbac.authorization.k8s.io"


def rbac(level: str, access: str, namespace: str | None, *, ingresses: bool = False) -> str:
    """Return the account, its roles and their bindings as YAML; what each rule is for stands above it."""
    home = namespace or NAME
    needed = rights(level, access, namespace, ingresses=ingresses)
    documents = [] if namespace is not None else [_object("v1", "Namespace", NAME)]
    documents.append(_object("v1", "ServiceAccount", NAME, home))
    for place in sorted({right.role_namespace for right in needed}, key=lambda name: name or ""):
        kind = "ClusterRole" if place is None else "Role"
        documents.append(_object(f"{_RBAC}/v1", kind, NAME, place) + _rules([right for right in needed if right.role_namespace == place]))
        documents.append(_object(f"{_RBAC}/v1", f"{kind}Binding", NAME, place) + _binding(kind, home))
    return "\n".join([*_head(level, access, namespace, home, ingresses=ingresses), *_joined(documents)]) + "\n"


def _head(level: str, access: str, namespace: str | None, home: str, *, ingresses: bool) -> Iterator[str]:
    yield f"# What a run needs with --k8snet-level={level}, --k8snet-access={access}" + (
        (f", --k8snet-namespace={namespace}" if namespace else "") + (", ingress.routes in the profile:" if ingresses else ":")
    )
    yield "#"
    yield f"#   {command(level, access, namespace, ingresses=ingresses)} | kubectl apply -f -"
    yield f"#   kubectl create token {NAME} --namespace {home}     # credentials for a kubeconfig"
    if access == "pod":
        yield "#"
        yield "# The right to make privileged pods is the right to become root on every node: give this account to nobody who may not."


def _object(version: str, kind: str, name: str, namespace: str | None = None) -> list[str]:
    lines = [f"apiVersion: {version}", f"kind: {kind}", "metadata:", f"  name: {name}"]
    return [*lines, f"  namespace: {_text(namespace)}"] if namespace is not None else lines


def _rules(needed: Sequence[Right]) -> list[str]:
    lines = ["rules:"]
    for right in needed:
        lines += [f"  # {right.why}"] if right.why else []
        lines += [f'  - apiGroups: ["{right.group}"]', f"    resources: [{right.resource}]"]
        names = f"    resourceNames: [{', '.join(map(_text, right.names))}]" if right.names else ""
        lines += textwrap.wrap(names, 120, subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False)
        lines += [f"    verbs: [{', '.join(right.verbs)}]"]
    return lines


def _binding(kind: str, home: str) -> list[str]:
    return [
        "roleRef:",
        f"  apiGroup: {_RBAC}",
        f"  kind: {kind}",
        f"  name: {NAME}",
        "subjects:",
        "  - kind: ServiceAccount",
        f"    name: {NAME}",
        f"    namespace: {_text(home)}",
    ]


def _joined(documents: Sequence[Sequence[str]]) -> Iterator[str]:
    for lines in documents:
        yield "---"
        yield from lines


def _text(name: str) -> str:
    """Quote a name that YAML would take for a number or a word of its own."""
    return str(yaml.safe_dump(name)).splitlines()[0]
