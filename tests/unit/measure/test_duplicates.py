from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.access.fakes.arp import mac_of
from pytest_k8snet.errors import AccessError
from pytest_k8snet.measure import duplicates
from pytest_k8snet.measure.registry import MEASUREMENTS
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.duplicates import DuplicatesRecord, Stranger
from tests.unit.measure.faked import context

NODES = ("node-1", "node-2", "node-3")
TWIN = "02:00:00:00:00:99"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "AGAIN_S", 0.001)


def measure(fake: FakeCluster, subjects: tuple[str, ...] | None = None) -> dict[str, Document]:
    return {item.subject: item for item in MEASUREMENTS["duplicates"].take(context(fake), [*(subjects or fake.nodes)])}


def records(fake: FakeCluster) -> dict[str, DuplicatesRecord]:
    return {name: DuplicatesRecord.from_document(item) for name, item in measure(fake).items()}


def twin(fake: FakeCluster, asker: str, address: str, times: int = 2) -> None:
    """Let `asker` hear another machine answer for an address, so many times."""
    left = [times]

    def own(params: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = FakeCluster([*fake.nodes]).respond(asker, "host", "arp.own", params)
        if left[0] > 0:
            left[0] -= 1
            answer["answers"][address].append(TWIN)
        return answer

    fake.answer(asker, "arp.own", own)


def test_every_node_asks_for_itself_and_for_others() -> None:
    fake = FakeCluster(NODES)
    found = records(fake)
    assert {name: (record.address, record.strangers, record.absent) for name, record in found.items()} == {
        f"node-{number}": (f"192.168.10.1{number}", (), None) for number in (1, 2, 3)
    }
    assert found["node-1"].heard_by == {"node-1": (), "node-2": (mac_of(fake, "node-1"),), "node-3": (mac_of(fake, "node-1"),)}
    assert found["node-1"].controls == {"192.168.10.12": 1, "192.168.10.13": 1}
    assert [op for _, _, op in fake.requests] == ["arp.own"] * 3, "nothing was strange"


def test_another_machine_is_asked_for_again() -> None:
    fake = FakeCluster(NODES)
    twin(fake, "node-1", "192.168.10.11")
    found = records(fake)
    assert found["node-1"].strangers == (Stranger(TWIN, None, 1),)
    assert found["node-1"].heard_by["node-1"] == (TWIN,)
    assert found["node-2"].strangers == ()
    assert [op for _, _, op in fake.requests] == ["arp.own"] * 6


def test_one_that_is_gone_the_second_time_was_none() -> None:
    fake = FakeCluster(NODES)
    twin(fake, "node-2", "192.168.10.11", times=1)
    assert {record.strangers for record in records(fake).values()} == {()}


def test_a_proxy_answers_for_several() -> None:
    fake = FakeCluster(NODES)
    twin(fake, "node-1", "192.168.10.11")
    twin(fake, "node-2", "192.168.10.13")
    assert records(fake)["node-1"].strangers == (Stranger(TWIN, None, 2),)


def test_a_device_of_another_node() -> None:
    fake = FakeCluster(NODES)
    fake.answer(
        "node-3",
        "arp.own",
        lambda params: {
            **FakeCluster([*fake.nodes]).respond("node-3", "host", "arp.own", params),
            "macs": [mac_of(fake, "node-3"), TWIN],
        },
    )
    twin(fake, "node-1", "192.168.10.11")
    assert records(fake)["node-1"].strangers == (Stranger(TWIN, "node-3", 1),)


def test_nodes_that_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCluster((*NODES, "node-4"))
    fake.fail_probe("node-1", "node-1: evicted")
    fake.answer("node-3", "arp.own", {"absent": "ib0 is no Ethernet: there is no ARP"})
    fake.nodes["node-4"] = replace(fake.nodes["node-4"], internal_ip="fd00::4", internal_ips=())
    found = measure(fake)
    assert found["node-1"].reason == "node-1: evicted"
    assert found["node-3"].values == {"absent": "ib0 is no Ethernet: there is no ARP"}
    assert found["node-4"].values == {"absent": "the node has no IPv4 InternalIP"}
    monkeypatch.setattr(duplicates, "MOST_NODES", 1)
    fake = FakeCluster(NODES)
    absent = [item.values and item.values.get("absent") for item in measure(fake).values()]
    assert absent == [None, *["1 nodes ask for their addresses, and this is one of 2 more"] * 2]


def test_a_broken_agent_is_that_nodes_alone() -> None:
    fake = FakeCluster(NODES)
    fake.answer("node-2", "arp.own", AccessError("node-2: no right to open packet sockets"))
    found = measure(fake)
    assert found["node-2"].reason == "node-2: no right to open packet sockets"
    assert DuplicatesRecord.from_document(found["node-1"]).heard_by == {"node-1": (), "node-3": (mac_of(fake, "node-1"),)}


def test_a_shard_asks_for_others_nodes() -> None:
    found = measure(FakeCluster(NODES), ("node-2",))
    assert DuplicatesRecord.from_document(found["node-2"]).controls == {"192.168.10.13": 1, "192.168.10.11": 1}


def test_whom_the_kernel_knows_is_a_control_and_hears_no_second_machine() -> None:
    fake = FakeCluster(NODES)
    for name in NODES:

        def own(params: Mapping[str, Any], name: str = name) -> dict[str, Any]:
            answer: dict[str, Any] = FakeCluster([*NODES]).respond(name, "host", "arp.own", params)
            others = {address: macs for address, macs in answer["answers"].items() if address != params["uplink_ip"]}
            return {**answer, "answers": {params["uplink_ip"]: [TWIN] if name == "node-1" else []}, "controls": others}

        fake.answer(name, "arp.own", own)
    found = records(fake)
    assert found["node-1"].heard_by == {"node-1": (TWIN,)}
    assert found["node-1"].strangers == (Stranger(TWIN, None, 1),)
    assert found["node-2"].controls == {"192.168.10.13": 1, "192.168.10.11": 1}
    assert found["node-2"].heard_by == {"node-2": ()}


def test_a_node_that_cannot_ask_has_devices_that_nobody_knows() -> None:
    fake = FakeCluster(NODES)
    fake.answer("node-3", "arp.own", {"absent": "ib0 is no Ethernet: there is no ARP"})
    twin(fake, "node-2", "192.168.10.13")
    assert records(fake)["node-1"].strangers == ()
    assert [op for _, _, op in fake.requests] == ["arp.own"] * 3, "what answers for it may be its own"
