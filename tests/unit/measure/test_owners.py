from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_k8snet.access.fake import ENDPOINT_SLICES, SERVICES, FakeCluster
from pytest_k8snet.access.fakes.arp import mac_of
from pytest_k8snet.errors import AccessError
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


def measure(fake: FakeCluster) -> Document:
    (document,) = MEASUREMENTS["owners"].take(context(fake), ["cluster"])
    return document


def test_nothing_is_asked_without_an_address() -> None:
    fake = cluster(service("web"))
    assert OwnersRecord.from_document(measure(fake)) == OwnersRecord((), 0, ())
    assert [op for _, _, op in fake.requests] == []


def test_all_nodes_ask() -> None:
    fake = cluster(service("web", {"ip": VIP}))
    record = OwnersRecord.from_document(measure(fake))
    assert record.addresses == (Shared(VIP, ("default/web",), ready=True),)
    (heard,) = record.heard
    assert {name: asked.answers for name, asked in heard.asked.items()} == {
        "node-1": {VIP: []},
        "node-2": {VIP: [mac_of(fake, "node-1")]},
        "node-3": {VIP: [mac_of(fake, "node-1")]},
    }
    first = heard.asked["node-1"]
    assert (first.control, first.control_macs, first.mac) == ("192.168.10.12", (mac_of(fake, "node-2"),), mac_of(fake, "node-1"))


def test_what_has_not_one_owner_is_asked_for_again() -> None:
    fake = cluster(service("web", {"ip": VIP}))
    answers = iter([["02:00:00:00:00:01", "02:00:00:00:00:03"], ["02:00:00:00:00:01"]])

    def arp(params: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, list[str]] = {address: [] for address in params["addresses"]}
        found[VIP] = next(answers)
        return {"device": "eth0", "mac": "02:00:00:00:00:02", "network": "192.168.10.12/24", "answers": found}

    fake.answer("node-2", "arp.ask", arp)
    record = OwnersRecord.from_document(measure(fake))
    assert [item.asked["node-2"].answers[VIP] for item in record.heard] == [
        ["02:00:00:00:00:01", "02:00:00:00:00:03"],
        ["02:00:00:00:00:01"],
    ]


def test_nodes_that_cannot_ask() -> None:
    fake = cluster(service("web", {"ip": VIP}))
    fake.fail_probe("node-1", "node-1: evicted")
    fake.answer("node-3", "arp.ask", AccessError("node-3: eth0 is no Ethernet: there is no ARP"))
    (heard,) = OwnersRecord.from_document(measure(fake)).heard
    assert ([*heard.asked], heard.not_asked) == (["node-2"], {"node-3": "node-3: eth0 is no Ethernet: there is no ARP"})


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
    record = OwnersRecord.from_document(measure(cluster(service("web", {"ip": VIP}, {"ip": "192.168.10.251"}))))
    assert (len(record.addresses), record.left_out) == (1, 1)


def test_one_node_alone() -> None:
    fake = FakeCluster(NODES[:1], services=(*SERVICES, service("web", {"ip": VIP})))
    asked = OwnersRecord.from_document(measure(fake)).heard[0].asked["node-1"]
    assert (asked.control, asked.control_macs) == (None, None)
