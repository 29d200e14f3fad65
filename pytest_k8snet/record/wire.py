"""Typed view of the ``wire`` document of a node: what it sent to pods on other nodes, and where of it what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.record.document import Document

NATIVE = "native"


@dataclass(frozen=True, slots=True)
class Side:
    """What was seen of a stream on the devices of one of the two nodes that lead to others."""

    forms: Mapping[str, int]  # packets by what they were inside of: native, vxlan/8472, ipip, ...
    unseen: int  # of those sent (at the source) or delivered (at the target)
    addresses: tuple[str, ...]  # the packets' source addresses
    dropped: int  # packets that the capture had no room for
    cipher_dropped: int
    cut: bool  # whether not everything was counted
    counters: Mapping[str, int]  # of the node's kernel, those that grew, and of its pod's with ``pod: ``

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Side:
        """Read one side."""
        grown = data["counters"]
        return cls(
            forms=dict(data["forms"]),
            unseen=int(data["unseen"]),
            addresses=tuple(data["addresses"]),
            dropped=int(data["dropped"]),
            cipher_dropped=int(data["cipher_dropped"]),
            cut=bool(data["cut"]),
            counters={**grown["node"], **{f"pod: {name}": value for name, value in grown["pod"].items()}},
        )

    @property
    def seen(self) -> bool:
        """Whether anything was."""
        return any(self.forms.values())


@dataclass(frozen=True, slots=True)
class Stream:
    """Numbered packets from one address to another."""

    packets: int  # that were meant to be sent
    sent: int
    errors: Mapping[str, int]  # why others were not
    delivered: int
    overflow: int  # packets that our own receiver had no room for
    senders: tuple[str, ...]  # addresses that the receiver saw
    source: Side
    target: Side
    nowhere: int  # neither seen on a device of the source's nor delivered
    lost: Mapping[str, int]  # by the place behind which they went missing: source_pod, source_node, wire, target_node, target_pod
    at_target_pod: int  # seen on the device to the target's pod; with none at all it shows nothing

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stream:
        """Read one stream."""
        return cls(
            packets=int(data["packets"]),
            sent=int(data["sent"]),
            errors=dict(data["errors"]),
            delivered=int(data["delivered"]),
            overflow=int(data["overflow"]),
            senders=tuple(data["senders"]),
            source=Side.from_json(data["source"]),
            target=Side.from_json(data["target"]),
            nowhere=int(data["nowhere"]),
            lost={place: int(count) for place, count in data["lost"].items()},
            at_target_pod=int(data["at_target_pod"]),
        )

    @property
    def unsent(self) -> int:
        """How many were to be sent and were not: the sender's own kernel refused them."""
        return self.packets - self.sent

    @property
    def missing(self) -> int:
        """How many were sent and not delivered."""
        return self.sent - self.delivered


@dataclass(frozen=True, slots=True)
class Connection:
    """One TCP connection: bytes sent, seen by form at both nodes, and delivered."""

    sent: int
    error: str | None
    mss_bytes: int | None
    delivered: int
    source: Mapping[str, int]
    target: Mapping[str, int]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Connection:
        """Read it."""
        return cls(int(data["sent"]), data["error"], data["mss"], int(data["delivered"]), dict(data["source"]), dict(data["target"]))


@dataclass(frozen=True, slots=True)
class Encrypted:
    """Packets of one length, as IP has it, from the source's addresses to the target's, that look encrypted."""

    kind: str  # wireguard, esp, ah
    length_bytes: int
    count: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Encrypted:
        """Read it."""
        return cls(data["kind"], int(data["length"]), int(data["count"]))


@dataclass(frozen=True, slots=True)
class Crossing:
    """One direction of a pair. With an error nothing else was measured."""

    target: str
    family: str = ""  # IPv4 or IPv6, where the pair has both
    error: str | None = None
    unsupported: bool = False  # whether the way to the target cannot serve this, in whatever state it is
    missing: bool = False  # whether the target's pod does not run: its own cases say so
    address: str = ""  # of the source's pod
    streams: tuple[Stream, ...] = ()  # the first one, and a longer one where that lost packets
    not_again: str | None = None  # why it was not sent again although the first one lost packets
    control: Stream | None = None  # between the nodes' own addresses
    tcp: Connection | None = None
    encrypted_source: tuple[Encrypted, ...] = ()
    encrypted_target: tuple[Encrypted, ...] = ()

    @property
    def to(self) -> str:
        """The target in words."""
        return f"{self.target} by {self.family}" if self.family else self.target

    @classmethod
    def from_json(cls, target: str, data: Mapping[str, Any], family: str = "") -> Crossing:
        """Read one element of ``pairs``."""
        if "error" in data:
            return cls(target, family, error=data["error"], unsupported=bool(data["unsupported"]), missing=bool(data["missing"]))
        if not data["streams"]:
            raise ValueError("a pair without an error has no stream")
        return cls(
            target,
            family,
            address=data["address"],
            streams=tuple(map(Stream.from_json, data["streams"])),
            not_again=data.get("not_again"),
            control=Stream.from_json(data["control"]),
            tcp=None if data["tcp"] is None else Connection.from_json(data["tcp"]),
            encrypted_source=tuple(map(Encrypted.from_json, data["cipher"]["source"])),
            encrypted_target=tuple(map(Encrypted.from_json, data["cipher"]["target"])),
        )


@dataclass(frozen=True, slots=True)
class WireRecord:
    """What one node sent to each of the nodes it is paired with."""

    node: str
    uplink: str | None
    crossings: tuple[Crossing, ...]

    @classmethod
    def from_document(cls, document: Document) -> WireRecord:
        """Read the typed view of a ``wire`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("packets to other nodes' pods") as data:
            return cls(
                node=document.subject,
                uplink=(data["devices"] or {}).get("uplink"),
                crossings=_crossings(data["pairs"], data.get("second_pairs") or {}),
            )


def _crossings(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Crossing, ...]:
    """Read what was sent by the first address family and by the second one; only where there are two they are told apart."""
    of_pods = next((":" in item["address"] for item in first.values() if "address" in item), False)
    names = ("IPv6", "IPv4") if of_pods else ("IPv4", "IPv6")
    found = [Crossing.from_json(target, item, names[0] if target in second else "") for target, item in first.items()]
    return (*found, *(Crossing.from_json(target, item, names[1]) for target, item in second.items()))
