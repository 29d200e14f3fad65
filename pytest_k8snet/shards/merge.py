"""Joins what the shards of a run have measured into one recording, which is judged as the run of one process would be."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_k8snet.access.probes import Probe
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.cluster.pairs import pair_nodes
from pytest_k8snet.errors import RecordError
from pytest_k8snet.measure.registry import MEASUREMENTS
from pytest_k8snet.options import DECIDING, Settings, Shard
from pytest_k8snet.plan import Absent, Plan, is_selector, make_plan
from pytest_k8snet.record.bundle import write_bundle
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.recording import Recording, open_recording
from pytest_k8snet.record.store import CLUSTER_FILE, PLAN, PROBES, PROFILES, RUN, RunFolder

CLUSTER = "cluster"  # the subject of what is measured once
_SHARED = "shared/"  # values that documents refer to by their content: the same name is the same value
_UNSEEN = (
    "no shard has measured it: the shards did not begin with the same nodes (one joined or left in between); measure all of them again"
)


@dataclass(frozen=True, slots=True)
class Part:
    """What one shard recorded."""

    recording: Recording
    folder: RunFolder
    run: Mapping[str, Any]
    settings: Settings
    shard: Shard
    plan: Plan
    cluster: Document

    @property
    def where(self) -> str:
        """The file or folder, for messages."""
        return str(self.recording.path)

    def owns(self, subject: str) -> bool:
        """Whether a node, or a pair by the node it starts from, is of this shard; what is measured of the cluster is of any that has it."""
        return subject == CLUSTER or subject in self.plan.nodes or pair_nodes(subject)[0] in self.plan.nodes


def merge(paths: Sequence[Path], out: Path) -> str:
    """Join the bundles or run folders of all shards of one run, in any order, into the bundle `out`; return in words what was joined.

    Nodes that one of them saw and that are no shard's are in the whole as nodes that could not be measured. Raises `RecordError` when a
    shard is missing, is there twice, was made with other settings or by another version, is of another cluster, or is damaged.
    """
    with ExitStack() as opened, tempfile.TemporaryDirectory(prefix="k8snet-") as scratch:
        parts = []
        for number, path in enumerate(paths):
            recording = open_recording(path)
            opened.callback(recording.close)
            parts.append(_read(recording, RunFolder.create(Path(scratch) / f"part-{number}")))
        parts.sort(key=lambda part: part.shard.index)
        _check(parts)
        _see_one_cluster(parts)
        whole = RunFolder.create(Path(scratch) / "whole")
        run_id = _join(parts, whole)
        write_bundle(whole, out, run_id=run_id)
        begun = sorted(part.recording.run.at for part in parts)
        return f"{len(parts)} shard{'' if len(parts) == 1 else 's'}, begun from {begun[0]:%Y-%m-%d %H:%M} to {begun[-1]:%Y-%m-%d %H:%M} UTC"


def _read(recording: Recording, folder: RunFolder) -> Part:
    where = str(recording.path)
    try:
        settings = Settings().with_recorded(recording.run.settings)
    except RecordError as error:
        raise RecordError(f"{where}: {error}") from error
    if settings.shard is None:
        raise RecordError(f"{where}: not of a shard: it was recorded without --k8snet-shard")
    plan, cluster, run = (recording.read_json(name) for name in (PLAN, CLUSTER_FILE, RUN))
    if plan is None or cluster is None:
        raise RecordError(f"{where}: it has no {PLAN if plan is None else CLUSTER_FILE}: its run was cut before it had begun")
    recording.copy_into(folder)
    try:
        return Part(
            recording=recording,
            folder=folder,
            run=run,
            settings=settings,
            shard=settings.shard,
            plan=Plan.from_json(plan),
            cluster=Document.from_json(cluster, where=f"{where}: {CLUSTER_FILE}"),
        )
    except (KeyError, TypeError) as error:
        raise RecordError(f"{where}: damaged: {error!r}") from error


def _check(parts: Sequence[Part]) -> None:
    first = parts[0]
    count = first.shard.count
    seen: dict[int, Part] = {}
    for part in parts:
        if part.shard.count != count:
            raise RecordError(f"{part.where}: shard {part.shard}, and {first.where} is shard {first.shard}: they are of different runs")
        if part.shard.index in seen:
            raise RecordError(f"{part.where}: shard {part.shard} is there twice; the other one is {seen[part.shard.index].where}")
        seen[part.shard.index] = part
        versions = [item.recording.run.version or "an unknown version" for item in (first, part)]
        if versions[0] != versions[1]:
            raise RecordError(f"{part.where}: was recorded by pytest-k8snet {versions[1]}, and {first.where} by {versions[0]}")
        for name in DECIDING:
            key = name.replace("_", "-")
            values = [item.recording.run.settings.get(key, "") for item in (first, part)]
            if name != "shard" and values[0] != values[1]:
                raise RecordError(
                    f"{part.where}: was recorded with {key} {values[1] or 'unset'}, and {first.where} with {values[0] or 'unset'}"
                )
        if part.recording.read_json(PROFILES) != first.recording.read_json(PROFILES):
            raise RecordError(f"{part.where}: was recorded with other contents of its profiles than {first.where}")
    missing = [f"{index}/{count}" for index in range(count) if index not in seen]
    if missing:
        raise RecordError(f"shard {', '.join(missing)} is missing: every shard of the run is needed")


def _see_one_cluster(parts: Sequence[Part]) -> None:
    """Raise `RecordError` when two shards have seen no node in common: those are of different clusters."""
    first = _seen(parts[0])
    for part in parts[1:]:
        seen = _seen(part)
        if first and seen and first.isdisjoint(seen):
            raise RecordError(
                f"{part.where}: is of another cluster than {parts[0].where}: no node of one has the name and address of one of the other"
            )


def _seen(part: Part) -> set[tuple[str, str | None]]:
    return {(node["name"], node["internal_ip"]) for node in (part.cluster.values or {}).get("nodes", ())}


def _join(parts: Sequence[Part], whole: RunFolder) -> str:
    """Write the joined record, and return the id of its run."""
    cluster = _cluster(parts)
    whole.write_json(CLUSTER_FILE, cluster.to_json())
    plan = _plan(parts, Cluster.from_json(cluster.values or {}))
    unseen = _unmeasured(plan, parts)
    whole.write_json(PLAN, _with_absent(plan, unseen).to_json())
    probes = {name: Probe.none(name, _UNSEEN).to_json() for name in unseen}
    whole.write_json(PROBES, {"error": None, "probes": probes | {name: probe for part in parts for name, probe in _probes(part).items()}})
    profiles = parts[0].recording.read_json(PROFILES)
    if profiles is not None:
        whole.write_json(PROFILES, profiles)
    for part in parts:
        for name in part.folder.files():
            if "/" not in name or name == CLUSTER_FILE:
                continue
            source = part.folder.path / name
            if name.startswith(_SHARED) or _of(part, source):
                target = whole.path / name
                target.parent.mkdir(exist_ok=True)
                if not target.exists():
                    source.replace(target)
    known = set(parts[0].recording.run.measurements)
    for kind in sorted(known.intersection(name for name, measurement in MEASUREMENTS.items() if measurement.subject == "node")):
        for node in unseen:
            whole.put(replace(parts[0].cluster, kind=kind, subject=node, duration_s=0.0, method="none", values=None, reason=_UNSEEN))
    if whole.get("ingress", CLUSTER) is None:
        whole.put(_unasked(parts[0]))
    for node in plan.nodes:
        if whole.get("owners", node) is None:
            whole.put(_unheard(parts[0], node))
    run = dict(parts[0].run)
    run["id"] = "+".join(str(part.run["id"]) for part in parts) if len(parts) <= 4 else f"{parts[0].run['id']}+{len(parts) - 1} more"
    run["started"] = min(str(part.run["started"]) for part in parts)
    run["settings"] = {**run["settings"], "shard": {"value": "", "source": "default"}}
    run.update(plan=None, results=None, measured_by=None, shards=[part.run["id"] for part in parts])
    whole.write_json(RUN, run)
    return str(run["id"])


def _unasked(part: Part) -> Document:
    """Return what stands for requests through ways into the cluster where the first shard has sent none."""
    absent = (
        "the first shard of the run sent no requests through ways into the cluster: no check of them was chosen, or its version did not"
    )
    values = {"absent": absent, "beyond": True}
    return replace(part.cluster, kind="ingress", duration_s=0.0, method="none", values=values)


def _unheard(part: Part, node: str) -> Document:
    """Return what stands for a question that a node asks for the sake of the cluster as a whole."""
    values = {"absent": "a run in shards asks nobody who has addresses of load balancers; one of a single process does"}
    return replace(part.cluster, kind="owners", subject=node, duration_s=0.0, method="none", values=values)


def _of(part: Part, file: Path) -> bool:
    """Whether a document is of this shard's own; what it measured of a partner, that node's shard has as well."""
    if file.suffix != ".json":
        return True
    try:
        return part.owns(str(json.loads(file.read_bytes())["subject"]))
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{part.where}: {file.parent.name}/{file.name}: damaged: {error!r}") from error


def _cluster(parts: Sequence[Part]) -> Document:
    """Return the first shard's inventory with every node as its own shard saw it; what no shard has for its own, as any saw it."""
    own: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for part in parts:
        for node in (part.cluster.values or {}).get("nodes", ()):
            (own if node["name"] in part.plan.nodes else others).setdefault(node["name"], node)
    own = {**others, **own}
    first = parts[0].cluster
    values = dict(first.values or {})
    known = {node["name"] for node in values["nodes"]}
    nodes = [own.get(node["name"], node) for node in values["nodes"]] + [node for name, node in own.items() if name not in known]
    values["nodes"] = sorted(nodes, key=lambda node: str(node["name"]))
    return replace(first, values=values)


