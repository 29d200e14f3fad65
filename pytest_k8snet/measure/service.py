"""Services by packets: connections to ClusterIPs and NodePorts whose only endpoint is one probe pod, and who answered them.

The client's Service has its endpoint on another node, and where there are three nodes its NodePort is asked on a node that is neither:
a choice nearby hides what is wrong on the way. What fails is asked again until every proxy must have seen that the endpoints are ready.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_services import PORT, TARGET_PORT, ProbeService
from pytest_k8snet.errors import AccessError, ExecTransportError, K8sNetError
from pytest_k8snet.measure.answering import Outcomes, by_pods, ended
from pytest_k8snet.measure.taking import MEASURE_ERRORS

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

CONNECTIONS = 3  # to each address, from as many source ports
TIMEOUT_S = 5.0  # room for a second and a third SYN
MADE_S = 10.0  # after which every proxy has seen Services that were made meanwhile
SERVE_S = 300.0
REQUEST_S = 60.0
_BETWEEN_S = 2.0

_Outcome = dict[str, Any] | Exception


@dataclass(slots=True)
class _Asked:
    """An address that is asked from one place."""

    path: str  # cluster-ip, node-port, hairpin
    role: str  # host, pod
    address: str
    port: int
    service: ProbeService
    node: str | None = None  # whose NodePort it is
    answers: list[dict[str, Any]] | None = None
    waited_s: float = 0.0  # from when the endpoints ran until it was asked the last time

    @property
    def fine(self) -> bool:
        return self.answers is not None and all(answer["name"] == self.service.node for answer in self.answers)

    def to_json(self) -> dict[str, Any]:
        answers = self.answers or []
        return {
            "path": self.path,
            "role": self.role,
            "address": self.address,
            "port": self.port,
            "service": f"{self.service.namespace}/{self.service.name}",
            "endpoint": self.service.node,
            "node": self.node,
            "waited_s": round(self.waited_s, 1),
            "answers": [{key: answer[key] for key in ("name", "peer", "ms", "error")} for answer in answers],
        }


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Ask from the nodes `subjects` and their probe pods, all at the same time."""
    method = f"{CONNECTIONS} TCP connections to each address, by the agents of the node and its probe pod"

    yield from by_pods("service", method, context, subjects, partial(_asked_by, subjects))


def _asked_by(subjects: Sequence[str], context: MeasureContext, asking: Sequence[str]) -> Outcomes:
    """Let some of `subjects` ask. Where a Service did not answer whose endpoint's agent was cut off meanwhile, an error stands for that."""
    services = [service for service in context.probe_services() if service.node in context.probes]
    with ThreadPoolExecutor(max_workers=context.settings.facts_threads, thread_name_prefix="k8snet-service") as pool:
        serving = dict(zip(services, pool.map(lambda service: _serve(context, service.node), services), strict=True))
        ring = sorted({*subjects, *(service.node for service in services)})  # of a shard its partners are in it
        usable = [service for service, number in serving.items() if isinstance(number, int)]
        broken = {service.node: str(error) for service, error in serving.items() if not isinstance(error, int)}
        try:
            found = [*pool.map(lambda subject: _node(context, subjects, ring, subject, usable, broken), asking)]
        finally:
            gone = {
                service.node
                for service, number in serving.items()
                if isinstance(number, int) and not ended(partial(context.access.pod, service.node), "traffic.stop", number)
            }
    return {subject: _cut(outcome, gone) or outcome for subject, outcome in zip(asking, found, strict=True)}


def _cut(outcome: _Outcome, gone: Collection[str]) -> ExecTransportError | None:
    """Return that an endpoint from which somebody got no answer was cut off, None when none was: it says nothing of the Service."""
    for item in () if isinstance(outcome, Exception) else outcome["asked"]:
        if item["endpoint"] in gone and any(answer["error"] is not None for answer in item["answers"]):
            return ExecTransportError(f"{item['endpoint']}: what answered in its pod was cut off meanwhile")
    return None


def _serve(context: MeasureContext, node: str) -> int | K8sNetError:
    try:
        params = {"name": node, "port": TARGET_PORT, "max_s": SERVE_S}
        return int(context.access.pod(node).request("traffic.serve", params, timeout_s=REQUEST_S)["number"])
    except AccessError as error:
        return error


