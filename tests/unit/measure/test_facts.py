from __future__ import annotations

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.errors import AccessError
from pytest_k8snet.measure import facts
from pytest_k8snet.measure.registry import MeasureContext, MeasureSettings


def context(fake: FakeCluster) -> MeasureContext:
    cluster = fake.read_cluster()
    probes = fake.start_probes(cluster, [*fake.nodes], "r1").wait(Deadline.after(5))
    settings = MeasureSettings(facts_threads=4)
    return MeasureContext(cluster=cluster, access=fake.open_access(probes), probes=probes, services=fake.services, settings=settings)


def test_every_node_has_its_document_in_the_order_asked_for() -> None:
    """More nodes than are asked at a time, one of which cannot be reached."""
    names = [f"node-{number:03}" for number in range(1, 101)]
    fake = FakeCluster(names)
    fake.answer("node-050", "facts", AccessError("node-050: the exec stream broke"))
    fake.answer("node-060", "facts", AccessError("node-060: no python3"), role="pod")
    documents = [*facts.take(context(fake), names)]
    assert [document.subject for document in documents] == names
    assert [document.subject for document in documents if document.values is None] == ["node-050"]
    assert documents[49].reason == "node-050: the exec stream broke"
    assert documents[59].values is not None
    assert (documents[59].values["pod"], documents[59].values["pod_error"]) == (None, "node-060: no python3")


def test_no_more_than_a_few_are_held() -> None:
    fake = FakeCluster([f"node-{number:03}" for number in range(1, 101)])
    taking = facts.take(context(fake), [*fake.nodes])
    next(taking)
    asked = {node for node, _, op in fake.requests if op == "facts"}
    assert len(asked) <= 4 * 4
    assert len([*taking]) == 99
