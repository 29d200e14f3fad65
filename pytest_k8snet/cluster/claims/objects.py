"""What claims are read from, and what reading them gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_k8snet.cluster.model import Claim

#: An object as the API server gives it.
Object = Mapping[str, Any]
ConfigMaps = Mapping[tuple[str, str], Mapping[str, str]]  # (namespace, name) to data


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of custom object, with every API group that may serve it: the first one that answers is taken."""

    kind: str  # IPPool
    plural: str  # ippools
    groups: tuple[tuple[str, str], ...]  # (group, version)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of its list."""
        return tuple(f"/apis/{group}/{version}/{self.plural}" for group, version in self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """What was read from the API server. What a cluster does not have is empty; `unreadable` says what could not be read, and why."""

    daemonsets: Sequence[Object] = ()
    proxies: Sequence[Object] = ()  # kube-proxy's, as the inventory has them
    pods: Sequence[Object] = ()  # of kube-system
    nodes: Sequence[Object] = ()
    config_maps: ConfigMaps = field(default_factory=dict)
    custom: Mapping[str, Sequence[Object]] = field(default_factory=dict)  # by kind
    unreadable: Mapping[str, str] = field(default_factory=dict)  # by kind, or "ConfigMap namespace/name"

    def of(self, resource: Resource) -> Sequence[Object]:
        """Return the custom objects of a kind."""
        return self.custom.get(resource.kind, ())

    def daemonset(self, *names: str) -> Object | None:
        """Return the first DaemonSet of one of these names."""
        return next((item for item in self.daemonsets if item["metadata"]["name"] in names), None)

    def maps(self, *names: str) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Yield what ConfigMaps of one of these names are called in messages, and their data."""
        for (namespace, name), data in self.config_maps.items():
            if name in names:
                yield f"ConfigMap {namespace}/{name}", data

    def why_unknown(self, *kinds: str) -> str | None:
        """Return that objects of these kinds could not be read, None when they were."""
        return next((f"{kind}: not readable: {self.unreadable[kind]}" for kind in kinds if kind in self.unreadable), None)


@dataclass(slots=True)
class Found:
    """Claims, and values that the API of their object does not know."""

    claims: dict[str, Claim] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)

    def claim(self, key: str, value: Any, source: str) -> None:
        """Note a claim."""
        self.claims[key] = Claim(value, source)

    def unknown(self, key: str, why: str) -> None:
        """Note that nobody can say what the cluster claims there, and why."""
        self.claims.setdefault(key, Claim(None, why))

    def mistake(self, source: str, value: object, valid: Sequence[str], hint: str = "") -> None:
        """Note a value that the API does not know."""
        self.mistakes.append(f"{source} is {value!s:.60}, which is no value of it{hint}; valid: {', '.join(valid)}")

    def encapsulate(self, kind: str, scope: str, source: str) -> None:
        """Note encapsulation by `kind` of all traffic (``Always``), of what crosses subnets (``CrossSubnet``), or of none (``Never``)."""
        if scope == "CrossSubnet":
            self.claim("encapsulation.cross_subnet", kind, source)
        else:
            self.claim("encapsulation", kind if scope == "Always" else "none", source)
