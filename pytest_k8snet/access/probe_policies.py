"""A NetworkPolicy of the run's own, and the pods that it selects: pods made for it, so that it shuts nothing that other checks use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_k8snet.access import policy_server

NAME = "policy"  # of the NetworkPolicy
POLICIES = "/apis/networking.k8s.io/v1"
OPEN_PORT = 8722  # that the policy opens to everybody
SHUT_PORT = 8723  # that it opens to nobody
CHOSEN_PORT = 8724  # that it opens to the probe pods of some nodes
PORTS = (OPEN_PORT, SHUT_PORT, CHOSEN_PORT)
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
    return ["python3", "-I", "-c", Path(policy_server.__file__).read_text(encoding="utf-8"), name, *map(str, PORTS)]


def policy_path(namespace: str) -> str:
    """Return where the API server has the NetworkPolicies of a namespace."""
    return f"{POLICIES}/namespaces/{namespace}/networkpolicies"


def policy_body(metadata: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """Return the NetworkPolicy: of the pods it selects one port is open to all, one to some pods, and all others to nobody."""
    some = {"podSelector": {"matchLabels": {CHOSEN: run_id}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": dict(metadata),
        "spec": {
            "podSelector": {"matchLabels": {SELECTED: run_id}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": [{"protocol": "TCP", "port": OPEN_PORT}]},
                {"from": [some], "ports": [{"protocol": "TCP", "port": CHOSEN_PORT}]},
            ],
        },
    }
