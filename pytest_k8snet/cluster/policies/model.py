"""What a policy does to the packets that a run counts on, whichever kind of object it is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from pytest_k8snet.cluster.admission import selects

#: What a run sends to or from its probe pods.
FROM_PODS = "from other pods of the run"
FROM_NODES = "from nodes"
FROM_OTHERS = "from pods of other namespaces"
TO_PODS = "to other pods of the run"
TO_DNS = "to the cluster's DNS"
TO_OTHERS = "to nodes and other addresses"
INGRESS = (FROM_PODS, FROM_NODES, FROM_OTHERS)
EGRESS = (TO_PODS, TO_DNS, TO_OTHERS)
FLOWS = (*INGRESS, *EGRESS)

Object = Mapping[str, Any]


class Sure(IntEnum):
    """How sure it is that something is so, as far as its object can be understood."""

    NO = 0
    MAYBE = 1
    YES = 2


@dataclass(frozen=True, slots=True)
class Pods:
    """The probe pods as policies see them."""

    namespace: str
    labels: Mapping[str, str]
    namespace_labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy that may select the probe pods."""

    name: str  # "NetworkPolicy shop/default-deny"
    isolates: Mapping[str, Sure] = field(default_factory=dict)  # by flow: whether what no policy admits is dropped because of it
    admits: Mapping[str, Sure] = field(default_factory=dict)
    denies: Mapping[str, Sure] = field(default_factory=dict)

    def doubted(self) -> Policy:
        """Return the same where it is not sure that it selects the probe pods."""

        def least(values: Mapping[str, Sure]) -> dict[str, Sure]:
            return {flow: min(value, Sure.MAYBE) for flow, value in values.items()}

        return Policy(self.name, least(self.isolates), least(self.admits), least(self.denies))


@dataclass(frozen=True, slots=True)
class Blocked:
    """A flow that policies block."""

    flow: str
    by: tuple[str, ...]
    sure: bool

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return {"flow": self.flow, "by": list(self.by), "sure": self.sure}


def blocked(policies: Iterable[Policy]) -> list[Blocked]:
    """Return which flows are blocked or may be.

    Rules that admit add up, as those of NetworkPolicies and Cilium's do. Where they stand against rules that deny, order and tiers decide,
    which is not looked at: then a flow *may* be blocked.
    """
    policies = [*policies]
    found = []
    for flow in FLOWS:
        isolated = max((item.isolates.get(flow, Sure.NO) for item in policies), default=Sure.NO)
        admitted = max((item.admits.get(flow, Sure.NO) for item in policies), default=Sure.NO)
        denied = max((item.denies.get(flow, Sure.NO) for item in policies), default=Sure.NO)
        if denied is Sure.NO and (isolated is Sure.NO or admitted is Sure.YES):
            continue
        by = [item.name for item in policies if item.isolates.get(flow) or item.denies.get(flow)]
        found.append(Blocked(flow, tuple(by), sure=admitted is Sure.NO and Sure.YES in (isolated, denied)))
    return found


def selector_known(selector: Object | None, labels: Mapping[str, str], *, known: bool = True) -> Sure:
    """Return whether a label selector selects an object with these labels; without `known` they are only some of its labels."""
    if selects(selector, labels):
        return Sure.YES
    return Sure.NO if known else Sure.MAYBE


def best(values: Iterable[Sure]) -> Sure:
    """Return the surest of several."""
    return max(values, default=Sure.NO)


def in_order(rules: Sequence[tuple[str, Sure]], *, allow: str, deny: str) -> tuple[Sure, Sure]:
    """Return whether rules that are asked one after the other admit, and whether they deny: (verb, whether it matches) each."""
    admits = denies = Sure.NO
    for verb, matches in rules:
        if verb == allow:
            admits = max(admits, matches)
        elif verb == deny:
            denies = max(denies, matches)
        elif matches is not Sure.NO:  # it leaves the decision to others
            return admits, denies
        if matches is Sure.YES:
            return (admits, min(denies, Sure.MAYBE)) if verb == allow else (min(admits, Sure.MAYBE), denies)
    return admits, denies
