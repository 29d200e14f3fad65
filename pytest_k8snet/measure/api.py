"""The API server as nodes and pods reach it: by the Service kubernetes, and by the addresses behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import NoPodError
from pytest_k8snet.measure.taking import MEASURE_ERRORS, take_document

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Agent, Deadline
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

NAMESPACE, NAME = "default", "kubernetes"
TRIES = 3
TIMEOUT_S = 5.0
REQUEST_S = 45.0

Target = dict[str, Any]


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Greet from the nodes `subjects` and their probe pods, all at the same time."""
    method = "a TCP connection and a TLS hello, by the agents of the node and its probe pod"
    targets: list[Target] | Exception
    try:
        targets = _targets(context)
    except MEASURE_ERRORS as error:
        targets = error

    def document(subject: str) -> Document:
        return take_document("api", subject, method, lambda: _node(context, subject, targets))

    with ThreadPoolExecutor(max_workers=context.settings.facts_threads, thread_name_prefix="k8snet-api") as pool:
        yield from pool.map(document, subjects)


def _node(context: MeasureContext, subject: str, targets: list[Target] | Exception) -> dict[str, Any]:
    if isinstance(targets, Exception):
        raise targets
    absent = None
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="k8snet-api-pod") as beside:
        try:
            agent = context.access.pod(subject)
        except NoPodError as error:
            absent, from_pod = str(error), None
        else:
            from_pod = beside.submit(_greet, agent, targets, context.settled)
        asked = [(target, "host", answer) for target, answer in _greet(context.access.host(subject), targets, context.settled)]
        if from_pod is not None:
            asked += [(target, "pod", answer) for target, answer in from_pod.result()]
    return {"pod_absent": absent, "greeted": [{**target, "role": role, **answer} for target, role, answer in asked]}


def _greet(agent: Agent, targets: Sequence[Target], settled: Deadline) -> list[tuple[Target, dict[str, Any]]]:
    if not targets:
        return []
    settle_s = settled.remaining
    asked = [{"key": str(number), "address": target["address"], "port": target["port"]} for number, target in enumerate(targets)]
    answers = agent.request(
        "hello.greet", {"targets": asked, "tries": TRIES, "timeout_s": TIMEOUT_S, "settle_s": settle_s}, timeout_s=REQUEST_S + settle_s
    )
    return [(target, answers[str(number)]) for number, target in enumerate(targets)]


def _targets(context: MeasureContext) -> list[Target]:
    """Return the addresses of the Service and of the API servers behind it."""
    found = []
    for item in context.services.services():
        if (item["metadata"]["namespace"], item["metadata"]["name"]) == (NAMESPACE, NAME):
            spec = item["spec"]
            port = next((port["port"] for port in spec.get("ports") or ()), 443)
            addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
            found += [{"what": "service", "address": address, "port": port} for address in addresses if address not in ("", "None")]
    for item in context.services.endpoint_slices():
        labels = item["metadata"].get("labels") or {}
        if item["metadata"]["namespace"] == NAMESPACE and labels.get("kubernetes.io/service-name") == NAME:
            for port in item.get("ports") or ():
                found += [
                    {"what": "server", "address": address, "port": port["port"]}
                    for endpoint in item.get("endpoints") or ()
                    if (endpoint.get("conditions") or {}).get("ready") is not False
                    for address in endpoint["addresses"][:1]
                ]
    return found
