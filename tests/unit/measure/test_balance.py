from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.access.probe_services import grouped
from pytest_k8snet.errors import AccessError, ProbeError
from pytest_k8snet.measure import balance
from pytest_k8snet.measure.registry import MEASUREMENTS, MeasureContext
from pytest_k8snet.record.balance import BalanceRecord
from pytest_k8snet.record.document import Document

NODES = ("node-1", "node-2", "node-3")


def measure(fake: FakeCluster) -> dict[str, Document]:
    cluster = fake.read_cluster()
    probing = fake.start_probes(cluster, [*fake.nodes], "1")
    probes = probing.wait(Deadline.after(1))
    context = MeasureContext(
        cluster=cluster,
        access=fake.open_access(cluster, probes),
        probes=probes,
        services=fake.services,
        probe_groups=probing.make_groups,
    )
    return {item.subject: item for item in MEASUREMENTS["balance"].take(context, [*fake.nodes])}


def records(fake: FakeCluster) -> dict[str, BalanceRecord]:
    return {name: BalanceRecord.from_document(document) for name, document in measure(fake).items()}


def test_every_node_connects_and_looks_into_its_tables() -> None:
    fake = FakeCluster(NODES)
    found = records(fake)
    assert [*found] == [*NODES]
    for name, record in found.items():
        spread = record.spread
        assert spread.shares == dict.fromkeys(NODES, 20)
        assert (spread.seen, spread.scheduler, spread.unanswered) == (NODES, "rr", "")
        assert all(item.source in spread.in_ipvs for item in spread.answered)
        assert {item.source[0] for item in spread.answered if item.source} == {fake.pod_ip(name)}
        assert record.endpoints == {node: fake.pod_ip(node) for node in NODES}
    assert sorted(node for node, role, op in fake.requests if op == "traffic.stop" and role == "pod") == [*NODES]


def test_of_many_nodes_some_are_endpoints() -> None:
    names = [f"node-{number:02}" for number in range(40)]
    found = records(FakeCluster(names))
    assert set(found) == set(names)
    assert len(found["node-01"].endpoints) == 4
    assert [*found["node-01"].endpoints] == grouped(names) == ["node-00", "node-10", "node-20", "node-30"]


def test_rules_count_from_the_first_reading_on() -> None:
    fake = FakeCluster(NODES[:2])
    readings = iter([3, 63])

    def counted(params: Mapping[str, Any]) -> dict[str, Any]:
        packets = next(readings)
        rules = [{"backend": "legacy", "rule": "-A x", "packets": packets}]
        if packets == 63:
            rules.append({"backend": "nft", "rule": "-A x", "packets": 5})
        ipvs: dict[str, Any] = {"loaded": False, "scheduler": None, "connections": []}
        return {"ipvs": ipvs, "rules": rules, "errors": {"nft": "gone"} if packets == 3 else {}}

    fake.answer("node-1", "balance.counted", counted)
    spread = records(fake)["node-1"].spread
    assert [(item.backend, item.packets) for item in spread.rules] == [("legacy", 60), ("nft", 5)]
    assert spread.errors == {"nft": "gone"}


def answered(names: list[str | None]) -> dict[str, Any]:
    return {
        "connections": [
            {"source": ["10.244.1.5", 20000 + number], "name": name, "ms": 0.4, "error": None if name else "timed out"}
            for number, name in enumerate(names)
        ]
    }


def test_endpoints_are_waited_for_until_every_proxy_must_know_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "_BETWEEN_S", 0.001)
    fake = FakeCluster(NODES[:2])
    rounds: Iterator[list[str | None]] = iter([["node-1"] * 8, [None] * 8, ["node-2"] * 8, ["node-1", "node-2"] * 30])
    fake.answer("node-1", "balance.connect", lambda params: answered(next(rounds)), role="pod")
    spread = records(fake)["node-1"].spread
    assert (spread.seen, len(spread.connections)) == (("node-1", "node-2"), 60)
    monkeypatch.setattr(balance, "MADE_S", 0.0)
    fake.answer("node-1", "balance.connect", lambda params: answered(["node-1"] * params["count"]), role="pod")
    spread = records(fake)["node-1"].spread
    assert (spread.seen, spread.shares) == (("node-1",), {"node-1": 60})
    fake.answer("node-1", "balance.connect", lambda params: answered([None] * params["count"]), role="pod")
    spread = records(fake)["node-1"].spread
    assert (spread.seen, spread.unanswered) == ((), "timed out (8 of 8)"), "not 60 more that are in vain"


def test_pods_that_cannot_be_made_to_answer_are_no_endpoints() -> None:
    fake = FakeCluster(NODES)
    fake.answer("node-3", "traffic.serve", AccessError("node-3: gone"), role="pod")
    fake.answer("node-1", "balance.connect", lambda params: answered(["node-1", "node-2"] * (params["count"] // 2)), role="pod")
    found = records(fake)["node-1"]
    assert ([*found.endpoints], found.not_serving) == (["node-1", "node-2"], {"node-3": "node-3: gone"})
    for name in NODES:
        fake.answer(name, "traffic.serve", AccessError(f"{name}: gone"), role="pod")
    reasons = {item.reason for item in measure(fake).values()}
    assert reasons == {"no endpoint of Service k8snet-1/probe-spread answers: node-1: gone; node-2: gone; node-3: gone"}


def test_reasons_why_nothing_could_be_measured() -> None:
    documents = measure(FakeCluster(NODES, pods=False))
    assert {(item.unsupported, item.reason) for item in documents.values()} == {(True, "access fake makes no probe pods here")}

    class Refused(FakeCluster):
        def on_create(self, name: str) -> None:
            if name.startswith("service"):
                raise ProbeError("Service x/probe-spread could not be made: exceeded quota")

    assert {item.reason for item in measure(Refused(NODES)).values()} == {"Service x/probe-spread could not be made: exceeded quota"}
    fake = FakeCluster(NODES)
    fake.answer("node-2", "balance.counted", AccessError("node-2: gone"))
    assert {name: item.reason for name, item in measure(fake).items()} == {"node-1": None, "node-2": "node-2: gone", "node-3": None}
