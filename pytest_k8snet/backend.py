"""What a run needs of a cluster, whichever way leads to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from pytest_k8snet.access.base import PATIENCE_S

if TYPE_CHECKING:
    import pytest

    from pytest_k8snet.access.base import Access, Deadline
    from pytest_k8snet.access.probe_ingresses import ProbeIngress
    from pytest_k8snet.access.probe_policies import PolicyPod
    from pytest_k8snet.access.probe_services import GroupService, ProbeService
    from pytest_k8snet.access.probes import Probe
    from pytest_k8snet.cluster.ingress import Route
    from pytest_k8snet.cluster.kubeconfig import Learn
    from pytest_k8snet.cluster.lease import Leases
    from pytest_k8snet.cluster.model import Cluster
    from pytest_k8snet.cluster.policies.reading import Policies
    from pytest_k8snet.measure.registry import ServiceSource
    from pytest_k8snet.options import Settings


class Probing(Protocol):
    """Probe pods from their creation to their removal."""

    def wait(self, deadline: Deadline) -> Mapping[str, Probe]:
        """Wait until every pod runs or is known not to."""

    def make_services(self, nodes: Sequence[str]) -> Sequence[ProbeService]:
        """Make Services that lead to the pods of some of the nodes."""

    def make_groups(self) -> Sequence[GroupService]:
        """Make Services that lead to several of the pods."""

    def make_ingresses(self, node: str, routes: Sequence[Route]) -> Sequence[ProbeIngress]:
        """Make Ingresses or HTTPRoutes that lead to the pod of a node."""

    def make_policy_pods(self, nodes: Sequence[str], deadline: Deadline) -> Sequence[PolicyPod]:
        """Make pods that a NetworkPolicy selects, and wait until they run or are known not to."""

    def delete(self) -> None:
        """Remove everything; it may be called twice."""


class Backend(Protocol):
    """A cluster: its inventory, its probe pods and the way to them."""

    @property
    def origin(self) -> str:
        """What leads to it, for the header."""

    @property
    def services(self) -> ServiceSource:
        """Its Services and EndpointSlices."""

    @property
    def leases(self) -> Leases | None:
        """Where the Lease is kept without which no load is measured; None where nothing is created in the cluster."""

    def missing_rights(self, run_id: str) -> str | None:
        """Return in one message what the run has to do and the identity may not; None when nothing is known to be missing."""

    def read_cluster(self) -> Cluster:
        """Read the inventory."""

    def select_nodes(self, selector: str) -> Sequence[str]:
        """Return the names of the nodes that a label selector matches."""

    def beyond(self, cluster: Cluster, wanted: Collection[str]) -> Mapping[str, str]:
        """Return which of the nodes cannot be reached this way, whatever their state, and why."""

    def sweep(self) -> Sequence[str]:
        """Remove what killed runs left that is past its deadline, and return what that was, in words."""

    def start_probes(self, cluster: Cluster, nodes: Sequence[str], run_id: str) -> Probing:
        """Create the probe pods."""

    def regroup(self, probe: Probe, run_id: str, *, member: bool) -> None:
        """Let a probe pod be one of those that a Service of several selects, or no more."""

    def make_frontends(self, probe: Probe, run_id: str, number: int, ports: int) -> str:
        """Make a Service of so many ports for a probe pod; return its ClusterIP."""

    def lead_ingress(self, probe: Probe) -> None:
        """Lead the Service behind Ingresses to a probe pod."""

    def make_policy(self, namespace: str, run_id: str) -> None:
        """Make the NetworkPolicy of the run."""

    def remove_policy(self, namespace: str) -> None:
        """Remove it."""

    def read_policies(self, namespace: str) -> Policies:
        """Read the policies that may concern pods of a namespace."""

    def ask_api(self) -> None:
        """Ask the API server for something small that everybody may read; raise `ClusterError` when it does not answer."""

    def relay_to_kubelet(self, probe: Probe) -> tuple[int, str]:
        """Let the API server ask the kubelet of a probe pod for its log; return the status and what was said."""

    def relay_to_pod(self, probe: Probe, port: int, path: str) -> tuple[int, str]:
        """Let the API server send an HTTP request to a probe pod's address; return the status and what was said."""

    def way(self, cluster: Cluster, nodes: Sequence[str]) -> str | None:
        """Return how `nodes` are reached, for the header; None when there is nothing to say."""

    def open_access(self, cluster: Cluster, probes: Mapping[str, Probe]) -> Access:
        """Return the way to the nodes."""

    def close(self) -> None:
        """Close all connections."""


