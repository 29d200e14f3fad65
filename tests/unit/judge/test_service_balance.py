from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import ProxyExpectation, ServiceExpectation, Wanted
from pytest_k8snet.judge import service
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.balance import BalanceRecord, Connections, Moved, Noticed, Opened, Rule, Spread
from pytest_k8snet.record.document import Document
from tests.unit.judge.builder import facts, outcome, told

PROXIES = ({"name": "kube-proxy", "namespace": "kube-system", "desired": 3, "ready": 3, "node_selector": {}, "pods": []},)
CLUSTER = Cluster("v1.37.2", (fake_node("node-1"),), {}, PROXIES, None)
WITHOUT = facts(kube_proxy={"mode": None, "mode_error": "Connection refused", "listening": False, "processes": []})
ENDPOINTS = {"node-1": "10.244.1.5", "node-2": "10.244.2.5", "node-3": "10.244.3.5"}
SERVICE = "Service probe-spread (10.96.2.1 port 80)"
TO_SERVICE = "-A KUBE-SERVICES -d 10.96.2.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-ABCDEFGHIJKLMNOP"
MASQUERADED = "-A KUBE-SVC-ABCDEFGHIJKLMNOP ! -s 10.244.0.0/16 -d 10.96.2.1/32 -p tcp -j KUBE-MARK-MASQ"
TAKING = "-A PREROUTING -d 10.96.2.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.5:8718"


MOVED = Moved("node-3", True, None, False, Noticed(0.4, 1.6, None), Noticed(None, 0.9, None), "kept")


def opened(names: Sequence[str | None]) -> tuple[Opened, ...]:
    return tuple(
        Opened(("10.244.1.5", 20000 + number), name, None if name is not None else "timed out") for number, name in enumerate(names)
    )


def record(names: Sequence[str | None] = (*ENDPOINTS,) * 20, *, in_ipvs: int | None = None, **changes: Any) -> BalanceRecord:
    connections = opened(names)
    table = {item.source: ("10.244.1.5", 8718) for item in connections[:in_ipvs] if item.source is not None}
    values: dict[str, Any] = {
        "service": "k8snet-1/probe-spread",
        "address": "10.96.2.1",
        "port": 80,
        "seen": (*ENDPOINTS,),
        "waited_s": 0.1,
        "connections": connections,
        "earlier": (),
        "ipvs_loaded": True,
        "scheduler": "rr",
        "in_ipvs": table,
        "rules": (),
        "errors": {},
    }
    return BalanceRecord("node-1", ENDPOINTS, {}, Spread(**{**values, **changes}), sticky(("node-2",) * 24), MOVED)


def sticky(names: Sequence[str | None]) -> Connections:
    return Connections(service="k8snet-1/probe-sticky", address="10.96.2.2", port=80, connections=opened(names))


def expect(mode: str) -> ProxyExpectation:
    return ProxyExpectation(mode=Wanted(mode, "claim"))


def path(found: BalanceRecord, mode: str | None, node: Any = None) -> tuple[str, str]:
    wanted = ProxyExpectation() if mode is None else expect(mode)
    return outcome(service.data_path(found, facts() if node is None else node, wanted, CLUSTER))


def rules(**packets: int) -> tuple[Rule, ...]:
    texts = {"service": TO_SERVICE, "masqueraded": MASQUERADED, "taking": TAKING}
    return tuple(Rule("legacy", texts[name], count) for name, count in packets.items())


IPTABLES: dict[str, Any] = {"in_ipvs": 0, "scheduler": None, "rules": rules(service=60, masqueraded=3)}


def test_healthy_paths() -> None:
    assert path(record(), "ipvs") == ("pass", "")
    assert path(record(), None) == ("pass", ""), "the mode in force, where none is claimed"
    assert path(record(errors={"nft": "nft: not on the node"}), "ipvs") == ("pass", ""), "the table of IPVS is proof enough"
    assert path(record(**IPTABLES), "iptables") == ("pass", "")
    blind = "the rules of nftables mode have no counters: that no other data path had them is all there is to see"
    assert path(record(in_ipvs=0, scheduler=None), "nftables") == ("skip", blind)


