"""Typed view of the ``owners`` document of a node: who it hears answer for the addresses of load balancers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Shared:
    """An address of a load balancer."""

    address: str
    services: tuple[str, ...]
    ready: bool  # whether a ready endpoint is behind it: without one nobody needs to answer


@dataclass(frozen=True, slots=True)
class Asked:
    """What a node heard at one time."""

    device: str
    macs: tuple[str, ...]  # of the node's hardware: a node may answer by each of its devices in a segment
    network: str
    control: str | None  # the address of another node, which is asked for as well
    control_macs: tuple[str, ...] | None  # None: it is in no subnet of this node
    answers: Mapping[str, Sequence[str]]  # hardware addresses by address, of those in the node's subnet


@dataclass(frozen=True, slots=True)
class OwnersRecord:
    """What one node heard."""

    node: str
    addresses: tuple[Shared, ...] = ()
    left_out: int = 0  # addresses, as there are too many
    heard: tuple[Asked, ...] = ()  # twice where an address had not exactly one owner; none where there are no addresses, or nodes enough
    absent: str | None = None  # why nothing was asked, on purpose

    @classmethod
    def from_document(cls, document: Document) -> OwnersRecord:
        """Read the typed view of an ``owners`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("owners of addresses") as data:
            if data.get("absent") is not None:
                return cls(document.subject, absent=str(data["absent"]))
            addresses = tuple(Shared(name, tuple(item["services"]), bool(item["ready"])) for name, item in data["addresses"].items())
            return cls(document.subject, addresses, int(data["left_out"]), tuple(_asked(item) for item in data["heard"]))


def _asked(data: Mapping[str, object]) -> Asked:
    macs = data["control_macs"]
    return Asked(
        device=str(data["device"]),
        macs=tuple(data["macs"]),  # type: ignore[arg-type]
        network=str(data["network"]),
        control=None if data["control"] is None else str(data["control"]),
        control_macs=None if macs is None else tuple(macs),  # type: ignore[arg-type]
        answers=dict(data["answers"]),  # type: ignore[call-overload]
    )
