from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from pytest_k8snet.access.fake import FakeCluster, dual_stack, fake_node
from pytest_k8snet.errors import AccessError, ExecTransportError
from pytest_k8snet.measure import facts
from pytest_k8snet.record.facts import NodeFacts
from tests.unit.measure.faked import Cut, context


def test_every_node_has_its_document() -> None:
    """More nodes than are asked at a time, one of which cannot be reached."""
    names = [f"node-{number:03}" for number in range(1, 101)]
    fake = FakeCluster(names)
    fake.answer("node-050", "facts", AccessError("node-050: the exec stream broke"))
    fake.answer("node-060", "facts", AccessError("node-060: no python3"), role="pod")
    documents = sorted(facts.take(context(fake), names), key=lambda document: document.subject)
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


@pytest.mark.parametrize(
    ("pod_cidrs", "addresses"),
    [
        (("10.244.2.0/24",), ["10.244.2.2"]),
        (("10.244.2.7/32",), ["10.244.2.7"]),
        (("fd00::/64",), ["fd00::2"]),
        (("10.244.2.0/24", "10.244.3.0/24", "fd00::/64"), ["10.244.2.2", "fd00::2"]),
        (("x; reboot", "fd00::/64"), ["fd00::2"]),
        (("x; reboot",), []),
        (("",), []),
        ((), []),
    ],
)
def test_pod_range_of_a_node_without_a_probe_pod(pod_cidrs: tuple[str, ...], addresses: list[str]) -> None:
    fake = FakeCluster(["node-1", replace(fake_node("node-2", 2), pod_cidrs=pod_cidrs)])
    fake.fail_probe("node-2", "node-2: no")
    peers, unknown = facts._peers(context(fake))
    assert peers.get("node-2", []) == [(address, False) for address in addresses]
    assert unknown == ([] if addresses else ["node-2"])


def test_a_running_pod_tells_which_families_pods_have() -> None:
    both = fake_node("node-2", 2)
    node = replace(both, pod_cidrs=(*both.pod_cidrs, "fd00:2::/64"), pod_ip="10.244.2.9", pod_ips=("10.244.2.9",))
    fake = FakeCluster([dual_stack(fake_node("node-1")), node])
    fake.fail_probe("node-2", "node-2: no")
    peers, _ = facts._peers(context(fake))
    assert peers == {"node-1": [("10.244.1.5", True), ("fd00:10:244:11::5", True)], "node-2": [("10.244.2.9", True)]}


def test_routes_are_asked_by_both_families() -> None:
    fake = FakeCluster([dual_stack(fake_node(f"node-{number}", number)) for number in (1, 2)])
    (document, _) = facts.take(context(fake), [*fake.nodes])
    routes = NodeFacts.from_document(document).peer_routes
    assert [sorted(found.peers.values()) for found in routes] in (
        [["10.244.1.5"], ["fd00:10:244:11::5"]],
        [["10.244.2.5"], ["fd00:10:244:12::5"]],
    )


@pytest.mark.parametrize("role", ["host", "pod"])
def test_agent_that_was_cut_off_is_asked_again(role: Literal["host", "pod"]) -> None:
    fake = FakeCluster(["node-1"])
    answers = Cut(fake, "node-1", role)
    fake.answer("node-1", "facts", answers, role=role)
    (document,) = facts.take(context(fake), ["node-1"])
    assert document.values is not None
    assert document.values["pod_error"] is None
    assert (document.retried, answers.asked) == ("node-1: the exec stream ended", 2)


def test_agent_that_is_cut_off_twice() -> None:
    fake = FakeCluster(["node-1"])
    fake.answer("node-1", "facts", ExecTransportError("node-1: the exec stream ended"), role="pod")
    (document,) = facts.take(context(fake), ["node-1"])
    assert document.values is not None
    assert (document.values["pod"], document.values["pod_error"]) == (None, "node-1: the exec stream ended")
    assert document.retried == "node-1: the exec stream ended"


def test_without_pods_that_is_no_error_and_known_pods_stand_for_peers() -> None:
    nodes = [fake_node("node-1", 1), replace(fake_node("node-2", 2), pod_ip="10.244.2.7"), fake_node("node-3", 3)]
    fake = FakeCluster(nodes, pods=False)
    (document,) = facts.take(context(fake), ["node-1"])
    assert document.values is not None
    values = document.values
    assert (values["pod"], values["pod_error"], values["pod_absent"]) == (None, None, "access fake makes no probe pods here")
    assert document.method == "on the node"
    assert [(routes["real_pod"], routes["peers"]) for routes in values["peer_routes"]] == [
        (True, {"node-2": ["10.244.2.7", None]}),
        (False, {"node-3": ["10.244.3.2", None]}),
    ]