class ApiBackend:
    """A real cluster, by its API server."""

    def __init__(self, settings: Settings, learn: Learn) -> None:
        from pytest_k8snet.cluster.api import Api

        assert settings.kubeconfig is not None
        self._settings = settings
        self._api = Api.from_kubeconfig(settings.kubeconfig, settings.context, learn=learn)

    @property
    def origin(self) -> str:
        """Kubeconfig and API server."""
        return f"{self._api.server}, {self._api.origin}"

    @property
    def services(self) -> ServiceSource:
        """The API server."""
        self._api.patience_s = PATIENCE_S
        return self._api

    @property
    def leases(self) -> Leases | None:
        """Nothing is created."""
        return None

    def missing_rights(self, run_id: str) -> str | None:
        """Ask the API server for every right."""
        from pytest_k8snet.cluster import permissions
        from pytest_k8snet.cluster.reviews import denied

        asked = (self._settings.level, self._settings.access, self._settings.namespace)
        needed = permissions.rights(*asked, run_namespace=f"k8snet-{run_id}", lock=not self._settings.no_lock)
        lacking = denied(self._api, permissions.questions(needed))
        if not lacking:
            return None
        only_the_lease = all(question.right.resource == "leases" for question in lacking)
        return (
            f"the identity of {self._api.origin} lacks: {'; '.join(permissions.in_words(lacking))}. "
            f"`{permissions.command(*asked)}` prints a role that has everything that is needed."
            + (" Without these, --k8snet-level=probe measures no load, and --k8snet-no-lock measures it beside others." * only_the_lease)
        )

    def read_cluster(self) -> Cluster:
        """Read nodes, kube-proxy, CNI and their claims."""
        from pytest_k8snet.cluster.inventory import read_cluster

        cluster = read_cluster(self._api)
        # What has answered once is waited for when it restarts; what never did is told at once.
        self._api.patience_s = PATIENCE_S
        return cluster

    def select_nodes(self, selector: str) -> Sequence[str]:
        """Ask the API server."""
        return [item["metadata"]["name"] for item in self._api.list("/api/v1/nodes", labelSelector=selector)]

    def beyond(self, cluster: Cluster, wanted: Collection[str]) -> Mapping[str, str]:
        """All are reached."""
        del cluster, wanted
        return {}

    def regroup(self, probe: Probe, run_id: str, *, member: bool) -> None:
        """Set the pod's label, or take it away."""
        from pytest_k8snet.access.probes import regroup

        regroup(self._api, probe, run_id, member=member)

    def make_frontends(self, probe: Probe, run_id: str, number: int, ports: int) -> str:
        """Ask the API server for it."""
        from pytest_k8snet.access.probes import make_frontends

        return make_frontends(self._api, probe, run_id, number, ports)

    def lead_ingress(self, probe: Probe) -> None:
        """Change what the Service selects."""
        from pytest_k8snet.access.probes import lead_ingress

        lead_ingress(self._api, probe)

    def make_policy(self, namespace: str, run_id: str) -> None:
        """Ask the API server for it."""
        from pytest_k8snet.access.probes import make_policy

        make_policy(self._api, namespace, run_id)

    def remove_policy(self, namespace: str) -> None:
        """Ask the API server to remove it."""
        from pytest_k8snet.access.probes import remove_policy

        remove_policy(self._api, namespace)

    def read_policies(self, namespace: str) -> Policies:
        """Ask the API server for them."""
        from pytest_k8snet.cluster.policies.reading import read_policies

        return read_policies(self._api, namespace)

    def ask_api(self) -> None:
        """Ask it for its version."""
        self._api.get("/version")

    def relay_to_kubelet(self, probe: Probe) -> tuple[int, str]:
        """Ask the API server for the log."""
        from pytest_k8snet.access.probes import relay_to_kubelet

        return relay_to_kubelet(self._api, probe)

    def relay_to_pod(self, probe: Probe, port: int, path: str) -> tuple[int, str]:
        """Ask the API server to pass a request on."""
        from pytest_k8snet.access.probes import relay_to_pod

        return relay_to_pod(self._api, probe, port, path)

    def close(self) -> None:
        """Close the API client."""
        self._api.close()


