from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.errors import RecordError
from pytest_k8snet.judge import service
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.service import Asked, Connection, ServiceRecord
from tests.unit.judge.builder import facts, outcome, told

PROXIES = ({"name": "kube-proxy", "namespace": "kube-system", "desired": 3, "ready": 3, "node_selector": {}, "pods": []},)
CLUSTER = Cluster("v1.37.2", (fake_node("node-1"),), {}, PROXIES, None)
NO_PROXY = replace(CLUSTER, kube_proxy_daemonsets=())
WITHOUT = facts(kube_proxy={"mode": None, "mode_error": "Connection refused", "listening": False, "processes": []})
NOBODY = "no kube-proxy runs in this cluster, and nothing is known to stand for it: no Service address leads anywhere"
GOOD = Connection("node-3", "10.244.1.5", 0.4, None)
LATE = Connection(None, None, 5000.0, "timed out")
OTHER = Connection("node-2", "10.244.1.5", 0.4, None)


def asked(path: str, *connections: Connection, role: str = "pod", **changes: Any) -> Asked:
    port, node = (30003, "node-1") if path == "node-port" else (80, None)
    endpoint = "node-1" if path == "hairpin" else "node-3"
    healthy = (replace(GOOD, name=endpoint),) * 3
    values: dict[str, Any] = {
        "path": path,
        "role": role,
        "address": "10.96.1.3",
        "port": port,
        "service": "k8snet-1/probe-3",
        "endpoint": endpoint,
        "node": node,
        "waited_s": 41.2,
        "connections": connections or healthy,
    }
    return Asked(**{**values, **changes})


def record(*items: Asked, node: str = "node-1", **changes: Any) -> ServiceRecord:
    return replace(ServiceRecord(node, items, "node-3", {}), **changes)


HEALTHY = record(asked("cluster-ip", role="host"), asked("cluster-ip"), asked("node-port"), asked("hairpin"))
AGE = "after 41 s of trying (Service k8snet-1/probe-3)"


def test_healthy() -> None:
    judgements = [
        service.cluster_ip(HEALTHY, facts(), CLUSTER),
        service.node_port(HEALTHY, None, facts(), CLUSTER),
        service.hairpin(HEALTHY, facts(), CLUSTER),
    ]
    assert [outcome(item) for item in judgements] == [("pass", "")] * 3
    assert judgements[0].evidence["pod to cluster-ip 10.96.1.3 port 80"] == "0.4 ms, seen as 10.244.1.5"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            asked("cluster-ip", GOOD, LATE, LATE, role="host"),
            f"node-1's host network to ClusterIP 10.96.1.3 port 80, whose only endpoint is on node-3: timed out (2 of 3), {AGE}",
        ),
        (
            asked("cluster-ip", GOOD, OTHER, LATE),
            (
                "node-1's pod to ClusterIP 10.96.1.3 port 80, whose only endpoint is on node-3: "
                f"answered by node-2 (1 of 3), timed out (1 of 3), {AGE}"
            ),
        ),
    ],
)
def test_cluster_ip(item: Asked, message: str) -> None:
    assert outcome(service.cluster_ip(record(asked("hairpin"), item), facts(), CLUSTER)) == ("fail", f"node-1: {message}")


def test_hairpin() -> None:
    silent = record(asked("cluster-ip"), asked("hairpin", LATE, LATE, LATE))
    where = "node-1's pod to ClusterIP 10.96.1.3 port 80, whose only endpoint is that pod itself"
    assert outcome(service.hairpin(silent, facts(), CLUSTER)) == ("fail", f"node-1: {where}: timed out (3 of 3), {AGE}")
    none = "of many nodes some have a Service of their own probe pod, and node-1 is none of them"
    assert outcome(service.hairpin(record(asked("cluster-ip")), facts(), CLUSTER)) == ("skip", none)


PORT = "NodePort 10.96.1.3 port 30003, whose only endpoint is on node-3"


