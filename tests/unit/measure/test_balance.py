from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.access.probe_services import STICKY, grouped
from pytest_k8snet.access.probes import Probe
from pytest_k8snet.cluster.api_error import ApiError, ApiRefusedError, ApiUnreachableError
from pytest_k8snet.errors import AccessError, ExecTransportError, ProbeError
from pytest_k8snet.measure import balance, moving
from pytest_k8snet.measure.registry import MEASUREMENTS, MeasureContext
from pytest_k8snet.record.balance import BalanceRecord, Moved
from pytest_k8snet.record.document import Document


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be waited for."""
    monkeypatch.setattr(moving, "_BETWEEN_S", 0.0)
    monkeypatch.setattr(moving, "SLACK_S", 0.0)


NODES = ("node-1", "node-2", "node-3")


def measure(fake: FakeCluster, limit_s: float = 30.0) -> dict[str, Document]:
    cluster = fake.read_cluster()
    probing = fake.start_probes(cluster, [*fake.nodes], "1")
    probes = probing.wait(Deadline.after(1))
    context = MeasureContext(
        cluster=cluster,
        access=fake.open_access(cluster, probes),
        probes=probes,
        services=fake.services,
        probe_groups=probing.make_groups,
        regroup=lambda node, *, member: fake.regroup(probes[node], "1", member=member),
        propagation_s=limit_s,
    )
    return {item.subject: item for item in MEASUREMENTS["balance"].take(context, [*fake.nodes])}


def records(fake: FakeCluster, limit_s: float = 30.0) -> dict[str, BalanceRecord]:
    return {name: BalanceRecord.from_document(document) for name, document in measure(fake, limit_s).items()}


def test_every_node_connects_and_looks_into_its_tables() -> None:
    fake = FakeCluster(NODES)
    found = records(fake)
    assert [*found] == [*NODES]
    for name, record in found.items():
        spread = record.spread
        assert spread.shares == dict.fromkeys(NODES, 20)
        assert (spread.seen, spread.scheduler, spread.unanswered) == (NODES, "rr", "")
        assert all(item.source in spread.in_ipvs for item in spread.answered)
        assert {item.source[0] for item in spread.answered if item.source} == {fake.pod_ip(name)}
        assert record.endpoints == {node: fake.pod_ip(node) for node in NODES}
        assert record.sticky.shares == {"node-1": 24}
    assert sorted(node for node, role, op in fake.requests if op == "traffic.stop" and role == "pod") == sorted((*NODES, *NODES))


def test_the_first_connection_that_is_to_be_kept_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "_BETWEEN_S", 0.001)
    fake = FakeCluster(NODES[:2])
    tries = iter([None, None, "node-2"])

    def respond(params: Mapping[str, Any]) -> dict[str, Any]:
        count: int = params["count"]
        if params["address"] == fake.group_address(STICKY):
            return answered([next(tries, None)] if count == 1 else ["node-1"] * count)
        return answered(["node-1", "node-2"] * (count // 2))

    fake.answer("node-1", "balance.connect", respond, role="pod")
    assert records(fake, 1.0)["node-1"].sticky.shares == {"node-2": 1, "node-1": 23}
    tries = iter([None])
    assert records(fake, 0.05)["node-1"].sticky.unanswered == "timed out (1 of 1)"


def test_of_many_nodes_some_are_endpoints() -> None:
    names = [f"node-{number:02}" for number in range(40)]
    found = records(FakeCluster(names))
    assert set(found) == set(names)
    assert len(found["node-01"].endpoints) == 4
    assert [*found["node-01"].endpoints] == grouped(names) == ["node-00", "node-10", "node-20", "node-30"]


def test_rules_count_from_the_first_reading_on() -> None:
    fake = FakeCluster(NODES[:2])
    readings = iter([3, 63])

    def counted(params: Mapping[str, Any]) -> dict[str, Any]:
        packets = next(readings)
        rules = [{"backend": "legacy", "rule": "-A x", "packets": packets}]
        if packets == 63:
            rules.append({"backend": "nft", "rule": "-A x", "packets": 5})
        ipvs: dict[str, Any] = {"loaded": False, "scheduler": None, "connections": []}
        return {"ipvs": ipvs, "rules": rules, "errors": {"nft": "gone"} if packets == 3 else {}}

    fake.answer("node-1", "balance.counted", counted)
    spread = records(fake)["node-1"].spread
    assert [(item.backend, item.packets) for item in spread.rules] == [("legacy", 60), ("nft", 5)]
    assert spread.errors == {"nft": "gone"}


def test_rules_that_are_written_anew_are_counted_again() -> None:
    fake = FakeCluster(NODES[:2])
    readings = iter([40, 10, 10, 70])

    def counted(params: Mapping[str, Any]) -> dict[str, Any]:
        rules = [{"backend": "legacy", "rule": "-A KUBE-SERVICES -d 10.96.2.1/32 -j KUBE-SVC-X", "packets": next(readings)}]
        ipvs: dict[str, Any] = {"loaded": False, "scheduler": None, "connections": []}
        return {"ipvs": ipvs, "rules": rules, "errors": {}}

    fake.answer("node-1", "balance.counted", counted)
    spread = records(fake)["node-1"].spread
    assert [item.packets for item in spread.rules] == [60]
    assert next(readings, None) is None
    readings = iter([40, 10] * 4)
    spread = records(fake)["node-1"].spread
    assert [item.packets for item in spread.rules] == [10], "what it counted since it was written"


def answered(names: Sequence[str | None]) -> dict[str, Any]:
    return {
        "connections": [
            {"source": ["10.244.1.5", 20000 + number], "name": name, "ms": 0.4, "error": None if name else "timed out"}
            for number, name in enumerate(names)
        ]
    }


@pytest.mark.parametrize(("lost", "takes"), [(0, 1), (1, 2), (60, 2)])
def test_where_some_are_not_answered_as_many_more_are_opened_once(lost: int, takes: int) -> None:
    fake = FakeCluster(NODES[:2])
    asked = []

    def respond(params: Mapping[str, Any]) -> dict[str, Any]:
        asked.append(params["count"])
        names: list[str | None] = ["node-1" if number % 2 == 0 else "node-2" for number in range(params["count"])]
        return answered([None] * lost + names[lost:] if params["count"] == 60 else names)

    fake.answer("node-1", "balance.connect", respond, role="pod")
    spread = records(fake, 0.05)["node-1"].spread
    assert asked.count(60) == takes
    assert (len(spread.earlier), spread.unanswered) == (lost if takes > 1 else 0, f"timed out ({lost} of 60)" if lost else "")
    assert spread.unanswered_earlier == (spread.unanswered if takes > 1 else "")


def test_endpoints_are_waited_for_until_every_proxy_must_know_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "_BETWEEN_S", 0.001)
    fake = FakeCluster(NODES[:2])
    rounds: Iterator[list[str | None]] = iter(
        [["node-1"] * 8, [None] * 8, ["node-2"] * 8, ["node-1", "node-2"] * 30, ["node-1"], ["node-1"] * 23]
    )
    fake.answer("node-1", "balance.connect", lambda params: answered(next(rounds, ["node-1"])), role="pod")
    spread = records(fake, 1.0)["node-1"].spread
    assert (spread.seen, len(spread.connections)) == (("node-1", "node-2"), 60)
    fake.answer("node-1", "balance.connect", lambda params: answered(["node-1"] * params["count"]), role="pod")
    spread = records(fake, 0.05)["node-1"].spread
    assert (spread.seen, spread.shares) == (("node-1",), {"node-1": 60})
    fake.answer("node-1", "balance.connect", lambda params: answered([None] * params["count"]), role="pod")
    spread = records(fake, 0.05)["node-1"].spread
    assert (spread.seen, spread.unanswered) == ((), "timed out (8 of 8)"), "not 60 more that are in vain"


def test_pods_that_cannot_be_made_to_answer_are_no_endpoints() -> None:
    fake = FakeCluster(NODES)
    fake.answer("node-3", "traffic.serve", AccessError("node-3: gone"), role="pod")
    fake.answer("node-1", "balance.connect", lambda params: answered((["node-1", "node-2"] * 30)[: params["count"]]), role="pod")
    found = records(fake, 0.05)["node-1"]
    assert ([*found.endpoints], found.not_serving) == (["node-1", "node-2"], {"node-3": "node-3: gone"})
    for name in NODES:
        fake.answer(name, "traffic.serve", AccessError(f"{name}: gone"), role="pod")
    reasons = {item.reason for item in measure(fake).values()}
    assert reasons == {"no endpoint of Service k8snet-1/probe-spread answers: node-1: gone; node-2: gone; node-3: gone"}


def test_reasons_why_nothing_could_be_measured() -> None:
    documents = measure(FakeCluster(NODES, pods=False))
    assert {(item.unsupported, item.reason) for item in documents.values()} == {(True, "access fake makes no probe pods here")}

    class Refused(FakeCluster):
        def on_create(self, name: str) -> None:
            if name.startswith("service"):
                raise ProbeError("Service x/probe-spread could not be made: exceeded quota")

    assert {item.reason for item in measure(Refused(NODES)).values()} == {"Service x/probe-spread could not be made: exceeded quota"}
    fake = FakeCluster(NODES)
    fake.answer("node-2", "balance.counted", AccessError("node-2: gone"))
    assert {name: item.reason for name, item in measure(fake).items()} == {"node-1": None, "node-2": "node-2: gone", "node-3": None}


def moved(fake: FakeCluster, node: str = "node-1", limit_s: float = 30.0) -> Moved:
    found = records(fake, limit_s)[node].moved
    assert found is not None
    return found


def test_an_endpoint_leaves_and_comes_back() -> None:
    fake = FakeCluster(NODES)
    for name in NODES:
        found = moved(fake, name)
        assert (found.endpoint, found.used, found.error, found.session) == ("node-3", True, None, "kept")
        assert found.left is not None
        assert found.came is not None
        assert (found.left.until_s, found.came.until_s) == (None, None)
        assert found.left.since_s is not None
        assert found.came.since_s is not None
    assert records(FakeCluster(NODES[:1]))["node-1"].moved is None


def following(fake: FakeCluster, names: Callable[[bool], Sequence[str | None]]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Answer like node-1 and node-2 in turn, and once an endpoint has been moved like `names` of whether it is out."""
    began: list[bool] = []

    def respond(params: Mapping[str, Any]) -> dict[str, Any]:
        count: int = params["count"]
        if params["address"] == fake.group_address(STICKY):
            return answered(["node-1"] * count)
        out = bool(fake.kept.get("balance: pods that no Service of several leads to"))
        began.extend([True] * out)
        return answered(names(out) if began else (["node-1", "node-2"] * 30)[:count])

    return respond


