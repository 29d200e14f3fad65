from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.access.probe_policies import CHOSEN_PORT, NAMESPACE_PORT, OPEN_PORT, SHUT_PORT
from pytest_k8snet.cluster.api_error import ApiError, ApiUnreachableError
from pytest_k8snet.errors import AccessError, ClusterError, ProbeError
from pytest_k8snet.measure import policy
from pytest_k8snet.measure.registry import MEASUREMENTS, MeasureContext, PolicyTools
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.policy import PolicyRecord

NODES = ("node-1", "node-2", "node-3", "node-4")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "_BETWEEN_S", 0.001)
    monkeypatch.setattr(policy, "MADE_S", -1.0)


def measure(fake: FakeCluster, *, settle_s: float = -1.0, make: Callable[[], None] | None = None) -> dict[str, Document]:
    cluster = fake.read_cluster()
    probing = fake.start_probes(cluster, [*fake.nodes], "1")
    probes = probing.wait(Deadline.after(1))
    tools = PolicyTools(
        pods=lambda: probing.make_policy_pods([*fake.nodes], Deadline.after(1)),
        make=make or (lambda: fake.make_policy("k8snet-1", "1")),
        remove=lambda: fake.remove_policy("k8snet-1"),
        settle_s=settle_s,
    )
    context = MeasureContext(cluster=cluster, access=fake.open_access(cluster, probes), probes=probes, services=fake.services, policy=tools)
    return {item.subject: item for item in MEASUREMENTS["policy"].take(context, [*fake.nodes])}


def records(fake: FakeCluster, **settings: Any) -> dict[str, PolicyRecord]:
    return {name: PolicyRecord.from_document(item) for name, item in measure(fake, **settings).items()}


def policies(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.startswith("networkpolicy")]


def rounds(fake: FakeCluster, node: str) -> int:
    return sum(asked == node for asked, _, op in fake.requests if op in ("traffic.connect", "traffic.through"))


def test_three_pods_ask_that_of_each_node_and_its_own_is_one() -> None:
    fake = FakeCluster(NODES)
    found = records(fake, settle_s=5.0)
    assert {item.source for item in found["node-3"].asked} == {"node-1", "node-2", "node-3"}
    assert {item.source for item in found["node-1"].asked} == {"node-1", "node-3", "node-4"}, "the ring has no end"
    assert {(item.source, item.port) for item in found["node-3"].asked if item.allowed and item.protocol == "TCP"} == {
        *((source, port) for source in ("node-1", "node-2", "node-3") for port in (OPEN_PORT, NAMESPACE_PORT)),
        ("node-1", CHOSEN_PORT),
        ("node-3", CHOSEN_PORT),
    }
    out = {(item.protocol, item.port, item.allowed) for item in found["node-3"].asked if item.outward and item.source == "node-2"}
    assert out == {
        ("TCP", OPEN_PORT, True),
        ("UDP", OPEN_PORT, True),
        ("TCP", CHOSEN_PORT, False),
        ("TCP", SHUT_PORT, False),
        ("UDP", SHUT_PORT, False),
    }
    assert {item.source for item in found["node-3"].asked if item.outward} == {"node-1", "node-2", "node-3"}
    assert len(found["node-3"].asked) == 33
    for record in found.values():
        assert (record.refused, record.pod_error, record.policy) == (None, None, "k8snet-1/policy")
        for item in record.asked:
            answers = [item.before, item.during, item.after]
            assert [answer is not None and answer.answered for answer in answers] == [True, item.allowed, True], item
    assert policies(fake.created) == policies(fake.deleted) == ["networkpolicy policy"]
    # Once before, twice with the policy, so that it is seen to last, and once after it.
    assert rounds(fake, "node-1") == 4


def test_probe_pods_that_cannot_be_made_to_answer_are_told() -> None:
    fake = FakeCluster(NODES[:2])
    for name in NODES[:2]:
        fake.answer(name, "traffic.serve", AccessError(f"{name}: no port"), role="pod")
    found = records(fake, settle_s=5.0)["node-1"]
    assert {item.outward for item in found.asked} == {False}
    assert found.not_serving == {"node-1": "node-1: no port", "node-2": "node-2: no port"}


@pytest.mark.parametrize("names", [NODES[:1], NODES[:2]])
def test_few_nodes(names: Sequence[str]) -> None:
    for record in records(FakeCluster(names), settle_s=5.0).values():
        assert {item.source for item in record.asked} == set(names)


def test_nothing_is_made_where_nobody_enforces_policies() -> None:
    fake = FakeCluster(NODES)
    cluster = fake.read_cluster()
    probes = fake.start_probes(cluster, [*fake.nodes], "1").wait(Deadline.after(1))
    context = MeasureContext(cluster=cluster, access=fake.open_access(cluster, probes), probes=probes, services=fake.services)
    found = [PolicyRecord.from_document(item) for item in MEASUREMENTS["policy"].take(context, [*fake.nodes])]
    assert {(item.pod, item.pod_error, item.asked) for item in found} == {(None, None, ())}
    assert policies(fake.created) == []
    assert [op for _, _, op in fake.requests] == []


