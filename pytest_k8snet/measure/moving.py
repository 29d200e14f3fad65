"""An endpoint leaves a Service and comes back: when the nodes have noticed, and what becomes of connections to it that are open.

All nodes are asked in rounds by one clock, that of the run, so that nobody's has to be right.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_services import PORT, GroupService
from pytest_k8snet.cluster.api_error import ApiError, ApiRefusedError
from pytest_k8snet.errors import ClusterError
from pytest_k8snet.measure.answering import at_once, connections

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext

CLEAN = 3  # rounds without it in which an endpoint has to be missing
PER_ENDPOINT = 8  # connections a round
TOGETHER = 20
TIMEOUT_S = 2.0
SLACK_S = 5.0  # beyond the time that it may take
REQUEST_S = 60.0
_TRIES = 20  # for each endpoint, until one holds a connection to that which goes
_BETWEEN_S = 0.2


@dataclass(slots=True)
class _Watched:
    """What one node does, in seconds from the change on: until when it did as before, and from when on it does as it should."""

    until_s: float | None = None
    since_s: float | None = None
    clean: int = 0
    settled: bool = False
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"until_s": self.until_s, "since_s": self.since_s if self.settled else None, "error": self.error}


def move(
    context: MeasureContext, service: GroupService, endpoints: Mapping[str, str], seen: Mapping[str, Sequence[str]]
) -> Mapping[str, Mapping[str, Any] | None]:
    """Take an endpoint out of the Service and put it in again; return what each node of `seen` did, None where there is no choice.

    `seen` are the endpoints that each node has used before. The one that moves is one that most nodes have used.
    """
    if len(endpoints) < 2:
        return dict.fromkeys(seen)
    names = [*endpoints]
    mover = max(names, key=lambda name: (sum(name in used for used in seen.values()), names.index(name)))
    nodes = [node for node, used in seen.items() if mover in used]
    held = at_once(context, nodes, lambda node: _hold(context, node, service, mover, len(endpoints)))
    left: Mapping[str, _Watched] = {}
    came: Mapping[str, _Watched] = {}
    alive: Mapping[str, Any] = {}
    error: str | None = None
    refused = False
    try:
        left = _watch(context, nodes, service, mover, endpoints, member=False)
        alive = at_once(context, [node for node in nodes if left[node].settled], lambda node: _alive(context, node, held[node]))
        came = _watch(context, [node for node in nodes if left[node].settled], service, mover, endpoints, member=True)
    except ClusterError as problem:
        error, refused = str(problem), isinstance(problem, ApiError) and problem.status == 403
    return {
        node: {
            "endpoint": mover,
            "used": mover in seen[node],
            "error": error,
            "refused": refused,
            "left": left[node].to_json() if node in left else None,
            "came": came[node].to_json() if node in came else None,
            "session": session if isinstance(session := alive.get(node), Mapping) else None,
        }
        for node in seen
    }


def put_back(context: MeasureContext) -> None:
    """Let every pod that is to be an endpoint be one: who was cut off may have left one out."""
    assert context.regroup is not None
    with suppress(ApiRefusedError):  # then none has ever been taken out
        for node in sorted({node for group in context.probe_groups() for node in group.nodes}):
            context.regroup(node, member=True)


def _watch(
    context: MeasureContext, nodes: Sequence[str], service: GroupService, mover: str, endpoints: Mapping[str, str], *, member: bool
) -> dict[str, _Watched]:
    """Change whether the endpoint is one, and look until every node has noticed or has had time enough."""
    assert context.regroup is not None
    context.regroup(mover, member=member)
    start = time.monotonic()
    watched = {node: _Watched() for node in nodes}
    late = False
    # Who has begun to do as it should is looked at to the end: rounds of many nodes are long.
    while pending := [node for node, item in watched.items() if not item.settled and item.error is None and (item.clean or not late)]:
        answers = at_once(context, pending, lambda node: _round(context, node, service, endpoints, start))
        for node, answer in answers.items():
            if isinstance(answer, Exception):
                watched[node].error = str(answer)
            else:
                _note(watched[node], *answer, mover, member=member)
        late = time.monotonic() - start > context.propagation_s + SLACK_S
        if context.stopped.wait(_BETWEEN_S):
            break
    return watched


def _note(item: _Watched, begun_s: float, ended_s: float, names: set[str], mover: str, *, member: bool) -> None:
    if not names:
        return  # nobody answered: that says neither
    if (mover in names) is not member:
        item.until_s, item.clean = begun_s, 0
        return
    item.clean += 1
    if item.clean == 1:
        item.since_s = ended_s if member else begun_s
    item.settled = member or item.clean >= CLEAN


def _round(
    context: MeasureContext, node: str, service: GroupService, endpoints: Mapping[str, str], start: float
) -> tuple[float, float, set[str]]:
    """Connect from one node's pod; return when that began and ended, and who answered."""
    begun_s = round(time.monotonic() - start, 2)
    to = (service.cluster_ip, PORT)
    answers = connections(context, node, to, PER_ENDPOINT * len(endpoints), together=TOGETHER, timeout_s=TIMEOUT_S, wait_s=REQUEST_S)
    return begun_s, round(time.monotonic() - start, 2), {item["name"] for item in answers if item["name"] is not None}


def _hold(context: MeasureContext, node: str, service: GroupService, mover: str, endpoints: int) -> int | None:
    params = {"address": service.cluster_ip, "port": PORT, "name": mover, "tries": _TRIES * endpoints, "timeout_s": TIMEOUT_S}
    number: int | None = context.access.pod(node).request("balance.hold", params, timeout_s=REQUEST_S)["number"]
    return number


def _alive(context: MeasureContext, node: str, number: int | Exception | None) -> Mapping[str, Any] | None:
    """Use the connection that was held; None when there is none."""
    if number is None or isinstance(number, Exception):
        return None
    answer: Mapping[str, Any] = context.access.pod(node).request("balance.held", {"number": number, "timeout_s": 5.0}, timeout_s=REQUEST_S)
    return answer
