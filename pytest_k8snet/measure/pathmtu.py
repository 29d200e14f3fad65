"""Which sizes of packets cross the paths between pods of different nodes: exact sizes that may not be fragmented, each way.

All nodes at once, and one node's targets too: some twenty packets a pair, more only where the full size never arrives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.model import pair_name
from pytest_k8snet.errors import NoPodError
from pytest_k8snet.measure.answering import Outcomes, address_of, at_once, documents_of, present_targets, serving

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

_PROBE_S = 120.0
_METHOD = "datagrams of exact size that may not be fragmented, and a TCP connection, between probe pods"


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Measure the paths from the probe pods of the nodes `subjects` to those that they are paired with."""
    yield from documents_of("pathmtu", _METHOD, partial(_nodes, context, subjects))


def _nodes(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    targets = {name: present_targets(context, name) for name in subjects}
    involved = [*dict.fromkeys([*(name for name in subjects if targets[name]), *(item for some in targets.values() for item in some)])]
    with serving(context, involved, "pod") as servers:
        return at_once(context, subjects, partial(_probe, context, servers, targets))


def _probe(
    context: MeasureContext, servers: Mapping[str, Mapping[str, Any] | Exception], targets: Mapping[str, Sequence[str]], name: str
) -> dict[str, Any]:
    try:
        agent = context.access.pod(name)
    except NoPodError as absent:
        return {"pod_absent": str(absent), "targets": {}}
    asked: list[dict[str, Any]] = []
    found: dict[str, dict[str, Any]] = {"targets": {}, "second_targets": {}}  # by the first and the other address of the pods
    own = context.probes.get(name)
    for target in targets[name]:
        server = servers[target]
        if isinstance(server, Exception):
            found["targets"][target] = {"error": str(server), "address": None}
            continue
        # What comes back is the other node's own measurement, unless nobody looks at that direction.
        replies = pair_name(target, name) not in context.pairs
        first = address_of(context, target, "pod")
        for address in (first, *_second(first, context.probes[target].addresses, own.addresses if own else ())):
            item = {"address": address, "port": server["port"], "mtu": server["mtu"], "replies": replies}
            asked.append({"key": f"{target} {address}", **item})
            found["targets" if address == first else "second_targets"][target] = item
    if asked:
        told = agent.request("pathmtu.probe", {"targets": asked}, timeout_s=_PROBE_S)
        for paths in found.values():
            for target, item in paths.items():
                if "error" not in item:
                    paths[target] = {**told[f"{target} {item['address']}"], "address": item["address"]}
    return {"pod_absent": None, **found}


def _second(first: str, addresses: Sequence[str], own: Sequence[str]) -> list[str]:
    """Return the pod's address of the other family than `first`, where the own pod has one, too."""
    families = {":" in address for address in own}
    return [address for address in addresses if (":" in address) != (":" in first) and (":" in address) in families][:1]
