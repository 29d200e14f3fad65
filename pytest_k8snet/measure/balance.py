"""Many connections from every node's pod to one Service of several endpoints: who answered, and which of the kernel's tables had them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_services import GROUP_TARGET_PORTS, PORT, SPREAD, STICKY, GroupService
from pytest_k8snet.cluster.serving import is_served
from pytest_k8snet.errors import MeasurementError
from pytest_k8snet.measure import moving
from pytest_k8snet.measure.answering import Outcomes, answered, at_once, by_pods, connections, listening
from pytest_k8snet.measure.service import MADE_S

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

STICKY_CONNECTIONS = 24  # that a random choice between 2 is the same each time happens once in 8 million times
CONNECTIONS = 60  # of a random choice among 4 one is left out by chance once in 10 million times
TOGETHER = 20
TIMEOUT_S = 5.0  # room for a second and a third SYN
SERVE_S = 300.0
REQUEST_S = 60.0
_FIRST_PER_ENDPOINT = 4  # connections in which each endpoint is looked for
_FIRST_TIMEOUT_S = 2.0
_BETWEEN_S = 0.5
_TRIES = 4
OF_SERVICES = "-A KUBE-SERVICES "


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Connect from the probe pods of `subjects`, all at the same time."""
    method = f"{CONNECTIONS} TCP connections to one Service, by the agent of the probe pod; tables of the node by that of the node"
    yield from by_pods("balance", method, context, subjects, _outcomes, restore=partial(moving.put_back, context))


def _outcomes(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    groups = {group.name: group for group in context.probe_groups()}
    spread, sticky = groups[SPREAD], groups[STICKY]

    def connect(node: str) -> dict[str, Any]:
        return {"spread": _spread(context, node, spread, endpoints), "sticky": _sticky(context, node, sticky)}

    with listening(context, spread.nodes, [*GROUP_TARGET_PORTS.values()], SERVE_S) as (endpoints, broken):
        if not endpoints:
            raise MeasurementError(f"no endpoint of Service {spread.namespace}/{spread.name} answers: {'; '.join(broken.values())}")
        found = at_once(context, subjects, connect)
        seen = {node: outcome["spread"]["seen"] for node, outcome in answered(found).items()}
        moved = moving.move(context, spread, endpoints, seen)
    shared = {"endpoints": endpoints, "not_serving": broken}
    return {
        node: outcome if isinstance(outcome, Exception) else {**shared, **outcome, "moved": moved[node]} for node, outcome in found.items()
    }


def _spread(context: MeasureContext, node: str, service: GroupService, endpoints: Mapping[str, str]) -> dict[str, Any]:
    """Wait until the node uses all endpoints, connect, and look into its tables before and after.

    Where all endpoints have answered it and some connections are not answered then, it connects once more: what passes is no matter of
    the Service. Rules that are written anew may refuse for a moment; a pod that reaches itself is seen as its node, from a port chosen
    at random, which once in a while is that of a connection that its kernel still remembers.
    """
    seen, waited_s, connections = _settled(context, node, service, endpoints)
    earlier: list[dict[str, Any]] = []
    for _ in range(_TRIES):
        before = _counted(context, node, service, [])
        if seen:  # else those that were in vain are enough
            connections = _connect(context, node, service, CONNECTIONS, TIMEOUT_S)
        clients = sorted({item["source"][0] for item in connections if item["source"] is not None})
        after = _counted(context, node, service, clients)
        rules = _moved(before["rules"], after["rules"])
        counted = sum(item["packets"] for item in rules if OF_SERVICES in item["rule"])
        unanswered = [item for item in connections if item["name"] is None]
        if unanswered and len(seen) == len(endpoints) and not earlier:
            earlier = unanswered
            continue
        if not seen or not any(OF_SERVICES in item["rule"] for item in rules) or counted >= len(connections):
            break  # else kube-proxy may have written its rules anew meanwhile: they count from nothing then
    return {
        "service": f"{service.namespace}/{service.name}",
        "address": service.cluster_ip,
        "port": PORT,
        "seen": sorted(seen),
        "waited_s": waited_s,
        "connections": connections,
        "earlier": earlier,
        "ipvs": after["ipvs"],
        "rules": rules,
        "errors": {**before["errors"], **after["errors"]},
    }


def _sticky(context: MeasureContext, node: str, service: GroupService) -> dict[str, Any]:
    """Connect once, and then many times: of connections that begin together two may choose before either is remembered."""
    started = time.monotonic()
    patience_s = _patience_s(context)
    while True:
        first = _connect(context, node, service, 1, TIMEOUT_S)
        if first[0]["name"] is not None or time.monotonic() - started > patience_s or context.stopped.wait(_BETWEEN_S):
            break
    more = [] if first[0]["name"] is None else _connect(context, node, service, STICKY_CONNECTIONS - 1, TIMEOUT_S)
    return {
        "service": f"{service.namespace}/{service.name}",
        "address": service.cluster_ip,
        "port": PORT,
        "connections": [*first, *more],
    }


def _patience_s(context: MeasureContext) -> float:
    """Return how long endpoints are waited for: as long as a change of them may take."""
    return max(context.settled.remaining, context.propagation_s if is_served(context.cluster) else MADE_S)


def _settled(
    context: MeasureContext, node: str, service: GroupService, endpoints: Mapping[str, str]
) -> tuple[set[str], float, list[dict[str, Any]]]:
    """Return which endpoints the node was seen to use, how long that was looked for, and the last connections."""
    started = time.monotonic()
    patience_s = _patience_s(context)
    seen: set[str] = set()
    while True:
        answers = _connect(context, node, service, _FIRST_PER_ENDPOINT * len(endpoints), _FIRST_TIMEOUT_S)
        seen |= {item["name"] for item in answers if item["name"] in endpoints}
        waited_s = time.monotonic() - started
        if len(seen) == len(endpoints) or waited_s > patience_s or context.stopped.wait(_BETWEEN_S):
            return seen, round(waited_s, 1), answers


def _connect(context: MeasureContext, node: str, service: GroupService, count: int, timeout_s: float) -> list[dict[str, Any]]:
    return connections(context, node, (service.cluster_ip, PORT), count, together=TOGETHER, timeout_s=timeout_s, wait_s=REQUEST_S)


def _counted(context: MeasureContext, node: str, service: GroupService, clients: Sequence[str]) -> Mapping[str, Any]:
    params = {"address": service.cluster_ip, "port": PORT, "clients": clients}
    answer: Mapping[str, Any] = context.access.host(node).request("balance.counted", params, timeout_s=REQUEST_S)
    return answer


def _moved(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rules with the packets that they have counted in between; what was made, or made anew, meanwhile began with none."""
    first = {(item["backend"], item["rule"]): item["packets"] for item in before}
    moved = []
    for item in after:
        packets, earlier = item["packets"], first.get((item["backend"], item["rule"]), 0)
        moved.append({**item, "packets": packets - earlier if packets >= earlier else packets})
    return moved
