from __future__ import annotations

from typing import Any

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.errors import AccessError, ClusterError
from pytest_k8snet.measure.registry import MEASUREMENTS, MeasureContext
from pytest_k8snet.record.api import ApiRecord
from pytest_k8snet.record.document import Document


def measure(fake: FakeCluster, services: Any = None) -> Document:
    cluster = fake.read_cluster()
    probes = fake.start_probes(cluster, ["node-1"], "1").wait(Deadline.after(1))
    access = fake.open_access(cluster, probes)
    context = MeasureContext(cluster=cluster, access=access, probes=probes, services=services or fake.services)
    (document,) = MEASUREMENTS["api"].take(context, ["node-1"])
    return document


def greeted(document: Document) -> set[tuple[str, str, str, int]]:
    return {(item.what, item.role, item.address, item.port) for item in ApiRecord.from_document(document).greeted}


def test_the_service_and_every_server_from_both_networks() -> None:
    from_host = {("service", "host", "10.96.0.1", 443), ("server", "host", "192.168.10.1", 6443)}
    assert greeted(measure(FakeCluster(["node-1"]))) == from_host | {(what, "pod", *rest) for what, _, *rest in from_host}
    podless = measure(FakeCluster(["node-1"], pods=False))
    assert greeted(podless) == from_host
    assert ApiRecord.from_document(podless).pod_absent == "access fake makes no probe pods here"
    assert greeted(measure(FakeCluster(["node-1"], services=(), endpoint_slices=()))) == set()


def test_reasons_why_nothing_could_be_measured() -> None:
    fake = FakeCluster(["node-1"])
    fake.answer("node-1", "hello.greet", AccessError("gone"), role="pod")
    assert measure(fake).reason == "gone"

    class Refusing:
        def services(self) -> list[dict[str, Any]]:
            raise ClusterError("no answer")

        def endpoint_slices(self) -> list[dict[str, Any]]:
            return []

    assert measure(FakeCluster(["node-1"]), Refusing()).reason == "no answer"