def test_node_port_from_the_node_and_from_another() -> None:
    own = record(asked("cluster-ip"), asked("node-port", LATE))
    assert outcome(service.node_port(own, None, facts(), CLUSTER)) == (
        "fail",
        f"node-1: node-1's pod to node-1's {PORT}: timed out (1 of 1), {AGE}",
    )
    from_there = asked("node-port", replace(LATE, error="Connection refused"))
    elsewhere = asked("node-port", node="node-9")
    other = record(asked("cluster-ip"), from_there, elsewhere, node="node-2")
    assert outcome(service.node_port(HEALTHY, other, facts(), CLUSTER)) == (
        "fail",
        f"node-1: node-2's pod to node-1's {PORT}: Connection refused (1 of 1), {AGE}",
    )


@pytest.mark.parametrize("other", [None, record(asked("cluster-ip"), asked("node-port", node="node-9"), node="node-2")])
def test_node_ports_that_no_other_node_has_asked_are_told(other: ServiceRecord | None) -> None:
    judgement = service.node_port(HEALTHY, other, facts(), CLUSTER)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == ["node-1: its NodePorts were asked by its own pod alone: no pod of another node has asked them"]


def test_a_pod_that_reaches_no_service_by_one_family_says_nothing_of_another_node_by_that() -> None:
    by_ipv6 = (asked("cluster-ip", LATE, address="fd00:96::3"), asked("node-port", LATE, address="fd00:1::11"))
    lost = record(asked("cluster-ip"), asked("node-port"), *by_ipv6, node="node-2")
    judgement = service.node_port(HEALTHY, lost, facts(), CLUSTER)
    assert outcome(judgement) == ("pass", "")
    assert "fd00:1::11 port 30003" in judgement.findings[0].message
    reached = record(asked("cluster-ip", address="fd00:96::3"), by_ipv6[1], node="node-2")
    assert outcome(service.node_port(HEALTHY, reached, facts(), CLUSTER))[0] == "fail"


def test_a_pod_that_reaches_no_service_says_nothing_of_another_node() -> None:
    lost = record(asked("cluster-ip", LATE), asked("node-port", LATE), node="node-2")
    judgement = service.node_port(HEALTHY, lost, facts(), CLUSTER)
    assert outcome(judgement) == ("pass", "")
    lost_there = f"node-1: node-2's pod to node-1's {PORT}: timed out (1 of 1), {AGE}"
    said = f"{lost_there}; that pod reached no Service at all, which says nothing of node-1"
    assert told(judgement, Weight.REMARK) == [said]


def judged(one: ServiceRecord, cluster: Cluster = CLUSTER) -> list[Judgement]:
    return [
        service.cluster_ip(one, WITHOUT, cluster),
        service.node_port(one, one, WITHOUT, cluster),
        service.hairpin(one, WITHOUT, cluster),
    ]


def test_where_no_service_leads_anywhere() -> None:
    silent = record(*(asked(path, LATE) for path in ("cluster-ip", "node-port", "hairpin")))
    assert [outcome(item) for item in judged(silent, NO_PROXY)] == [("skip", NOBODY)] * 3
    assert [item.verdict for item in judged(silent)] == ["fail"] * 3, "a kube-proxy that is gone from one node is no reason"
    assert [outcome(item) for item in judged(HEALTHY, NO_PROXY)] == [("pass", "")] * 3


def test_nothing_was_asked() -> None:
    none = "no probe pod on another node than node-1 has a Service: nothing can be far away"
    assert [outcome(item) for item in judged(record(asked("hairpin")))[:2]] == [("skip", none)] * 2
    others = record(not_serving={"node-3": "node-3: gone"})
    assert [outcome(item) for item in judged(others)[:2]] == [("skip", f"{none} (node-3: gone)")] * 2, "it is node-3's own error"
    own = record(not_serving={"node-1": "node-1: gone"})
    assert {outcome(item) for item in judged(own)} == {("error", "node-1: its probe pod could not be made to answer: gone")}


def test_documents_that_cannot_be_read() -> None:
    def document(values: dict[str, Any] | None) -> Document:
        reason = None if values else "gone"
        return Document(kind="service", subject="node-1", started="x", duration_s=0.0, method="x", values=values, reason=reason)

    with pytest.raises(RecordError, match="node-1: no connections to Services: gone"):
        ServiceRecord.from_document(document(None))
    with pytest.raises(RecordError, match="node-1: the service document is damaged"):
        ServiceRecord.from_document(document({"x": 1}))
