"""Services that lead to probe pods: what packets to Services' addresses are tested with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

MOST = 16  # Services of a run: each takes a ClusterIP and a NodePort
PORT = 80
TARGET_PORT = 8717  # of the probe pods, whose network is their own
SERVED = "k8snet/probe"  # label of a probe pod: its name, which a Service selects


@dataclass(frozen=True, slots=True)
class ProbeService:
    """A Service whose only endpoint is the probe pod of `node`."""

    name: str
    namespace: str
    node: str
    cluster_ip: str
    node_port: int

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProbeService:
        """Read what `to_json` gave."""
        return cls(**data)


def served(nodes: Sequence[str]) -> list[str]:
    """Return the nodes whose probe pods get a Service: all of a few, else some that lie apart."""
    if len(nodes) <= MOST:
        return [*nodes]
    return [nodes[index * len(nodes) // MOST] for index in range(MOST)]


def service_name(number: int) -> str:
    """Return the name of a Service."""
    return f"probe-{number}"


def service_body(metadata: Mapping[str, Any], pod: str) -> dict[str, Any]:
    """Return the Service for a probe pod. TCP only: a NodePort is open to whoever reaches the nodes, and UDP answers can be misdirected."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": dict(metadata),
        "spec": {
            "type": "NodePort",
            "selector": {SERVED: pod},
            "ports": [{"name": "probe", "protocol": "TCP", "port": PORT, "targetPort": TARGET_PORT}],
        },
    }
