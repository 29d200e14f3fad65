"""Find and remove what killed runs left in a cluster: by label and age, never by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_ingresses import HTTP_ROUTES, INGRESSES
from pytest_k8snet.access.probe_policies import POLICIES
from pytest_k8snet.access.probes import PRIORITY_CLASSES
from pytest_k8snet.cluster.api_error import ApiError
from pytest_k8snet.cluster.lease import LEASES, ApiLeases
from pytest_k8snet.cluster.ownership import EXPIRES, MANAGED_BY, MANAGER, RUN_ID

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

SELECTOR = f"{MANAGED_BY}={MANAGER},{RUN_ID}"


@dataclass(frozen=True, slots=True)
class Leftover:
    """An object of a run that is in the cluster."""

    kind: str  # Namespace, Pod, Service, Ingress, HTTPRoute, NetworkPolicy, PriorityClass, Lease
    name: str  # with its namespace, unless it is a Namespace or a PriorityClass
    path: str
    run_id: str
    created: datetime
    expires: datetime | None
    preconditions: Mapping[str, str] | None = None  # which version was found, where others may take the object over

    def __str__(self) -> str:
        """Return it as a reader would say it."""
        return f"{self.kind} {self.name} (run {self.run_id}, made {self.created:%Y-%m-%d %H:%M} UTC)"


def find(api: Api) -> list[Leftover]:
    """Return all objects with the labels of a run: namespaces, what is in others, priority classes, the Lease."""
    found = [_leftover("Namespace", item, "/api/v1/namespaces/{name}") for item in api.list("/api/v1/namespaces", labelSelector=SELECTOR)]
    ours = {item.name for item in found}
    pods = [
        _leftover("Pod", item, "/api/v1/namespaces/{namespace}/pods/{name}") for item in api.list("/api/v1/pods", labelSelector=SELECTOR)
    ]
    services = [
        _leftover("Service", item, "/api/v1/namespaces/{namespace}/services/{name}")
        for item in api.list("/api/v1/services", labelSelector=SELECTOR)
    ]
    # They go with a namespace that was made for them.
    found += [item for item in (*pods, *services, *_of_areas(api)) if item.name.split("/")[0] not in ours]
    try:
        classes = [*api.list(PRIORITY_CLASSES, labelSelector=SELECTOR)]
    except ApiError as error:
        if error.status != 403:  # who may not list them has made none
            raise
        classes = []
    return found + [_leftover("PriorityClass", item, PRIORITY_CLASSES + "/{name}") for item in classes] + _leases(api)


def choose(found: Iterable[Leftover], *, older_than: timedelta | None, everything: bool, now: datetime | None = None) -> list[Leftover]:
    """Return what to remove: what is past its own deadline, or older than said, or everything."""
    moment = now or datetime.now(UTC)
    if everything:
        return [*found]
    if older_than is not None:
        return [item for item in found if moment - item.created > older_than]
    return [item for item in found if item.expires is not None and item.expires < moment]


def remove(api: Api, leftover: Leftover) -> None:
    """Remove one object; one that is gone meanwhile is fine."""
    try:
        api.delete(leftover.path, preconditions=leftover.preconditions, gracePeriodSeconds=0 if leftover.kind == "Pod" else None)
    except ApiError as error:
        if error.status != 409 or leftover.preconditions is None:  # else a run has taken it over, and it is in use
            raise


def _of_areas(api: Api) -> list[Leftover]:
    """Return what is made for checks of some areas, and by those alone who may."""
    found: list[Leftover] = []
    for kind, base, plural in (
        ("Ingress", INGRESSES, "ingresses"),
        ("HTTPRoute", HTTP_ROUTES, "httproutes"),
        ("NetworkPolicy", POLICIES, "networkpolicies"),
    ):
        try:
            items = [*api.list(f"{base}/{plural}", labelSelector=SELECTOR)]
        except ApiError as error:
            if error.status not in (403, 404):  # who may not list them has made none, nor where there is no such kind
                raise
            continue
        found += [_leftover(kind, item, f"{base}/namespaces/{{namespace}}/{plural}/{{name}}") for item in items]
    return found


def _leases(api: Api) -> list[Leftover]:
    try:
        item = ApiLeases(api).get()
    except ApiError as error:
        if error.status != 403:  # who may not read it has made none
            raise
        return []
    if item is None or (item["metadata"].get("labels") or {}).get(MANAGED_BY) != MANAGER:
        return []
    version = {key: item["metadata"][key] for key in ("uid", "resourceVersion")}
    return [replace(_leftover("Lease", item, LEASES + "/{name}"), preconditions=version)]


def _leftover(kind: str, item: Mapping[str, Any], path: str) -> Leftover:
    metadata = item["metadata"]
    namespace = metadata.get("namespace")
    return Leftover(
        kind=kind,
        name=f"{namespace}/{metadata['name']}" if namespace else metadata["name"],
        path=path.format(name=metadata["name"], namespace=namespace),
        run_id=metadata["labels"][RUN_ID],
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        expires=_time((metadata.get("annotations") or {}).get(EXPIRES)),
    )


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
