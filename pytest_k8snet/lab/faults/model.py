"""What a fault is: one thing broken on one node, and exactly the cases of the suite that it turns red."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_k8snet.lab.addresses import NamedNode
from pytest_k8snet.lab.settings import NETWORK_KINDS, PROXY_MODES, NetworkKind

NODE = "{node}"
INTO_NODE = "{into}"
EVERY_NODE = "{every}"
PEER_NODE = "{peer}"
ANY_PROXY_MODE: tuple[str, ...] = PROXY_MODES
ANY_KUBE_PROXY: tuple[str, ...] = tuple(mode for mode in PROXY_MODES if mode != "none")
ANY_NETWORK: tuple[str, ...] = NETWORK_KINDS


class FaultyNode(NamedNode):
    """A node as faults see it."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command on a node ended."""

    exit_status: int
    stdout: str
    stderr: str


class FaultyLab(Protocol):
    """What faults need of a running lab."""

    @property
    def proxy_mode(self) -> str:
        """The service proxy the lab was started with: ipvs, iptables or none."""

    @property
    def network(self) -> NetworkKind:
        """How pods of different nodes reach each other: one of the lab's kinds of network."""

    @property
    def has_ingress(self) -> bool:
        """Whether it was started with an ingress."""

    @property
    def has_policy(self) -> bool:
        """Whether it was started with something that enforces NetworkPolicies."""

    @property
    def has_ipv6(self) -> bool:
        """Whether its pods have addresses of IPv6."""

    @property
    def nodes(self) -> Sequence[FaultyNode]:
        """All nodes, in the order of their names."""

    @property
    def pause_image(self) -> str:
        """An image that every node has, whose container does nothing for ever."""

    @property
    def node_kubeconfig(self) -> str:
        """A kubeconfig of an administrator, as text, that is valid on the nodes."""

    def run(self, node: str, argv: Sequence[str], *, stdin: str | None = None) -> Ran:
        """Run a command on a node as root; raise `LabError` with its output when it fails."""

    def filter_wire(self, node: str, program: Sequence[tuple[int, int, int, int]] | None) -> None:
        """Let this classic BPF program choose the frames that get to a node, or `None` all; `LabError` when that cannot be."""

    def apply_object(self, manifest: Mapping[str, Any]) -> None:
        """Create or replace a Kubernetes object."""

    def set_status(self, manifest: Mapping[str, Any]) -> None:
        """Give an object that is there the manifest's status."""

    def delete_object(self, manifest: Mapping[str, Any]) -> None:
        """Delete a Kubernetes object and wait until it is gone; one that is not there is no error."""

    def read_object(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read the object that has the manifest's kind, namespace and name."""

    def label_node(self, node: str, key: str, value: str | None) -> None:
        """Set a label of a node, or take it away with `None`."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Cases that a fault turns, of a subject: the node, the next in the ring, pairs into the node, every node, or ``cluster``."""

    check: str
    subject: str = NODE  # NODE, PEER_NODE, INTO_NODE, EVERY_NODE or cluster
    verdict: str = "fail"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to break on one node."""

    name: str
    area: str
    summary: str
    turns: tuple[Turns, ...]
    apply: Callable[[FaultyLab, FaultyNode], None]
    revert: Callable[[FaultyLab, FaultyNode], None]
    proxy_modes: tuple[str, ...] = ANY_PROXY_MODE
    networks: tuple[str, ...] = ANY_NETWORK
    with_ingress: bool = False
    with_policy: bool = False
    with_ipv6: bool = False
    """The labs in which the declared cases turn."""
