from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.errors import AccessError, ClusterError
from pytest_k8snet.measure import relayed
from pytest_k8snet.measure.registry import MEASUREMENTS
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.relayed import RelayedRecord
from tests.unit.measure.faked import Cut, context

NO_POD = (503, "error trying to reach service: dial tcp: i/o timeout")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relayed, "BETWEEN_S", 0.001)


def measure(fake: FakeCluster) -> dict[str, Document]:
    given = replace(context(fake), relay=fake)
    return {item.subject: item for item in MEASUREMENTS["relayed"].take(given, [*fake.nodes])}


def records(fake: FakeCluster) -> dict[str, RelayedRecord]:
    return {name: RelayedRecord.from_document(item) for name, item in measure(fake).items()}


def test_kubelet_and_pod_of_every_node() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.relayed["kubelet", "node-1"] = (200, "what the pod said")
    found = records(fake)
    assert {name: (item.kubelet.status, item.kubelet.said, item.kubelet.tries) for name, item in found.items()} == {
        "node-1": (200, "", 1),  # nothing of a log is kept
        "node-2": (200, "", 1),
    }
    pod = found["node-1"].pod
    assert pod is not None
    assert (pod.address, pod.port, pod.ours, pod.seen, pod.sources) == ("10.244.1.5", 9443, True, 1, ("192.168.10.1",))
    assert (found["node-1"].others_asked, found["node-1"].others_answered) == (1, 1)
    assert [op for node, _, op in fake.requests if node == "node-1"] == ["ingress.serve", "ingress.seen", "ingress.stop"]


def test_what_fails_is_tried_again_and_told_in_its_words() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.relayed["pod", "node-1"] = NO_POD
    fake.relayed["kubelet", "node-2"] = ClusterError("no answer")
    found = records(fake)
    pod = found["node-1"].pod
    assert pod is not None
    assert (pod.answer.status, pod.answer.said, pod.answer.tries, pod.ours) == (*NO_POD, 3, False)
    assert (found["node-2"].others_asked, found["node-2"].others_answered) == (1, 0)
    assert (found["node-2"].kubelet.status, found["node-2"].kubelet.said, found["node-2"].kubelet.tries) == (None, "no answer", 3)


def test_what_another_try_does_not_change_is_asked_once() -> None:
    fake = FakeCluster(["node-1"])
    fake.relayed["pod", "node-1"] = (403, "forbidden")
    pod = records(fake)["node-1"].pod
    assert pod is not None
    assert pod.answer.tries == 1


def test_no_try_begins_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relayed, "LAST_S", -1.0)
    fake = FakeCluster(["node-1"])
    fake.relayed["pod", "node-1"] = NO_POD
    pod = records(fake)["node-1"].pod
    assert pod is not None
    assert pod.answer.tries == 1


def test_the_kubelet_is_asked_where_the_pod_cannot_be_made_to_answer() -> None:
    fake = FakeCluster(["node-1", "node-2"])
    fake.answer("node-1", "ingress.serve", AccessError("no exec"), role="pod")
    found = records(fake)
    assert (found["node-1"].kubelet.status, found["node-1"].pod, found["node-1"].not_serving) == (200, None, "no exec")
    assert (found["node-2"].others_asked, found["node-2"].others_answered) == (0, 0)


def test_a_pod_whose_agent_is_cut_off_meanwhile_is_asked_again() -> None:
    fake = FakeCluster(["node-1"])
    cut = Cut(fake, "node-1", "pod", "ingress.seen")
    fake.answer("node-1", "ingress.seen", cut, role="pod")
    document = measure(fake)["node-1"]
    pod = RelayedRecord.from_document(document).pod
    assert (pod is not None and pod.ours, cut.asked, document.retried) == (True, 2, "node-1: the exec stream ended")
    assert [op for _, _, op in fake.requests].count("ingress.serve") == 2


def test_reasons_why_nothing_could_be_measured() -> None:
    podless = measure(FakeCluster(["node-1"], pods=False))["node-1"]
    assert (podless.reason, podless.unsupported) == ("access fake makes no probe pods here", True)
    fake = FakeCluster(["node-1", "node-2"])
    fake.fail_probe("node-1", "node-1: no image")
    assert measure(fake)["node-1"].reason == "node-1: no image"
    (alone,) = MEASUREMENTS["relayed"].take(context(FakeCluster(["node-1"])), ["node-1"])
    assert alone.reason == "there is no API server that could be asked"
    unknown = replace(context(fake), relay=fake, probes={})
    documents = [*MEASUREMENTS["relayed"].take(unknown, ["node-2"])]
    assert [item.reason for item in documents] == ["node-2: no probe pods were made on this node"]
