"""Servers on many nodes that others send to: started together, asked together, stopped together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pytest_k8snet.errors import TRANSPORT_ERRORS, AccessError, ExecTransportError, MeasurementError, UnsupportedError
from pytest_k8snet.measure.taking import MEASURE_ERRORS, now, take_document

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Agent
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

T = TypeVar("T")
Outcomes = Mapping[str, Mapping[str, Any] | Exception]
"""What was measured of each subject, or why it was not."""
Place = Literal["host", "pod"]

PORT = 5201  # iperf3's: the one that a firewall between nodes is most likely to let through
SERVE_S = 300.0  # after which a server ends by itself
_SHORT_S = 30.0
_REQUEST_S = 60.0


def agent_of(context: MeasureContext, node: str, place: Place) -> Agent:
    """Return the agent on the node or in its probe pod."""
    return context.access.host(node) if place == "host" else context.access.pod(node)


def address_of(context: MeasureContext, node: str, place: Place) -> str:
    """Return the address of the node or of its probe pod; raise `MeasurementError` when none is known."""
    if place == "host":
        address = context.cluster.node(node).internal_ip
        if address is None:
            raise MeasurementError(f"{node}: the node has no InternalIP")
        return address
    probe = context.probes.get(node)
    if probe is None or probe.pod_ip is None:
        raise MeasurementError(f"{node}: no address of the probe pod is known")
    return probe.pod_ip


def second_address_of(context: MeasureContext, node: str, place: Place) -> str | None:
    """Return the address of the node or of its probe pod that is of the other family than the first, None when there is none."""
    probe = context.probes.get(node)
    known = context.cluster.node(node).addresses if place == "host" else () if probe is None else probe.addresses
    return next((address for address in known[1:] if (":" in address) != (":" in known[0])), None)


def present_targets(context: MeasureContext, node: str) -> list[str]:
    """Return the nodes that `node` sends to, without those whose probe pods did not start: that is those nodes' own error."""
    probes = {target: context.probes.get(target) for target in context.targets_of(node)}
    return [target for target, probe in probes.items() if probe is None or probe.error is None]


def at_once(
    context: MeasureContext, nodes: Iterable[str], act: Callable[[str], T], *, together: int | None = None
) -> dict[str, T | Exception]:
    """Call `act` for all nodes, `together` at the same time (None: as facts are read); return what it gave or why it did not."""

    def safely(node: str) -> T | Exception:
        try:
            return act(node)
        except MEASURE_ERRORS as error:
            return error

    names = [*nodes]
    with ThreadPoolExecutor(max_workers=together or context.settings.facts_threads, thread_name_prefix="k8snet-answering") as pool:
        return dict(zip(names, pool.map(safely, names), strict=True))


def given(answer: Mapping[str, Any] | Exception) -> Mapping[str, Any]:
    """Return one of the answers of `at_once`, or raise what stands in its place."""
    if isinstance(answer, Exception):
        raise answer
    return answer


def ended(agent: Callable[[], Agent], stop: str, number: int, *, timeout_s: float = _REQUEST_S) -> bool:
    """End a server by the operation `stop`; return whether it has answered all the time. One that is not reached ends by itself."""
    try:
        return bool(agent().request(stop, {"number": number}, timeout_s=timeout_s))
    except AccessError:
        return False


def answered(outcomes: Mapping[str, T | Exception]) -> dict[str, T]:
    """Return what `at_once` gave without what failed."""
    return {name: outcome for name, outcome in outcomes.items() if not isinstance(outcome, Exception)}


def documents_of(
    context: MeasureContext,
    kind: str,
    method: str | Callable[[str], str],
    subjects: Sequence[str],
    measure: Callable[[Sequence[str]], Outcomes],
    *,
    twice: bool = True,
    restore: Callable[[], None] | None = None,
) -> Iterator[Document]:
    """Yield the documents of subjects that `measure` looks at together, each with the time that took and by the `method` of its subject.

    With `twice` it is called again, for the subjects to which the way broke; what it gives then counts for those, and for no others.
    `restore` is called before that: it puts back what may have been changed when it was cut off. What either raises is the reason of each.
    """

    def attempt(names: Sequence[str]) -> Outcomes:
        try:
            return measure(names)
        except MEASURE_ERRORS as error:
            return dict.fromkeys(names, error)

    started, start = now(), time.monotonic()
    answers = {**attempt(subjects)}
    cut = {subject: str(answer) for subject, answer in answers.items() if isinstance(answer, TRANSPORT_ERRORS)} if twice else {}
    if cut and not context.stopped.is_set():
        try:
            if restore is not None:
                restore()
            second = attempt([*cut])
        except MEASURE_ERRORS as error:
            second = dict.fromkeys(cut, error)
        answers.update({subject: second[subject] for subject in cut})
    duration_s = round(time.monotonic() - start, 3)
    for subject, answer in answers.items():
        how = method if isinstance(method, str) else method(subject)
        document = replace(take_document(kind, subject, how, partial(given, answer)), started=started, duration_s=duration_s)
        yield document if document.failed else replace(document, retried=cut.get(subject))


