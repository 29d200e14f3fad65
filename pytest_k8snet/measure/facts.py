"""Facts of nodes: one round trip to the agent of the node and one to that of its probe pod, all nodes at the same time."""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import TRANSPORT_ERRORS, AccessError, NoPodError
from pytest_k8snet.measure.taking import take_document

if TYPE_CHECKING:
    from pytest_k8snet.cluster.model import Node
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

_AHEAD = 4  # nodes asked, a thread, before the first answer is needed

# What checks look at whatever the profile says; {uplink} is filled in on the node, where its name is known.
UPLINK_KEYS = tuple(f"net.ipv4.conf.{{uplink}}.{name}" for name in ("arp_ignore", "arp_announce", "rp_filter", "forwarding"))
HOST_KEYS = (
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.arp_announce",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.vs.conntrack",
    "net.ipv4.vs.expire_nodest_conn",
    "net.ipv4.vs.expire_quiescent_template",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_buckets",
    "net.ipv4.tcp_congestion_control",
    "net.core.default_qdisc",
)


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Take the facts of the nodes `subjects`."""
    keys = list(dict.fromkeys([*HOST_KEYS, *context.sysctl_keys]))
    threads = context.settings.facts_threads
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="k8snet-facts") as pool:

        def start(node: str) -> Future[Document]:
            # The pod's agent starts while the host's does: most of the time is waiting for their first word.
            pods = [pool.submit(_pod_facts, context, node, keys)]
            return pool.submit(take_document, "facts", node, _method(context, node), partial(_facts, context, node, keys, pods))

        # Never all at once: facts are up to a megabyte each, and of a thousand nodes only those under way are held.
        under_way: deque[Future[Document]] = deque()
        for node in subjects:
            under_way.append(start(node))
            if len(under_way) == _AHEAD * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _facts(context: MeasureContext, name: str, keys: Sequence[str], pods: list[Future[dict[str, Any]]]) -> dict[str, Any]:
    """Ask both agents of a node. `pods` holds the first answer of its pod's; it is gone when they are asked again."""
    node = context.cluster.node(name)
    probe = context.probes.get(name)
    peers, unknown = _peers(context, node)
    agent = context.access.host(name)
    values: dict[str, Any] = agent.request(
        "facts",
        {
            "role": "host",
            "sysctls": [*keys, *UPLINK_KEYS],
            "uplink_ip": node.internal_ip,
            "peers": peers,
            "existing_pods": context.settings.existing_pods,
            "skip_namespace": probe.namespace if probe else None,
        },
        timeout_s=context.settings.facts_timeout_s,
    )
    values.update(peer_routes=[*values["peer_routes"], *unknown], pod=None, pod_error=None, pod_absent=None)
    first = bool(pods)
    try:
        pod = pods.pop().result() if first else _pod_facts(context, name, keys)
        values["pod"] = {"name": probe.pod if probe else f"probe-{name}", **pod}
    except NoPodError as absent:
        values["pod_absent"] = str(absent)
    except AccessError as error:
        if first and isinstance(error, TRANSPORT_ERRORS):
            raise
        values["pod_error"] = str(error)
    return values


def _pod_facts(context: MeasureContext, name: str, keys: Sequence[str]) -> dict[str, Any]:
    facts: dict[str, Any] = context.access.pod(name).request(
        "facts", {"role": "pod", "sysctls": list(keys)}, timeout_s=context.settings.facts_timeout_s
    )
    return facts


def _peers(context: MeasureContext, node: Node) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return an address in every other node's pod range, a running pod's where there is one, and the entries of nodes without any."""
    known, unknown = [], []
    for peer in context.cluster.nodes:
        if peer.name == node.name or peer.excluded is not None:
            continue
        probe = context.probes.get(peer.name)
        address = (probe.pod_ip if probe and probe.error is None else None) or peer.pod_ip
        if address is not None:
            known.append({"peer": peer.name, "address": address, "real_pod": True})
        elif (address := _within(peer.pod_cidrs)) is not None:
            known.append({"peer": peer.name, "address": address, "real_pod": False})
        else:
            unknown.append(
                {
                    "peer": peer.name,
                    "address": "",
                    "real_pod": False,
                    "dev": None,
                    "gateway": None,
                    "error": "no running pod is known there, and the node has no podCIDR",
                }
            )
    return known, unknown


def _within(pod_cidrs: Sequence[str]) -> str | None:
    """Return an address of the first range; None when there is none, or what is given is none."""
    try:
        network = ipaddress.ip_network(pod_cidrs[0], strict=False)
    except (IndexError, ValueError):
        return None
    return str(network[min(2, network.num_addresses - 1)])


def _method(context: MeasureContext, name: str) -> str:
    probe = context.probes.get(name)
    return context.agent_of(name) + (f" and the one in pod {probe.namespace}/{probe.pod}" if probe and probe.pod else "")
