"""Packets between healthy nodes: everything that is sent is seen at both uplinks as it is, and arrives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.fakes.traffic import source_of
from pytest_k8snet.errors import AccessError

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster, Role

_UPLINK, _POD = "eth0", "veth1"


def respond(fake: FakeCluster, node: str, role: Role, op: str, params: Mapping[str, Any]) -> Any:
    """Answer like the agent's program. What a receiver or a capture was begun with comes back as its id."""
    if op == "wire.receive":
        ports = {path: list(range(first, first + params[path])) for path, first in (("udp", 40000), ("tcp", 50000))}
        return {**ports, "id": {**params, **ports}, "links": [7] if role == "pod" else []}
    if op == "wire.capture":
        devices = {"uplink": _UPLINK, "wire": [_UPLINK], "pod": [_POD], "indices": {_UPLINK: 2, _POD: 7}}
        return {"id": dict(params), "devices": devices}
    if op == "wire.send":
        return _sent(fake, node, role, params)
    if op == "wire.received":
        return {
            "streams": {token: {**_all(count), "senders": _senders(fake, token)} for token, count in params["id"]["streams"].items()},
            "overflow": 0,
            "tcp": [{"port": port, "peer": "", "bytes": fake.kept.get(f"wire {node} {port}", 0)} for port in params["id"]["tcp"]],
            "counters": {},
            "told": True,
        }
    if op == "wire.captured":
        return _captured(fake, params["id"])
    raise AccessError(f"{node}: {op}: the fake has no answer; give one with FakeCluster.answer({node!r}, {op!r}, ...)")


def _sent(fake: FakeCluster, node: str, role: Role, params: Mapping[str, Any]) -> dict[str, Any]:
    for stream in params["streams"]:
        fake.kept[f"wire {stream['token']}"] = source_of(fake, node, role, stream["address"])
    for item in params["tcp"]:
        target = next(name for name in fake.nodes if item["address"] in fake.pod_ips(name))
        fake.kept[f"wire {target} {item['port']}"] = fake.kept[f"wire {item['address']} {item['port']}"] = item["bytes"]
    return {
        "streams": [{**_all(stream["count"]), "errors": {}} for stream in params["streams"]],
        "tcp": [{"sent": item["bytes"], "error": None, "mss": 1448} for item in params["tcp"]],
        "seconds": 0.0,
    }


def _captured(fake: FakeCluster, begun: Mapping[str, Any]) -> dict[str, Any]:
    streams: Mapping[str, int] = begun["streams"]
    seen = [
        {**_all(count), "token": token, "device": device, "form": "native"}
        for token, count in streams.items()
        for device in (_UPLINK, _POD)
    ]
    return {
        "seen": seen,
        "sources": [{"token": token, "device": _UPLINK, "addresses": _senders(fake, token)} for token in streams],
        "tcp": [
            {"to": f"{address} {port}", "device": _UPLINK, "form": "native", "bytes": fake.kept.get(f"wire {address} {port}", 0)}
            for address, port in begun["tcp"]
        ],
        "cipher": [],
        "unread": 0,
        "cut": False,
        "dropped": 0,
        "cipher_dropped": 0,
        "counters": {},
        "told": True,
        "frames": [],
    }


def _all(count: int) -> dict[str, Any]:
    bits = ((1 << count) - 1).to_bytes((count + 7) // 8, "little")
    return {"bits": bits.hex(), "different": count, "again": 0}


def _senders(fake: FakeCluster, token: str) -> dict[str, int]:
    sender = fake.kept.get(f"wire {token}")
    return {} if sender is None else {sender: 1}
