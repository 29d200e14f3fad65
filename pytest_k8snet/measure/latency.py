"""How long answers take between pods and between their nodes, in turns, and how far reference points are.

Host path, pod path, host path again, and both once more where they are far apart: what passes slows some takes, and the best one counts.
Then ICMP echo by both paths, where the kernel lets this be sent: a second opinion that no connection has a part in.
A few nodes at the same time, so that they do not keep each other waiting; of one node, one target after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import TRANSPORT_ERRORS, AccessError, CommandTimeout, MeasurementError, NoPodError
from pytest_k8snet.measure.answering import Outcomes, Place, address_of, agent_of, at_once, documents_of, present_targets, serving

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

ORDER: tuple[Place, ...] = ("host", "pod", "host")
AGAIN: tuple[Place, ...] = ("pod", "host")
MOST_TAKES = 7
SAMPLES = 200
TAKE_S = 2.0  # at most, where answers are slow
NODES_APART = 4  # one in so many nodes measures at the same time
ECHO_PATHS: tuple[Place, ...] = ("host", "pod")
ECHOES = 50
ECHO_TIMEOUT_S = 1.0
ECHO_LOST = 2  # in a row, after which no more are sent
ECHO_SILENT = 2  # targets of one node that do not answer by one path, after which others are not asked
POINT_SAMPLES = 7
POINT_TIMEOUT_S = 3.0
_SHORT_S = 60.0
_METHOD = f"{SAMPLES} answers of a few bytes over one TCP connection a take, and {ECHOES} ICMP echoes, between nodes and between probe pods"

#: Best takes further apart than this are repeated: milliseconds and shares.
_FAR_MS, _FAR = 0.3, 1.3
_FAR_P99_MS, _FAR_P99 = 3.0, 2.0

_BROKEN = (CommandTimeout, *TRANSPORT_ERRORS)
Servers = Mapping[str, Mapping[str, Any] | Exception]


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Measure from the nodes `subjects` to those that they are paired with, and to the reference points."""
    yield from documents_of(context, "latency", _METHOD, subjects, partial(_nodes, context))


