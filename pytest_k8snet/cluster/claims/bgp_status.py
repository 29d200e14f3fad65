"""Reads CalicoNodeStatus objects."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pytest_k8snet.cluster.bgp_status import FAMILIES, BgpStatus, PeerStatus
from pytest_k8snet.cluster.claims.objects import Object
from pytest_k8snet.cluster.claims.parsing import items, section
from pytest_k8snet.cluster.times import read_time


def bgp_statuses(objects: Iterable[Object], now: datetime | None) -> dict[str, BgpStatus]:
    """Return node to its newest report. `now` is the API server's time; without it no report's age is known."""
    found: dict[str, BgpStatus] = {}
    for item in objects:
        spec = section(item, "spec")
        if "BGP" not in (spec.get("classes") or ()) or not spec.get("node"):
            continue
        status = _read(item, str(spec["node"]), now)
        other = found.get(status.node)
        if other is None or other.age_s is None or (status.age_s is not None and status.age_s < other.age_s):
            found[status.node] = status
    return found


def _read(item: Object, node: str, now: datetime | None) -> BgpStatus:
    written = read_time(section(item, "status").get("lastUpdated"))
    peers = [
        PeerStatus(family, str(peer.get("peerIP")), str(peer.get("type") or ""), str(peer.get("state") or ""))
        for family in FAMILIES
        for peer in items(item, "status", "bgp", f"peersV{family}")
    ]
    states = {family: section(item, "status", "agent", f"birdV{family}").get("state") for family in FAMILIES}
    return BgpStatus(
        name=str(item["metadata"]["name"]),
        node=node,
        age_s=None if written is None or now is None else (now - written).total_seconds(),
        peers=tuple(peers),
        ready=tuple(family for family, state in states.items() if state == "Ready"),
        not_ready=tuple(family for family, state in states.items() if state == "NotReady"),
    )
