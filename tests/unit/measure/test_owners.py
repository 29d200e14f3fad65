from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import ENDPOINT_SLICES, SERVICES, FakeCluster
from pytest_k8snet.access.fakes.arp import mac_of
from pytest_k8snet.errors import AccessError, ClusterError
from pytest_k8snet.measure import owners
from pytest_k8snet.measure.registry import MEASUREMENTS
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.owners import OwnersRecord, Shared
from tests.unit.measure.faked import context

NODES = ("node-1", "node-2", "node-3")
VIP = "192.168.10.250"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "MOVED_S", 0.001)


def service(name: str, *ingress: Mapping[str, Any], kind: str = "LoadBalancer") -> dict[str, Any]:
    metadata = {"namespace": "default", "name": name, "uid": name, "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {"type": kind}, "status": {"loadBalancer": {"ingress": [*ingress]}}}


def endpoints(name: str, *, ready: bool = True) -> dict[str, Any]:
    metadata = {"namespace": "default", "name": f"{name}-x", "labels": {"kubernetes.io/service-name": name}}
    return {"metadata": metadata, "endpoints": [{"addresses": ["10.244.1.7"], "conditions": {"ready": ready}}]}


def cluster(*services: Mapping[str, Any], slices: tuple[Mapping[str, Any], ...] = (endpoints("web"),)) -> FakeCluster:
    return FakeCluster(NODES, services=(*SERVICES, *services), endpoint_slices=(*ENDPOINT_SLICES, *slices))


def measure(fake: FakeCluster) -> dict[str, Document]:
    return {item.subject: item for item in MEASUREMENTS["owners"].take(context(fake), [*fake.nodes])}


def records(fake: FakeCluster) -> dict[str, OwnersRecord]:
    return {name: OwnersRecord.from_document(item) for name, item in measure(fake).items()}


def test_nothing_is_asked_without_an_address() -> None:
    fake = cluster(service("web"))
    assert {(record.addresses, record.left_out, record.heard) for record in records(fake).values()} == {((), 0, ())}
    assert fake.requests == []


def test_all_nodes_ask() -> None:
    fake = cluster(service("web", {"ip": VIP}))
    found = records(fake)
    assert {record.addresses for record in found.values()} == {(Shared(VIP, ("default/web",), ready=True),)}
    assert {name: [asked.answers for asked in record.heard] for name, record in found.items()} == {
        "node-1": [{VIP: []}],
        "node-2": [{VIP: [mac_of(fake, "node-1")]}],
        "node-3": [{VIP: [mac_of(fake, "node-1")]}],
    }
    (first,) = found["node-1"].heard
    assert (first.control, first.control_macs, first.macs) == ("192.168.10.12", (mac_of(fake, "node-2"),), (mac_of(fake, "node-1"),))


def test_what_has_not_one_owner_is_asked_for_again() -> None:
    fake = cluster(service("web", {"ip": VIP}))
    answers = iter([["02:00:00:00:00:01", "02:00:00:00:00:03"], ["02:00:00:00:00:01"]])

    def arp(params: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, list[str]] = {address: [] for address in params["addresses"]}
        found[VIP] = next(answers)
        own = "02:00:00:00:00:02"
        return {"device": "eth0", "mac": own, "macs": [own], "network": "192.168.10.12/24", "answers": found}

    fake.answer("node-2", "arp.ask", arp)
    heard = records(fake)["node-2"].heard
    assert [asked.answers[VIP] for asked in heard] == [["02:00:00:00:00:01", "02:00:00:00:00:03"], ["02:00:00:00:00:01"]]


def test_nodes_that_cannot_ask() -> None:
    fake = cluster(service("web", {"ip": VIP}))
    fake.fail_probe("node-1", "node-1: evicted")
    fake.answer("node-3", "arp.ask", AccessError("node-3: eth0 is no Ethernet: there is no ARP"))
    reasons = {name: document.reason for name, document in measure(fake).items()}
    assert reasons == {"node-1": "node-1: evicted", "node-2": None, "node-3": "node-3: eth0 is no Ethernet: there is no ARP"}
    fake.nodes["node-2"] = replace(fake.nodes["node-2"], internal_ip="fd00::2")
    assert measure(fake)["node-2"].reason == "node-2: the node has no IPv4 InternalIP"


def test_the_api_server_does_not_answer() -> None:
    fake = cluster()

    def refuse() -> list[dict[str, Any]]:
        raise ClusterError("services: forbidden")

    fake.objects.services = refuse  # type: ignore[method-assign]
    assert {document.reason for document in measure(fake).values()} == {"services: forbidden"}


def test_which_addresses_nodes_answer_for() -> None:
    found = owners.shared(
        [
            service("web", {"ip": VIP}, {"ip": "192.168.10.251", "ipMode": "Proxy"}, {"hostname": "elb.example.com"}),
            service("also-web", {"ip": VIP}),
            service("other", {"ip": "192.168.10.252", "ipMode": "VIP"}, {"ip": "fd00::1"}),
            service("plain", {"ip": "192.168.10.253"}, kind="ClusterIP"),
        ],
        [endpoints("also-web"), endpoints("other", ready=False)],
    )
    assert found == {
        VIP: {"services": ["default/web", "default/also-web"], "ready": True},
        "192.168.10.252": {"services": ["default/other"], "ready": False},
    }


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "MOST_ADDRESSES", 1)
    monkeypatch.setattr(owners, "MOST_NODES", 2)
    found = records(cluster(service("web", {"ip": VIP}, {"ip": "192.168.10.251"})))
    assert {(len(record.addresses), record.left_out) for record in found.values()} == {(1, 1)}
    assert [len(found[name].heard) for name in NODES] == [1, 1, 0]


def test_one_node_alone() -> None:
    fake = FakeCluster(NODES[:1], services=(*SERVICES, service("web", {"ip": VIP})))
    (asked,) = records(fake)["node-1"].heard
    assert (asked.control, asked.control_macs) == (None, None)
