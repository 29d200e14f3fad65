"""What a node's kubelet is told of names: the part ``kubelet`` of the facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Told:
    """A setting, and where it was read."""

    value: Any
    source: str  # "--cluster-dns", "/var/lib/kubelet/config.yaml clusterDNS"


@dataclass(frozen=True, slots=True)
class Kubelet:
    """What the kubelet gives pods to ask names of. A setting that is None is the kubelet's default."""

    dns: Told | None  # list of addresses
    domain: Told | None
    resolv_path: str | None  # that pods with the node's own resolver get; None: an empty one
    resolvers: tuple[str, ...] | None  # in that file; None when it could not be read
    unread: tuple[str, ...]  # files that could not be read, or are damaged

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Kubelet:
        """Read ``{"flags": {...}, "files": [{"path": ..., "text": ...}], "resolv_path": ..., "resolv": {...}}``.

        Flags win over files, and of files the last one that has a key.
        """
        settings: dict[str, Told] = {}
        unread = []
        for item in data["files"]:
            found = None if item["text"] is None else _file(item["text"])
            if found is None:
                unread.append(item["path"])
                continue
            settings.update({key: Told(value, f"{item['path']} {key}") for key, value in found.items() if value is not None})
        for key, value in data["flags"].items():
            flag = {"clusterDNS": "--cluster-dns", "clusterDomain": "--cluster-domain"}.get(key)
            if flag is not None and value:
                settings[key] = Told(value.split(",") if key == "clusterDNS" else value, flag)
        resolv = data["resolv"]
        return cls(
            dns=_addresses(settings.get("clusterDNS")),
            domain=settings.get("clusterDomain"),
            resolv_path=data["resolv_path"],
            resolvers=None if resolv is None else tuple(resolv["nameservers"]),
            unread=tuple(unread),
        )


@lru_cache(maxsize=64)  # most nodes of a cluster have the same
def _file(text: str) -> Mapping[str, Any] | None:
    """Read a file, None for what is no mapping; an empty one is."""
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return found if isinstance(found, Mapping) else None if text.strip() else {}


def _addresses(told: Told | None) -> Told | None:
    if told is None:
        return None
    values: Sequence[Any] = told.value if isinstance(told.value, list) else [told.value]
    return Told(tuple(str(value) for value in values), told.source)
