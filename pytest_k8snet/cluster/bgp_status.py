"""What calico-node reports of its BIRDs in CalicoNodeStatus objects, for nodes whose BIRD cannot be asked on the spot.

Shapes and meaning: calico api/pkg/apis/projectcalico/v3/nodestatus.go and node/pkg/status. Only who makes such an object gets a report. It
is written again when something of it has changed: one that has stood for long is that of a calm node, or of a calico-node that is dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: How old (seconds) a report may be to tell what is now; clocks that differ by more make it tell nothing.
MOST_AGE_S = 120.0

FAMILIES = (4, 6)


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A session of one of the two BIRDs."""

    family: int
    address: str
    kind: str  # NodeMesh, NodePeer, GlobalPeer
    state: str  # Established, Active, ...; empty for one that Calico has no word for


@dataclass(frozen=True, slots=True)
class BgpStatus:
    """A CalicoNodeStatus that is asked to tell of BGP."""

    name: str  # of the object
    node: str
    age_s: float | None  # since it was last written, by the API server's clock; None when it never was
    peers: tuple[PeerStatus, ...]
    ready: tuple[int, ...]  # families whose BIRD calico-node reaches; of one that it was not told to report it is in neither
    not_ready: tuple[int, ...]  # and those whose BIRD it does not

    @property
    def why_no_proof(self) -> str | None:
        """Return why it does not tell what is now, None when it does."""
        if self.age_s is None:
            return "calico-node has never written it"
        if self.age_s > MOST_AGE_S:
            return f"it was last written {self.age_s:.0f} s ago, and whether calico-node would still change it is not known"
        return f"it was last written {-self.age_s:.0f} s from now: clocks differ" if self.age_s < -MOST_AGE_S else None

    def has_all(self, family: int) -> bool:
        """Whether it has every session of a family, and none is one.

        When calico-node does not reach a BIRD it empties the sessions of both families (node/pkg/status/populators/peers.go), and IPv6
        comes after IPv4.
        """
        return any(peer.family == family for peer in self.peers) or all(of in self.ready for of in FAMILIES if of >= family)

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        lists = {"ready": [*self.ready], "not_ready": [*self.not_ready]}
        return {**asdict(self), "peers": [asdict(peer) for peer in self.peers], **lists}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BgpStatus:
        """Read what `to_json` gave."""
        peers = tuple(PeerStatus(**peer) for peer in data["peers"])
        return cls(**{**data, "peers": peers, "ready": tuple(data["ready"]), "not_ready": tuple(data["not_ready"])})