def answering(fake: FakeCluster, node: str, change: Callable[[Mapping[str, Any], dict[str, Any]], None]) -> None:
    """Let the node's pod find something else out: `change` gets a target and the healthy answer, which it alters."""

    def answer(params: Mapping[str, Any]) -> dict[str, Any]:
        from pytest_k8snet.access.fakes import traffic

        answers: dict[str, Any] = traffic.respond(fake, node, "pod", "traffic.connect", params)
        for target in params["targets"]:
            change(target, answers[target["key"]])
        return answers

    fake.answer(node, "traffic.connect", answer, role="pod")


def test_enforcing_is_waited_for() -> None:
    fake = FakeCluster(NODES[:2])
    late: Iterator[bool] = iter([True, True, True])

    def change(target: Mapping[str, Any], answer: dict[str, Any]) -> None:
        if (
            target["port"] == SHUT_PORT
            and target["protocol"] == "TCP"
            and target["address"] == fake.policy_address("node-2")
            and answer["error"]
            and next(late, False)
        ):
            answer.update(name="policy-node-2", error=None)

    answering(fake, "node-1", change)
    found = records(fake, settle_s=60.0)["node-2"].asked
    shut = next(item for item in found if (item.outward, item.protocol, item.source, item.port) == (False, "TCP", "node-1", SHUT_PORT))
    assert shut.during is not None
    assert not shut.during.answered
    assert rounds(fake, "node-1") == 1 + 3 + 2 + 1


def test_what_is_not_enforced_and_what_is_answered_by_somebody_else() -> None:
    fake = FakeCluster(NODES[:2])

    def change(target: Mapping[str, Any], answer: dict[str, Any]) -> None:
        if target["address"] == fake.policy_address("node-2"):
            answer.update(name="policy-node-2" if target["port"] != CHOSEN_PORT else "another", error=None)

    answering(fake, "node-1", change)
    asked = {(item.source, item.port): item for item in records(fake)["node-2"].asked if not item.outward and item.protocol == "TCP"}
    open_, shut, chosen = (asked["node-1", port] for port in (OPEN_PORT, SHUT_PORT, CHOSEN_PORT))
    assert open_.during is not None
    assert shut.during is not None
    assert chosen.before is not None
    assert (open_.during.what, shut.during.what) == ("answered", "answered")
    assert (chosen.has_control, chosen.before.what) == (False, "answered by another")


def test_without_an_answer_before_no_policy_is_made() -> None:
    fake = FakeCluster(NODES[:2])
    for node in fake.nodes:
        answering(fake, node, lambda target, answer: answer.update(name=None, error="timed out"))
        fake.answer(node, "traffic.serve", AccessError("no port"), role="pod")
    found = records(fake)
    assert policies(fake.created) == []
    assert {(item.has_control, item.during, item.after) for record in found.values() for item in record.asked} == {(False, None, None)}


def test_an_agent_that_is_gone_is_no_answer_of_the_network() -> None:
    fake = FakeCluster(NODES[:2])
    fake.answer("node-1", "traffic.through", AccessError("node-1: the exec stream ended"), role="pod")
    found = records(fake)
    asked = [item for item in found["node-2"].asked if item.source == "node-1" and item.before is not None]
    assert {item.before and item.before.failed for item in asked if not item.outward} == {"node-1: the exec stream ended"}
    assert {item.before and item.before.what for item in asked if item.outward} == {"answered"}, "which the agent of node-2 has asked"
    own = {item.before and item.before.failed for item in found["node-1"].asked if item.outward}
    assert own == {"node-1: the exec stream ended"}


@pytest.mark.parametrize(
    ("told", "why"), [({"name": None, "error": "timed out"}, "timed out"), ({"name": "x", "error": None}, "another pod answers")]
)
def test_a_pod_that_cannot_be_told_whom_to_ask(told: Mapping[str, Any], why: str) -> None:
    fake = FakeCluster(NODES[:2])
    healthy = fake.respond

    def through(params: Mapping[str, Any]) -> dict[str, Any]:
        return {"through": {"answers": {}, **told}, "answers": healthy("node-1", "pod", "traffic.connect", {**params, "tries": 1})}

    fake.answer("node-1", "traffic.through", through, role="pod")
    asked = [item for item in records(fake)["node-1"].asked if item.outward]
    assert {item.before and item.before.failed for item in asked} == {f"pod policy-node-1 could not be told whom to ask: {why}"}