def _node(
    context: MeasureContext,
    subjects: Sequence[str],
    ring: Sequence[str],
    subject: str,
    usable: Sequence[ProbeService],
    broken: Mapping[str, str],
) -> dict[str, Any] | Exception:
    try:
        asked = _plan(context, ring, subject, usable)
        started = time.monotonic()
        patience_s = max(context.settled.remaining, MADE_S)
        while left := [item for item in asked if not item.fine]:
            waited_s = time.monotonic() - started
            with ThreadPoolExecutor(max_workers=2, thread_name_prefix="k8snet-service-role") as both:
                by_role = [(role, [item for item in left if item.role == role]) for role in ("host", "pod")]
                for done in [both.submit(_ask, context, subject, role, items, waited_s) for role, items in by_role]:
                    done.result()
            if waited_s > patience_s or all(item.fine for item in left) or context.stopped.wait(_BETWEEN_S):
                break
    except MEASURE_ERRORS as error:
        return error
    by = ring[ring.index(subject) - 1]
    return {
        "asked": [item.to_json() for item in asked],
        "asked_by": by if by != subject and by in subjects else None,
        "not_serving": dict(broken),
    }


def _ask(context: MeasureContext, subject: str, role: str, asked: Sequence[_Asked], waited_s: float) -> None:
    if not asked:
        return
    agent = context.access.host(subject) if role == "host" else context.access.pod(subject)
    targets = [
        {"key": f"{number} {connection}", "address": item.address, "port": item.port, "protocol": "TCP"}
        for number, item in enumerate(asked)
        for connection in range(CONNECTIONS)
    ]
    for item in asked:
        item.waited_s = waited_s
    answers = agent.request("traffic.connect", {"targets": targets, "tries": 1, "timeout_s": TIMEOUT_S}, timeout_s=REQUEST_S)
    for number, item in enumerate(asked):
        item.answers = [answers[f"{number} {connection}"] for connection in range(CONNECTIONS)]


def _plan(context: MeasureContext, ring: Sequence[str], subject: str, usable: Sequence[ProbeService]) -> list[_Asked]:
    """Return what one node asks."""
    index = ring.index(subject)
    ahead = [ring[(index + step) % len(ring)] for step in range(1, len(ring))]
    order = [*ahead[1:], *ahead[:1]]  # the one after the next first: then the NodePort is a third node's
    remote = min((service for service in usable if service.node in order), key=lambda service: order.index(service.node), default=None)
    own = next((service for service in usable if service.node == subject), None)
    asked = []
    if remote is not None:
        nodes = dict.fromkeys((subject, *ahead[:1]))
        for cluster_ip in _served(context, remote):
            first = cluster_ip == remote.cluster_ip
            roles = [role for role in ("host", "pod") if first or _like(_addresses(context, subject, role), cluster_ip) is not None]
            asked += [_Asked("cluster-ip", role, cluster_ip, PORT, remote) for role in roles]
            node_ips = {node: _like(context.cluster.node(node).addresses, cluster_ip) for node in nodes if "pod" in roles}
            asked += [_Asked("node-port", "pod", ip, remote.node_port, remote, node) for node, ip in node_ips.items() if ip is not None]
    if own is not None:
        asked += [_Asked("hairpin", "pod", cluster_ip, PORT, own) for cluster_ip in _served(context, own)]
    return asked


def _served(context: MeasureContext, service: ProbeService) -> list[str]:
    """Return the ClusterIPs behind which there is an endpoint: a cluster may have two families for Services and one for pods."""
    pod = _addresses(context, service.node, "pod")
    return [service.cluster_ip, *(address for address in service.addresses[1:] if _like(pod, address) is not None)]


def _addresses(context: MeasureContext, node: str, role: str) -> Sequence[str]:
    return context.cluster.node(node).addresses if role == "host" else context.probes[node].addresses


def _like(addresses: Sequence[str], other: str) -> str | None:
    """Return the address that is of the same family as the other one."""
    return next((address for address in addresses if (":" in address) == (":" in other)), None)
