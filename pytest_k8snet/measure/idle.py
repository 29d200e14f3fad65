"""Connections through a Service that nobody uses for a while: is the data path still with them? One beside each is used meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_services import IDLE_PORT, IDLE_TARGET_PORT, SPREAD, GroupService
from pytest_k8snet.errors import MeasurementError
from pytest_k8snet.measure.answering import Outcomes, at_once, by_pods, listening
from pytest_k8snet.measure.service import MADE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

USED_EVERY_S = 5.0
TRIES = 40  # connections, until one leads to the wanted endpoint
TIMEOUT_S = 5.0
SPARE_S = 300.0  # that servers stay longer
REQUEST_S = 60.0
TOGETHER = 256  # nodes: all of them wait, and do little else
_BETWEEN_S = 1.0


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Leave connections of the probe pods of `subjects` idle, all at the same time; nothing where it was not asked for."""
    method = f"two TCP connections to one endpoint of a Service, by the agent of the probe pod; one is used every {USED_EVERY_S:g} s"
    yield from by_pods("idle", method, context, subjects, _left_idle, twice=False)  # it waits for long


def _left_idle(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    if not context.idle_s:
        return {name: {"asked_s": 0, "service": None, "endpoint": None, "not_serving": {}, "opened": None} for name in subjects}
    service = next(group for group in context.probe_groups() if group.name == SPREAD)
    with listening(context, service.nodes, (IDLE_TARGET_PORT,), context.idle_s + SPARE_S) as (endpoints, broken):
        found = at_once(context, subjects, lambda node: _node(context, node, service, [*endpoints]), together=TOGETHER)
    shared = {"asked_s": context.idle_s, "service": f"{service.namespace}/{service.name}", "not_serving": broken}
    return {node: outcome if isinstance(outcome, Exception) else {**shared, **outcome} for node, outcome in found.items()}


def _node(context: MeasureContext, node: str, service: GroupService, endpoints: Sequence[str]) -> dict[str, Any]:
    others = [name for name in endpoints if name != node]
    if not others:
        return {"endpoint": None, "opened": None}
    endpoint = others[sum(node.encode()) % len(others)]  # not all nodes the same one
    agent = context.access.pod(node)
    started = time.monotonic()
    patience_s = max(context.settled.remaining, MADE_S)
    while True:
        both = [_open(context, node, service, endpoint) for _ in range(2)]
        if all(item["number"] is not None for item in both):
            break
        if time.monotonic() - started > patience_s or context.stopped.wait(_BETWEEN_S):
            return {"endpoint": endpoint, "opened": None}
    idle, used = both
    where = {"address": service.cluster_ip, "port": IDLE_PORT, "client": idle["source"]}
    expires_s = context.access.host(node).request("balance.remembered", where, timeout_s=REQUEST_S)["expires_s"]
    begun = time.monotonic()
    alive: Mapping[str, Any] = {"alive": True}
    while alive["alive"] and (left_s := begun + context.idle_s - time.monotonic()) > 0:
        if context.stopped.wait(min(left_s, USED_EVERY_S)):
            raise MeasurementError("the run ended before the connection had been idle for long enough")
        alive = agent.request("balance.held", {"number": used["number"], "timeout_s": TIMEOUT_S, "keep": True}, timeout_s=REQUEST_S)
    waited_s = round(time.monotonic() - begun, 1)
    after = agent.request("balance.held", {"number": idle["number"], "timeout_s": TIMEOUT_S}, timeout_s=REQUEST_S)
    if alive["alive"]:  # once more, as what broke the other one may have come just now
        alive = agent.request("balance.held", {"number": used["number"], "timeout_s": TIMEOUT_S}, timeout_s=REQUEST_S)
    opened = {"keepalive_s": idle["keepalive_s"], "expires_s": expires_s, "waited_s": waited_s, "idle": after, "used": alive}
    return {"endpoint": endpoint, "opened": opened}


def _open(context: MeasureContext, node: str, service: GroupService, endpoint: str) -> Mapping[str, Any]:
    params = {"address": service.cluster_ip, "port": IDLE_PORT, "name": endpoint, "tries": TRIES, "timeout_s": TIMEOUT_S}
    answer: Mapping[str, Any] = context.access.pod(node).request("balance.hold", params, timeout_s=REQUEST_S + TRIES * TIMEOUT_S)
    return answer
