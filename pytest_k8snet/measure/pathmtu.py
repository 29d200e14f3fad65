"""Which sizes of packets cross the paths between pods of different nodes: exact sizes that may not be fragmented, each way.

All nodes at once, and one node's targets too: some twenty packets a pair, more only where the full size never arrives. Where nodes' own
packets may be larger than those of their pods (a tunnel, jumbo frames) the path between the nodes' addresses is looked at as well.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.pairs import pair_name
from pytest_k8snet.errors import NoPodError, UnsupportedError
from pytest_k8snet.measure.answering import Outcomes, Place, address_of, at_once, documents_of, present_targets, second_address_of, serving

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Agent
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

_PROBE_S = 120.0
_SECRET_BYTES = 8  # of the agent's program
_METHOD = "datagrams of exact size that may not be fragmented, and a TCP connection, between probe pods, and such datagrams between nodes"

#: What each node serves where, or why it does not.
Servers = Mapping[Place, Mapping[str, Mapping[str, Any] | Exception]]


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Measure the paths from the probe pods of the nodes `subjects` to those that they are paired with."""
    yield from documents_of(context, "pathmtu", _METHOD, subjects, partial(_nodes, context))


def _nodes(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    targets = {name: present_targets(context, name) for name in subjects}
    involved = [*dict.fromkeys([*(name for name in subjects if targets[name]), *(item for some in targets.values() for item in some)])]
    secret = secrets.token_hex(_SECRET_BYTES)
    with (
        serving(context, involved, "pod", secret=secret) as pods,
        serving(context, involved if _any_served(pods) else [], "host", secret=secret) as hosts,
    ):
        servers: Servers = {"pod": pods, "host": hosts}
        outcomes = at_once(context, subjects, partial(_probe, context, servers, targets, secret))
        # Whose paths say so.
        missed = {
            place: {name for name, server in of_place.items() if isinstance(server, Exception)} for place, of_place in servers.items()
        }
    for name in subjects:
        # What was silent for that reason is not to be called a path that loses packets.
        cut = (
            server
            for place, of_place in servers.items()
            for target in targets[name]
            if target not in missed[place] and isinstance(server := of_place.get(target), Exception)
        )
        gone = next(cut, None)
        if gone is not None and not isinstance(outcomes[name], Exception):
            outcomes[name] = gone
    return outcomes


def _any_served(servers: Mapping[str, Mapping[str, Any] | Exception]) -> bool:
    """Whether there is anything to look at beside: a way to the nodes without pods has no paths here."""
    return any(not isinstance(server, Exception) for server in servers.values())


def _probe(context: MeasureContext, servers: Servers, targets: Mapping[str, Sequence[str]], secret: str, name: str) -> dict[str, Any]:
    try:
        agent = context.access.pod(name)
    except NoPodError as absent:
        return {"pod_absent": str(absent), "targets": {}}
    of_pods = _paths(context, servers["pod"], targets[name], "pod", name)
    _ask(agent, secret, of_pods)
    return {
        "pod_absent": None,
        "targets": of_pods[0],
        "second_targets": of_pods[1],
        **_hosts(context, servers, targets[name], secret, of_pods, name),
    }


def _hosts(
    context: MeasureContext, servers: Servers, targets: Sequence[str], secret: str, of_pods: Sequence[Mapping[str, Any]], name: str
) -> dict[str, Any]:
    """Look at the paths between the nodes themselves, as far as packets on them may be larger than those of the pods."""
    nothing: dict[str, Any] = {"host_targets": {}, "second_host_targets": {}}
    unsupported = next((str(server) for server in servers["host"].values() if isinstance(server, UnsupportedError)), None)
    if unsupported is not None:
        return {**nothing, "hosts_unsupported": unsupported}
    of_hosts = _paths(context, servers["host"], [target for target in targets if target in servers["host"]], "host", name)
    sizes = {(target, ":" in path["address"]): path["size"] for paths in of_pods for target, path in paths.items() if path["error"] is None}
    for paths in of_hosts:
        for target, item in paths.items():
            if "error" not in item:
                item["beyond"] = sizes.get((target, ":" in item["address"]), 0)
    try:
        _ask(context.access.host(name), secret, of_hosts)
    except UnsupportedError as error:
        return {**nothing, "hosts_unsupported": str(error)}
    return {"host_targets": of_hosts[0], "second_host_targets": of_hosts[1], "hosts_unsupported": None}


def _paths(
    context: MeasureContext, servers: Mapping[str, Mapping[str, Any] | Exception], targets: Sequence[str], place: Place, name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what to ask of each target, by its first and its other address, or why it cannot be."""
    found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    has_both = second_address_of(context, name, place) is not None
    for target in targets:
        server = servers[target]
        if isinstance(server, Exception):
            found[0][target] = {"error": str(server), "address": None}
            continue
        # What comes back is the other node's own measurement, unless nobody looks at that direction.
        replies = pair_name(target, name) not in context.pairs
        addresses = [address_of(context, target, place)]
        if has_both and (second := second_address_of(context, target, place)) is not None:
            addresses.append(second)
        for paths, address in zip(found, addresses, strict=False):
            paths[target] = {"address": address, "port": server["port"], "mtu": server["mtu"], "replies": replies}
    return found


def _ask(agent: Agent, secret: str, found: Sequence[dict[str, Any]]) -> None:
    """Put what the agent says of the paths in the place of what it is to be asked of them."""
    asked = [{"key": f"{target} {item['address']}", **item} for paths in found for target, item in paths.items() if "error" not in item]
    if not asked:
        return
    told = agent.request("pathmtu.probe", {"secret": secret, "targets": asked}, timeout_s=_PROBE_S)
    for paths in found:
        for target, item in paths.items():
            if "error" not in item:
                paths[target] = {**told[f"{target} {item['address']}"], "address": item["address"]}
