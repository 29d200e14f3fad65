"""Which sizes of packets cross the paths between pods of different nodes: exact sizes that may not be fragmented, each way.

All nodes at once, and one node's targets too: some twenty packets a pair, more only where the full size never arrives.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.pairs import pair_name
from pytest_k8snet.errors import NoPodError
from pytest_k8snet.measure.answering import Outcomes, address_of, at_once, documents_of, present_targets, second_address_of, serving

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

_PROBE_S = 120.0
_SECRET_BYTES = 8  # of the agent's program
_METHOD = "datagrams of exact size that may not be fragmented, and a TCP connection, between probe pods"


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Measure the paths from the probe pods of the nodes `subjects` to those that they are paired with."""
    yield from documents_of("pathmtu", _METHOD, partial(_nodes, context, subjects))


def _nodes(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    targets = {name: present_targets(context, name) for name in subjects}
    involved = [*dict.fromkeys([*(name for name in subjects if targets[name]), *(item for some in targets.values() for item in some)])]
    secret = secrets.token_hex(_SECRET_BYTES)
    with serving(context, involved, "pod", secret=secret) as servers:
        outcomes = at_once(context, subjects, partial(_probe, context, servers, targets, secret))
        missed = {name for name, server in servers.items() if isinstance(server, Exception)}  # whose paths say so
    for name in subjects:
        # What was silent for that reason is not to be called a path that loses packets.
        gone = next((server for target in targets[name] if target not in missed and isinstance(server := servers[target], Exception)), None)
        if gone is not None and not isinstance(outcomes[name], Exception):
            outcomes[name] = gone
    return outcomes


def _probe(
    context: MeasureContext,
    servers: Mapping[str, Mapping[str, Any] | Exception],
    targets: Mapping[str, Sequence[str]],
    secret: str,
    name: str,
) -> dict[str, Any]:
    try:
        agent = context.access.pod(name)
    except NoPodError as absent:
        return {"pod_absent": str(absent), "targets": {}}
    asked: list[dict[str, Any]] = []
    found: dict[str, dict[str, Any]] = {"targets": {}, "second_targets": {}}  # by the first and the other address of the pods
    has_both = second_address_of(context, name, "pod") is not None
    for target in targets[name]:
        server = servers[target]
        if isinstance(server, Exception):
            found["targets"][target] = {"error": str(server), "address": None}
            continue
        # What comes back is the other node's own measurement, unless nobody looks at that direction.
        replies = pair_name(target, name) not in context.pairs
        addresses = {"targets": address_of(context, target, "pod")}
        if has_both and (second := second_address_of(context, target, "pod")) is not None:
            addresses["second_targets"] = second
        for key, address in addresses.items():
            item = {"address": address, "port": server["port"], "mtu": server["mtu"], "replies": replies}
            asked.append({"key": f"{target} {address}", **item})
            found[key][target] = item
    if asked:
        told = agent.request("pathmtu.probe", {"secret": secret, "targets": asked}, timeout_s=_PROBE_S)
        for paths in found.values():
            for target, item in paths.items():
                if "error" not in item:
                    paths[target] = {**told[f"{target} {item['address']}"], "address": item["address"]}
    return {"pod_absent": None, **found}
