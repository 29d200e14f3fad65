"""Tables of kube-proxy (IPVS, or its own of nftables) and of Cilium beside the Services and EndpointSlices they are made from.

A table that differs is read again until a sync must have mended it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.cluster import cilium_map, nft_table
from pytest_k8snet.cluster.claims import cilium
from pytest_k8snet.cluster.ipvs_table import VirtualServer, parse_table
from pytest_k8snet.cluster.virtual_servers import IPVS, NFTABLES, differences
from pytest_k8snet.errors import TRANSPORT_ERRORS, RecordError
from pytest_k8snet.measure.taking import MEASURE_ERRORS, again, now, take_document
from pytest_k8snet.record.ipvs import SYNC_SLACK_S, exclude_cidrs, sync_period_s
from pytest_k8snet.record.shared import Shared

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Agent
    from pytest_k8snet.cluster.model import Node
    from pytest_k8snet.measure.registry import MeasureContext, ServiceSource
    from pytest_k8snet.record.document import Document

SLACK_S = 5.0  # that an answer takes, besides the command
NFTABLES_MODE = "nftables"
_TABLE_MODES = ("ipvs", NFTABLES_MODE)

_JUDGED_ANNOTATIONS = ("kubernetes.io", "cilium.io", "io.cilium")  # by the end of their group
_POLL_S = 2.0
_LONGEST_POLL_S = 10.0
_TOGETHER = 100  # nodes that are read between two lists of the objects
_TIMEOUT_S = 30.0

_Objects: TypeAlias = tuple[list[dict[str, Any]], list[dict[str, Any]]]  # Services and EndpointSlices


@dataclass(slots=True)
class _Table:
    """What is known of one node's table so far."""

    node: Node
    answer: dict[str, Any] | None = None
    error: Exception | None = None
    retried: str | None = None
    readings: list[dict[str, Any]] = field(default_factory=list)
    settled: bool = False
    deadline: Deadline | None = None  # by when a sync must have mended it; from its first reading on

    def values(self) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        answer = self.answer or {}
        return {
            "loaded": answer["loaded"],
            "sync_period_s": sync_period_s(answer.get("configz")),
            "kube_ipvs0": answer["kube_ipvs0"],
            "mode": answer.get("mode"),
            "node_ips": [*self.node.addresses],
            "zone": self.node.zone,
            "readings": self.readings,
        }


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Read the tables of the nodes `subjects`. Each document is there as soon as it is settled: of a large cluster not all are held."""
    started, start = now(), time.monotonic()
    left = {name: _Table(context.cluster.node(name)) for name in subjects}

    def document(name: str) -> Document:
        table = left.pop(name)
        taken = take_document("ipvs", name, f"/proc/net/ip_vs {context.place_of(name)}", table.values)
        return replace(taken, started=started, duration_s=round(time.monotonic() - start, 3), retried=table.retried)

    def read(names: Sequence[str]) -> Iterator[Document]:
        objects = _objects(context.services)
        for first in range(0, len(names), _TOGETHER):
            tables = [left[name] for name in names[first : first + _TOGETHER]]
            objects = _read(context, tables, objects)
            yield from [document(table.node.name) for table in tables if table.settled]

    try:
        yield from read(subjects)
        pause_s = _POLL_S
        while left and not context.stopped.wait(min(pause_s, *(_remaining(table) for table in left.values()))):
            yield from read([*left])
            pause_s = min(pause_s * 1.5, _LONGEST_POLL_S)  # each reading lists all Services twice at least
    except MEASURE_ERRORS as error:  # the API: no node has a reading that can be judged
        for table in left.values():
            table.error = error
    for name in [*left]:
        yield document(name)


def _remaining(table: _Table) -> float:
    return 0.0 if table.deadline is None else table.deadline.remaining


def _read(context: MeasureContext, tables: Sequence[_Table], listed: _Objects) -> _Objects:
    """Read the tables once, between two lists of the objects: return the second one, which may be the first one of the next tables."""
    before = _versions(*listed)
    late = {table.node.name for table in tables if table.deadline is not None and table.deadline.expired}

    def read(table: _Table) -> None:
        agent = context.access.host
        try:
            answer, cut = again(lambda: agent(table.node.name).request("ipvs", {"uplink_ip": table.node.internal_ip}, timeout_s=_TIMEOUT_S))
            table.retried = cut or table.retried
            nft = _nft(agent(table.node.name), table.node.addresses) if answer.get("mode") == NFTABLES_MODE else None
            table.answer = answer if nft is None else {**answer, "nft": nft}
            if context.cluster.cni == cilium.NAME:
                table.answer.update(_cilium_beside(answer.get("mode"), agent(table.node.name)))
        except MEASURE_ERRORS as error:
            table.error, table.settled = error, True

    with ThreadPoolExecutor(max_workers=context.settings.facts_threads, thread_name_prefix="k8snet-ipvs") as pool:
        for _ in pool.map(read, tables):
            pass
    at = now()
    services, slices = _objects(context.services)
    after = _versions(services, slices)
    shared = Shared(services), Shared(slices)  # every node's document has them
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    for table in tables:
        if table.error is not None or table.answer is None:
            continue
        others = {name: found for name in ("nft", "cilium", "cilium_error") if (found := table.answer.get(name)) is not None}
        if not table.answer["loaded"] and not others.keys() - {"cilium_error"}:
            table.settled = True
            continue
        reading = {"at": at, "table": table.answer["table"], "services": shared[0], "endpoint_slices": shared[1], "changed": changed}
        table.readings[1:] = [{**reading, **others}]
        differs = _differs(table, services, slices, changed)
        table.settled = not differs or table.node.name in late
        if table.deadline is None:
            table.deadline = Deadline.after(sync_period_s(table.answer.get("configz")) + SYNC_SLACK_S)
    return services, slices


def _nft(agent: Agent, addresses: Sequence[str]) -> list[dict[str, Any]]:
    """Read kube-proxy's tables of the node's address families; one that is not there serves nothing.

    Raises an error when nft cannot be run there, and when it does not know how to print what another release has written.
    """
    tables = []
    for family in sorted({"ip6" if ":" in address else "ip" for address in addresses}):
        argv = ["nft", "-j", "list", "table", family, nft_table.TABLE]
        answer = agent.request("run", {"argv": argv, "timeout_s": _TIMEOUT_S}, timeout_s=_TIMEOUT_S + SLACK_S)
        if answer["exit_status"] == 0:
            tables.append(nft_table.trimmed(answer["stdout"]))
        elif "No such file or directory" not in answer["stderr"]:
            raise RecordError(f"{' '.join(argv)}: exit status {answer['exit_status']}: {answer['stderr'].strip()[-300:]}")
    return tables


def _cilium(agent: Agent) -> list[dict[str, Any]] | None:
    """Read Cilium's maps of Services; None on a node that has none.

    Raises an error when they cannot be read, and when they are laid out as nobody here knows.
    """
    answer = agent.request("cilium.maps", {}, timeout_s=_TIMEOUT_S)
    return cilium_map.frontends(answer) if answer["4"] is not None or answer["6"] is not None else None


def _cilium_beside(mode: str | None, agent: Agent) -> dict[str, Any]:
    """Read Cilium's maps; where kube-proxy has a table of its own, and that is judged, why they were not read spoils nothing."""
    try:
        return {"cilium": _cilium(agent)}
    except MEASURE_ERRORS as error:
        if mode not in _TABLE_MODES or isinstance(error, TRANSPORT_ERRORS):
            raise
        return {"cilium_error": str(error) or type(error).__name__}