def by_pods(
    kind: str,
    method: str,
    context: MeasureContext,
    subjects: Sequence[str],
    measure: Callable[[MeasureContext, Sequence[str]], Outcomes],
    *,
    twice: bool = True,
    restore: Callable[[], None] | None = None,
) -> Iterator[Document]:
    """Yield the documents of what probe pods measure together, as `documents_of` does; nothing is waited for where there are none."""

    def measured(names: Sequence[str]) -> Outcomes:
        without_pods(context, names)
        return measure(context, names)

    yield from documents_of(context, kind, method, subjects, measured, twice=twice, restore=restore)


def without_pods(context: MeasureContext, subjects: Sequence[str]) -> None:
    """Raise what says that this way to the nodes has no pods at all, before anything is waited for."""
    for name in subjects[:1]:
        try:
            context.access.pod(name)
        except UnsupportedError:
            raise
        except AccessError:
            pass  # that node's alone


@contextmanager
def listening(
    context: MeasureContext, nodes: Sequence[str], ports: Sequence[int], for_s: float
) -> Iterator[tuple[Mapping[str, str], Mapping[str, str]]]:
    """Let the probe pods of `nodes` answer connections (``traffic.serve``); give the addresses of those that do, and why others do not.

    Raises `ExecTransportError` at the end when one of them has not answered all the time: its agent was cut off, and what was found says
    nothing of the network.
    """

    def start(node: str) -> None:
        for port in ports:
            params = {"name": node, "port": port, "max_s": for_s, "connection_s": for_s}
            numbers[node].append(context.access.pod(node).request("traffic.serve", params, timeout_s=_REQUEST_S)["number"])

    def stop(node: str) -> bool:
        all_the_time = True
        for number in numbers[node]:
            try:
                all_the_time &= bool(context.access.pod(node).request("traffic.stop", {"number": number}, timeout_s=_REQUEST_S))
            except AccessError:
                all_the_time = False  # it ends by itself
        return all_the_time

    numbers: dict[str, list[int]] = {node: [] for node in nodes}
    broken = {node: str(outcome) for node, outcome in at_once(context, nodes, start).items() if outcome is not None}
    endpoints = {node: context.probes[node].pod_ip or "" for node in nodes if node not in broken}
    try:
        yield endpoints, broken
    finally:
        answered_all_the_time = at_once(context, nodes, stop)
    gone = next((node for node in endpoints if answered_all_the_time[node] is not True), None)
    if gone is not None:
        raise ExecTransportError(f"{gone}: what answered in its pod was cut off meanwhile")


def connections(
    context: MeasureContext, node: str, to: tuple[str, int], count: int, *, together: int, timeout_s: float, wait_s: float
) -> list[dict[str, Any]]:
    """Open `count` connections from a node's pod, `together` at a time; return what ``balance.connect`` says of each."""
    params = {"address": to[0], "port": to[1], "count": count, "together": together, "timeout_s": timeout_s}
    answer: Mapping[str, Any] = context.access.pod(node).request("balance.connect", params, timeout_s=wait_s)
    return [*answer["connections"]]


@contextmanager
def serving(
    context: MeasureContext, nodes: Sequence[str], place: Place, *, port: int = PORT, secret: str | None = None
) -> Iterator[Mapping[str, Mapping[str, Any] | Exception]]:
    """Let the agents of `nodes` serve (``pathmtu.serve``); give what each says of its server, or why there is none.

    With `secret` (hex) they also answer datagrams that have it: answers may be larger than questions, and others may reach the servers.
    Afterwards what was given has an `ExecTransportError` in place of each server that has not answered all the time: its agent was cut off.
    """

    def start(node: str) -> Mapping[str, Any]:
        others = [other for other in nodes if other != node]
        toward = None
        with suppress(MeasurementError):
            toward = address_of(context, others[0], place) if others else None
        params = {"port": port, "max_s": SERVE_S, "toward": toward, "secret": secret}
        answer: Mapping[str, Any] = agent_of(context, node, place).request("pathmtu.serve", params, timeout_s=_SHORT_S)
        return answer

    def stop(node: str) -> None:
        server = servers[node]
        if isinstance(server, Exception):
            return
        if not ended(partial(agent_of, context, node, place), "pathmtu.stop", server["number"], timeout_s=_SHORT_S):
            servers[node] = ExecTransportError(f"{node}: what answered there was cut off meanwhile")

    servers = at_once(context, nodes, start)
    try:
        yield servers
    finally:
        at_once(context, nodes, stop)