@pytest.mark.parametrize(
    ("names", "left", "came"),
    [
        (lambda out: ["node-1", "node-2"], False, None),
        (lambda out: ["node-1"], True, False),
        (lambda out: [None], False, None),
    ],
    ids=["used-still", "not-used-again", "silent"],
)
def test_a_node_that_does_not_notice(names: Callable[[bool], Sequence[str | None]], left: bool, came: bool | None) -> None:
    fake = FakeCluster(NODES[:2])
    fake.answer("node-1", "balance.connect", following(fake, names), role="pod")
    found = moved(fake, limit_s=0.05)
    assert found.left is not None
    assert (found.left.since_s is not None) is left
    assert (None if found.came is None else found.came.since_s is not None) is came
    if names(True) == [None]:
        assert found.left.until_s is None, "nobody answered: that is no use of it"
    elif not left:
        assert found.left.until_s is not None
        assert found.session is None, "it has not left, as far as one can see"
    assert moved(FakeCluster(NODES[:2])).left is not None


def test_who_has_begun_to_do_without_it_is_looked_at_to_the_end() -> None:
    fake = FakeCluster(NODES[:2])
    fake.answer("node-1", "balance.connect", following(fake, lambda out: ["node-1"] if out else ["node-2"]), role="pod")
    found = moved(fake, limit_s=0.0)
    assert found.left is not None
    assert found.left.since_s is not None, "three rounds are more than no time, and not a fault"


