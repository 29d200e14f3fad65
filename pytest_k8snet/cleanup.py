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

_KINDS = (
    ("Pod", "/api/v1", "pods"),
    ("Service", "/api/v1", "services"),
    ("Ingress", INGRESSES, "ingresses"),
    ("HTTPRoute", HTTP_ROUTES, "httproutes"),
    ("NetworkPolicy", POLICIES, "networkpolicies"),
)


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


def find(api: Api, namespace: str | None = None) -> list[Leftover]:
    """Return all objects with the labels of a run: namespaces, what is in others, priority classes, the Lease.

    With `namespace` only those in it and the Lease: nothing is asked for that takes a right on other namespaces.
    """
    if namespace is not None:
        return [*_inside(api, namespace), *_leases(api)]
    made = _namespaces(api)
    ours = {item.name for item in made}
    # The others go with a namespace that was made for them.
    inside = [item for item in _inside(api, None) if item.name.split("/")[0] not in ours]
    return [*made, *inside, *_priority_classes(api), *_leases(api)]


def sweep(api: Api, namespace: str | None, *, after: timedelta) -> list[Leftover]:
    """Remove what killed runs left where a run makes its own objects, and return it.

    Those are namespaces of theirs with all that is in them, and priority classes; with `namespace` what is in that one. Only what is past
    its own deadline goes, and of that what has been there for longer than `after`, by the API server's own clock: who set the deadline
    may have had another one. Who may not look or remove leaves it to others.
    """
    removed = []
    try:
        found = [*_namespaces(api), *_priority_classes(api)] if namespace is None else _inside(api, namespace)
    except ApiError as error:
        if error.status != 403:
            raise
        return []
    now = api.clock
    past = [] if now is None else choose(found, older_than=None, everything=False, now=now)
    for item in past:
        if now is not None and now - item.created > after:
            try:
                remove(api, item)
            except ApiError as error:
                if error.status != 403:
                    raise
            else:
                removed.append(item)
    return removed


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
    path, query = leftover.path, {}
    if leftover.kind == "Pod":
        # As one of a collection: a run that uses a namespace which exists has that right there, and needs no other.
        path, _, name = path.rpartition("/")
        query = {"fieldSelector": f"metadata.name={name}", "labelSelector": SELECTOR, "gracePeriodSeconds": 0}
    try:
        api.delete(path, preconditions=leftover.preconditions, **query)
    except ApiError as error:
        if error.status != 409 or leftover.preconditions is None:  # else a run has taken it over, and it is in use
            raise


def _namespaces(api: Api) -> list[Leftover]:
    return [_leftover("Namespace", item, "/api/v1/namespaces/{name}") for item in api.list("/api/v1/namespaces", labelSelector=SELECTOR)]


def _inside(api: Api, namespace: str | None) -> list[Leftover]:
    """Return what is in one namespace, or in any."""
    found = []
    for kind, base, plural in _KINDS:
        inside = f"{base}/{plural}" if namespace is None else f"{base}/namespaces/{namespace}/{plural}"
        try:
            items = [*api.list(inside, labelSelector=SELECTOR)]
        except ApiError as error:
            # Of areas: who may not list them has made none, nor where there is no such kind.
            if kind in ("Pod", "Service") or error.status not in (403, 404):
                raise
            continue
        found += [_leftover(kind, item, f"{base}/namespaces/{{namespace}}/{plural}/{{name}}") for item in items]
    return found


def _priority_classes(api: Api) -> list[Leftover]:
    try:
        items = [*api.list(PRIORITY_CLASSES, labelSelector=SELECTOR)]
    except ApiError as error:
        if error.status != 403:  # who may not list them has made none
            raise
        return []
    return [_leftover("PriorityClass", item, PRIORITY_CLASSES + "/{name}") for item in items]


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
