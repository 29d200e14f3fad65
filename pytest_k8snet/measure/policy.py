"""A NetworkPolicy between the run's own pods: connections before there is one, while there is one, and after it is gone.

Every target is a pod of its node that the policy selects, made for it; probe pods ask it, that of its own node and those of two others,
of which one, as a rule, is of those that one port is opened to. All are asked in rounds until all is as written, or enforcing has had its
time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_policies import CHOSEN_PORT, NAME, OPEN_PORT, PORTS, PolicyPod
from pytest_k8snet.cluster.api_error import ApiError
from pytest_k8snet.errors import ClusterError
from pytest_k8snet.measure.answering import Outcomes, at_once, by_pods
from pytest_k8snet.measure.service import MADE_S

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext, PolicyTools
    from pytest_k8snet.record.document import Document

OTHERS = 2  # nodes whose pods ask that of a node, beside its own
TIMEOUT_S = 2.0  # what is dropped takes as long; room for a second SYN
REQUEST_S = 60.0
CLEAN = 2  # rounds in which all has to be as written
BEFORE, DURING, AFTER = "before", "during", "after"
_BETWEEN_S = 0.5


@dataclass(slots=True)
class _Asked:
    """One port of one pod, asked from another node's pod, or from its own node's."""

    source: str
    target: PolicyPod
    port: int
    allowed: bool  # by the policy
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)  # by phase

    def as_written(self, phase: str) -> bool:
        answer = self.answers.get(phase)
        return answer is not None and answer["failed"] is None and answer["answered"] is (self.allowed or phase != DURING)

    def to_json(self) -> dict[str, Any]:
        phases = {phase: self.answers.get(phase) for phase in (BEFORE, DURING, AFTER)}
        return {"source": self.source, "port": self.port, "allowed": self.allowed, **phases}


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Ask the pods of `subjects`; nothing is made where nobody is known to enforce NetworkPolicies."""
    method = "TCP connections to a pod that a NetworkPolicy selects, before, while and after there is one, by agents of probe pods"
    yield from by_pods("policy", method, context, subjects, _measure)


def _measure(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    tools = context.policy
    if tools is None:
        return {name: {"pod": None, "policy": None, "refused": None, "pod_error": None, "asked": []} for name in subjects}
    pods = {pod.node: pod for pod in tools.pods() if pod.node in context.probes and context.probes[pod.node].error is None}
    asked = [item for name in subjects if name in pods for item in _plan(context, pods, name)]
    refused = _in_phases(context, asked, tools)
    found: dict[str, Mapping[str, Any]] = {}
    for name in subjects:
        pod = pods.get(name)
        error = (
            f"{name}: no pod was made for a NetworkPolicy: {context.probes[name].error or 'nothing says why'}" if pod is None else pod.error
        )
        found[name] = {
            "pod": None if pod is None else f"{pod.namespace}/{pod.name}",
            "policy": None if pod is None else f"{pod.namespace}/{NAME}",
            "refused": refused,
            "pod_error": error,
            "asked": [item.to_json() for item in asked if item.target.node == name],
        }
    return found


def _plan(context: MeasureContext, pods: Mapping[str, PolicyPod], name: str) -> list[_Asked]:
    """Return what is asked of one node's pod: by the pods of its own node and of those before it in the ring, which runs through all."""
    target = pods[name]
    if target.address is None:
        return []
    ring = sorted(pods)
    index = ring.index(name)
    sources = dict.fromkeys([name, *(ring[index - step] for step in range(1, OTHERS + 1) if step < len(ring))])
    return [
        _Asked(source, target, port, allowed=port == OPEN_PORT or (port == CHOSEN_PORT and pods[source].chosen))
        for source in sources
        for port in PORTS
    ]


def _in_phases(context: MeasureContext, asked: Sequence[_Asked], tools: PolicyTools) -> str | None:
    """Ask in all three phases; return why there could be no policy, None when there was one. Nothing is made where nothing answers."""
    _until_as_written(context, asked, BEFORE, max(context.settled.remaining, MADE_S), rounds=1)
    if not any(item.as_written(BEFORE) for item in asked):
        return None
    try:
        tools.make()
    except ApiError as error:
        if error.status != 403:
            raise
        return str(error)
    try:
        _until_as_written(context, asked, DURING, tools.settle_s, rounds=CLEAN)
    except BaseException:
        with suppress(ClusterError):  # what went wrong first is told
            tools.remove()
        raise
    tools.remove()
    _until_as_written(context, asked, AFTER, tools.settle_s, rounds=1)
    return None


def _until_as_written(context: MeasureContext, asked: Sequence[_Asked], phase: str, patience_s: float, *, rounds: int) -> None:
    """Ask until all is as it should be in so many rounds one after the other, or the time is over."""
    start = time.monotonic()
    clean = 0
    while True:
        waited_s = round(time.monotonic() - start, 1)
        _ask(context, asked, phase, waited_s)
        # What was no answer before the policy is no control, whatever becomes of it.
        looked_at = [item for item in asked if phase == BEFORE or item.as_written(BEFORE)]
        clean = clean + 1 if all(item.as_written(phase) for item in looked_at) else 0
        if clean >= rounds or waited_s > patience_s or context.stopped.wait(_BETWEEN_S):
            return


def _ask(context: MeasureContext, asked: Sequence[_Asked], phase: str, waited_s: float) -> None:
    """Ask everything once, from all nodes at the same time."""
    by_source: dict[str, list[_Asked]] = {}
    for item in asked:
        by_source.setdefault(item.source, []).append(item)

    def connect(source: str) -> Mapping[str, Mapping[str, Any]]:
        targets = [
            {"key": str(number), "address": item.target.address, "port": item.port, "protocol": "TCP"}
            for number, item in enumerate(by_source[source])
        ]
        answers: Mapping[str, Mapping[str, Any]] = context.access.pod(source).request(
            "traffic.connect", {"targets": targets, "tries": 1, "timeout_s": TIMEOUT_S}, timeout_s=REQUEST_S
        )
        return answers

    for source, answers in at_once(context, by_source, connect).items():
        for number, item in enumerate(by_source[source]):
            if isinstance(answers, Exception):
                item.answers[phase] = {"answered": False, "error": None, "failed": str(answers), "waited_s": waited_s}
            else:
                answer = answers[str(number)]
                answered = answer["name"] == item.target.name
                error = answer["error"] if answer["name"] is None or answered else f"answered by {answer['name']}"
                item.answers[phase] = {"answered": answered, "error": error, "failed": None, "waited_s": waited_s}
