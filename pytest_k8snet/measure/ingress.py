"""Requests through ways into the cluster: from one probe pod, by Ingresses of the run's own, to a server in another that counts.

The same requests are sent straight to that server as well: what it counts then is known beforehand. All of it is one client's, one request
after the other. A controller is given time to take in the new Ingresses, all of them before anything is measured: nginx closes connections
when it is configured anew. Others may do that at any time, so what was closed or not answered is taken again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_services import INGRESS_TARGET_PORT
from pytest_k8snet.cluster.api_error import ApiRefusedError
from pytest_k8snet.errors import AccessError, MeasurementError
from pytest_k8snet.measure.answering import Outcomes, address_of, documents_of
from pytest_k8snet.measure.restart import restarted, successor

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Agent
    from pytest_k8snet.cluster.ingress import Route
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

REQUESTS = 200
MOST_TAKES = 3
TIMEOUT_S = 5.0
SERIES_S = 20.0
SERVE_S = 300.0  # beside what controllers are waited for
_BETWEEN_S = 1.0
_SHORT_S = 60.0
NO_ROUTE = "no profile names a way into the cluster to send requests through (ingress.routes)"


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Measure all routes; there is one subject, the cluster."""
    method = f"{REQUESTS} HTTP requests over one connection, by the agent in a probe pod, to a server in a probe pod"
    yield from documents_of(context, "ingress", method, subjects, partial(_measured, context), restore=partial(_lead_back, context))


