from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.errors import AccessError
from pytest_k8snet.judge import mtu
from pytest_k8snet.measure import pathmtu
from pytest_k8snet.measure.answering import PORT
from pytest_k8snet.options import PairChoice
from pytest_k8snet.plan import choose_pairs
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.pathmtu import PathMtuRecord
from tests.unit.judge.builder import facts
from tests.unit.measure.faked import context


def documents(fake: FakeCluster, pairs: PairChoice) -> Mapping[str, Document]:
    given = replace(context(fake), pairs=choose_pairs(pairs, [*fake.nodes]))
    return {item.subject: item for item in pathmtu.take(given, [*fake.nodes])}


@pytest.mark.parametrize(("choice", "targets", "back"), [("all", ["node-3", "node-1"], False), ("ring", ["node-3"], True)])
def test_each_direction_is_measured_once(choice: Any, targets: list[str], back: bool) -> None:
    """Answers of full size are asked for where no node measures that direction by itself."""
    record = PathMtuRecord.from_document(documents(FakeCluster(), PairChoice(choice))["node-2"])
    assert [path.target for path in record.paths] == targets
    assert record.paths[0].address == "10.244.3.5"
    assert {path.replies is not None for path in record.paths} == {back}
    assert str(mtu.path_mtu(record, facts("node-2")).verdict) == "pass"
    assert str(mtu.segment_size(record).verdict) == "pass"


def test_the_smaller_mtu_of_both_ends_counts() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-2", "pathmtu.serve", {"number": 1, "port": PORT, "mtu": 1450}, role="pod")
    record = PathMtuRecord.from_document(documents(fake, PairChoice("all"))["node-1"])
    assert record.paths[0].size == 1450


def test_what_cannot_serve_is_an_error_of_those_who_ask_it() -> None:
    fake = FakeCluster(["node-1", "node-2", "node-3"])
    fake.answer("node-2", "pathmtu.serve", AccessError("node-2: ip: not on the node"), role="pod")
    found = documents(fake, PairChoice("all"))
    judgement = mtu.path_mtu(PathMtuRecord.from_document(found["node-1"]), facts())
    assert judgement.message == "node-1: path to the pod of node-2 not measured: node-2: ip: not on the node"
    assert str(mtu.path_mtu(PathMtuRecord.from_document(found["node-2"]), facts()).verdict) == "pass"


def test_a_node_that_cannot_ask() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-1", "pathmtu.probe", AccessError("node-1: the exec stream ended"), role="pod")
    assert documents(fake, PairChoice("all"))["node-1"].reason == "node-1: the exec stream ended"


def test_without_pods() -> None:
    found = documents(FakeCluster(["node-1", "node-2"], pods=False), PairChoice("all"))
    assert PathMtuRecord.from_document(found["node-1"]).pod_absent == "access fake makes no probe pods here"


def test_servers_are_stopped_whatever_happens() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-1", "pathmtu.probe", AccessError("gone"), role="pod")
    documents(fake, PairChoice("all"))
    assert [node for node, _, op in fake.requests if op == "pathmtu.stop"] == ["node-1", "node-2"]
