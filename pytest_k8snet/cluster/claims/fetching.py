"""Reads what claims are made of. What a cluster does not have is no error, and what may not be read is told with the claim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.api_error import ApiError
from pytest_k8snet.cluster.claims.objects import ConfigMaps, Object, Resource

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api


def config_maps(api: Api, wanted: Iterable[tuple[str, str]], needed: Sequence[tuple[str, str]]) -> tuple[ConfigMaps, dict[str, str]]:
    """Return those ConfigMaps that are there, and of others why they could not be read.

    Raises an `ApiError` when one of `needed` cannot be read.
    """
    found, unreadable = {}, {}
    for namespace, name in wanted:
        try:
            found[namespace, name] = dict(api.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}").get("data") or {})
        except ApiError as error:
            if error.status == 404:
                continue
            if (namespace, name) in needed:
                raise
            unreadable[f"ConfigMap {namespace}/{name}"] = str(error)
    return found, unreadable


def custom_objects(api: Api, wanted: Iterable[Resource]) -> tuple[dict[str, list[Object]], dict[str, str]]:
    """Return the objects of each kind that is installed, and of others why they could not be read."""
    found: dict[str, list[Object]] = {}
    unreadable: dict[str, str] = {}
    for resource in wanted:
        for path in resource.paths:
            try:
                objects: list[dict[str, Any]] = [*api.list(path)]
            except ApiError as error:
                if error.status != 404:
                    unreadable.setdefault(resource.kind, str(error))
                continue
            found[resource.kind] = [*objects]
            unreadable.pop(resource.kind, None)
            if objects:
                break  # an API that is served and has none may stand beside an older one that has them
    return found, unreadable


def objects(api: Api, path: str, what: str, **query: Any) -> tuple[list[Object], dict[str, str]]:
    """Return the objects of a list, or by the name `what` why they could not be read."""
    try:
        return [*api.list(path, **query)], {}
    except ApiError as error:
        return [], {} if error.status == 404 else {what: str(error)}
