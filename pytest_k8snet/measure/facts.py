"""Facts of nodes: one round trip to the agent of the node and one to that of its probe pod, all nodes at the same time."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import TRANSPORT_ERRORS, AccessError, NoPodError
from pytest_k8snet.measure.taking import take_document

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

_AHEAD = 8  # nodes asked beyond those that threads are busy with
_NO_ADDRESS = "no running pod is known there, and the node has no podCIDR"

# What checks look at whatever the profile says; {uplink} is filled in on the node, where its name is known.
UPLINK_KEYS = tuple(f"net.ipv4.conf.{{uplink}}.{name}" for name in ("arp_ignore", "arp_announce", "rp_filter", "forwarding"))
HOST_KEYS = (
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.arp_announce",
    "net.ipv4.conf.all.log_martians",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.neigh.default.gc_thresh3",
    "net.ipv6.neigh.default.gc_thresh3",
    "net.ipv4.conf.cilium_host.rp_filter",
    "net.ipv4.conf.ovn-k8s-mp0.forwarding",
    "net.ipv4.vs.conntrack",
    "net.ipv4.vs.expire_nodest_conn",
    "net.ipv4.vs.expire_quiescent_template",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_buckets",
    "net.ipv4.tcp_congestion_control",
    "net.core.default_qdisc",
)


@dataclass(frozen=True, slots=True)
class _Question:
    """What all nodes are asked."""

    context: MeasureContext
    keys: Sequence[str]
    peers: Mapping[str, Sequence[tuple[str, bool]]]  # an address in every node's pod range, and whether it is a running pod's
    unknown: Sequence[str]  # nodes of which no such address is known


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Take the facts of the nodes `subjects`."""
    question = _Question(context, list(dict.fromkeys([*HOST_KEYS, *context.sysctl_keys])), *_peers(context))
    threads = context.settings.facts_threads
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="k8snet-facts") as pool:

        def start(node: str) -> Future[Document]:
            # The pod's agent starts while the host's does: most of the time is waiting for their first word.
            pods = [pool.submit(_pod_facts, question, node)]
            return pool.submit(take_document, "facts", node, _method(context, node), partial(_facts, question, node, pods))

        # Never all at once: facts are up to a megabyte each, and of a thousand nodes only those under way are held.
        under_way: set[Future[Document]] = set()
        for node in subjects:
            under_way.add(start(node))
            if len(under_way) >= threads + _AHEAD:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        for future in as_completed(under_way):
            yield future.result()


def _facts(question: _Question, name: str, pods: list[Future[dict[str, Any]]]) -> dict[str, Any]:
    """Ask both agents of a node. `pods` holds the first answer of its pod's; it is gone when they are asked again."""
    context = question.context
    node = context.cluster.node(name)
    probe = context.probes.get(name)
    values: dict[str, Any] = context.access.host(name).request(
        "facts",
        {
            "role": "host",
            "sysctls": [*question.keys, *UPLINK_KEYS],
            "uplink_ip": node.internal_ip,
            "peers": {peer: known[0] for peer, known in question.peers.items() if peer != name},
            "second_peers": {peer: known[1] for peer, known in question.peers.items() if peer != name and len(known) > 1},
            "existing_pods": context.settings.existing_pods,
            "skip_namespace": probe.namespace if probe else None,
        },
        timeout_s=context.settings.facts_timeout_s,
    )
    if unknown := [peer for peer in question.unknown if peer != name]:
        no_address = {"dev": None, "error": _NO_ADDRESS, "real_pod": False, "peers": dict.fromkeys(unknown, ("", None))}
        values["peer_routes"].append(no_address)
    values.update(pod=None, pod_error=None, pod_absent=None)
    first = bool(pods)
    try:
        pod = pods.pop().result() if first else _pod_facts(question, name)
        values["pod"] = {"name": probe.pod if probe else f"probe-{name}", **pod}
    except NoPodError as absent:
        values["pod_absent"] = str(absent)
    except AccessError as error:
        if first and isinstance(error, TRANSPORT_ERRORS):
            raise
        values["pod_error"] = str(error)
    return values


def _pod_facts(question: _Question, name: str) -> dict[str, Any]:
    context = question.context
    facts: dict[str, Any] = context.access.pod(name).request(
        "facts", {"role": "pod", "sysctls": list(question.keys)}, timeout_s=context.settings.facts_timeout_s
    )
    return facts


def _peers(context: MeasureContext) -> tuple[dict[str, list[tuple[str, bool]]], list[str]]:
    """Return addresses of every node's pods, one of each family, and whether they are a running pod's; and the nodes without any."""
    known: dict[str, list[tuple[str, bool]]] = {}
    unknown = []
    for node in context.cluster.nodes:
        if node.excluded is not None:
            continue
        probe = context.probes.get(node.name)
        # Where a pod runs and has one family alone, so have others, whatever ranges the node has.
        of_pod = (probe.addresses if probe and probe.error is None else ()) or node.pod_addresses
        known[node.name] = [(address, True) for address in of_pod] or [(address, False) for address in _within(node.pod_cidrs)]
        if not known[node.name]:
            unknown.append(node.name)
            del known[node.name]
    return known, unknown


def _within(pod_cidrs: Sequence[str]) -> Iterator[str]:
    """Yield an address of the first range of each family; none of what is no range."""
    seen = set()
    for text in pod_cidrs:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            continue
        if network.version not in seen:
            seen.add(network.version)
            yield str(network[min(2, network.num_addresses - 1)])


def _method(context: MeasureContext, name: str) -> str:
    probe = context.probes.get(name)
    return context.place_of(name) + (f" and the one in pod {probe.namespace}/{probe.pod}" if probe and probe.pod else "")