@pytest.mark.parametrize(
    ("found", "mode", "message"),
    [
        (
            record(in_ipvs=0, rules=rules(taking=60)),
            "ipvs",
            (
                f"0 are in the table of IPVS, want all (ipvs (claim)); counted instead: {TAKING} (iptables-legacy: 60 packets) "
                "(cat /proc/net/ip_vs_conn)"
            ),
        ),
        (
            record(in_ipvs=59),
            "ipvs",
            (
                "59 are in the table of IPVS, want all (ipvs (claim)); no rule of iptables that names the address counted any "
                "(cat /proc/net/ip_vs_conn)"
            ),
        ),
        (
            record(in_ipvs=0, errors={"nft": "nft: not on the node"}),
            "ipvs",
            (
                "0 are in the table of IPVS, want all (ipvs (claim)); rules of iptables could not be read (nft: not on the node) "
                "(cat /proc/net/ip_vs_conn)"
            ),
        ),
        (
            record(in_ipvs=2, rules=rules(service=60)),
            "iptables",
            "2 are in the table of IPVS, want none (iptables (claim)) (cat /proc/net/ip_vs_conn)",
        ),
        (
            record(in_ipvs=0, rules=rules(service=12, taking=48)),
            "iptables",
            (
                f"rules of KUBE-SERVICES counted 12, want all (iptables (claim)); counted instead: {TO_SERVICE} "
                f"(iptables-legacy: 12 packets), {TAKING} (iptables-legacy: 48 packets) (iptables-save -c -t nat | grep 10.96.2.1)"
            ),
        ),
        (
            record(in_ipvs=0, rules=rules(taking=60)),
            "nftables",
            f"rules of iptables counted some, want none (nftables (claim)); counted instead: {TAKING} (iptables-legacy: 60 packets)",
        ),
    ],
    ids=["taken-before-ipvs", "one-elsewhere", "taken-and-unread", "in-ipvs", "taken-from-iptables", "taken-before-nftables"],
)
def test_other_paths(found: BalanceRecord, mode: str, message: str) -> None:
    assert path(found, mode) == ("fail", f"node-1: of 60 connections that {SERVICE} answered {message}")


def test_connections_that_nobody_answered_are_no_control() -> None:
    assert path(record((None,) * 60), "ipvs") == (
        "inconclusive",
        f"node-1: {SERVICE}: no connection of the node's pod was answered: timed out (60 of 60)",
    )
    assert path(record((None,) * 3 + ("node-1",), in_ipvs=4), "ipvs") == ("pass", "")


def test_rules_that_were_written_anew_prove_nothing() -> None:
    assert path(record(in_ipvs=0, rules=rules(service=12)), "iptables") == (
        "inconclusive",
        (
            f"node-1: of 60 connections that {SERVICE} answered rules of KUBE-SERVICES counted 12: "
            "kube-proxy wrote them anew whenever they were read, or they were bypassed"
        ),
    )
    assert path(record(in_ipvs=0), "iptables")[0] == "fail", "none at all"


def test_a_cni_that_serves_services_beside_kube_proxy() -> None:
    cilium = replace(CLUSTER, cni="cilium")
    nowhere = record(in_ipvs=0, scheduler=None)
    words = "none was counted by IPVS or iptables; cilium can serve Services beside kube-proxy"
    for mode in ("ipvs", "iptables"):
        told = outcome(service.data_path(nowhere, facts(), expect(mode), cilium))
        assert told == ("inconclusive", f"node-1: of 60 connections that {SERVICE} answered {words}")
        wanted = ProxyExpectation(mode=Wanted(mode, "profile x.yaml:3"))
        assert service.data_path(nowhere, facts(), wanted, cilium).verdict == "fail"
    assert outcome(service.data_path(record(), facts(), expect("ipvs"), cilium)) == ("pass", "")


def test_rules_that_were_not_read_are_no_proof() -> None:
    unread = record(in_ipvs=0, scheduler=None, errors={"nft": "nft: not on the node"})
    problem = "node-1: the rules of iptables-nft could not be read: nft: not on the node"
    assert path(unread, "iptables") == path(unread, "nftables") == ("error", problem)


