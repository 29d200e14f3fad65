"""Healthy answers of the program ``arp``: nodes have their own addresses, and the first of them those of load balancers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster


def mac_of(fake: FakeCluster, node: str) -> str:
    """Return the hardware address of a node's uplink."""
    number = [*fake.nodes].index(node) + 1
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


def respond(fake: FakeCluster, node: str, role: str, op: str, params: Mapping[str, Any]) -> Any:
    """Answer like the program would."""
    del role
    own = {item.internal_ip: name for name, item in fake.nodes.items()}
    if op == "arp.own":
        asked = [params["uplink_ip"], *params["others"][: params["most"]]]
        return {
            "device": "eth0",
            "mac": mac_of(fake, node),
            "macs": [mac_of(fake, node)],
            "network": f"{params['uplink_ip']}/24",
            "answers": {address: [] if own[address] == node else [mac_of(fake, own[address])] for address in asked},
            "controls": {},
            "routers": ["02:00:00:00:00:fe"],
        }
    answers = {}
    for address in (*params["addresses"], *([params["control"]] if params["control"] else ())):
        owner = own.get(address, next(iter(fake.nodes)))
        answers[address] = [] if owner == node else [mac_of(fake, owner)]
    return {
        "device": "eth0",
        "mac": mac_of(fake, node),
        "macs": [mac_of(fake, node)],
        "network": f"{params['uplink_ip']}/24",
        "answers": answers,
    }