def _plan(parts: Sequence[Part], cluster: Cluster) -> Plan:
    """Return the plan of the whole: what the same settings give without shards."""
    settings = replace(parts[0].settings, shard=None)
    chosen = {name for part in parts for name in (*part.plan.nodes, *part.plan.others)}
    selected = sorted(chosen) if settings.nodes is not None and is_selector(settings.nodes) else None
    return make_plan(settings, cluster, selected)


def _unmeasured(plan: Plan, parts: Sequence[Part]) -> list[str]:
    """Return the nodes of the whole that are no shard's: each divides the nodes that it sees when it begins."""
    measured = {name for part in parts for name in part.plan.nodes}
    return [name for name in plan.nodes if name not in measured]


def _with_absent(plan: Plan, unseen: Sequence[str]) -> Plan:
    others = [item for item in plan.absent if item.node not in unseen]
    return replace(plan, absent=(*others, *(Absent(name, _UNSEEN) for name in unseen)))


def _probes(part: Part) -> dict[str, Any]:
    """Return what is known of the probe pods on this shard's nodes."""
    answer = part.recording.read_json(PROBES) or {"error": f"shard {part.shard} was cut before its probe pods ran"}
    if answer["error"] is None:
        return {name: probe for name, probe in answer["probes"].items() if name in part.plan.nodes}
    return {name: Probe.none(name, answer["error"]).to_json() for name in part.plan.nodes}
