"""What checks hold: a node or a pair of nodes of this run, which reads like the sentence an operator says."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.pairs import pair_nodes
from pytest_k8snet.errors import MeasurementError
from pytest_k8snet.shown import printable

if TYPE_CHECKING:
    from pytest_k8snet.access.base import CommandResult
    from pytest_k8snet.cluster.model import Node
    from pytest_k8snet.record.activity import Grown
    from pytest_k8snet.record.document import Document
    from pytest_k8snet.record.facts import LateFacts, Link, NodeFacts
    from pytest_k8snet.run import Run


FEW_PAIRS = 240  # whose measurements are read for every pair that is weak


class NodeHandle:
    """A node: ``node.sysctl("vm.swappiness")``, ``node.interface("eth0").mtu``, ``node.run(["ip", "-j", "link"])``."""

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        self.name = name

    def __repr__(self) -> str:
        return f"<node {printable(self.name)}>"

    @property
    def node(self) -> Node:
        """The node as the API server knows it."""
        return self._run.cluster.node(self.name)

    @property
    def facts(self) -> NodeFacts:
        """Everything that was read on the node in one round trip."""
        return self._run.facts(self.name)

    @property
    def late_facts(self) -> LateFacts:
        """What of them is still asked for when all other checks are done."""
        return self._run.late_facts(self.name)

    @property
    def grown(self) -> Grown | None:
        """What the kernel has counted since the facts were read, None in a recording that is older than this."""
        from pytest_k8snet.record.activity import Activity, Grown

        first = self.late_facts.activity
        return None if first is None else Grown(first, Activity.from_document(self.document("activity")))

    def document(self, kind: str) -> Document:
        """Return a recorded measurement of this node; it is taken when it is not there yet."""
        return self._run.document(kind, self.name)

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0) -> CommandResult:
        """Run a command in the node's own namespaces. A non-zero exit status is a result; what cannot be run is an `AccessError`."""
        return self._run.command(self.name, argv, timeout_s)

    def sysctl(self, key: str) -> str:
        """Return a sysctl of the node's own namespaces, recorded or read now."""
        known = self.facts.host.sysctls.get(key)
        if known is not None:
            return known
        path = "/proc/sys/" + key.translate({ord("."): "/", ord("/"): "."})
        result = self.run(["cat", path])
        if result.exit_status != 0:
            raise MeasurementError(f"{self.name}: no sysctl {key}: {result.stderr.strip() or path}")
        return result.stdout.strip()

    def interface(self, name: str) -> Link:
        """Return a network device of the node."""
        link = self.facts.host.link(name)
        if link is None:
            known = ", ".join(link.name for link in self.facts.host.links)
            raise MeasurementError(f"{self.name}: no device {name}; it has: {known}")
        return link

    def route_to(self, address: str) -> dict[str, Any]:
        """Return the kernel's route to an address, as ``ip -j route get`` says it."""
        result = self.run(["ip", "-j", "route", "get", str(ipaddress.ip_address(address))])
        if result.exit_status != 0:
            raise MeasurementError(f"{self.name}: no route to {address}: {result.stderr.strip()}")
        routes: list[dict[str, Any]] = json.loads(result.stdout)
        return routes[0]


class PairHandle:
    """An ordered pair of nodes ``a:b``: a sends to b."""

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        self.name = name
        source, target = pair_nodes(name)
        self.source = NodeHandle(run, source)
        self.target = NodeHandle(run, target)

    def __repr__(self) -> str:
        return f"<pair {printable(self.name)}>"

    def document(self, kind: str) -> Document:
        """Return a recorded measurement of this pair; it is taken when it is not there yet."""
        return self._run.document(kind, self.name)

    def others(self, kind: str) -> list[Document]:
        """Return what has been measured of the run's other pairs under load: to tell whose fault it is. None of more than `FEW_PAIRS`."""
        others = [name for name in self._run.plan.load_pairs if name != self.name]
        found = (self._run.folder.get(kind, name) for name in others[:FEW_PAIRS])
        return [] if len(others) > FEW_PAIRS else [document for document in found if document is not None]