def test_paths_without_counters() -> None:
    cilium = replace(CLUSTER, kube_proxy_daemonsets=(), cni="cilium")
    told = "no kube-proxy serves Services here, and how cilium counts connections is not read"
    assert outcome(service.data_path(record(), WITHOUT, expect("none"), cilium)) == ("skip", told)
    other = "what serves Services here (mode userspace) has no counters that are read"
    assert path(record(), "userspace") == ("skip", other)
    nobody = replace(CLUSTER, kube_proxy_daemonsets=())
    silent = record((None,) * 60)
    none = "no kube-proxy runs in this cluster, and nothing is known to stand for it: no Service address leads anywhere"
    assert outcome(service.data_path(silent, WITHOUT, ProxyExpectation(), nobody)) == ("skip", none)
    assert outcome(service.spread(silent, WITHOUT, nobody)) == ("skip", none)


def spread(found: BalanceRecord) -> tuple[str, str]:
    return outcome(service.spread(found, facts(), CLUSTER))


def test_healthy_shares() -> None:
    assert spread(record()) == ("pass", "")
    assert spread(record(("node-1",) * 21 + ("node-2",) * 20 + ("node-3",) * 20)) == ("pass", "")
    assert spread(record(("node-1",) * 12 + ("node-2",) * 21 + ("node-3",) * 27, scheduler=None)) == ("pass", "")
    assert spread(record(("node-1",) * 58 + ("node-2", "node-3"), scheduler="wlc")) == ("pass", "")
    assert spread(record(("node-1",) * 60, scheduler="sh")) == ("pass", "")


@pytest.mark.parametrize(
    ("names", "scheduler", "told"),
    [
        (("node-1",) * 22 + ("node-2",) * 19 + ("node-3",) * 19, "rr", ["node-1 22 of 60", "node-2 19 of 60", "node-3 19 of 60"]),
        (("node-1",) * 30 + ("node-2",) * 30, "lc", ["node-3 0 of 60"]),
        (("node-1",) * 30 + ("node-2",) * 30, None, ["node-3 0 of 60"]),
        (("node-1",) * 42 + ("node-2",) * 9 + ("node-3",) * 9, None, ["node-1 42 of 60"]),
    ],
    ids=["rr", "lc", "random-none", "random-too-many"],
)
def test_unfair_shares(names: Sequence[str], scheduler: str | None, told: list[str]) -> None:
    promises = {"rr": "20 by scheduler rr", "lc": "some by scheduler lc", None: "4 to 39 of a random choice among 3"}
    lines = []
    for item in told:
        node, share = item.split(" ", 1)
        of = f"node-1: {SERVICE}: the endpoint on {node} ({ENDPOINTS[node]})"
        lines.append(f"{of} got {share} connections, want {promises[scheduler]}")
    assert spread(record(names, scheduler=scheduler)) == ("fail", "\n".join(lines))


def test_an_endpoint_that_is_dead_is_named() -> None:
    where = f"node-1: {SERVICE}: timed out (20 of 60) of the node's pod were not answered"
    assert spread(record(("node-1", "node-2", None) * 20)) == (
        "fail",
        f"{where}; of its endpoints none was answered by the one on node-3 (10.244.3.5)",
    )
    assert spread(record((*ENDPOINTS, None) * 15))[1].endswith(
        "timed out (15 of 60) of the node's pod were not answered; each endpoint answered some"
    )


def test_those_that_were_not_answered_count_when_it_happens_again() -> None:
    once = service.spread(record(earlier=opened([None])), facts(), CLUSTER)
    assert outcome(once) == ("pass", "")
    assert told(once, Weight.REMARK) == [f"node-1: {SERVICE}: timed out (1 of 60) were not answered, and all of as many more were"]
    again = service.spread(record((*(*ENDPOINTS,) * 19, "node-1", "node-2", None), earlier=opened([None])), facts(), CLUSTER)
    assert outcome(again)[1].startswith(f"node-1: {SERVICE}: timed out (1 of 60) of the node's pod were not answered")
    assert told(again, Weight.REMARK) == []


