"""What the API server reaches by connections of its own: the kubelet of every node, and a pod of every node by its address.

It is asked for the log of the probe pod, which it gets from the kubelet, and to pass an HTTP request on to the pod, which it sends as it
asks a webhook that has an endpoint there. Both only through the run's own pods. What it says of its failures comes back in its words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.agent.ingress import GREETING, PATH
from pytest_k8snet.errors import AccessError, ClusterError, MeasurementError
from pytest_k8snet.measure.answering import Outcomes, at_once, by_pods
from pytest_k8snet.measure.taking import MEASURE_ERRORS, again

if TYPE_CHECKING:
    from pytest_k8snet.access.probes import Probe
    from pytest_k8snet.measure.registry import MeasureContext, Relay
    from pytest_k8snet.record.document import Document

PORT = 9443  # controller-runtime's default for webhooks: what a firewall is most likely to let through
TRIES = 3
LAST_S = 25.0  # after which no try begins: the API server gives up a connection after 30 s
BETWEEN_S = 1.0
SERVE_S = 300.0
REQUEST_S = 60.0
_METHOD = "the log of the probe pod and a request to it, asked of the API server, which gets them by connections of its own"

#: Answers of the API server that no other try changes: it does not know us, does not allow it, or has no such pod.
_SETTLED = frozenset({400, 401, 403, 404, 405})


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Ask the API server for something of every node of `subjects`, at the same time."""
    cuts: dict[str, str | None] = {}
    for document in by_pods("relayed", _METHOD, context, subjects, partial(_measure, cuts)):
        yield replace(document, retried=document.retried or cuts.get(document.subject))


def _measure(cuts: dict[str, str | None], context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    if context.relay is None:
        raise MeasurementError("there is no API server that could be asked")
    outcomes = at_once(context, subjects, partial(_node, context, context.relay, cuts))
    pods = {name: outcome["pod"] for name, outcome in outcomes.items() if not isinstance(outcome, Exception)}
    asked = {name for name, pod in pods.items() if pod is not None}
    answered = {name for name in asked if pods[name]["ours"]}
    return {
        name: outcome
        if isinstance(outcome, Exception)
        else {**outcome, "others_asked": len(asked - {name}), "others_answered": len(answered - {name})}
        for name, outcome in outcomes.items()
    }


def _node(context: MeasureContext, relay: Relay, cuts: dict[str, str | None], name: str) -> Mapping[str, Any]:
    probe = context.probes.get(name)
    if probe is None:
        raise MeasurementError(f"{name}: no probe pods were made on this node")
    if probe.error is not None:
        raise MeasurementError(probe.error)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="k8snet-relayed-pod") as beside:
        pod = beside.submit(again, lambda: _pod(context, relay, probe))
        kubelet = _asked(context, lambda: relay.relay_to_kubelet(probe))
        # What a log says is nobody's business.
        kubelet = {**kubelet, "said": "" if kubelet["status"] == 200 else kubelet["said"]}
        try:
            asked, cuts[name] = pod.result()
            return {"kubelet": kubelet, "pod": asked, "not_serving": None}
        except MEASURE_ERRORS as error:  # exec goes by the kubelet as well
            return {"kubelet": kubelet, "pod": None, "not_serving": str(error)}


def _pod(context: MeasureContext, relay: Relay, probe: Probe) -> Mapping[str, Any]:
    agent = context.access.pod(probe.node)
    number = agent.request("ingress.serve", {"port": PORT, "max_s": SERVE_S}, timeout_s=REQUEST_S)["number"]
    try:
        asked = _asked(context, lambda: relay.relay_to_pod(probe, PORT, f"{PATH.strip('/')}/{probe.pod}"))
        seen = agent.request("ingress.seen", {"number": number, "token": probe.pod}, timeout_s=REQUEST_S)
    finally:
        with suppress(AccessError):  # it ends by itself
            agent.request("ingress.stop", {"number": number}, timeout_s=REQUEST_S)
    ours = asked["status"] == 200 and asked["said"] == GREETING
    return {"address": probe.pod_ip, "port": PORT, **asked, "ours": ours, "seen": seen["requests"], "sources": sorted(seen["sources"])}


def _asked(context: MeasureContext, ask: Callable[[], tuple[int, str]]) -> dict[str, Any]:
    """Ask until it is answered, nothing is to be hoped for, or the time is over; return the last answer."""
    begun = time.monotonic()
    tries = 0
    while True:
        tries += 1
        start = time.monotonic()
        status: int | None = None
        try:
            status, said = ask()
        except ClusterError as error:
            said = str(error)
        now = time.monotonic()
        if status == 200 or status in _SETTLED or tries >= TRIES or now - begun > LAST_S or context.stopped.wait(BETWEEN_S):
            return {"status": status, "said": said[:500], "ms": round((now - start) * 1000, 1), "tries": tries}
