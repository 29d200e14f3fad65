"""A rolling restart of the pod behind Ingresses, as requests through them see it: another pod takes over, and the old one ends.

The run's own Service is led to the other pod. The old one goes on to answer for as long as a preStop hook would let it, and then ends as
a process does: whoever still sends requests there gets none answered.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_services import INGRESS_TARGET_PORT
from pytest_k8snet.cluster.api_error import ApiError
from pytest_k8snet.errors import AccessError

if TYPE_CHECKING:
    from pytest_k8snet.measure.ingress import Target
    from pytest_k8snet.measure.registry import MeasureContext

EVERY_S = 0.05  # a request through each route
BEFORE_S = 2.0  # that anything is changed: the control
AFTER_S = 3.0  # that the old pod has ended
TIMEOUT_S = 5.0
_SHORT_S = 60.0


def restarted(
    context: MeasureContext, ways: Mapping[str, Target], straight: Target, *, client: str, old: str, new: str, number: int
) -> dict[str, Any]:
    """Send requests through all routes while the pod of `new` takes over from the server `number` of that of `old`."""
    assert context.lead_ingress is not None
    drain_s = max(route.drain_s for route in context.routes)
    told = {"new": new, "drain_s": drain_s, "every_s": EVERY_S, "changed_s": BEFORE_S, "refused": None, "routes": {}}
    try:
        context.lead_ingress(old)  # as it is: whether the run may
    except ApiError as error:
        if error.status != 403:
            raise
        return {**told, "refused": str(error)}
    agent = context.access.pod(new)
    server = agent.request("ingress.serve", {"port": INGRESS_TARGET_PORT, "max_s": _SHORT_S * 3 + drain_s}, timeout_s=_SHORT_S)["number"]
    try:
        tokens = {name: secrets.token_hex(8) for name in (*ways, "")}
        series = [_series(name, ways.get(name, straight), token) for name, token in tokens.items()]
        for_s = BEFORE_S + drain_s + AFTER_S
        params = {"series": series[:-1], "every_s": EVERY_S, "for_s": for_s}
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="k8snet-restart") as beside:
            control = context.access.pod(client).request(
                "ingress.stream", {"series": series[-1:], "every_s": EVERY_S, "for_s": EVERY_S * 10}, timeout_s=_SHORT_S
            )
            asking = beside.submit(context.access.pod(client).request, "ingress.stream", params, timeout_s=_SHORT_S + for_s)
            context.stopped.wait(BEFORE_S)
            context.lead_ingress(new)
            context.stopped.wait(drain_s)
            context.access.pod(old).request("ingress.stop", {"number": number}, timeout_s=_SHORT_S)
            answers = asking.result()
        for name, answer in answers.items():
            answer["seen"] = agent.request("ingress.seen", {"number": server, "token": tokens[name]}, timeout_s=_SHORT_S)["requests"]
    finally:
        with suppress(AccessError):  # it ends by itself
            agent.request("ingress.stop", {"number": server}, timeout_s=_SHORT_S)
    return {**told, "control": control[""], "routes": answers}


def successor(names: Sequence[str], backend: str) -> str | None:
    """Return the node whose pod takes over, None when there is no other one: the last, which is seldom the one that asks."""
    return next((name for name in reversed(names) if name != backend), None)


def _series(name: str, target: Target, token: str) -> dict[str, Any]:
    where = {"address": target.address, "port": target.port, "tls": target.tls, "host": target.host}
    return {**where, "key": name, "token": token, "send_bytes": 0, "return_bytes": 0, "timeout_s": TIMEOUT_S}
