"""A NetworkPolicy of the run's own, and the pods that it selects: pods made for it, so that it shuts nothing that other checks use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_k8snet.access import policy_server

NAME = "policy"  # of the NetworkPolicy
POLICIES = "/apis/networking.k8s.io/v1"
OPEN_PORT = 8722  # that the policy opens to everybody, over TCP and UDP
SHUT_PORT = 8723  # that it opens to nobody
CHOSEN_PORT = 8724  # that it opens to the probe pods of some nodes
NAMESPACE_PORT = 8725  # that it opens to the pods of their namespace
RELAY_PORT = 8726  # by which such a pod is told whom to ask itself
PORTS = (OPEN_PORT, SHUT_PORT, CHOSEN_PORT, NAMESPACE_PORT)
IN = (("TCP", OPEN_PORT), ("TCP", SHUT_PORT), ("TCP", CHOSEN_PORT), ("TCP", NAMESPACE_PORT), ("UDP", OPEN_PORT), ("UDP", SHUT_PORT))
"""What is asked of such a pod."""
OUT = (("TCP", OPEN_PORT), ("TCP", SHUT_PORT), ("TCP", CHOSEN_PORT), ("UDP", OPEN_PORT), ("UDP", SHUT_PORT))
"""What such a pod asks of probe pods, which serve on the same ports meanwhile."""
NAMESPACE_LABEL = "kubernetes.io/metadata.name"  # that the API server gives every namespace
NO_NAMESPACE = "k8snet-nobody"
SELECTED = "k8snet/policy"  # label of the pods that it selects: the run
CHOSEN = "k8snet/chosen"  # label of the probe pods of every second node: the run


@dataclass(frozen=True, slots=True)
class PolicyPod:
    """A pod that the NetworkPolicy selects; with `error` it does not run, and it says why."""

    node: str
    namespace: str
    name: str
    address: str | None
    chosen: bool  # whether the node's probe pod is one of those that CHOSEN_PORT is opened to
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PolicyPod:
        """Read what `to_json` gave."""
        return cls(**data)


def command(name: str) -> list[str]:
    """Return what such a pod runs."""
    return ["python3", "-I", "-c", Path(policy_server.__file__).read_text(encoding="utf-8"), name, str(RELAY_PORT), *map(str, PORTS)]


def allowed(port: int, *, chosen: bool) -> bool:
    """Whether the policy opens a port, in either direction, where the probe pod at the other end is one of those that are chosen."""
    return port in (OPEN_PORT, NAMESPACE_PORT) or (port == CHOSEN_PORT and chosen)


def policy_path(namespace: str) -> str:
    """Return where the API server has the NetworkPolicies of a namespace."""
    return f"{POLICIES}/namespaces/{namespace}/networkpolicies"


def policy_body(metadata: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """Return the NetworkPolicy of the pods that it selects, in both directions.

    Blocks of addresses are left out: "these should be cluster-external IPs" (Kubernetes documentation, Network Policies, ipBlock), and some
    CNIs, Cilium among them, do not take pods for such.
    """
    some = {"podSelector": {"matchLabels": {CHOSEN: run_id}}}
    own = {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: metadata["namespace"]}}}
    nobody = {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: NO_NAMESPACE}}}
    everywhere = [_port("TCP", OPEN_PORT), _port("UDP", OPEN_PORT)]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": dict(metadata),
        "spec": {
            "podSelector": {"matchLabels": {SELECTED: run_id}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"ports": [*everywhere, _port("TCP", RELAY_PORT)]},
                {"from": [some], "ports": [_port("TCP", CHOSEN_PORT)]},
                {"from": [own], "ports": [_port("TCP", NAMESPACE_PORT)]},
                {"from": [nobody], "ports": [_port("TCP", SHUT_PORT), _port("UDP", SHUT_PORT)]},
            ],
            "egress": [{"ports": everywhere}, {"to": [some], "ports": [_port("TCP", CHOSEN_PORT)]}],
        },
    }


def _port(protocol: str, port: int) -> dict[str, Any]:
    return {"protocol": protocol, "port": port}
