"""Wire documents made by hand: two healthy directions of a node, and what is changed in them."""

from __future__ import annotations

import copy
from typing import Any

from pytest_k8snet.record.document import Document
from pytest_k8snet.record.wire import WireRecord

PACKETS = 1000
TCP_BYTES = 49152


def side(forms: dict[str, int] | None = None, **changes: Any) -> dict[str, Any]:
    healthy = {
        "forms": {"native": PACKETS} if forms is None else forms,
        "unseen": 0,
        "addresses": ["10.244.1.5"],
        "dropped": 0,
        "cipher_dropped": 0,
        "cut": False,
        "unread": 0,
        "counters": {"node": {}, "pod": {}},
    }
    return {**healthy, **changes}


def stream(delivered: int = PACKETS, sent: int = PACKETS, **changes: Any) -> dict[str, Any]:
    places = dict.fromkeys(("source_pod", "source_node", "wire", "target_node", "target_pod"), 0)
    healthy = {
        "packets": sent,
        "sent": sent,
        "errors": {},
        "delivered": delivered,
        "overflow": 0,
        "senders": ["10.244.1.5"] if delivered else [],
        "source": side(),
        "target": side(),
        "nowhere": 0,
        "lost": places,
        "at_target_pod": delivered,
    }
    made = {**healthy, **changes}
    made["lost"] = {**places, **made["lost"]}
    return made


def tcp(forms: dict[str, int] | None = None, **changes: Any) -> dict[str, Any]:
    seen = {"native": TCP_BYTES} if forms is None else forms
    return {"sent": TCP_BYTES, "error": None, "mss": 1448, "delivered": TCP_BYTES, "source": seen, "target": seen, **changes}


def pair(form: str | None = None, **changes: Any) -> dict[str, Any]:
    """Return a healthy direction; `form` is what its packets are inside of."""
    forms = None if form is None else {form: PACKETS}
    control = side({"native": 64}, addresses=["192.168.10.11"])
    healthy = {
        "address": "10.244.1.5",
        "target_address": "10.244.2.5",
        "streams": [stream(source=side(forms), target=side(forms))],
        "control": stream(64, 64, source=control, target=copy.deepcopy(control)),
        "tcp": tcp(None if form is None else {form: TCP_BYTES}),
        "cipher": {"source": [], "target": []},
        "overflow": 0,
    }
    return {**healthy, **changes}


def record(*directions: dict[str, Any]) -> WireRecord:
    """Return what node-1 sent to node-2, node-3, ..."""
    values = {
        "pairs": {f"node-{number}": item for number, item in enumerate(directions, 2)},
        "devices": {"uplink": "eth0", "wire": ["eth0"], "pod": ["veth1"]},
    }
    return WireRecord.from_document(
        Document(kind="wire", subject="node-1", started="2026-01-01T00:00:00+00:00", duration_s=1.0, method="", values=values)
    )
