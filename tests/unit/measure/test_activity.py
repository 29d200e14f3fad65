from __future__ import annotations

from pytest_k8snet.access.fake import FakeCluster, healthy_activity
from pytest_k8snet.errors import AccessError
from pytest_k8snet.measure import activity
from tests.unit.measure.faked import Cut, context


def test_every_node_has_its_document() -> None:
    names = [f"node-{number:02}" for number in range(1, 31)]
    fake = FakeCluster(names)
    fake.answer("node-07", "activity", AccessError("node-07: the exec stream broke"))
    documents = {document.subject: document for document in activity.take(context(fake), names)}
    assert [*documents] == names
    assert documents["node-07"].reason == "node-07: the exec stream broke"
    assert documents["node-08"].values == healthy_activity(1060.0)
    assert documents["node-08"].method == "/proc by the agent in pod k8snet-r1/host-node-08"


def test_agent_that_was_cut_off_is_asked_again() -> None:
    fake = FakeCluster(["node-1"])
    fake.answer("node-1", "activity", Cut(fake, "node-1", "host", "activity"))
    (document,) = activity.take(context(fake), ["node-1"])
    assert (document.values, document.retried) == (healthy_activity(1060.0), "node-1: the exec stream ended")
