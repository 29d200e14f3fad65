"""What a run is going to look at: nodes, pairs, and how much traffic that makes. Pure: from settings and inventory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from pytest_k8snet.cluster.model import Cluster, Node
from pytest_k8snet.cluster.pairs import pair_name, pair_nodes
from pytest_k8snet.errors import ConfigurationError
from pytest_k8snet.options import COMMAND_LINE, FEW_NODES, PairChoice, Settings, Shard

TAKES = 3  # host, pod, host
MOST_TAKES = 7  # where they disagree
MOST_SERVICE_TAKES = 3  # through a Service, where they do not reach what pods do directly
SERVICE_LOAD_CHECK = "NET-SERVICE-010"  # what those are for
HOST_TAKES = 2  # where there are no pods to compare with: never more
TAKE_S = 3  # unless the user says so
STREAMS = (4, 8)  # that are tried after one
CALIBRATION_S = 1  # for so long each
MOST_UDP_TAKES = 5  # where pods lose more than their nodes, or less was sent than asked for
OMIT_S = 1
WIRE_PACKETS = 1000  # of a stream from pod to pod
PAIR_BYTES, NODE_BYTES = 500_000, 500_000  # that checks of level probe send between two nodes, and from one by itself: estimates
CONNECTION_BYTES = 900  # of one that is opened, told a line and closed: an estimate
FEW = 12  # names listed before the rest is counted
_ELSEWHERE = "not in shard"  # begins the reason why a shard leaves out another one's node


@dataclass(frozen=True, slots=True)
class Absent:
    """A node that cannot be measured, and why."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The subjects of a run."""

    nodes: tuple[str, ...]  # every node that has to have a verdict
    pairs: tuple[str, ...]
    load_pairs: tuple[str, ...]
    absent: tuple[Absent, ...]  # of those nodes, the ones that cannot be measured
    left_out: tuple[Absent, ...]  # nodes nobody asked for, or another shard's
    notes: tuple[str, ...]
    partners: tuple[str, ...] = ()  # another shard's nodes that pairs of this one lead to

    @property
    def probed(self) -> tuple[str, ...]:
        """Every node that is measured in any way."""
        return self.nodes + self.partners

    @property
    def others(self) -> tuple[str, ...]:
        """Every node that it takes for another shard's."""
        return tuple(item.node for item in self.left_out if item.reason.startswith(_ELSEWHERE))

    @property
    def nobody(self) -> str:
        """Why there is no node at all."""
        reasons = some([f"{item.node} ({item.reason})" for item in self.left_out])
        return f"all nodes are left out: {reasons}" if reasons else "the cluster has none"

    def of_shard(self, shard: Shard) -> Plan:
        """Return one shard's part: its nodes, and the pairs that start there. All shards together are this plan."""
        own = shard.of(self.nodes)
        pairs, load_pairs = (tuple(pair for pair in all_pairs if pair_nodes(pair)[0] in own) for all_pairs in (self.pairs, self.load_pairs))
        targets = {pair_nodes(pair)[1] for pair in (*pairs, *load_pairs)}
        others = [node for node in self.nodes if node not in own]
        return Plan(
            nodes=own,
            pairs=pairs,
            load_pairs=load_pairs,
            absent=tuple(item for item in self.absent if item.node in own),
            left_out=(*self.left_out, *(Absent(node, f"{_ELSEWHERE} {shard}") for node in others)),
            notes=self.notes,
            partners=tuple(node for node in others if node in targets),
        )

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return {
            "nodes": list(self.nodes),
            "pairs": list(self.pairs),
            "load_pairs": list(self.load_pairs),
            "absent": [{"node": item.node, "reason": item.reason} for item in self.absent],
            "left_out": [{"node": item.node, "reason": item.reason} for item in self.left_out],
            "notes": list(self.notes),
            "partners": list(self.partners),
        }

    @classmethod
    def from_json(cls, data: Any) -> Plan:
        """Read what `to_json` gave."""
        return cls(
            nodes=tuple(data["nodes"]),
            pairs=tuple(data["pairs"]),
            load_pairs=tuple(data["load_pairs"]),
            absent=tuple(Absent(**item) for item in data["absent"]),
            left_out=tuple(Absent(**item) for item in data["left_out"]),
            notes=tuple(data["notes"]),
            partners=tuple(data.get("partners") or ()),
        )


Beyond = Callable[[Cluster, Collection[str]], Mapping[str, str]]