class PodBackend(ApiBackend):
    """A real cluster whose nodes are reached through probe pods."""

    @property
    def leases(self) -> Leases | None:
        """The API server's."""
        from pytest_k8snet.cluster.lease import ApiLeases

        return ApiLeases(self._api)

    def sweep(self) -> Sequence[str]:
        """Look where this run makes its own objects."""
        from pytest_k8snet.access.probes import DEADLINE_S
        from pytest_k8snet.cleanup import sweep

        return [str(item) for item in sweep(self._api, self._settings.namespace, after=timedelta(seconds=DEADLINE_S))]

    def start_probes(self, cluster: Cluster, nodes: Sequence[str], run_id: str) -> Probing:
        """Create two pods a node."""
        from pytest_k8snet.access.probes import ProbeSettings, start_probes

        settings = self._settings
        wanted = ProbeSettings(
            run_id=run_id,
            image=settings.image,
            image_pull_secret=settings.image_pull_secret,
            namespace=settings.namespace,
            frontends=max(settings.service_scale, default=0),
            idle=settings.idle > 0,
        )
        return start_probes(self._api, cluster, wanted, nodes=nodes)

    def way(self, cluster: Cluster, nodes: Sequence[str]) -> str | None:
        """Probe pods are what there is without saying so."""
        del cluster, nodes
        return None

    def open_access(self, cluster: Cluster, probes: Mapping[str, Probe]) -> Access:
        """Go by exec through the API server."""
        del cluster
        from pytest_k8snet.access.pod import PodAccess

        self._api.patience_s = PATIENCE_S
        return PodAccess(self._api, probes)


class PodlessBackend(ApiBackend):
    """A real cluster whose nodes are reached without it: of the API it only reads."""

    def sweep(self) -> Sequence[str]:
        """Leave it to runs that make objects."""
        return ()

    def start_probes(self, cluster: Cluster, nodes: Sequence[str], run_id: str) -> Probing:
        """Create nothing."""
        from pytest_k8snet.access.probes import NoProbes

        del run_id
        return NoProbes(cluster.node(name) for name in nodes)


class LocalBackend(PodlessBackend):
    """A real cluster, of which the node that this runs on is measured."""

    def beyond(self, cluster: Cluster, wanted: Collection[str]) -> Mapping[str, str]:
        """All but this machine."""
        from pytest_k8snet.access.local import this_node

        here = this_node(cluster, wanted)
        return {node.name: "access local reaches only the machine it runs on" for node in cluster.nodes if node.name != here}

    def way(self, cluster: Cluster, nodes: Sequence[str]) -> str | None:
        """Name the node."""
        del cluster
        return f"access local: this machine is {', '.join(nodes)}; no object is made in the cluster"

    def open_access(self, cluster: Cluster, probes: Mapping[str, Probe]) -> Access:
        """Go nowhere."""
        from pytest_k8snet.access.local import LocalAccess

        del cluster
        return LocalAccess(probes)


class SshBackend(PodlessBackend):
    """A real cluster whose nodes are reached by ssh."""

    def __init__(self, settings: Settings, learn: Learn) -> None:
        from pytest_k8snet.access.ssh_config import SshConfig

        super().__init__(settings, learn)
        self._config = SshConfig(settings)

    def read_cluster(self) -> Cluster:
        """Read the inventory, and see that the configuration makes sense for it."""
        from pytest_k8snet.errors import AccessError

        cluster = super().read_cluster()
        for node in cluster.nodes:
            with suppress(AccessError):  # told when that node is measured
                self._config.target(node)
        return cluster

    def way(self, cluster: Cluster, nodes: Sequence[str]) -> str | None:
        """Name the users that are logged in as."""
        from pytest_k8snet.errors import AccessError

        users: dict[str, int] = {}
        for name in nodes:
            with suppress(AccessError):
                user = self._config.target(cluster.node(name)).user
                users[user] = users.get(user, 0) + 1
        told = ", ".join(f"{user} ({count})" if len(users) > 1 else user for user, count in users.items())
        return f"access ssh as {told or 'nobody: no node has an address to go to'}; no object is made in the cluster"

    def open_access(self, cluster: Cluster, probes: Mapping[str, Probe]) -> Access:
        """Go to each node by itself."""
        from pytest_k8snet.access.ssh import SshAccess

        return SshAccess(self._config, cluster, probes)


def open_backend(config: pytest.Config, settings: Settings, learn: Learn) -> Backend:
    """Return the backend that the settings name, without contacting it. `learn` is told its credentials, to keep them out of all reports.

    Raises a `K8sNetError` when the kubeconfig is not usable, or no conftest has a fake cluster.
    """
    if settings.access != "fake":
        if settings.access == "ssh":
            return SshBackend(settings, learn)
        return LocalBackend(settings, learn) if settings.access == "local" else PodBackend(settings, learn)
    from pytest_k8snet.errors import ConfigurationError

    fake: Backend | None = config.hook.pytest_k8snet_fake(config=config)
    if fake is None:
        raise ConfigurationError("--k8snet-access=fake: no conftest.py implements pytest_k8snet_fake(config); it returns a FakeCluster")
    return fake
