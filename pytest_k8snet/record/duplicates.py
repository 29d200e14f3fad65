"""Typed view of the ``duplicates`` document of a node: who answers ARP for its own address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Stranger:
    """What answered for the node's address and is none of its devices."""

    mac: str
    node: str | None  # whose device it is; None: no node's that asked
    addresses: int  # of nodes that it answered for


@dataclass(frozen=True, slots=True)
class DuplicatesRecord:
    """What was heard of one node's address. Without `absent` every part is there."""

    node: str
    absent: str | None = None  # why nobody was asked
    device: str = ""
    mac: str = ""
    macs: tuple[str, ...] = ()  # of the node's devices
    network: str = ""
    routers: tuple[str, ...] = ()  # hardware addresses of its gateways
    address: str = ""
    heard_by: Mapping[str, Sequence[str]] = field(
        default_factory=dict
    )  # by who asked, the node among them: the hardware addresses that answered
    controls: Mapping[str, int] = field(default_factory=dict)  # other nodes' addresses that this one asked for, and how many answered
    strangers: tuple[Stranger, ...] = ()

    @classmethod
    def from_document(cls, document: Document) -> DuplicatesRecord:
        """Read the typed view of a ``duplicates`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("duplicates") as data:
            if data.get("absent") is not None:
                return cls(document.subject, absent=str(data["absent"]))
            return cls(
                document.subject,
                device=str(data["device"]),
                mac=str(data["mac"]),
                macs=tuple(data["macs"]),
                network=str(data["network"]),
                routers=tuple(data["routers"]),
                address=str(data["address"]),
                heard_by={str(name): tuple(macs) for name, macs in data["heard_by"].items()},
                controls={str(address): int(count) for address, count in data["controls"].items()},
                strangers=tuple(Stranger(mac, item["node"], int(item["addresses"])) for mac, item in data["strangers"].items()),
            )
