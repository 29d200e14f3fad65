"""What a node's kubelet is told of names: the part ``kubelet`` of the facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        import yaml

        settings: dict[str, Told] = {}
        unread = []
        for item in data["files"]:
            try:
                found = yaml.safe_load(item["text"]) if item["text"] is not None else None
            except yaml.YAMLError:
                found = None
            if item["text"] is None or (item["text"].strip() and not isinstance(found, Mapping)):
                unread.append(item["path"])
                continue
            settings.update({key: Told(value, f"{item['path']} {key}") for key, value in (found or {}).items() if value is not None})
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


def _addresses(told: Told | None) -> Told | None:
    if told is None:
        return None
    values: Sequence[Any] = told.value if isinstance(told.value, list) else [told.value]
    return Told(tuple(str(value) for value in values), told.source)
