"""What keeps probe pods from being made or started and is no fault of the network: by whose name, and what to do about it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Containers of service meshes: where one is in a probe pod, the mesh is measured and not the network.
MESH_CONTAINERS: Mapping[str, str] = {
    "istio-proxy": "Istio",
    "istio-init": "Istio",
    "istio-validation": "Istio",
    "linkerd-proxy": "Linkerd",
    "linkerd-init": "Linkerd",
    "kuma-sidecar": "Kuma",
    "kuma-init": "Kuma",
    "consul-dataplane": "Consul",
    "consul-connect-inject-init": "Consul",
}
#: What pods say to the meshes that would take them in.
MESH_LABELS: Mapping[str, str] = {
    "sidecar.istio.io/inject": "false",
    "istio.io/dataplane-mode": "none",
    "kuma.io/sidecar-injection": "disabled",
}
MESH_ANNOTATIONS: Mapping[str, str] = {
    "sidecar.istio.io/inject": "false",
    "linkerd.io/inject": "disabled",
    "consul.hashicorp.com/connect-inject": "false",
}

_ELSEWHERE = "or let the run use another namespace (--k8snet-namespace)"
_LEAVE_OUT = "make room there, or leave the node out (--k8snet-nodes) or allow it to be missing (--k8snet-allow-missing)"


@dataclass(frozen=True, slots=True)
class _Hindrance:
    pattern: re.Pattern[str]
    told: str


def _of(pattern: str, told: str) -> _Hindrance:
    return _Hindrance(re.compile(pattern, re.IGNORECASE), told)


_LIMIT_RANGE = _of(
    r"(minimum|maximum) \S+ usage per (container|pod) is|limit to request ratio per (container|pod) is",
    f"{{limit_ranges}} takes no pods as small as the probe pods, or no pods without limits: change it, {_ELSEWHERE}",
)
_HINDRANCES = (
    _of(
        r"exceeded quota: (?P<name>[^,\s]+)",
        f"ResourceQuota {{namespace}}/{{name}} has no room for what the run makes: raise it, {_ELSEWHERE}",
    ),
    _of(
        r"failed quota: (?P<name>[^:\s]+): must specify",
        "ResourceQuota {namespace}/{name} takes only pods that say what they use at most: a LimitRange with defaults says it for them; "
        f"add one, {_ELSEWHERE}",
    ),
    _LIMIT_RANGE,
    _of(
        r"ValidatingAdmissionPolicy '(?P<name>[^']+)' with binding '(?P<binding>[^']+)' denied",
        f"ValidatingAdmissionPolicy {{name}} refuses it: except the namespace from its binding {{binding}}, {_ELSEWHERE}",
    ),
    _of(
        r'failed calling webhook "(?P<name>[^"]+)"',
        "nobody answers for the admission webhook {name}, and its failurePolicy is Fail: NET-CONTROL-007 tells whose it is",
    ),
    _of(
        r'admission webhook "(?P<name>[^"]+)" denied',
        f"the admission webhook {{name}} refuses it: except the namespace from its policy, {_ELSEWHERE}",
    ),
    _of(
        r"violates PodSecurity",
        f"label namespace {{namespace}} pod-security.kubernetes.io/enforce=privileged, {_ELSEWHERE}",
    ),
    _of(
        r"unable to validate against any security context constraint",
        "OpenShift's security context constraints refuse it: `oc adm policy add-scc-to-user privileged -z default -n {namespace}`",
    ),
    _of(
        r"no IP addresses available in range|No IPs? available|range is full|no more IPs|no available (IP|addresses)"
        r"|failed to assign an IP address to container|Assigned 0 out of \d+ requested",
        "the addresses that the CNI has for pods of this node are used up (NET-CONTROL-003): the network's fault it is not; " + _LEAVE_OUT,
    ),
    _of(
        r"\bOutOf(?!Disk)\w+:|Too many pods|Insufficient (cpu|memory|pods|ephemeral-storage)",
        "the node is full: the network's fault it is not; " + _LEAVE_OUT,
    ),
)


def explained(message: str, namespace: str, limit_ranges: Sequence[str] = ()) -> str:
    """Return the message of a pod that was refused or does not start, with who stands in its way and what to do where that is known.

    `limit_ranges` are the names of the namespace's LimitRanges: the API server does not say which of them refuses a pod.
    """
    for item in _HINDRANCES:
        if (found := item.pattern.search(message)) is not None:
            ranges = " or ".join(f"LimitRange {namespace}/{name}" for name in limit_ranges) or f"a LimitRange of namespace {namespace}"
            return f"{message}; {item.told.format(namespace=namespace, limit_ranges=ranges, **found.groupdict())}"
    return message


def is_limit_range(message: str) -> bool:
    """Whether a LimitRange refuses a pod: which one has to be asked for."""
    return _LIMIT_RANGE.pattern.search(message) is not None


def in_a_mesh(pod: Mapping[str, Any]) -> str | None:
    """Return which containers a service mesh has added to a pod that was just made, None where there are none."""
    spec = pod.get("spec") or {}
    containers: Iterable[Mapping[str, Any]] = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    names = [str(item.get("name")) for item in containers if item.get("name") in MESH_CONTAINERS]
    if not names:
        return None
    return (
        f"{MESH_CONTAINERS[names[0]]} has put {', '.join(names)} into it, though labels and annotations of the pod say that it is not to: "
        f"what is measured would be the mesh and not the network; turn injection off for the namespace, {_ELSEWHERE}"
    )
