"""Reach: every node's pod and host ask the probe pods of the others, over TCP and UDP, all at once; one batch per node.

The servers tell who they are and whom they see: an answer proves that the packets went to the right pod and came back, and shows whether
the source address was kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.errors import AccessError, ExecTransportError
from pytest_k8snet.measure.answering import Outcomes, at_once, documents_of, ended

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Agent
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

TRIES = 2
TIMEOUT_S = 3.0  # a first SYN that is lost is sent again after a second
KUBELET_PORT = 10250
OTHER_NODES = 2  # that a pod shows its address to
PROTOCOLS = ("TCP", "UDP")

_REQUEST_S = 15.0  # for an agent to do what takes no time
_SERVED_S = 120.0
_AT_ONCE = 32  # targets that an agent asks at a time


@dataclass(frozen=True, slots=True)
class _Server:
    """A server that runs, or why there is none."""

    agent: Agent | None = None
    number: int = 0
    port: int = 0
    error: AccessError | None = None


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Let the nodes `subjects` ask the nodes that they send to."""

    def method(name: str) -> str:
        return f"TCP and UDP, {TRIES} tries of {TIMEOUT_S:g} s, {context.place_of(name)} and the one in its probe pod"

    yield from documents_of(context, "reach", method, subjects, partial(_asked_by, context))


def _asked_by(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    """Let all ask. Where a server that gave somebody no answer was cut off meanwhile, an error stands for that."""
    asked = {name: [name, *context.targets_of(name)] for name in subjects}
    involved = dict.fromkeys(target for targets in asked.values() for target in targets)
    with ThreadPoolExecutor(max_workers=context.settings.facts_threads, thread_name_prefix="k8snet-reach") as pool:
        in_pods = dict(zip(involved, pool.map(lambda name: _serve(context, name, "pod"), involved), strict=True))
        on_hosts = dict(zip(subjects, pool.map(lambda name: _serve(context, name, "host"), subjects), strict=True))
        try:
            found = at_once(context, subjects, lambda name: _node(context, name, asked[name], in_pods, on_hosts))
        finally:
            served = {
                place: dict(zip(servers, pool.map(_stop, servers.values()), strict=True))
                for place, servers in (("pod", in_pods), ("host", on_hosts))
            }
    return {name: _cut(outcome, served) or outcome for name, outcome in found.items()}


def _cut(outcome: Mapping[str, Any] | Exception, served: Mapping[str, Mapping[str, bool]]) -> ExecTransportError | None:
    """Return that a server from which somebody got no answer was cut off, None when none was: it says nothing of the network."""
    for answer in () if isinstance(outcome, Exception) else outcome["answers"]:
        if answer["error"] is not None and not served[answer["to"]].get(answer["target"], True):
            return ExecTransportError(f"{answer['target']}: what answered on its {answer['to']} was cut off meanwhile")
    return None


def _serve(context: MeasureContext, name: str, place: Literal["host", "pod"]) -> _Server:
    try:
        agent = context.access.pod(name) if place == "pod" else context.access.host(name)
        served = agent.request("traffic.serve", {"name": name, "port": 0, "max_s": _SERVED_S}, timeout_s=_REQUEST_S)
    except AccessError as error:
        return _Server(error=error)
    return _Server(agent, served["number"], served["port"])


def _stop(server: _Server) -> bool:
    """End a server; return whether it has answered all the time. Where there was none, that has been said already."""
    agent = server.agent
    return True if agent is None else ended(lambda: agent, "traffic.stop", server.number)


def _node(
    context: MeasureContext, name: str, targets: Sequence[str], in_pods: Mapping[str, _Server], on_hosts: Mapping[str, _Server]
) -> dict[str, Any]:
    """Return what a node's pod and host were told.

    Raises `NoPodError` where there are no probe pods, and whatever keeps the node's own agents from asking.
    """
    if (own_error := in_pods[name].error) is not None:
        raise own_error
    asked: list[dict[str, Any]] = []
    unasked: dict[str, str] = {}
    for target in targets:
        probe, server = context.probes.get(target), in_pods[target]
        if server.error is not None or probe is None or not probe.pod_ips:
            unasked[target] = str(server.error or "") or f"{target}: no address of the probe pod is known"
            continue
        for address in probe.pod_ips:
            asked += _asked(target, "pod", address, server.port)
    if name in unasked:
        raise AccessError(unasked[name])
    host_ip = context.cluster.node(name).internal_ip
    own: list[dict[str, Any]] = []
    families = {":" in address for address in context.probes[name].pod_ips}
    for address in context.cluster.node(name).addresses:
        if address == host_ip or (":" in address) in families:
            own.append({"target": name, "to": "host", "address": address, "port": KUBELET_PORT, "protocol": "TCP", "silent": True})
            own += [] if on_hosts[name].error is not None else _asked(name, "host", address, on_hosts[name].port)
    for target in targets[1 : 1 + OTHER_NODES]:
        other, other_ip = on_hosts.get(target), context.cluster.node(target).internal_ip
        if other is not None and other.error is None and other_ip is not None:
            own += _asked(target, "host", other_ip, other.port)
    pod_agent, host_agent = context.access.pod(name), context.access.host(name)
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="k8snet-reach-of") as pool:
        # A pod that asks itself proves nothing of the network.
        from_pod = pool.submit(_ask, pod_agent, [*(item for item in asked if item["target"] != name), *own])
        from_host = pool.submit(_ask, host_agent, asked)
        answers = [{"from": "pod", **item} for item in from_pod.result()] + [{"from": "host", **item} for item in from_host.result()]
    probe = context.probes[name]
    return {"pod_ips": [*probe.pod_ips], "host_ip": host_ip, "answers": answers, "unasked": unasked}


def _asked(target: str, to: Literal["host", "pod"], address: str, port: int) -> Iterable[dict[str, Any]]:
    return ({"target": target, "to": to, "address": address, "port": port, "protocol": protocol} for protocol in PROTOCOLS)


def _ask(agent: Agent, asked: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not asked:
        return []
    keys = ("address", "port", "protocol", "silent")
    targets = [{"key": str(number), **{key: item[key] for key in keys if key in item}} for number, item in enumerate(asked)]
    rounds = -(-len(targets) // _AT_ONCE)
    answers = agent.request(
        "traffic.connect",
        {"targets": targets, "tries": TRIES, "timeout_s": TIMEOUT_S},
        timeout_s=_REQUEST_S + rounds * TRIES * TIMEOUT_S,
    )
    return [{**item, **answers[str(number)]} for number, item in enumerate(asked)]
