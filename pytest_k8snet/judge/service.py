"""Judge what Services' addresses do with packets."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.cluster.serving import is_served
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.facts import NodeFacts
from pytest_k8snet.record.service import Asked, ServiceRecord


def nobody_serves(facts: NodeFacts, cluster: Cluster) -> str | None:
    """Return why nothing leads from Services' addresses to pods here, None when something should.

    A kube-proxy that is missing on one node of several is a fault, and no reason.
    """
    proxy = facts.kube_proxy
    if proxy.mode is not None or proxy.listening or proxy.processes or is_served(cluster):
        return None
    return "no kube-proxy runs in this cluster, and nothing is known to stand for it: no Service address leads anywhere"


def cluster_ip(record: ServiceRecord, facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that the node and its pods reach the endpoint on another node that a ClusterIP leads to."""
    return _reached(record, record.of("cluster-ip"), facts, cluster, _alone(record))


def hairpin(record: ServiceRecord, facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that a pod reaches itself through its own Service."""
    return _reached(record, record.of("hairpin"), facts, cluster, _not_served(record))


def node_port(record: ServiceRecord, other: ServiceRecord | None, facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that the node's NodePorts answer its own pod, and a pod of another node, `other`'s.

    A pod that reached no Service at all says nothing of this node.
    """
    own = [item for item in record.of("node-port") if item.node == record.node]
    judgement = _reached(record, own, facts, cluster, _alone(record))
    if other is None or judgement.skip_reason is not None:
        return judgement
    for item in other.of("node-port"):
        if item.node != record.node:
            continue
        told = f"{record.node}: {_told(item, other.node)}"
        if not item.fine and not any(asked.fine for asked in other.asked if asked.role == "pod"):
            judgement.remark(f"{told}; that pod reached no Service at all, which says nothing of {record.node}")
        else:
            judgement.check(item.fine, told, measured=item.what, wanted=f"an answer of the pod on {item.endpoint}")
            _keep(judgement, item)
    return judgement


def _reached(record: ServiceRecord, asked: Sequence[Asked], facts: NodeFacts, cluster: Cluster, none: str) -> Judgement:
    if not asked:
        return _nothing(record, none)
    if not any(item.fine for item in record.asked) and (why := nobody_serves(facts, cluster)) is not None:
        return Judgement.skipped(why)
    judgement = Judgement(want="every connection answered by the Service's only endpoint")
    for item in asked:
        judgement.check(
            item.fine,
            f"{record.node}: {_told(item, record.node)}",
            measured=item.what,
            wanted=f"an answer of the pod on {item.endpoint}",
        )
        _keep(judgement, item)
    return judgement


def _nothing(record: ServiceRecord, none: str) -> Judgement:
    """Skip, unless it was this node's own pod that was in the way: what others' pods do is their own error."""
    others = dict(record.not_serving)
    own = others.pop(record.node, None)
    if own is not None:
        judgement = Judgement()
        judgement.error(f"{record.node}: its probe pod could not be made to answer: {own.removeprefix(f'{record.node}: ')}")
        return judgement
    reasons = "; ".join(f"{node}: {why.removeprefix(f'{node}: ')}" for node, why in others.items())
    return Judgement.skipped(f"{none} ({reasons})" if reasons else none)


def _alone(record: ServiceRecord) -> str:
    return f"no probe pod on another node than {record.node} has a Service: nothing can be far away"


def _not_served(record: ServiceRecord) -> str:
    return f"of many nodes some have a Service of their own probe pod, and {record.node} is none of them"


def _told(item: Asked, client: str) -> str:
    """Say what was asked and what came back."""
    place = f"{client}'s {'pod' if item.role == 'pod' else 'host network'}"
    kind = "ClusterIP" if item.path != "node-port" else f"{item.node}'s NodePort"
    where = "that pod itself" if item.path == "hairpin" else f"on {item.endpoint}"
    return (
        f"{place} to {kind} {item.address} port {item.port}, whose only endpoint is {where}: {item.what}, "
        f"after {item.waited_s:.0f} s of trying (Service {item.service})"
    )


def _keep(judgement: Judgement, item: Asked) -> None:
    """Keep figures of what was answered."""
    times = [connection.ms for connection in item.connections if connection.ms is not None and connection.error is None]
    sources = {connection.source for connection in item.connections if connection.source is not None}
    if times:
        key = f"{item.role} to {item.path} {item.address} port {item.port}"
        judgement.evidence[key] = f"{max(times):g} ms, seen as {', '.join(sorted(sources))}"
