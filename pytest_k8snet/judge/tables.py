"""Judge a node's table of Services by what Services and EndpointSlices ask for: the part that all kinds of tables have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TypeAlias

from pytest_k8snet.cluster import cilium_map
from pytest_k8snet.cluster.ipvs_table import VirtualServer
from pytest_k8snet.cluster.virtual_servers import IPVS, Backend, differences
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.ipvs import IpvsReading, IpvsRecord

Messages: TypeAlias = set[str]

#: Differences of one table that are told one by one; the rest is counted.
_TOLD = 10
FEW = 3
"""Examples of many in a message."""


def differing(backend: Backend, exclude: Sequence[str], record: IpvsRecord, reading: IpvsReading, node_ips: Sequence[str]) -> Messages:
    """Return how a reading of kube-proxy's table differs from what is asked for, as messages."""
    found = differences(
        reading.servers,
        reading.services,
        reading.endpoint_slices,
        reading.changed,
        node=record.node,
        node_ips=node_ips,
        zone=record.zone,
        exclude=exclude,
        backend=backend,
    )
    return {item.message for item in found if not (item.node_port and reading.node_port_addresses == ())}


def differing_in_cilium(record: IpvsRecord, reading: IpvsReading, node_ips: Sequence[str]) -> Messages:
    """Return how a reading of Cilium's maps differs from what is asked for, as messages."""
    found = cilium_map.differences(
        reading.cilium or (),
        reading.services,
        reading.endpoint_slices,
        reading.changed,
        node=record.node,
        node_ips=node_ips,
        zone=record.zone,
    )
    return {item.message for item in found}


def cilium_servers(reading: IpvsReading) -> Sequence[VirtualServer]:
    """Return what a reading of Cilium's maps has, as virtual servers."""
    return cilium_map.servers(reading.cilium or (), reading.services)


def compared(
    record: IpvsRecord,
    internal_ip: str | None,
    differing: Callable[[IpvsRecord, IpvsReading, Sequence[str]], Messages],
    judgement: Judgement,
    command: str,
    *,
    servers: Callable[[IpvsReading], Sequence[VirtualServer]] = attrgetter("servers"),
    healer: str = IPVS.healer,
) -> Judgement:
    """Judge by the first and the last reading of a table: what both have, one sync period apart, is a fault."""
    addresses = record.node_ips or ((internal_ip,) if internal_ip else ())
    if not addresses:
        judgement.error(f"{record.node}: the node has no InternalIP, so its NodePorts are not known")
        return judgement
    found = [differing(record, reading, addresses) for reading in record.readings]
    last = record.readings[-1]
    table = servers(last)
    judgement.evidence.update(
        virtual_servers=len(table), real_servers=sum(len(server.real) for server in table), readings=len(record.readings)
    )
    judgement.checked = max(1, len(table))
    if last.changed:
        judgement.remark(f"{record.node}: {len(last.changed)} objects changed during the reading and are not judged: {few(last.changed)}")
    span_s = (last.at - record.readings[0].at).total_seconds()
    lasting = sorted(found[0] & found[-1])
    young = sorted(found[-1] - found[0])
    if span_s >= record.sync_period_s:
        for message in lasting[:_TOLD]:
            judgement.check(False, f"{record.node}: {message}, for {span_s:.0f} s", command=command)
        if len(lasting) > _TOLD:
            judgement.check(False, f"{record.node}: and {len(lasting) - _TOLD} more differences", command=command)
    else:
        young = sorted(found[-1])
    if young and span_s >= record.sync_period_s:
        judgement.remark(f"{record.node}: younger than one sync period ({record.sync_period_s:.0f} s), not judged: {few(young)}")
    elif young:
        judgement.inconclusive(
            f"{record.node}: seen over {span_s:.0f} s only, {healer} has one sync period ({record.sync_period_s:.0f} s) to heal it: "
            f"{few(young)}",
            command=command,
        )
    return judgement


def few(items: Iterable[str], limit: int = FEW) -> str:
    """Return the first of many, for a message."""
    items = list(items)
    return ", ".join(items[:limit]) + (", ..." if len(items) > limit else "")