def _measured(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    return dict.fromkeys(subjects, _measure(context))


def _lead_back(context: MeasureContext) -> None:
    """Lead the run's Service to the pod that it led to at first: a restart that was cut off may have left it with the other one."""
    ingresses = context.probe_ingresses()
    if context.lead_ingress is not None and ingresses:
        with suppress(ApiRefusedError):  # then it has never been led anywhere else
            context.lead_ingress(ingresses[0].node)


def _measure(context: MeasureContext) -> dict[str, Any]:
    if not context.routes:
        return {"absent": NO_ROUTE, "beyond": False}
    usable = [name for name, probe in context.probes.items() if probe.error is None]
    for name in usable[:1]:
        context.access.pod(name)  # says so where there are no pods on purpose, before anything is waited for
    ingresses = {item.route: item for item in context.probe_ingresses()}
    if not ingresses:
        raise MeasurementError("there is no probe pod that an Ingress could lead to")
    backend = next(iter(ingresses.values())).node
    client = next((name for name in usable if name != backend), backend)
    addresses = {route.name: _address(context, route) for route in context.routes}
    serve_s = SERVE_S + sum(route.served_within_s for route in context.routes)
    answering = context.access.pod(backend)
    server = answering.request("ingress.serve", {"port": INGRESS_TARGET_PORT, "max_s": serve_s}, timeout_s=_SHORT_S)
    try:
        asking = Client(context.access.pod(client), answering, server["number"])
        straight = Target(address_of(context, backend, "pod"), INGRESS_TARGET_PORT, False, "k8snet.invalid")
        ways = {route.name: Target(addresses[route.name], route.port, route.tls, ingresses[route.name].host) for route in context.routes}
        waited = {route.name: _wait(context, asking, ways[route.name], route.served_within_s) for route in context.routes}
        routes = [_route(asking, straight, route, ways[route.name], *waited[route.name]) for route in context.routes]
        reached = {name: way for name, way in ways.items() if waited[name][1] is None}
        restart = _restart(context, reached, straight, usable, client, backend, server["number"])
    finally:
        with suppress(AccessError):  # it ends by itself
            answering.request("ingress.stop", {"number": server["number"]}, timeout_s=_SHORT_S)
    return {"absent": None, "client": client, "backend": backend, "routes": routes, "restart": restart}


def _restart(
    context: MeasureContext, ways: Mapping[str, Target], straight: Target, usable: Sequence[str], client: str, backend: str, number: int
) -> dict[str, Any] | None:
    """Replace the pod that answers while requests go on; None where no check asks for that, or nothing gets through."""
    if context.lead_ingress is None or not ways:
        return None
    new = successor(usable, backend)
    if new is None:
        return {"new": None}
    return restarted(context, ways, straight, client=client, old=backend, new=new, number=number)


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests are sent, and the name that they are for."""

    address: str
    port: int
    tls: bool
    host: str

    @property
    def url(self) -> str:
        """Return it as a user would type it."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'https' if self.tls else 'http'}://{address}:{self.port}/"


@dataclass(frozen=True, slots=True)
class Client:
    """A pod that asks, and the pod whose server says what it saw of it."""

    asking: Agent
    answering: Agent
    number: int

    def series(self, target: Target, requests: int = 1, *, send_bytes: int = 0, return_bytes: int = 0) -> dict[str, Any]:
        """Send requests; return what came of them, and what the server saw."""
        token = secrets.token_hex(8)
        params = {
            "address": target.address,
            "port": target.port,
            "tls": target.tls,
            "host": target.host,
            "token": token,
            "requests": requests,
            "send_bytes": send_bytes,
            "return_bytes": return_bytes,
            "timeout_s": TIMEOUT_S,
            "max_s": SERIES_S,
        }
        answer = dict(self.asking.request("ingress.ask", params, timeout_s=_SHORT_S))
        answer["seen"] = self.answering.request("ingress.seen", {"number": self.number, "token": token}, timeout_s=_SHORT_S)
        return answer


def _route(client: Client, straight: Target, route: Route, through: Target, waited_s: float, first: str | None) -> dict[str, Any]:
    size = route.header_bytes
    control = {
        "control": client.series(straight, REQUESTS),
        "control_sent": client.series(straight, send_bytes=size),
        "control_returned": client.series(straight, return_bytes=size),
    }
    measured: dict[str, Any] = {"through": [], "sent": [], "returned": []}
    if first is None:
        measured = {
            "through": _takes(client, through, REQUESTS),
            "sent": _takes(client, through, send_bytes=size),
            "returned": _takes(client, through, return_bytes=size),
        }
    told = {"name": route.name, "url": through.url, "host": through.host, "waited_s": waited_s, "first": first, "header_bytes": size}
    return {**told, **control, **measured}


def _takes(client: Client, through: Target, requests: int = 1, *, send_bytes: int = 0, return_bytes: int = 0) -> list[dict[str, Any]]:
    """Send requests, and once more while some were not answered or the connection was closed."""
    takes: list[dict[str, Any]] = []
    while len(takes) < MOST_TAKES and not (takes and takes[-1]["answered"] == takes[-1]["asked"] and not takes[-1]["closed_after"]):
        takes.append(client.series(through, requests, send_bytes=send_bytes, return_bytes=return_bytes))
    return takes


def _wait(context: MeasureContext, client: Client, through: Target, most_s: float) -> tuple[float, str | None]:
    """Ask until the pod answers; return how long that took, and what came instead when it never did."""
    start = time.monotonic()
    while True:
        answer = client.series(through)
        waited_s = time.monotonic() - start
        if answer["answered"]:
            return round(waited_s, 1), None
        if waited_s > most_s or context.stopped.wait(_BETWEEN_S):
            return round(waited_s, 1), ", ".join(answer["others"]) or "nothing"


def _address(context: MeasureContext, route: Route) -> str:
    """Return where a controller answers; raise `MeasurementError` when its Service is not there or has no address."""
    if route.address is not None:
        return route.address
    for item in context.services.services():
        if f"{item['metadata']['namespace']}/{item['metadata']['name']}" == route.service:
            address = str((item.get("spec") or {}).get("clusterIP") or "None")
            if address == "None":
                raise MeasurementError(f"{route.name}: Service {route.service} has no address of its own; give ingress.routes an address")
            return address
    raise MeasurementError(f"{route.name}: there is no Service {route.service} (ingress.routes of the profile)")
