"""A NetworkPolicy between the run's own pods: connections before there is one, while there is one, and after it is gone.

Each node has a pod that the policy selects, made for it; probe pods ask it, that of its own node and those of two others, of which one, as
a rule, is of those that one port is opened to. The other way it asks them, as a policy may keep it from that: the probe pod of its node
tells it whom. All are asked in rounds until all is as written, or enforcing has had its time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_policies import IN, NAME, OUT, PORTS, RELAY_PORT, PolicyPod, allowed
from pytest_k8snet.cluster.api_error import ApiError, ApiUnreachableError
from pytest_k8snet.errors import ClusterError, MeasurementError
from pytest_k8snet.measure.answering import Outcomes, at_once, by_pods, listening
from pytest_k8snet.measure.service import MADE_S

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext, PolicyTools
    from pytest_k8snet.record.document import Document

OTHERS = 2  # nodes whose pods ask that of a node, beside its own
TIMEOUT_S = 2.0  # what is dropped takes as long; room for a second SYN
REQUEST_S = 60.0
SLACK_S = 120.0  # that probe pods serve for longer than everything should take
CLEAN = 2  # rounds in which all has to be as written
BEFORE, DURING, AFTER = "before", "during", "after"
_BETWEEN_S = 0.5


@dataclass(slots=True)
class _Asked:
    """One port, asked from a probe pod at the pod that is selected, or the other way."""

    pod: PolicyPod  # the selected one
    other: str  # the node of the probe pod
    outward: bool  # whether the selected pod asks
    protocol: str
    port: int
    address: str
    name: str  # of who is to answer
    allowed: bool  # by the policy
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)  # by phase

    @property
    def asker(self) -> str:
        """The node whose probe pod's agent has it asked."""
        return self.pod.node if self.outward else self.other

    def as_written(self, phase: str) -> bool:
        answer = self.answers.get(phase)
        return answer is not None and answer["failed"] is None and answer["answered"] is (self.allowed or phase != DURING)

    def note(self, phase: str, waited_s: float, answer: Mapping[str, Any] | None, failed: str | None) -> None:
        told = {"name": None, "error": None} if answer is None else answer
        answered = told["name"] == self.name
        error = told["error"] if told["name"] is None or answered else f"answered by {told['name']}"
        self.answers[phase] = {"answered": answered, "error": error, "failed": failed, "waited_s": waited_s}

    def to_json(self) -> dict[str, Any]:
        phases = {phase: self.answers.get(phase) for phase in (BEFORE, DURING, AFTER)}
        direction = "out" if self.outward else "in"
        what = {"source": self.other, "direction": direction, "protocol": self.protocol, "port": self.port, "allowed": self.allowed}
        return {**what, **phases}


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Ask the pods of `subjects`; nothing is made where nobody is known to enforce NetworkPolicies."""
    method = (
        "TCP connections and datagrams to and from a pod that a NetworkPolicy selects, before, while and after there is one, by agents of "
        "probe pods"
    )
    yield from by_pods("policy", method, context, subjects, _measure)


def _measure(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    tools = context.policy
    if tools is None:
        return {name: {"pod": None, "policy": None, "refused": None, "pod_error": None, "asked": []} for name in subjects}
    pods = {pod.node: pod for pod in tools.pods() if pod.node in context.probes and context.probes[pod.node].error is None}
    near = {name: _ring(pods, name) for name in subjects if name in pods and pods[name].address is not None}
    serving = sorted({other for others in near.values() for other in others})
    for_s = max(context.settled.remaining, MADE_S) + 2 * tools.settle_s + SLACK_S
    with listening(context, serving, PORTS, for_s) as (addresses, broken):
        asked = [item for name, others in near.items() for item in _plan(pods, name, others, addresses)]
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
            "asked": [item.to_json() for item in asked if item.pod.node == name],
            "not_serving": {other: broken[other] for other in near.get(name, ()) if other in broken},
        }
    return found


def _ring(pods: Mapping[str, PolicyPod], name: str) -> list[str]:
    """Return the nodes whose probe pods ask one node's pod: its own and those before it in the ring, which runs through all."""
    ring = sorted(pods)
    index = ring.index(name)
    return [*dict.fromkeys([name, *(ring[index - step] for step in range(1, OTHERS + 1) if step < len(ring))])]


def _plan(pods: Mapping[str, PolicyPod], name: str, others: Sequence[str], addresses: Mapping[str, str]) -> Iterator[_Asked]:
    """Yield what is asked of one node's pod, and what it asks of probe pods, at their addresses where those serve."""
    pod = pods[name]
    for other in others:
        for protocol, port in IN:
            may = allowed(port, chosen=pods[other].chosen)
            yield _Asked(pod, other, False, protocol, port, pod.address or "", pod.name, may)
        for protocol, port in OUT if other in addresses else ():
            yield _Asked(pod, other, True, protocol, port, addresses[other], other, allowed(port, chosen=pods[other].chosen))


def _in_phases(context: MeasureContext, asked: Sequence[_Asked], tools: PolicyTools) -> str | None:
    """Ask in all three phases; return why there could be no policy, None when there was one. Nothing is made where nothing answers."""
    _until_as_written(context, asked, BEFORE, max(context.settled.remaining, MADE_S), rounds=1)
    if not any(item.as_written(BEFORE) for item in asked):
        return None
    try:
        with _known():
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
    with _known():
        tools.remove()
    _until_as_written(context, asked, AFTER, tools.settle_s, rounds=1)
    return None


@contextmanager
def _known() -> Iterator[None]:
    """Let nothing begin once more while nobody knows whether there is a policy: what asked for it last may have been answered by nobody."""
    try:
        yield
    except ApiUnreachableError as error:
        raise MeasurementError(str(error)) from error


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
    by_asker: dict[str, list[_Asked]] = {}
    for item in asked:
        by_asker.setdefault(item.asker, []).append(item)

    def ask(asker: str) -> Mapping[str, Any]:
        agent, items = context.access.pod(asker), by_asker[asker]
        targets = [_target(number, item) for number, item in enumerate(items) if not item.outward]
        wanted = [_target(number, item) for number, item in enumerate(items) if item.outward]
        if not wanted:
            params: dict[str, Any] = {"targets": targets, "tries": 1, "timeout_s": TIMEOUT_S}
            return {"answers": agent.request("traffic.connect", params, timeout_s=REQUEST_S)}
        pod = next(item.pod for item in items if item.outward)
        params = {"address": pod.address, "port": RELAY_PORT, "wanted": wanted, "targets": targets, "timeout_s": TIMEOUT_S}
        answer: Mapping[str, Any] = agent.request("traffic.through", params, timeout_s=REQUEST_S)
        return answer

    for asker, answer in at_once(context, by_asker, ask).items():
        for number, item in enumerate(by_asker[asker]):
            if isinstance(answer, Exception):
                item.note(phase, waited_s, None, str(answer))
            elif item.outward:
                item.note(phase, waited_s, answer["through"]["answers"].get(str(number)), _not_told(item.pod, answer["through"]))
            else:
                item.note(phase, waited_s, answer["answers"][str(number)], None)


def _target(number: int, item: _Asked) -> dict[str, Any]:
    return {"key": str(number), "address": item.address, "port": item.port, "protocol": item.protocol}


def _not_told(pod: PolicyPod, through: Mapping[str, Any]) -> str | None:
    """Return why the pod asked nobody, None when it did."""
    if through["error"] is None and through["name"] == pod.name:
        return None
    return f"pod {pod.name} could not be told whom to ask: {through['error'] or 'another pod answers'}"
