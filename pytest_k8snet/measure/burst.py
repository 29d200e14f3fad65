"""A burst of short connections between probe pods: what the connection table makes of it, and whether source ports are used again.

Nothing is sent where the table of either side has too little room: it would be the run that breaks the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import AccessError, MeasurementError
from pytest_k8snet.measure.answering import Outcomes, at_once, by_pods, listening
from pytest_k8snet.measure.taking import MEASURE_ERRORS

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

PORT, AGAIN_PORT = 8725, 8726  # one for the burst, one whose source ports are all free
TOGETHER = 32
TIMEOUT_S = 10.0
MAX_S = 60.0
SERVE_S = 600.0
REQUEST_S = 60.0
FEW_PORTS = 16  # that the pod is left with, to see whether they are used again
AFTER_S = 2.5  # the kernel lets a port be used again after a second


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Open connections from the probe pods of `subjects`, all at the same time; nothing where it was not asked for."""
    method = f"short TCP connections, {TOGETHER} at a time, by the agent of the probe pod to that of another node; /proc of the node"
    # Once: tables are full of the first attempt's connections for minutes, and its pod may have been left with few ports.
    yield from by_pods("burst", method, context, subjects, _measure, twice=False)


def _measure(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    asked = context.burst.connections
    if not asked:
        return {name: {"asked": 0, "endpoint": None, "not_serving": {}, "found": None} for name in subjects}
    nodes = [name for name in subjects if context.probes[name].error is None]
    with listening(context, nodes, (PORT, AGAIN_PORT), SERVE_S) as (endpoints, broken):
        to = ring([*endpoints])
        rooms = at_once(context, to, partial(_room, context, asked=asked))

        def measured(node: str) -> Mapping[str, Any]:
            context.access.pod(node)  # before anything else, why there is none
            endpoint = to.get(node)
            found = None
            if endpoint is not None:
                for room in (rooms[node], rooms[endpoint]):
                    if isinstance(room, Exception):
                        raise room
                found = _burst(context, node, endpoints[endpoint])
            return {"asked": asked, "endpoint": endpoint, "not_serving": broken, "found": found}

        return at_once(context, subjects, measured)


def ring(nodes: Sequence[str]) -> dict[str, str]:
    """Return for each node the next one: everybody is asked by one other."""
    return {} if len(nodes) < 2 else dict(zip(nodes, [*nodes[1:], nodes[0]], strict=True))


def _room(context: MeasureContext, node: str, *, asked: int) -> None:
    """See that the table of a node has room. Every connection is in it twice: the node's pod asks, and is asked."""
    agent = context.access.host(node)
    table = agent.request("burst.begin", {"max_s": 0}, timeout_s=REQUEST_S)
    agent.request("burst.end", {"number": table["number"]}, timeout_s=REQUEST_S)
    if table["max"] is None or table["count"] is None or context.burst.forced:
        return
    most = max(0, table["max"] - table["count"]) // 4  # half of what is free
    if asked > most:
        raise MeasurementError(
            f"{node}: {asked} connections would take {2 * asked} of the {table['max'] - table['count']} free entries of the connection "
            f"table, and more than half of them is not taken: ask for {most} at most, or give --k8snet-conntrack-burst-anyway as well"
        )


def _burst(context: MeasureContext, node: str, address: str) -> dict[str, Any]:
    host, pod = context.access.host(node), context.access.pod(node)
    uplink = {"uplink_ip": context.cluster.node(node).internal_ip}
    params = {"address": address, "port": PORT, "count": context.burst.connections, "together": TOGETHER}
    before = host.request("activity", uplink, timeout_s=REQUEST_S)
    table = host.request("burst.begin", {"max_s": MAX_S + REQUEST_S}, timeout_s=REQUEST_S)
    try:
        opened = pod.request("burst.open", {**params, "timeout_s": TIMEOUT_S, "max_s": MAX_S}, timeout_s=MAX_S + REQUEST_S)
    finally:
        with suppress(AccessError):  # it ends by itself
            after_table = host.request("burst.end", {"number": table["number"]}, timeout_s=REQUEST_S)
    return {
        "opened": opened,
        "table": {
            "max": table["max"],
            "before": table["count"],
            "peak": after_table["peak"],
            "after": after_table["count"],
            "grown": after_table["grown"],
        },
        "before": before,
        "after": host.request("activity", uplink, timeout_s=REQUEST_S),
        "again": _again(context, node, address, opened["range"]),
    }


def _again(context: MeasureContext, node: str, address: str, ports: Sequence[int]) -> dict[str, Any]:
    """Leave the pod few ports, and see whether it can use them again; what keeps that from being seen is its ``error``."""
    probe = context.probes[node]
    pod = f"{probe.namespace}/{probe.pod}"
    host = context.access.host(node)
    if len(ports) != 2 or ports[1] - ports[0] < FEW_PORTS:
        return {"error": f"the pod has the ports {' to '.join(map(str, ports)) or 'unknown'}"}
    few = [ports[1] - FEW_PORTS + 1, ports[1]]
    try:
        host.request("burst.narrow", {"pod": pod, "range": few}, timeout_s=REQUEST_S)
        try:
            params = {"address": address, "port": AGAIN_PORT, "most": FEW_PORTS, "after_s": AFTER_S, "timeout_s": TIMEOUT_S}
            found: dict[str, Any] = context.access.pod(node).request("burst.again", params, timeout_s=(2 * FEW_PORTS + 1) * TIMEOUT_S)
        finally:
            host.request("burst.narrow", {"pod": pod, "range": [*ports]}, timeout_s=REQUEST_S)
    except MEASURE_ERRORS as error:
        return {"error": str(error)}
    return {"error": None, "waited_s": AFTER_S, "range": few, **found}