def test_an_endpoint_that_could_not_be_made_to_answer_is_its_node_s_own_error() -> None:
    """It is an endpoint all the same: what is sent there is refused, and that is no fault of the Service."""
    busy = "node-3 (pod probe-node-3): traffic.serve: no server on port 8718: Address already in use"
    refused = replace(record(("node-1", "node-2", None) * 20), endpoints={"node-1": "10.244.1.5", "node-2": "10.244.2.5"})
    assert spread(replace(refused, not_serving={"node-3": busy})) == (
        "inconclusive",
        (
            f"node-1: {SERVICE}: timed out (20 of 60) of the node's pod were not answered, "
            f"and that may be those to an endpoint that could not be made to answer ({busy})"
        ),
    )
    own = replace(refused, node="node-3", not_serving={"node-3": f"node-3: {busy}"})
    assert spread(own) == ("error", f"node-3: its probe pod could not be made to answer: {busy}")
    found = replace(refused, not_serving={"node-3": busy}, sticky=sticky((None,)))
    assert outcome(service.affinity(found, facts(), CLUSTER)) == (
        "inconclusive",
        f"node-1: {STICKY}: connections of the node's pod were not answered: timed out (1 of 1) ({busy})",
    )


def test_somebody_who_is_no_endpoint() -> None:
    found = record((*ENDPOINTS,) * 19 + ("node-9",) * 3)
    assert spread(found)[1].splitlines()[0] == f"node-1: {SERVICE}: node-9 answered 3, and is no endpoint"


def test_one_endpoint_is_no_choice() -> None:
    alone = replace(record(("node-1",) * 60), endpoints={"node-1": "10.244.1.5"}, not_serving={"node-2": "node-2: gone"})
    assert spread(alone) == ("skip", "the Service has one endpoint: there is nothing to choose from (node-2: gone)")
    assert outcome(service.affinity(alone, facts(), CLUSTER)) == spread(alone)


STICKY = "Service probe-sticky (10.96.2.2 port 80)"


@pytest.mark.parametrize(
    ("names", "verdict", "message"),
    [
        (("node-2",) * 24, "pass", ""),
        (("node-2",) * 22 + (None, None), "pass", ""),
        (
            ("node-2",) + ("node-1",) * 23,
            "fail",
            (
                "keeps a client with one endpoint (sessionAffinity ClientIP), and 24 connections of the node's pod were answered by "
                "node-1 (23), node-2 (1)"
            ),
        ),
        (("node-2", None), "inconclusive", "connections of the node's pod were not answered: timed out (1 of 2)"),
    ],
    ids=["healthy", "some-lost", "lost", "unanswered"],
)
def test_affinity(names: Sequence[str | None], verdict: str, message: str) -> None:
    judgement = service.affinity(replace(record(), sticky=sticky(names)), facts(), CLUSTER)
    separator = ": " if verdict == "inconclusive" else " "
    assert outcome(judgement) == (verdict, f"node-1: {STICKY}{separator}{message}" if message else "")
    lost = [] if names.count(None) != 2 else [f"node-1: {STICKY}: timed out (2 of 24) were not answered; NET-SERVICE-005 judges that"]
    assert told(judgement, Weight.REMARK) == lost


def test_affinity_where_no_service_leads_anywhere() -> None:
    nobody = replace(CLUSTER, kube_proxy_daemonsets=())
    silent = replace(record(), sticky=sticky((None,)))
    none = "no kube-proxy runs in this cluster, and nothing is known to stand for it: no Service address leads anywhere"
    assert outcome(service.affinity(silent, WITHOUT, nobody)) == ("skip", none)


@pytest.mark.parametrize("endpoints", [2, 3, 4])
def test_bounds_hold_what_chance_gives(endpoints: int) -> None:
    least, most = service.bounds(60, endpoints)
    assert 1 <= least < 60 / endpoints < most <= 60
    chance = random.Random(7)  # noqa: S311 - the same every time
    for _ in range(2000):
        counts = Counter(chance.randrange(endpoints) for _ in range(60))
        assert all(least <= counts[number] <= most for number in range(endpoints))


def document(values: dict[str, Any] | None) -> Document:
    reason = None if values else "gone"
    return Document(kind="balance", subject="node-1", started="x", duration_s=0.0, method="x", values=values, reason=reason)


