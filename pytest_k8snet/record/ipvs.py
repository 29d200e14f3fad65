"""Typed view of the ``ipvs`` document of a node: readings of its table of Services beside the objects it is made from.

The table is kube-proxy's, IPVS or nftables, or Cilium's.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.cluster import nft_table
from pytest_k8snet.cluster.ipvs_table import VirtualServer, parse_table
from pytest_k8snet.record.document import Document

SYNC_PERIOD_S = 30.0  # kube-proxy's default
SYNC_SLACK_S = 5.0  # that a sync takes, besides the time between two

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class IpvsReading:
    """One reading of the table, and the Services and EndpointSlices listed right after it."""

    at: datetime.datetime
    servers: tuple[VirtualServer, ...]  # of kube-proxy's table: none where there is no such table
    services: Sequence[Mapping[str, Any]]
    endpoint_slices: Sequence[Mapping[str, Any]]
    node_port_addresses: tuple[str, ...] | None  # where nftables mode serves NodePorts
    cilium: Sequence[Mapping[str, Any]] | None  # frontends of Cilium's maps; None where there are none
    cilium_error: str | None  # why those were not read, beside a table that was
    changed: tuple[str, ...]  # objects that changed between the list before and the list after the reading


@dataclass(frozen=True, slots=True)
class IpvsRecord:
    """The readings of one node: one when it held at once, else the first and the last."""

    node: str
    loaded: bool
    sync_period_s: float
    kube_ipvs0: bool
    readings: tuple[IpvsReading, ...]
    node_ips: tuple[str, ...]  # where NodePorts are wanted; empty when the document does not say
    zone: str | None

    @classmethod
    def from_document(cls, document: Document, what: str = "IPVS table") -> IpvsRecord:
        """Read the typed view of an ``ipvs`` document.

        Raises `RecordError` with the recorded reason when the table could not be read, and when the document is damaged.
        """
        with document.reading(what) as data:
            return cls(
                node=document.subject,
                loaded=data["loaded"],
                sync_period_s=float(data["sync_period_s"]),
                kube_ipvs0=data["kube_ipvs0"],
                readings=tuple(
                    IpvsReading(
                        at=datetime.datetime.fromisoformat(reading["at"]),
                        servers=_servers(reading),
                        services=reading["services"],
                        endpoint_slices=reading["endpoint_slices"],
                        node_port_addresses=_node_port_addresses(reading),
                        cilium=reading.get("cilium"),
                        cilium_error=reading.get("cilium_error"),
                        changed=tuple(reading["changed"]),
                    )
                    for reading in data["readings"]
                ),
                node_ips=tuple(data.get("node_ips") or ()),
                zone=data.get("zone"),
            )


def _servers(reading: Mapping[str, Any]) -> tuple[VirtualServer, ...]:
    tables = reading.get("nft")
    if tables is not None:
        return nft_table.servers(tables)
    # Cilium keeps maps of Services beside kube-proxy as well; where it serves alone there is no table.
    return () if reading["table"] is None else parse_table(reading["table"])


def _node_port_addresses(reading: Mapping[str, Any]) -> tuple[str, ...] | None:
    tables = reading.get("nft")
    return None if tables is None else tuple(nft_table.node_port_addresses(tables))


def ipvs_settings(configz: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    """Return where kube-proxy's /configz may hold settings of ipvs mode, keys in lower case: its shape changed in 1.36."""
    settings = lowered(configz or {}).get("kubeproxy.config.k8s.io") or {}
    return [holder for holder in (settings.get("ipvs"), settings.get("ipvsconfiguration"), settings) if isinstance(holder, Mapping)]


def ipvs_setting(configz: Mapping[str, Any] | None, name: str) -> Any:
    """Return one setting of ipvs mode, None when kube-proxy does not tell it."""
    return next((holder[name.lower()] for holder in ipvs_settings(configz) if name.lower() in holder), None)


def sync_period_s(configz: Mapping[str, Any] | None) -> float:
    """Return the sync period that kube-proxy's /configz tells (its shape changed in 1.36), 30 s when it does not."""
    for holder in ipvs_settings(configz):
        value = holder.get("syncperiod")
        seconds = value / 1e9 if isinstance(value, int | float) else _duration_s(value) if isinstance(value, str) else 0.0
        if seconds > 0:
            return seconds
    return SYNC_PERIOD_S


def _duration_s(text: str) -> float:
    """Read a duration as Go writes it, ``1m30s``."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)(ms|h|m|s)", text))


def exclude_cidrs(configz: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the ranges whose virtual servers kube-proxy leaves alone (``cleanLegacyService``, pkg/proxy/ipvs/proxier.go)."""
    return tuple(str(cidr) for holder in ipvs_settings(configz) for cidr in holder.get("excludecidrs") or ())


def lowered(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part of /configz with its keys in lower case."""
    return {key.lower(): lowered(item) if isinstance(item, Mapping) else item for key, item in value.items()}