def test_an_endpoint_is_gone_when_several_rounds_have_missed_it() -> None:
    fake = FakeCluster(NODES[:2])
    rounds = iter([["node-1"], ["node-1"], ["node-2"], ["node-1"], ["node-1"], ["node-1"]])
    fake.answer("node-1", "balance.connect", following(fake, lambda out: next(rounds) if out else ["node-2"]), role="pod")
    found = moved(fake)
    assert found.left is not None
    assert found.left.until_s is not None
    assert found.left.since_s is not None
    assert found.left.until_s <= found.left.since_s
    assert next(rounds, None) is None


def test_the_endpoint_that_most_nodes_use_is_moved() -> None:
    fake = FakeCluster(NODES)
    fake.answer("node-1", "balance.connect", lambda params: answered((["node-1", "node-2"] * 30)[: params["count"]]), role="pod")
    found = records(fake, 0.05)
    assert {record.moved.endpoint for record in found.values() if record.moved} == {"node-2"}


def test_connections_that_are_held() -> None:
    fake = FakeCluster(NODES[:2])
    fake.answer("node-1", "balance.held", {"alive": False, "error": "Connection reset by peer"}, role="pod")
    fake.answer("node-2", "balance.hold", {"number": None}, role="pod")
    assert (moved(fake).session, moved(fake, "node-2").session) == ("Connection reset by peer", None)


