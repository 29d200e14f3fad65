"""Services that lead to probe pods: what packets to Services' addresses are tested with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

MOST = 16  # Services of one probe pod each: each takes a ClusterIP and a NodePort
MOST_TOGETHER = 4  # endpoints of one Service: few enough that one without a share shows after some connections
PORT = 80
TARGET_PORT = 8717  # of the probe pods, whose network is their own
SERVED = "k8snet/probe"  # label of a probe pod: its name, which a Service selects
GROUP = "k8snet/group"  # label of the probe pods that a Service of several selects: the run
SPREAD, STICKY = "probe-spread", "probe-sticky"  # Services of several; the second keeps a client with one of them
GROUP_TARGET_PORTS = {SPREAD: 8718, STICKY: 8719}
SCALE_TARGET_PORT = 8720
IDLE_PORT, IDLE_TARGET_PORT = 81, 8722  # of the first Service of several, where connections are to be left idle
INGRESS_TARGET_PORT = 8721  # that Ingresses lead to: no other server of the pod may have it
PER_SERVICE = 100  # ports of one Service: addresses are few, ports are not


@dataclass(frozen=True, slots=True)
class ProbeService:
    """A Service whose only endpoint is the probe pod of `node`."""

    name: str
    namespace: str
    node: str
    cluster_ip: str
    node_port: int
    cluster_ips: tuple[str, ...] = ()  # the same and that of the other family, where it has both

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its ClusterIPs, the first of them `cluster_ip`."""
        return self.cluster_ips or (self.cluster_ip,)

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProbeService:
        """Read what `to_json` gave."""
        return cls(**{**data, "cluster_ips": tuple(data.get("cluster_ips") or ())})


@dataclass(frozen=True, slots=True)
class GroupService:
    """A Service whose endpoints are the probe pods of several nodes."""

    name: str
    namespace: str
    nodes: tuple[str, ...]
    cluster_ip: str

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GroupService:
        """Read what `to_json` gave."""
        return cls(**{**data, "nodes": tuple(data["nodes"])})


def served(nodes: Sequence[str]) -> list[str]:
    """Return the nodes whose probe pods get a Service: all of a few, else some that lie apart."""
    return _apart(nodes, MOST)


def grouped(nodes: Sequence[str]) -> list[str]:
    """Return the nodes whose probe pods are endpoints of the same Service."""
    return _apart(nodes, MOST_TOGETHER)


def _apart(nodes: Sequence[str], most: int) -> list[str]:
    if len(nodes) <= most:
        return [*nodes]
    return [nodes[index * len(nodes) // most] for index in range(most)]


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
            "ipFamilyPolicy": "PreferDualStack",  # an address of each family that the cluster has for Services
            "selector": {SERVED: pod},
            "ports": [{"name": "probe", "protocol": "TCP", "port": PORT, "targetPort": TARGET_PORT}],
        },
    }


def group_body(metadata: Mapping[str, Any], name: str, run_id: str, *, idle: bool = False) -> dict[str, Any]:
    """Return the Service for the probe pods of a group; `idle` gives the first of them a port for connections that nobody uses."""
    ports = [{"name": "probe", "protocol": "TCP", "port": PORT, "targetPort": GROUP_TARGET_PORTS[name]}]
    if idle and name == SPREAD:
        ports.append({"name": "idle", "protocol": "TCP", "port": IDLE_PORT, "targetPort": IDLE_TARGET_PORT})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": dict(metadata),
        "spec": {
            "selector": {GROUP: run_id},
            "sessionAffinity": "ClientIP" if name == STICKY else "None",
            "ports": ports,
        },
    }


def scale_name(number: int) -> str:
    """Return the name of a Service of many ports."""
    return f"scale-{number}"


def scale_body(metadata: Mapping[str, Any], pod: str, ports: int) -> dict[str, Any]:
    """Return a Service for a probe pod with the ports 1 to `ports`, all of which lead to the same one of the pod."""
    listed = [{"name": f"p{port}", "protocol": "TCP", "port": port, "targetPort": SCALE_TARGET_PORT} for port in range(1, ports + 1)]
    spec = {"selector": {SERVED: pod}, "ports": listed}
    return {"apiVersion": "v1", "kind": "Service", "metadata": dict(metadata), "spec": spec}
