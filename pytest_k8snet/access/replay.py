"""A cluster that is only remembered: inventory and probe pods are those of a recording, and nothing is contacted."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_ingresses import ProbeIngress
from pytest_k8snet.access.probe_policies import PolicyPod
from pytest_k8snet.access.probe_services import GroupService, ProbeService
from pytest_k8snet.access.probes import Probe
from pytest_k8snet.cluster.ingress import Route
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.cluster.policies.reading import Policies
from pytest_k8snet.errors import AccessError, ClusterError, ConfigurationError, ProbeError, RecordError
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.store import CLUSTER_FILE, PROBES

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Deadline
    from pytest_k8snet.cluster.lease import Leases
    from pytest_k8snet.measure.registry import ServiceSource
    from pytest_k8snet.record.recording import Recorded


class ReplayBackend:
    """What a run needs of a cluster (`pytest_k8snet.backend.Backend`), from the recording that `read_json` reads."""

    def __init__(self, run: Recorded, read_json: Callable[[str], Any], origin: str) -> None:
        self._run = run
        self._read_json = read_json
        self._origin = origin

    @property
    def origin(self) -> str:
        """The recording's place."""
        return self._origin

    @property
    def services(self) -> ServiceSource:
        """There are none but those in documents."""
        raise ClusterError(f"this is a replay of run {self._run.id}: there is no API server to ask")

    @property
    def leases(self) -> Leases | None:
        """No load is measured."""
        return None

    def missing_rights(self, run_id: str) -> str | None:
        """No right is needed."""
        del run_id
        return None

    def sweep(self) -> Sequence[str]:
        """There is nothing to remove."""
        return ()

    def read_cluster(self) -> Cluster:
        """Return the recorded inventory.

        Raises `RecordError` when there is none.
        """
        data = self._read_json(CLUSTER_FILE)
        if data is None:
            raise RecordError(f"the recording of run {self._run.id} has no inventory")
        document = Document.from_json(data, where=CLUSTER_FILE)
        if document.values is None:
            raise RecordError(f"the recording of run {self._run.id} has no inventory: {document.why}")
        try:
            return Cluster.from_json(document.values)
        except (KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"{CLUSTER_FILE}: damaged: {error!r}") from error

    def select_nodes(self, selector: str) -> Sequence[str]:
        """Nothing to select by: an inventory has no labels."""
        raise ConfigurationError(f"--k8snet-nodes: got {selector!r}, and a recording has no labels to select by; name the nodes")

    def beyond(self, cluster: Cluster, wanted: Collection[str]) -> Mapping[str, str]:
        """Leave that to the recorded plan."""
        del cluster, wanted
        return {}

    def start_probes(self, cluster: Cluster, nodes: Sequence[str], run_id: str) -> ReplayProbing:
        """Return what the recorded run said of its probe pods."""
        del cluster, run_id
        data = self._read_json(PROBES)
        if data is None:
            raise ProbeError(f"the recording of run {self._run.id} does not say whether its probe pods ran: the run was cut before")
        try:
            if data["error"] is not None:
                raise ProbeError(data["error"])
            return ReplayProbing({name: Probe.from_json(data["probes"][name]) for name in nodes})
        except (KeyError, TypeError) as error:
            raise RecordError(f"{PROBES}: damaged: {error!r}") from error

    def regroup(self, probe: Probe, run_id: str, *, member: bool) -> None:
        """Nothing is measured."""
        del probe, run_id, member

    def make_frontends(self, probe: Probe, run_id: str, number: int, ports: int) -> str:
        """Nothing is measured."""
        raise NotImplementedError

    def lead_ingress(self, probe: Probe) -> None:
        """Nothing is measured."""
        del probe

    def read_policies(self, namespace: str) -> Policies:
        """Nothing is asked: those that mattered are recorded."""
        del namespace
        return Policies()

    def ask_api(self) -> None:
        """Nothing is asked."""

    def relay_to_kubelet(self, probe: Probe) -> tuple[int, str]:
        """There is no API server to ask."""
        raise ClusterError(f"{probe.node}: a recording has no API server that could be asked")

    def relay_to_pod(self, probe: Probe, port: int, path: str) -> tuple[int, str]:
        """There is none for this either."""
        del port, path
        return self.relay_to_kubelet(probe)

    def make_policy(self, namespace: str, run_id: str) -> None:
        """Nothing is measured."""
        del namespace, run_id

    def remove_policy(self, namespace: str) -> None:
        """Nothing is measured."""
        del namespace

    def way(self, cluster: Cluster, nodes: Sequence[str]) -> str | None:
        """There is none."""
        del cluster, nodes
        return None

    def open_access(self, cluster: Cluster, probes: Mapping[str, Probe]) -> ReplayAccess:
        """Return the way to nodes that are not there."""
        del cluster
        return ReplayAccess(self._run, probes)

    def close(self) -> None:
        """Nothing is open."""


class ReplayProbing:
    """Probe pods that have run."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = probes

    def wait(self, deadline: Deadline) -> Mapping[str, Probe]:
        """Return them."""
        del deadline
        return self._probes

    def make_services(self, nodes: Sequence[str]) -> Sequence[ProbeService]:
        """Make none: what they were for is recorded."""
        del nodes
        return ()

    def make_groups(self) -> Sequence[GroupService]:
        """Make none either."""
        return ()

    def make_ingresses(self, node: str, routes: Sequence[Route]) -> Sequence[ProbeIngress]:
        """Make none: what they were for is recorded."""
        del node, routes
        return ()

    def make_policy_pods(self, nodes: Sequence[str], deadline: Deadline) -> Sequence[PolicyPod]:
        """Make none: what they were for is recorded."""
        del nodes, deadline
        return ()

    def delete(self) -> None:
        """Nothing was created."""


class ReplayAccess:
    """The way to nodes that are not there."""

    def __init__(self, run: Recorded, probes: Mapping[str, Probe]) -> None:
        self._run = run
        self._probes = probes

    def host(self, node: str) -> ReplayAgent:
        """Return an agent that answers nothing."""
        return self._agent(node, f"{node} (host)")

    def pod(self, node: str) -> ReplayAgent:
        """Return an agent that answers nothing."""
        return self._agent(node, f"{node} (pod)")

    def close(self) -> None:
        """Nothing is open."""

    def _agent(self, node: str, where: str) -> ReplayAgent:
        probe = self._probes.get(node)
        if probe is not None and probe.error is not None:
            raise ProbeError(probe.error)
        return ReplayAgent(self._run, node, where)


class ReplayAgent:
    """Says of everything that is asked that there is nobody to ask."""

    def __init__(self, run: Recorded, node: str, where: str) -> None:
        self._run = run
        self._node = node
        self._where = where

    @property
    def where(self) -> str:
        """Node and role."""
        return self._where

    def request(self, op: str, params: Mapping[str, Any] | None = None, *, timeout_s: float) -> Any:
        """Refuse."""
        del timeout_s
        asked = f"to run {shlex.join((params or {}).get('argv', ()))} on" if op == "run" else f"to ask for {op}"
        raise AccessError(f"{self._node}: this is a replay of run {self._run.id}: there is no node {asked}")

    def close(self) -> None:
        """Nothing is open."""