def test_documents_that_cannot_be_read() -> None:
    with pytest.raises(RecordError, match="node-1: no connections to a Service of several endpoints: gone"):
        BalanceRecord.from_document(document(None))
    with pytest.raises(RecordError, match="node-1: the balance document is damaged"):
        BalanceRecord.from_document(document({"x": 1}))


ENDPOINT = f"{SERVICE}: its endpoint on node-3"
REFUSED = "pods is forbidden: User x cannot patch"


def moved(found: Moved | None, mode: str = "ipvs") -> Judgement:
    known = facts(kube_proxy={"mode": mode, "mode_error": None, "listening": True, "processes": []})
    return service.propagation(replace(record(), moved=found), known, ServiceExpectation(), CLUSTER)


def test_changes_of_endpoints_that_are_noticed() -> None:
    judgement = moved(MOVED)
    assert outcome(judgement) == ("pass", "")
    assert judgement.evidence == {"gone": "between 0.4 s and 1.6 s", "back": "between 0 s and 0.9 s"}
    late = replace(MOVED, left=Noticed(29.9, 31.0, None))
    assert outcome(moved(late)) == ("pass", ""), "the last proof counts, not when it was looked again"


LIMIT = "want at most 30 s (built-in)"


@pytest.mark.parametrize(
    ("found", "verdict", "message"),
    [
        (replace(MOVED, left=Noticed(34.8, None, None), came=None), "fail", f"has left, and was still used 34.8 s later, {LIMIT}"),
        (replace(MOVED, left=Noticed(31.0, 33.0, None)), "fail", f"has left, and was still used 31.0 s later, {LIMIT}"),
        (replace(MOVED, came=Noticed(34.8, None, None)), "fail", f"has come back, and was not used 34.8 s later, {LIMIT}"),
        (
            replace(MOVED, session="Connection reset by peer"),
            "fail",
            "has left while its pod runs on, and a connection to it that was open is broken: Connection reset by peer",
        ),
        (replace(MOVED, used=False), "inconclusive", "was never used from here: that it leaves, and comes back, is not seen"),
        (
            replace(MOVED, left=Noticed(None, None, None), came=None),
            "inconclusive",
            "has left, and no connection was answered by anybody since",
        ),
        (
            replace(MOVED, left=Noticed(0.2, None, "node-1: gone"), came=None, session=None),
            "error",
            "has left, and whether it is noticed could not be seen: node-1: gone",
        ),
        (replace(MOVED, error="timed out"), "error", "could not be moved: timed out"),
    ],
    ids=["stuck", "late", "not-back", "session", "unused", "silent", "agent-lost", "not-moved"],
)
def test_changes_of_endpoints_that_are_not(found: Moved, verdict: str, message: str) -> None:
    assert outcome(moved(found)) == (verdict, f"node-1: {ENDPOINT} {message}")


def test_what_a_run_may_not_do_is_skipped() -> None:
    judgement = moved(replace(MOVED, error=REFUSED, refused=True, left=None, came=None, session=None))
    words = f"the run may not change labels of its pods, so that none leaves a Service: {REFUSED}"
    assert (outcome(judgement), judgement.unsupported) == (("skip", words), True)


def test_connections_that_are_broken_or_none() -> None:
    lost = replace(MOVED, session="the connection ended")
    (remark,) = told(moved(lost, mode="userspace"), Weight.REMARK)
    assert remark.endswith("a connection to it that was open is broken: the connection ended")
    assert told(moved(replace(MOVED, session=None)), Weight.REMARK) == [f"node-1: {ENDPOINT}: no connection to it was open when it left"]


def test_one_endpoint_does_not_move() -> None:
    assert outcome(moved(None)) == ("skip", "the Service has one endpoint: there is nothing to choose from")
    nobody = replace(CLUSTER, kube_proxy_daemonsets=())
    silent = record((None,) * 8)
    none = "no kube-proxy runs in this cluster, and nothing is known to stand for it: no Service address leads anywhere"
    assert outcome(service.propagation(silent, WITHOUT, ServiceExpectation(), nobody)) == ("skip", none)
