"""Healthy answers of the program ``balance``: Services of several pods lead to each in turn, by IPVS when that is the mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_services import GROUP_TARGET_PORTS, SPREAD, STICKY, grouped

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster

SCALED = "balance: node whose pod Services of many ports lead to"
APART = "balance: pods that no Service of several leads to"


def respond(fake: FakeCluster, node: str, role: str, op: str, params: Mapping[str, Any]) -> Any:
    """Answer like the program would."""
    del role
    if op == "balance.hold":
        return {"number": 1, "source": [fake.pod_ip(node), 30000], "keepalive_s": 7200}
    if op == "balance.remembered":
        return {"expires_s": 900 if fake.answered(node, "host", "ipvs", {})["mode"] == "ipvs" else None}
    if op == "balance.held":
        return {"alive": True, "error": None}
    client = fake.pod_ip(node)
    opened: list[tuple[int, str]] = fake.kept.setdefault(f"balance {node} {params['address']}", [])
    if op == "balance.connect":
        apart = fake.kept.get(APART, ())
        members = grouped([name for name in fake.probed if fake.nodes[name].ready])
        nodes = [name for name in members if fake.probed[name] is None and name not in apart]
        kept = params["address"] == fake.group_address(STICKY)
        if params["address"].startswith("10.96.3."):
            nodes = [fake.kept[SCALED]]
        new = [(20000 + len(opened) + number, nodes[0 if kept else number % len(nodes)]) for number in range(params["count"])]
        opened += new
        return {
            "connections": [{"source": [client, port], "name": name, "connected_ms": 0.2, "ms": 0.4, "error": None} for port, name in new]
        }
    ipvs = fake.answered(node, "host", "ipvs", {})["mode"] == "ipvs"
    connections = [
        [client, port, fake.pod_ip(name), GROUP_TARGET_PORTS[SPREAD]] for port, name in opened if ipvs and client in params["clients"]
    ]
    return {"ipvs": {"loaded": ipvs, "scheduler": "rr" if ipvs else None, "connections": connections}, "rules": [], "errors": {}}
