"""What a run would do, in words: what it judges, where, what it creates for that, with which rights, and how long that takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_k8snet.plan import OMIT_S, TAKES, Load, some
from pytest_k8snet.summary import burst_line, counted, load_line, small_line, udp_line

if TYPE_CHECKING:
    from pytest_k8snet.cases import Check, Collection
    from pytest_k8snet.cluster.ingress import Route
    from pytest_k8snet.options import Settings
    from pytest_k8snet.run import ControllerRun

# What was measured on the lab, whose nodes have the image: an estimate for any other cluster.
_PODS_S = 10.0  # until the pods of a few nodes run
_POD_S = 0.05  # more for every node
_FACTS_S = 3.0  # the facts of a node
_BETWEEN_TAKES_S = 0.5


def dry_run(run: ControllerRun, collection: Collection) -> list[str]:
    """Return the lines."""
    from pytest_k8snet.measure.registry import BURST_CHECKS, UDP_CHECKS

    lines = ["", *_checks(collection)]
    if run.recorded is not None:
        return [*lines, "", f"Nothing is measured: this is a replay of run {run.recorded.id}."]
    load = sorted(collection.subjects("load"))
    routes = run.routes if collection.sends("ingress") else []
    policies = collection.sends("policy") and run.policies_enforced
    objects = _objects(run, load, services="service" in collection.areas, routes=routes, policies=policies)
    parts = (
        _nodes(run),
        _pairs(run, load, small=bool(collection.subjects("probe")), burst=collection.has(BURST_CHECKS), udp=collection.has(UDP_CHECKS)),
        objects,
        _rights(run, ingresses=bool(routes)),
        _time(run, load),
    )
    return lines + [line for part in parts for line in ("", *part)]


def _checks(collection: Collection) -> Iterator[str]:
    by_check: dict[Check, list[str]] = {}
    for case in collection.cases.values():
        by_check.setdefault(case.check, []).append(case.subject)
    number = counted(len(collection.cases), "case")
    yield f"Plan: {counted(len(by_check), 'check')}, {number}; nothing is run, and nothing is created."
    for check in sorted(by_check, key=lambda check: check.id):
        yield f"  {check.id} ({check.level}) {check.title}: {some(by_check[check])}"
    for reason, count in collection.left_out.items():
        yield f"  left out by {reason}: {count}"


def _nodes(run: ControllerRun) -> Iterator[str]:
    plan = run.plan
    measured = _measured(run)
    yield f"Nodes: {len(measured)} of {len(run.cluster.nodes)}: {some(measured) or 'none'}"
    if plan.partners:
        yield f"  other shards' nodes that pairs lead to: {some(plan.partners)}"
    for item in plan.absent:
        yield f"  cannot be measured: {item.node}: {item.reason}"
    for reason in dict.fromkeys(item.reason for item in plan.left_out):
        yield f"  left out: {some([item.node for item in plan.left_out if item.reason == reason])}: {reason}"


def _pairs(run: ControllerRun, load: Sequence[str], *, small: bool, burst: bool, udp: bool) -> Iterator[str]:
    settings = run.settings
    yield f"Pairs of nodes for checks that send little ({settings.pairs}): {some(run.plan.pairs) or 'none'}"
    if small and settings.makes_pods:
        yield f"  {small_line(run)}"
    if burst and (line := burst_line(run)) is not None:
        yield f"  {line}"
    yield f"Pairs of nodes under load ({settings.load_pairs}): {some(load) or 'none'}"
    if load:
        yield f"  {load_line(run, load)}"
    if udp and (line := udp_line(run, load)) is not None:
        yield f"  {line}"


def _objects(run: ControllerRun, load: Sequence[str], *, services: bool, routes: Sequence[Route], policies: bool) -> Iterator[str]:
    settings = run.settings
    if not settings.makes_pods:
        yield f"Objects: none (access {settings.access})"
        return
    from pytest_k8snet.access.probes import ProbeSettings, planned_objects
    from pytest_k8snet.cluster import lease

    yield "Objects, made when the run begins and removed when it ends:"
    pods = ProbeSettings(run_id="<run id>", namespace=settings.namespace, frontends=max(settings.service_scale, default=0))
    measured = len(_measured(run)) + len(run.plan.partners)
    for item in planned_objects(pods, measured, services=services, routes=routes, policies=policies):
        where = f" in {item.namespace}" if item.namespace is not None else ""
        yield f"  {counted_kind(item.kind, item.number)} {item.name}{where}: {item.what}"
    if load and not settings.no_lock:
        yield f"  Lease {lease.NAME} in {lease.NAMESPACE}: held while load is measured, so that no other run measures any meanwhile"
    where = "Namespaces and PriorityClasses" if settings.namespace is None else f"What is in {settings.namespace}"
    yield f"  {where} of killed runs, past their deadline: removed when the run begins"
    yield f"  Image of the pods: {settings.image}, {_pull_secret(settings)}"


def counted_kind(kind: str, number: int) -> str:
    """Return a kind of object with how many there are of it."""
    return kind if number == 1 else f"{number} {kind}{'es' if kind.endswith('s') else 's'}"


def _pull_secret(settings: Settings) -> str:
    if settings.image_pull_secret is None:
        return "without a pull secret"
    where = f" of {settings.namespace}" if settings.namespace else ", which a namespace of the run's own has not: name one that has it"
    return f"with the pull secret {settings.image_pull_secret}{where}"


def _rights(run: ControllerRun, *, ingresses: bool) -> Iterator[str]:
    from pytest_k8snet.cluster import permissions

    settings = run.settings
    access = "pod" if settings.makes_pods else settings.access
    needed = permissions.rights(settings.level, access, settings.namespace, lock=not settings.no_lock, ingresses=ingresses)
    yield f"Rights (`{permissions.command(settings.level, access, settings.namespace, ingresses=ingresses)}` prints a role that has them):"
    for place, words in permissions.by_place(permissions.questions(needed)).items():
        yield f"  {'in the whole cluster' if place is None else f'in {place}'}: {'; '.join(words)}"
    yield f"  Missing: {run.lacking}" if run.lacking is not None else "  None of them is known to be missing."


def _time(run: ControllerRun, load: Sequence[str]) -> Iterator[str]:
    from pytest_k8snet.measure.registry import MeasureSettings

    pods = run.settings.makes_pods
    nodes = len(_measured(run)) + len(run.plan.partners)
    reading = math.ceil(nodes / MeasureSettings().facts_threads) * _FACTS_S + (_PODS_S + nodes * _POD_S if pods else 0.0)
    planned = Load.of(load, run.settings)
    idle_s = run.settings.idle if run.settings.allows("probe") else 0
    udp_s = 0.0 if run.settings.udp is None else len(load) * TAKES * (run.settings.take_seconds + OMIT_S + _BETWEEN_TAKES_S)
    least, most = (
        reading + idle_s + udp_s + planned.calibration_s + takes * (planned.take_s + _BETWEEN_TAKES_S)
        for takes in (planned.least_takes, planned.most_takes)
    )
    yield (
        f"Time: about {_minutes(least)}"
        + (f", up to {_minutes(most)} where takes disagree" if most > least else "")
        + ". An estimate: pulling images, waiting for another run and reading again what was in motion come on top."
    )


def _measured(run: ControllerRun) -> list[str]:
    absent = {item.node for item in run.plan.absent}
    return [name for name in run.plan.nodes if name not in absent]


def _minutes(seconds: float) -> str:
    return f"{math.ceil(seconds / 10) * 10} s" if seconds < 100 else f"{math.ceil(seconds / 60)} min"
