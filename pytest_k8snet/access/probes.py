"""The probe pods: two a node, made in parallel, named when they do not start and why, and removed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.image import DEFAULT_IMAGE

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Deadline
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.model import Cluster


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """What the probe pods are made of."""

    run_id: str  # a DNS label
    image: str = DEFAULT_IMAGE
    image_pull_secret: str | None = None
    namespace: str | None = None  # one that exists is used and never deleted; None makes k8snet-<run id>
    deadline_s: int = 3600  # activeDeadlineSeconds of the pods; cleanup counts from it
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """The two probe pods of a node; with `error` they cannot be used, and it says why."""

    node: str
    namespace: str
    host_pod: str
    pod: str
    pod_ip: str | None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Probe:
        """Read what `to_json` gave."""
        return cls(**data)


class RunningProbes:
    """The probe pods of a run from their creation to their removal."""

    def wait(self, deadline: Deadline) -> Mapping[str, Probe]:
        """Wait until every pod runs or is known not to; return one probe per node asked for."""
        raise NotImplementedError

    def delete(self) -> None:
        """Remove what was made, however much that is; it may be called twice. Does not wait for the pods to be gone."""
        raise NotImplementedError


def start_probes(api: Api, cluster: Cluster, settings: ProbeSettings, *, nodes: Sequence[str] | None = None) -> RunningProbes:
    """Create the probe pods on `nodes` (all of the cluster by default). When it fails or is interrupted it removes what it made."""
    raise NotImplementedError
