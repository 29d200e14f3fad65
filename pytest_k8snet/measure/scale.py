"""What many Services cost: how long connecting to the last one takes from every node, and how long after it was made that works.

Frontends are ports of few Services: addresses are few. They go with the run's namespace, or at its end one by one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_services import PER_SERVICE, SCALE_TARGET_PORT
from pytest_k8snet.cluster.ranges import of_services
from pytest_k8snet.errors import AccessError, MeasurementError
from pytest_k8snet.measure.answering import Outcomes, at_once, by_pods, connections

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

CONNECTIONS = 200  # one after the other
TIMEOUT_S = 2.0
SERVE_S = 1800.0
REQUEST_S = 60.0
BASE_S, PER_FRONTEND_S = 60.0, 0.05  # that proxies are given
SPARE = 32  # addresses that are left to others
_BETWEEN_S = 0.5


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Make Services, more and more, and connect from the probe pods of `subjects`; nothing where none were asked for."""
    method = f"{CONNECTIONS} TCP connections to the last of many frontends of Services, by the agent of the probe pod"
    yield from by_pods("scale", method, context, subjects, _measure, twice=False)  # what the first attempt has made is still there


def _measure(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    if not context.service_scale:
        return {name: {"endpoint": None, "sizes": ()} for name in subjects}
    assert context.make_frontends is not None
    _check_room(context)
    endpoint = next((name for name in reversed(subjects) if context.probes[name].error is None), None)
    if endpoint is None:
        raise MeasurementError("no probe pod runs that Services could lead to")
    agent = context.access.pod(endpoint)
    params = {"name": endpoint, "port": SCALE_TARGET_PORT, "max_s": SERVE_S}
    number = agent.request("traffic.serve", params, timeout_s=REQUEST_S)["number"]
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in subjects}
    failed: dict[str, Exception] = {}
    try:
        frontends = services = 0
        for size in context.service_scale:
            start = time.monotonic()
            address, port = "", 0
            while frontends < size and not context.stopped.is_set():
                services, port = services + 1, min(PER_SERVICE, size - frontends)
                address = context.make_frontends(endpoint, services, port)
                frontends += port
            if context.stopped.is_set():
                break  # nobody waits for it: the sooner it ends, the sooner they are removed
            shared = {"frontends": frontends, "services": services, "made_s": round(time.monotonic() - start, 2)}
            pod = (context.probes[endpoint].pod_ip or "", SCALE_TARGET_PORT)
            patience_s = BASE_S + PER_FRONTEND_S * frontends
            connect = partial(_connect, context, last=(address, port), pod=pod, start=start, patience_s=patience_s)
            for name, answer in at_once(context, [name for name in subjects if name not in failed], connect).items():
                if isinstance(answer, Exception):
                    failed[name] = answer
                else:
                    found[name].append({**shared, **answer})
    finally:
        with suppress(AccessError):
            agent.request("traffic.stop", {"number": number}, timeout_s=REQUEST_S)
    return {name: failed.get(name) or {"endpoint": endpoint, "sizes": found[name]} for name in subjects}


def _connect(
    context: MeasureContext, node: str, *, last: tuple[str, int], pod: tuple[str, int], start: float, patience_s: float
) -> dict[str, Any]:
    """Connect to the last frontend until it answers, and then many times; as often to its pod itself, half of it before and half after.

    What makes a node slow meanwhile, proxies at work for one, does so with both.
    """

    def one_by_one(to: tuple[str, int], count: int) -> list[dict[str, Any]]:
        return connections(context, node, to, count, together=1, timeout_s=TIMEOUT_S, wait_s=REQUEST_S + count * TIMEOUT_S)

    while (tried := one_by_one(last, 1)[0])["name"] is None:
        if time.monotonic() - start > patience_s or context.stopped.wait(_BETWEEN_S):
            break
    answering_s = None if tried["name"] is None else round(time.monotonic() - start, 2)
    answers: Sequence[Mapping[str, Any]] = ()
    directly: Sequence[Mapping[str, Any]] = ()
    if answering_s is not None:
        directly = one_by_one(pod, CONNECTIONS // 2)
        answers = one_by_one(last, CONNECTIONS)
        directly = [*directly, *one_by_one(pod, CONNECTIONS // 2)]
    return {
        "answering_s": answering_s,
        "waited_s": round(time.monotonic() - start, 2),
        "error": tried["error"],
        "connected_ms": sorted(item["connected_ms"] for item in answers if item["name"] is not None),
        "direct_ms": sorted(item["connected_ms"] for item in directly if item["name"] is not None),
        "unanswered": sum(item["name"] is None for item in answers),
    }


def _check_room(context: MeasureContext) -> None:
    """See that there are addresses enough. Raises `MeasurementError` when there are not, and when it is not known."""
    wanted = sum(-(-size // PER_SERVICE) for size in context.service_scale)
    taken = {str(item["spec"].get("clusterIP")) for item in context.services.services()}
    networks = of_services(context.cluster.ranges or ())
    if not networks:
        raise MeasurementError(f"{wanted} addresses are needed for --k8snet-service-scale, and the range of the Services is not known")
    room = min(network.num_addresses for network in networks) - len(taken) - SPARE
    if room < wanted:
        raise MeasurementError(
            f"--k8snet-service-scale needs {wanted} addresses of Services, and of {', '.join(map(str, networks))} "
            f"{max(room, 0)} can be spared"
        )