def test_egress_of_a_node_that_is_not_shut() -> None:
    fake = FakeCluster(NODES[:2])
    healthy = fake.respond

    def through(params: Mapping[str, Any]) -> dict[str, Any]:
        told = {
            target["key"]: {"name": "node-1" if target["address"] == fake.pod_ip("node-1") else "node-2", "error": None}
            for target in params["wanted"]
        }
        answer = healthy("node-1", "pod", "traffic.connect", {**params, "tries": 1})
        return {"through": {"name": "policy-node-1", "error": None, "answers": told}, "answers": answer}

    fake.answer("node-1", "traffic.through", through, role="pod")
    found = records(fake)
    wrong = {
        (name, item.protocol, item.port)
        for name, record in found.items()
        for item in record.asked
        if item.outward and item.during is not None and item.during.answered is not item.allowed
    }
    assert wrong == {("node-1", "TCP", SHUT_PORT), ("node-1", "UDP", SHUT_PORT), ("node-1", "TCP", CHOSEN_PORT)}


def test_a_probe_pod_that_does_not_serve_is_asked_by_nobody() -> None:
    fake = FakeCluster(NODES[:2])
    fake.answer("node-2", "traffic.serve", AccessError("node-2: no port is free"), role="pod")
    found = records(fake, settle_s=5.0)
    assert {item.source for item in found["node-1"].asked if item.outward} == {"node-1"}


def test_a_node_without_pods() -> None:
    fake = FakeCluster(NODES[:3])
    fake.fail_probe("node-2", "node-2: ImagePullBackOff")
    found = records(fake, settle_s=5.0)
    assert found["node-2"].pod_error == "node-2: no pod was made for a NetworkPolicy: node-2: ImagePullBackOff"
    assert {item.source for item in found["node-1"].asked} == {"node-1", "node-3"}


def reasons(documents: Mapping[str, Document]) -> set[str | None]:
    return {item.reason for item in documents.values()}


def test_policies_that_cannot_be_made() -> None:
    fake = FakeCluster(NODES[:2])

    def refuse(code: int) -> Callable[[], None]:
        def make() -> None:
            raise ApiError("POST: not so", status=code)

        return make

    assert {record.refused for record in records(fake, make=refuse(403)).values()} == {"POST: not so"}
    assert reasons(measure(fake, make=refuse(500))) == {"POST: not so"}
    assert policies(fake.deleted) == []


def test_a_policy_goes_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCluster(NODES[:2])
    healthy = policy._until_as_written

    def interrupted(context: MeasureContext, asked: Any, phase: str, *arguments: Any, **named: Any) -> None:
        if phase == policy.DURING:
            raise KeyboardInterrupt
        healthy(context, asked, phase, *arguments, **named)

    monkeypatch.setattr(policy, "_until_as_written", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(fake)
    assert policies(fake.deleted) == ["networkpolicy policy"]


def test_reasons_why_nothing_could_be_measured() -> None:
    documents = measure(FakeCluster(NODES[:2], pods=False))
    assert {(item.unsupported, item.reason) for item in documents.values()} == {(True, "access fake makes no probe pods here")}

    class Stuck(FakeCluster):
        def remove_policy(self, namespace: str) -> None:
            raise ClusterError("DELETE: the API server does not answer")

    assert reasons(measure(Stuck(NODES[:2]))) == {"DELETE: the API server does not answer"}

    class Refused(FakeCluster):
        def on_create(self, name: str) -> None:
            if name.startswith("pod policy"):
                raise ProbeError("exceeded quota: pods")

    assert reasons(measure(Refused(NODES[:2]))) == {"exceeded quota: pods"}


def once_cut(fake: FakeCluster, node: str) -> None:
    """Let one of the servers in the node's probe pod be cut off, once."""
    stops = [False]
    fake.answer(node, "traffic.stop", lambda params: stops.pop() if stops else True, role="pod")


def test_what_was_cut_off_is_taken_again_with_a_policy_of_its_own() -> None:
    fake = FakeCluster(NODES)
    once_cut(fake, "node-2")
    documents = measure(fake, settle_s=5.0)
    assert {item.retried for item in documents.values()} == {"node-2: what answered in its pod was cut off meanwhile"}
    assert policies(fake.created) == policies(fake.deleted) == ["networkpolicy policy"] * 2
    for document in documents.values():
        for item in PolicyRecord.from_document(document).asked:
            answers = [item.before, item.during, item.after]
            assert [answer is not None and answer.answered for answer in answers] == [True, item.allowed, True], item


@pytest.mark.parametrize("what", ["make", "remove"])
def test_nothing_is_taken_again_while_a_policy_may_be_there(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCluster(NODES)
    asked: list[str] = []

    def unanswered(*_: str) -> None:
        asked.append(what)
        raise ApiUnreachableError("no answer")

    monkeypatch.setattr(fake, f"{what}_policy", unanswered)
    documents = measure(fake, settle_s=5.0)
    assert {(item.reason, item.retried) for item in documents.values()} == {("no answer", None)}
    assert asked == [what]