def make_plan(settings: Settings, cluster: Cluster, selected: Sequence[str] | None, beyond: Beyond | None = None) -> Plan:
    """Return the plan; `selected` are the names that a label selector matched, None when no selector was given.

    `beyond` says which of the wanted nodes no way leads to, and why. Raises `ConfigurationError` when a name, a pattern or the selector
    finds no node, or only nodes that are never measured.
    """
    wanted = _wanted(settings, cluster, selected)
    reasons = {node.name: "not in --k8snet-nodes" for node in cluster.nodes if node.name not in wanted}
    if beyond is not None:
        reasons |= {name: reason for name, reason in beyond(cluster, wanted).items() if name in wanted}
    reasons |= {node.name: node.excluded for node in cluster.nodes if node.excluded is not None}
    nodes = [node for node in sorted(cluster.nodes, key=lambda node: node.name) if node.name not in reasons]
    left_out = [Absent(node.name, reasons[node.name]) for node in cluster.nodes if node.name in reasons]
    absent = [Absent(node.name, f"NotReady: {node.not_ready_reason or 'no reason given'}") for node in nodes if not node.ready]
    notes = [f"{node.name} is cordoned; it is measured all the same" for node in nodes if node.ready and not node.schedulable]
    workers = [node.name for node in _workers(nodes)]
    plan = Plan(
        nodes=tuple(node.name for node in nodes),
        pairs=choose_pairs(settings.pairs, [node.name for node in nodes if node.ready]),
        load_pairs=choose_pairs(settings.load_pairs, workers),
        absent=tuple(absent),
        left_out=tuple(left_out),
        notes=tuple(notes),
    )
    return plan if settings.shard is None else plan.of_shard(settings.shard)


def replay_plan(recorded: Plan, settings: Settings, cluster: Cluster) -> Plan:
    """Return the plan of a replay: the recorded one, unless the command line asks for fewer nodes, other pairs or a part of them.

    Raises `ConfigurationError` for a node that was not looked at.
    """
    given = {name for name in ("nodes", "pairs", "load_pairs", "shard") if settings.sources.get(name) == COMMAND_LINE}
    plan = recorded
    if "nodes" in given:
        found = _matched(settings.nodes or "", recorded.nodes)
        unknown = sorted(pattern for pattern, names in found.items() if not names)
        if unknown:
            raise ConfigurationError(
                f"--k8snet-nodes: the recorded run did not look at {', '.join(unknown)}; it did at: {', '.join(recorded.nodes)}"
            )
        plan = _narrowed(recorded, {name for names in found.values() for name in names})
    workers = [node.name for node in _workers([cluster.node(name) for name in plan.nodes])]
    if "pairs" in given:
        plan = replace(plan, pairs=choose_pairs(settings.pairs, [name for name in plan.nodes if cluster.node(name).ready]))
    if "load_pairs" in given:
        plan = replace(plan, load_pairs=choose_pairs(settings.load_pairs, workers))
    return plan.of_shard(settings.shard) if settings.shard is not None and "shard" in given else plan


def _narrowed(plan: Plan, names: set[str]) -> Plan:
    """Return what a plan has of these nodes, and the pairs between them; no pair is there that was not before."""

    def within(pairs: Sequence[str]) -> tuple[str, ...]:
        return tuple(pair for pair in pairs if names.union(plan.partners).issuperset(pair_nodes(pair)) and pair_nodes(pair)[0] in names)

    pairs, load_pairs = within(plan.pairs), within(plan.load_pairs)
    targets = {pair_nodes(pair)[1] for pair in (*pairs, *load_pairs)}
    return replace(
        plan,
        nodes=tuple(node for node in plan.nodes if node in names),
        pairs=pairs,
        load_pairs=load_pairs,
        absent=tuple(item for item in plan.absent if item.node in names),
        left_out=(*plan.left_out, *(Absent(node, "not in --k8snet-nodes") for node in plan.nodes if node not in names)),
        partners=tuple(node for node in plan.partners if node in targets),
    )


def choose_pairs(choice: PairChoice, nodes: Sequence[str]) -> tuple[str, ...]:
    """Return ordered pairs ``a:b`` of `nodes`: the ring first, then its reverse, then what is farther apart; always the same ones."""
    count = len(nodes)
    distances = [1, *([count - 1] if count > 2 else []), *range(2, count - 1)]
    # The reverse of the ring starts where the ring did: 2:1 answers 1:2.
    ordered = [
        (nodes[(index + 1) % count], nodes[index]) if distance == count - 1 != 1 else (nodes[index], nodes[(index + distance) % count])
        for distance in distances
        for index in range(count)
        if count > 1
    ]
    if choice.kind == "ring" or (choice.kind == "auto" and count > FEW_NODES):
        ordered = ordered[:count]
    elif choice.kind == "sample":
        ordered = ordered[: choice.count]
    return tuple(pair_name(source, target) for source, target in ordered)


def disjoint(pairs: Sequence[str], most: int) -> list[str]:
    """Return the first of `pairs` and up to `most` in all that have no node in common, in their order."""
    chosen: list[str] = []
    busy: set[str] = set()
    for pair in pairs:
        if len(chosen) < most and busy.isdisjoint(pair_nodes(pair)):
            chosen.append(pair)
            busy.update(pair_nodes(pair))
    return chosen


