"""Makes, changes and deletes objects in a lab's API server."""

from __future__ import annotations

import copy
import re
import time
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.api_error import ApiError, ApiUnreachableError
from pytest_k8snet.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_k8snet.cluster.api import Api

_CLUSTER_WIDE = frozenset(
    {
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "IngressClass",
        "Namespace",
        "Node",
        "PriorityClass",
        "ServiceCIDR",
        "ValidatingWebhookConfiguration",
    }
)
_POLL_S = 0.2
_DELETE_S = 60.0
_CONFLICTS = 20


class LabClient:
    """Objects are named by manifests: apiVersion, kind, metadata."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Create an object."""
        self.api.post(collection(manifest), manifest)

    def read(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Read an object; raise an `ApiError` with status 404 when it is not there."""
        found: dict[str, Any] = self.api.get(path(manifest))
        return found

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Create an object, or replace everything but what the server keeps of it."""
        try:
            self.create(manifest)
        except ApiError as error:
            if error.status != 409:
                raise
            self.change(manifest, lambda _: copy.deepcopy(dict(manifest)))

    def change(self, manifest: Mapping[str, Any], change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        """Replace an object by what `change` makes of it, again when somebody else changed it meanwhile."""
        for _ in range(_CONFLICTS):
            found = self.read(manifest)
            version = found["metadata"]["resourceVersion"]
            changed = dict(change(found))
            changed["metadata"] = {**changed["metadata"], "resourceVersion": version}
            if manifest["kind"] == "Service":  # its address cannot be taken away
                changed["spec"] = {"clusterIP": found["spec"]["clusterIP"], **changed["spec"]}
            try:
                self.api.request("PUT", path(manifest), body=changed)
            except ApiError as error:
                if error.status == 409:
                    continue
                raise
            return
        raise LabError(f"{path(manifest)}: somebody else kept changing it")

    def set_status(self, manifest: Mapping[str, Any]) -> None:
        """Replace the status of an object."""
        found = self.read(manifest)
        self.api.request("PUT", f"{path(manifest)}/status", body={**found, "status": manifest["status"]})

    def delete(self, manifest: Mapping[str, Any]) -> None:
        """Delete an object and wait until it is gone; one that is not there is no error."""
        self.api.delete(path(manifest), propagationPolicy="Foreground", gracePeriodSeconds=1)
        deadline = time.monotonic() + _DELETE_S
        while True:
            try:
                self.read(manifest)
            except ApiError as error:
                if error.status == 404:
                    return
                raise
            if time.monotonic() > deadline:
                raise LabError(f"{path(manifest)}: not gone {_DELETE_S:.0f} s after it was deleted")
            time.sleep(_POLL_S)

    def answers(self) -> bool:
        """Say whether the API server is ready: it has made the namespace of the system itself."""
        try:
            self.api.get("/api/v1/namespaces/kube-system")
        except (ApiError, ApiUnreachableError):
            return False
        return True


def collection(manifest: Mapping[str, Any]) -> str:
    """Give the path of all objects of a manifest's kind."""
    version, kind = manifest["apiVersion"], manifest["kind"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = (
        "endpoints" if kind == "Endpoints" else re.sub(r"(?<![aeiou])ys$", "ies", f"{kind.lower()}{'es' if kind.endswith('s') else 's'}")
    )
    if kind in _CLUSTER_WIDE:
        return f"{base}/{plural}"
    return f"{base}/namespaces/{manifest['metadata']['namespace']}/{plural}"


def path(manifest: Mapping[str, Any]) -> str:
    """Give the path of the object that a manifest names."""
    return f"{collection(manifest)}/{manifest['metadata']['name']}"