def _differs(table: _Table, services: Sequence[Mapping[str, Any]], slices: Sequence[Mapping[str, Any]], changed: Sequence[str]) -> bool:
    node = table.node
    answer = table.answer or {}
    if (frontends := answer.get("cilium")) is not None and cilium_map.differences(
        frontends, services, slices, changed, node=node.name, node_ips=[*node.addresses], zone=node.zone
    ):
        return True
    if answer.get("mode") not in _TABLE_MODES:
        return False  # of a proxy in another mode nobody expects a table
    try:
        servers = _servers(answer)
    except RecordError as error:
        table.error = error
        return False
    backend = IPVS if answer.get("nft") is None else NFTABLES
    found = differences(
        servers,
        services,
        slices,
        changed,
        node=node.name,
        node_ips=[*node.addresses],
        zone=node.zone,
        exclude=exclude_cidrs(answer.get("configz")),
        backend=backend,
    )
    return bool(found)


def _servers(answer: Mapping[str, Any]) -> tuple[VirtualServer, ...]:
    nft = answer.get("nft")
    if nft is not None:
        return nft_table.servers(nft)
    return () if answer["table"] is None else parse_table(answer["table"])


def _objects(source: ServiceSource) -> _Objects:
    return [trimmed(item) for item in source.services()], [trimmed(item) for item in source.endpoint_slices()]


def _versions(services: Sequence[Mapping[str, Any]], slices: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    versions = {}
    for kind, items in (("Service", services), ("EndpointSlice", slices)):
        for item in items:
            metadata = item["metadata"]
            versions[f"{kind} {metadata['namespace']}/{metadata['name']}"] = f"{metadata.get('uid')} {metadata.get('resourceVersion')}"
    return versions


def trimmed(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a raw Service or EndpointSlice without what no judge looks at."""
    metadata = {key: item["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion", "labels") if key in item["metadata"]}
    annotations = {
        key: value
        for key, value in (item["metadata"].get("annotations") or {}).items()
        if key.split("/")[0].endswith(_JUDGED_ANNOTATIONS) and key != "kubectl.kubernetes.io/last-applied-configuration"
    }
    if annotations:
        metadata["annotations"] = annotations
    kept = {key: item[key] for key in ("spec", "addressType", "endpoints", "ports") if key in item}
    load_balancer = item.get("status", {}).get("loadBalancer")
    return {"metadata": metadata, **kept, **({"status": {"loadBalancer": load_balancer}} if load_balancer else {})}