@dataclass(frozen=True, slots=True)
class Load:
    """What measuring throughput comes to: the pairs that are measured at the same time, and how often each is."""

    rounds: tuple[tuple[str, ...], ...]
    pods: bool
    take_s: int  # with what is left out
    most_bps: int | None  # of a take; None: as fast as it goes
    calibrates: bool  # whether it is tried how many streams are needed
    services: bool = False  # whether there are takes through Services

    @classmethod
    def of(cls, pairs: Sequence[str], settings: Settings) -> Load:
        """Return the load on `pairs`: the first one alone, then those that have no node in common together."""
        left = [*pairs]
        rounds: list[tuple[str, ...]] = []
        while left:
            rounds.append(tuple(disjoint(left, settings.max_parallel if rounds else 1)))
            left = [pair for pair in left if pair not in rounds[-1]]
        cap = None if settings.bitrate is None else settings.bitrate.bps
        calibrates = bool(pairs) and not settings.streams and cap is None
        services = settings.makes_pods and not settings.no_suite and matches(SERVICE_LOAD_CHECK, settings.checks)
        return cls(tuple(rounds), settings.makes_pods, settings.take_seconds + OMIT_S, cap, calibrates, services)

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return sum(map(len, self.rounds))

    @property
    def together(self) -> int:
        """How many pairs are measured at the same time."""
        return max(map(len, self.rounds), default=0)

    @property
    def least_takes(self) -> int:
        """How many takes one after the other there are when all is well."""
        return len(self.rounds) * self.takes

    @property
    def most_takes(self) -> int:
        """How many takes of all pairs there are when every pair has to be measured again alone and its paths disagree."""
        company = sum(len(pairs) for pairs in self.rounds if len(pairs) > 1)
        again = self.most_takes_of_pair if self.calibrates else 0  # of the first pair, by more streams
        return company * self.takes + self.pairs * self.most_takes_of_pair + again

    @property
    def most_takes_of_pair(self) -> int:
        """How many takes there are of a pair alone at most."""
        return (MOST_TAKES if self.pods else HOST_TAKES) + (MOST_SERVICE_TAKES if self.services else 0)

    @property
    def calibration_s(self) -> int:
        """For how long it is tried at most how many streams are needed."""
        return len(STREAMS) * (CALIBRATION_S + OMIT_S) if self.calibrates else 0

    @property
    def takes(self) -> int:
        """How many takes a pair has when all is well."""
        return (TAKES if self.pods else HOST_TAKES) + (1 if self.services else 0)

    def most_bytes(self, line_rate_bps: int) -> int:
        """Return how many bytes are sent at most."""
        rate_bps = line_rate_bps if self.most_bps is None else min(line_rate_bps, self.most_bps)
        return (self.most_takes * self.take_s + self.calibration_s) * rate_bps // 8


def matches(check_id: str, patterns: Sequence[str]) -> bool:
    """Whether a check is among those asked for; no pattern asks for all."""
    return not patterns or any(fnmatchcase(check_id, pattern) for pattern in patterns)


def _workers(nodes: Sequence[Node]) -> list[Node]:
    """Load goes to ready workers; a cluster whose nodes are all control plane has no others."""
    ready = [node for node in nodes if node.ready]
    return [node for node in ready if not node.control_plane] or ready


def _wanted(settings: Settings, cluster: Cluster, selected: Sequence[str] | None) -> set[str]:
    if settings.nodes is None:
        return {node.name for node in cluster.nodes}
    if selected is not None:
        if not selected:
            raise ConfigurationError(f"--k8snet-nodes: no node of the cluster matches {settings.nodes!r}")
        _refuse_excluded(settings.nodes, [node for node in cluster.nodes if node.name in selected])
        return set(selected)
    found = _matched(settings.nodes, [node.name for node in cluster.nodes])
    unknown = sorted(pattern for pattern, names in found.items() if not names)
    if unknown or not found:
        known = some(sorted(node.name for node in cluster.nodes)) or "none"
        raise ConfigurationError(f"--k8snet-nodes: no node {', '.join(unknown) or repr(settings.nodes)} in the cluster; it has: {known}")
    for pattern, names in found.items():
        _refuse_excluded(pattern, [cluster.node(name) for name in names])
    return {name for names in found.values() for name in names}


def _refuse_excluded(asked: str, nodes: Sequence[Node]) -> None:
    """Raise `ConfigurationError` when what was asked for are only nodes that are never measured."""
    if nodes and all(node.excluded is not None for node in nodes):
        reasons = some([f"{node.name} {node.excluded}" for node in nodes])
        raise ConfigurationError(f"--k8snet-nodes: {asked!r} is no node that can be measured: {reasons}")


def _matched(asked: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Return for each name or pattern in a list of them which of `names` it means."""
    patterns = [pattern.strip() for pattern in asked.split(",") if pattern.strip()]
    return {pattern: [name for name in names if fnmatchcase(name, pattern)] for pattern in patterns}


def some(names: Sequence[str]) -> str:
    """Return the first names in words, and how many there are beside them."""
    shown = ", ".join(names[:FEW])
    return shown if len(names) <= FEW else f"{shown} and {len(names) - FEW} more"


def is_selector(nodes: str) -> bool:
    """Whether `nodes` is a label selector and not a list of names."""
    return any(mark in nodes for mark in ("=", "!", " in ", " notin ", "/"))
