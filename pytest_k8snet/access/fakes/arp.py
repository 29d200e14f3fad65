"""Healthy answers of the program ``arp``: nodes have their own addresses, and the first of them those of load balancers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster


def mac_of(fake: FakeCluster, node: str) -> str:
    """Return the hardware address of a node's uplink."""
    return f"02:00:00:00:00:{[*fake.nodes].index(node) + 1:02x}"


def respond(fake: FakeCluster, node: str, role: str, op: str, params: Mapping[str, Any]) -> Any:
    """Answer like the program would."""
    del role, op
    own = {item.internal_ip: name for name, item in fake.nodes.items()}
    answers = {}
    for address in params["addresses"]:
        owner = own.get(address, next(iter(fake.nodes)))
        answers[address] = [] if owner == node else [mac_of(fake, owner)]
    return {
        "device": "eth0",
        "mac": mac_of(fake, node),
        "macs": [mac_of(fake, node)],
        "network": f"{params['uplink_ip']}/24",
        "answers": answers,
    }