def _nodes(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    targets = {name: present_targets(context, name) for name in subjects}
    involved = [*dict.fromkeys(item for some in targets.values() for item in some)]
    with serving(context, involved, "pod") as pods, serving(context, involved, "host") as hosts:
        together = max(1, min(context.settings.facts_threads, len(subjects) // NODES_APART))
        return at_once(context, subjects, partial(_node, context, {"pod": pods, "host": hosts}, targets), together=together)


def _node(context: MeasureContext, servers: Mapping[Place, Servers], targets: Mapping[str, Sequence[str]], name: str) -> dict[str, Any]:
    try:
        context.access.pod(name)
    except NoPodError as absent:
        return {"pod_absent": str(absent), "targets": {}, "points": []}
    return {
        "pod_absent": None,
        "targets": _targets(context, servers, name, targets[name]),
        "points": [_point(context, name, *point) for point in context.reference_points],
    }


def _targets(context: MeasureContext, servers: Mapping[Place, Servers], name: str, targets: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Measure to one target after the other. Where ICMP is not allowed, or nobody answers it, that is found out once and not for each."""
    given_up: dict[Place, str] = {}
    silent: Counter[Place] = Counter()
    found: dict[str, Mapping[str, Any]] = {}
    for target in targets:
        takes = _takes(context, servers, name, target)
        echoes = {path: _echo(context, name, target, path, given_up.get(path)) for path in ECHO_PATHS}
        for path, answer in echoes.items():
            if answer["refused"] is not None:
                given_up[path] = answer["refused"]
            elif answer["error"] is None and not answer["samples"]:
                silent[path] += 1
                if silent[path] == ECHO_SILENT:
                    given_up[path] = f"the first {ECHO_SILENT} that were asked did not answer"
        found[target] = {"takes": takes, "echo": echoes}
    return found


def _echo(context: MeasureContext, name: str, target: str, path: Place, given_up: str | None) -> dict[str, Any]:
    """Ask by ICMP echo. That it is not allowed (`given_up` says that it is known), or does not work, is no error of anything else."""
    values: dict[str, Any] = {"samples": 0, "lost": 0, **dict.fromkeys(FIGURES), "refused": given_up, "error": None}
    if given_up is not None:
        return values
    try:
        params = {
            "address": address_of(context, target, path),
            "samples": ECHOES,
            "timeout_s": ECHO_TIMEOUT_S,
            "most_lost": ECHO_LOST,
            "max_s": TAKE_S,
        }
        answer = agent_of(context, name, path).request("latency.echo", params, timeout_s=_SHORT_S)
    except (AccessError, MeasurementError) as error:
        if isinstance(error, _BROKEN):
            raise
        return {**values, "error": str(error)}
    times = answer["sorted_ms"]
    measured = {**figures(times), "jitter_ms": answer["jitter_ms"]} if times else {}
    return {**values, "samples": len(times), "lost": answer["lost"], "refused": answer["refused"], **measured}


def _takes(context: MeasureContext, servers: Mapping[Place, Servers], name: str, target: str) -> list[dict[str, Any]]:
    takes = [_take(context, servers, name, target, path) for path in ORDER]
    while len(takes) < MOST_TAKES and far_apart(takes) and not context.stopped.is_set():
        takes += [_take(context, servers, name, target, path) for path in AGAIN]
    return takes


def far_apart(takes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the best take of the pod path is so much slower than the host's that it is worth another look."""
    if any(take["error"] is not None for take in takes):
        return False
    p50, p99 = ({path: min(take[key] for take in takes if take["path"] == path) for path in ORDER} for key in ("p50_ms", "p99_ms"))
    return bool(p50["pod"] > _FAR * p50["host"] + _FAR_MS or p99["pod"] > _FAR_P99 * p99["host"] + _FAR_P99_MS)


def _take(context: MeasureContext, servers: Mapping[Place, Servers], name: str, target: str, path: Place) -> dict[str, Any]:
    """Take one path once. What goes wrong becomes the take's error, never a figure."""
    values: dict[str, Any] = {"path": path, "samples": 0, **dict.fromkeys(FIGURES), "error": None, "closed": False}
    server = servers[path][target]
    if isinstance(server, Exception):
        return {**values, "error": f"{target} does not serve: {server}"}
    try:
        params = {"address": address_of(context, target, path), "port": server["port"], "samples": SAMPLES, "max_s": TAKE_S}
        answer = agent_of(context, name, path).request("latency.rtt", params, timeout_s=_SHORT_S)
    except (AccessError, MeasurementError) as error:
        if isinstance(error, _BROKEN):
            raise
        return {**values, "error": str(error), "closed": True}
    return {**values, "samples": len(answer["sorted_ms"]), **figures(answer["sorted_ms"]), "jitter_ms": answer["jitter_ms"]}


FIGURES = ("p50_ms", "p90_ms", "p99_ms", "max_ms", "jitter_ms")


def figures(sorted_ms: Sequence[float]) -> dict[str, float]:
    """Return percentiles of times, the shortest of which comes first."""
    return {f"p{part}_ms": sorted_ms[min(len(sorted_ms) - 1, part * len(sorted_ms) // 100)] for part in (50, 90, 99)} | {
        "max_ms": sorted_ms[-1]
    }


def _point(context: MeasureContext, name: str, point: str, address: str, port: int) -> dict[str, Any]:
    params = {"address": address, "port": port, "samples": POINT_SAMPLES, "timeout_s": POINT_TIMEOUT_S}
    answer = context.access.pod(name).request("latency.connect", params, timeout_s=_SHORT_S)
    times = answer["sorted_ms"]
    return {
        "name": point,
        "address": address,
        "port": port,
        "asked": POINT_SAMPLES,
        "samples": len(times),
        "p50_ms": figures(times)["p50_ms"] if times else None,
        "error": answer["error"],
    }
