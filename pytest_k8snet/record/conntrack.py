"""What kube-proxy makes of the size of the connection table, from its own /configz."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.record.ipvs import lowered

CAP = 1_048_576  # of maxPerCore times processors, since 1.36
CAP_SINCE = (1, 36)
RAISES_ONLY_SINCE = (1, 37)


@dataclass(frozen=True, slots=True)
class ConntrackSettings:
    """The two numbers that kube-proxy computes nf_conntrack_max from when it starts."""

    max_per_core: int  # 0: it leaves the size alone
    min: int

    @classmethod
    def from_configz(cls, configz: Mapping[str, Any] | None) -> ConntrackSettings | None:
        """Read /configz: the public type has ``conntrack``, the internal one had ``Linux.Conntrack`` as well; None without."""
        settings = lowered(configz or {}).get("kubeproxy.config.k8s.io") or {}
        found = settings.get("conntrack") or (settings.get("linux") or {}).get("conntrack")
        if not isinstance(found, Mapping) or not isinstance(found.get("maxpercore"), int):
            return None
        return cls(found["maxpercore"], int(found.get("min") or 0))

    def wanted(self, processors: int, release: tuple[int, int]) -> int | None:
        """Return the size that kube-proxy of a release (1, 36) sets when it starts, None when it leaves it alone.

        kubernetes pkg/proxy/conntrack/sysctls.go, getConntrackMax: the cap of 1.36 wins over a larger min.
        """
        if self.max_per_core <= 0:
            return None
        scaled = self.max_per_core * processors
        return CAP if release >= CAP_SINCE and scaled > CAP else max(scaled, self.min)