@pytest.mark.parametrize(("code", "refused"), [(403, True), (500, False)])
def test_pods_that_cannot_be_changed(code: int, refused: bool) -> None:
    class Refusing(FakeCluster):
        def regroup(self, probe: Probe, run_id: str, *, member: bool) -> None:
            raise ApiError("PATCH pods: refused", status=code)

    found = moved(Refusing(NODES[:2]))
    assert (found.error, found.refused, found.left, found.came) == ("PATCH pods: refused", refused, None, None)


def test_an_agent_that_is_lost_meanwhile() -> None:
    fake = FakeCluster(NODES[:2])
    healthy = following(fake, lambda out: ["node-1"])

    def respond(params: Mapping[str, Any]) -> dict[str, Any]:
        if fake.kept.get("balance: pods that no Service of several leads to"):
            raise AccessError("node-1: gone")
        return healthy(params)

    fake.answer("node-1", "balance.connect", respond, role="pod")
    found = moved(fake)
    assert found.left is not None
    assert (found.left.error, found.left.since_s) == ("node-1: gone", None)


@pytest.mark.parametrize("stopped", [False, ExecTransportError("node-2: the exec stream ended")], ids=["gone", "cut"])
def test_what_is_found_of_endpoints_whose_agent_was_cut_off_is_no_finding(stopped: Any) -> None:
    """A server that goes with its agent refuses connections, and that says nothing of Services."""
    fake = FakeCluster(NODES)
    fake.answer("node-2", "traffic.stop", stopped, role="pod")
    documents = measure(fake, 30.0)
    assert {item.reason for item in documents.values()} == {"node-2: what answered in its pod was cut off meanwhile"}
    assert sorted(node for node, role, op in fake.requests if op == "traffic.stop") == sorted((*NODES, *NODES) * 2), "once more, not twice"


def test_what_was_cut_off_is_taken_again_with_every_endpoint_back_in_its_place() -> None:
    """Else an endpoint that was left out is one that no node uses."""
    fake = FakeCluster(NODES)
    regroup = fake.regroup
    refused: list[Exception] = [ApiUnreachableError("no answer")]
    stops: list[Any] = [False, False]  # of its two servers

    def unanswered(probe: Probe, run_id: str, *, member: bool) -> None:
        if member and refused:
            raise refused.pop()
        regroup(probe, run_id, member=member)

    fake.regroup = unanswered  # type: ignore[method-assign]
    fake.answer("node-2", "traffic.stop", lambda params: stops.pop() if stops else True, role="pod")
    documents = measure(fake, 0.0)
    assert {item.retried for item in documents.values()} == {"node-2: what answered in its pod was cut off meanwhile"}
    for document in documents.values():
        found = BalanceRecord.from_document(document)
        assert (found.spread.seen, found.moved and found.moved.error) == (NODES, None)


def test_where_endpoints_may_not_be_moved_none_has_to_be_put_back() -> None:
    fake = FakeCluster(NODES)
    stops: list[Any] = [False, False]

    def forbid(probe: Probe, run_id: str, *, member: bool) -> None:
        raise ApiRefusedError("PATCH: HTTP 403: no", status=403)

    fake.regroup = forbid  # type: ignore[method-assign]
    fake.answer("node-2", "traffic.stop", lambda params: stops.pop() if stops else True, role="pod")
    documents = measure(fake, 0.0)
    assert {item.failed for item in documents.values()} == {False}
