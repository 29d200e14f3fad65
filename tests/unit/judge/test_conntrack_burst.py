from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import healthy_activity
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import ConntrackExpectation, Wanted
from pytest_k8snet.judge import conntrack
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.activity import Activity, Grown
from pytest_k8snet.record.burst import Again, Burst, BurstRecord, Opened, Table
from pytest_k8snet.record.document import Document
from tests.unit.judge.builder import outcome, told

WHAT = "node-1: connections of its pod to the pod on node-2"
NO_PORT_LEFT = "no source port toward this address and port is left"
COUNTERS = "cat /proc/net/stat/nf_conntrack"
SYSCTLS = "sysctl net.ipv4.tcp_tw_reuse net.ipv4.tcp_timestamps"
OPENED = Opened(tried=2000, opened=2000, failed={}, late=0, seconds=3.2, ports=(1100, 64000), range=(1024, 65535))
TABLE = Table(max=131072, before=300, peak=4300, after=4290)
AGAIN = Again(2.5, 16, "EADDRNOTAVAIL", 16, timestamps=True, tcp_tw_reuse="1", tcp_timestamps="1")


def activity(at_s: float, counted: dict[str, int] | None = None, log: dict[str, Any] | None = None) -> Activity:
    data = healthy_activity(at_s)
    data["conntrack"].update(counted or {})
    data["log"].update(log or {})
    return Activity.from_json(data)


QUIET = Grown(activity(1000), activity(1004))
FOUND = Burst(OPENED, TABLE, QUIET, AGAIN)


def judged(
    found: Burst | None = FOUND,
    *,
    first: Activity | None = None,
    losses: int | None = None,
    endpoint: str | None = "node-2",
    **changes: Any,
) -> Judgement:
    expect = ConntrackExpectation(losses=None if losses is None else Wanted(losses, "profile p.yaml:3"))
    record = replace(BurstRecord("node-1", 2000, endpoint, {}, found), **changes)
    return conntrack.burst(record, first or activity(900), expect)


def lost(name: str, count: int) -> Burst:
    return replace(FOUND, grown=Grown(activity(1000), activity(1004, {name: count})))


def test_healthy() -> None:
    judgement = judged()
    assert outcome(judgement) == ("pass", "")
    assert judgement.findings == []
    assert judgement.evidence["table"] == {"max": 131072, "before": 300, "peak": 4300, "after": 4290}
    assert (judgement.evidence["opened"], judgement.evidence["drop"], judgement.evidence["again"]["reused"]) == (2000, 0, 16)


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        (
            {"EADDRNOTAVAIL": 200},
            f"200 of 2000 failed (200 EADDRNOTAVAIL: {NO_PORT_LEFT}); the pod may use the ports 1024 to 65535",
        ),
        ({"ETIMEDOUT": 3}, "3 of 2000 failed (3 ETIMEDOUT: no answer)"),
        (
            {"ECONNREFUSED": 1, "EPERM": 2, "closed": 4},
            "7 of 2000 failed (1 ECONNREFUSED: refused, 2 EPERM: see errno(3), 4 closed: closed by the other side)",
        ),
    ],
    ids=["ports", "no-answer", "others"],
)
def test_connections_fail(failed: dict[str, int], words: str) -> None:
    opened = replace(OPENED, opened=2000 - sum(failed.values()), failed=failed)
    assert outcome(judged(replace(FOUND, opened=opened))) == ("fail", f"{WHAT}: {words} (connect(2))")


def test_none_could_be_opened() -> None:
    opened = replace(OPENED, opened=0, failed={"ETIMEDOUT": 2000}, ports=None)
    words = (
        f"{WHAT}: none of 2000 could be opened (2000 ETIMEDOUT: no answer): what the connection table would make of them is not seen "
        "(NET-REACH-001 says more)"
    )
    assert outcome(judged(replace(FOUND, opened=opened))) == ("inconclusive", words)


def test_no_time_for_all() -> None:
    opened = replace(OPENED, tried=700, opened=700, seconds=60.3)
    table = replace(TABLE, peak=1700)
    words = f"{WHAT}: 700 of 2000 were tried in 60 s, not the others"
    assert outcome(judged(replace(FOUND, opened=opened, table=table))) == ("inconclusive", words)


def test_late_ones_are_told() -> None:
    judgement = judged(replace(FOUND, opened=replace(OPENED, late=3)))
    assert outcome(judgement) == ("pass", "")
    late = f"{WHAT}: 3 of 2000 took a second or more: their first packet, or the answer to it, was lost"
    assert told(judgement, Weight.REMARK) == [late]


def test_ports_that_the_pod_may_not_use() -> None:
    words = f"{WHAT}: came from the ports 999 to 64000; the pod may use the ports 1024 to 65535 (sysctl net.ipv4.ip_local_port_range)"
    assert outcome(judged(replace(FOUND, opened=replace(OPENED, ports=(999, 64000))))) == ("fail", words)


def test_the_node_does_not_track_them() -> None:
    words = (
        "node-1: 2000 connections were opened, and the entries of the connection table only grew from 300 to 350: the node does not "
        "track them (eBPF, notrack), and its counters say nothing of them (sysctl net.netfilter.nf_conntrack_count)"
    )
    assert outcome(judged(replace(FOUND, table=replace(TABLE, peak=350)))) == ("inconclusive", words)
    busy = replace(TABLE, peak=350, after=340, grown=3000)
    assert outcome(judged(replace(FOUND, table=busy)))[0] == "inconclusive", "others' new entries are not its own"


def test_entries_of_others_that_expire_meanwhile_hide_nothing() -> None:
    emptying = Table(max=131072, before=5093, peak=5172, after=4610, grown=1800)
    assert outcome(judged(replace(FOUND, table=emptying))) == ("pass", "")
    assert outcome(judged(replace(FOUND, table=replace(emptying, grown=900))))[0] == "inconclusive"


def test_there_is_no_table() -> None:
    judgement = judged(replace(lost("drop", 100), table=None))
    assert outcome(judgement) == ("pass", "")
    only = "node-1: connections are not tracked on this node: only what became of the connections is judged"
    assert told(judgement, Weight.REMARK) == [only]


def test_a_full_table_evicts() -> None:
    full = "node-1: the connection table was full: 7 connections were evicted (early_drop) in the 4 s of the burst"
    table = Table(max=700, before=300, peak=700, after=700)
    assert outcome(judged(replace(lost("early_drop", 7), table=table))) == ("fail", f"{full} ({COUNTERS})"), "it cannot grow by more"


@pytest.mark.parametrize("name", ["insert_failed", "drop"])
def test_packets_are_lost_to_the_table(name: str) -> None:
    words = f"packets were lost to the connection table ({name}) in the 4 s of the burst"
    assert outcome(judged(lost(name, 2))) == ("pass", "")
    built_in = "want 2 at most (built-in, with what was lost before)"
    assert outcome(judged(lost(name, 3))) == ("fail", f"node-1: 3 {words}, {built_in} ({COUNTERS})")
    assert outcome(judged(lost(name, 1), losses=0)) == ("fail", f"node-1: 1 {words}, want 0 at most (profile p.yaml:3) ({COUNTERS})")
    assert outcome(judged(lost(name, 9), losses=9)) == ("pass", "")


def test_what_others_lose_is_not_held_against_it() -> None:
    """100 in the 100 s before, so four in the four of the burst; eight more may come by chance, and two are nothing."""
    first = activity(900)

    def during(count: int) -> Burst:
        return replace(FOUND, grown=Grown(activity(1000, {"drop": 100}), activity(1004, {"drop": 100 + count})))

    assert outcome(judged(during(14), first=first)) == ("pass", "")
    assert judged(during(15), first=first).message.startswith("node-1: 15 packets were lost to the connection table (drop)")


def test_the_kernels_log() -> None:
    full = activity(1004, log={"last_s": 1003.0, "table_full": 2, "table_full_s": [1001.0, 1002.0]})
    words = "node-1: the kernel's log says 2 times that the connection table is full, last 2 s before the end of the run"
    assert outcome(judged(replace(FOUND, grown=Grown(activity(1000), full)))) == ("fail", f"{words} (dmesg | grep 'table full')")


def test_counters_that_the_kernel_does_not_tell() -> None:
    without = replace(QUIET.second, conntrack=None)
    judgement = judged(replace(FOUND, grown=Grown(QUIET.first, without)))
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, Weight.REMARK) == ["node-1: this kernel tells no counters of the connection table (CONFIG_NF_CONNTRACK_PROCFS)"]


def test_the_machine_started_anew() -> None:
    restarted = "node-1: the machine was started anew during the run: its counters began again"
    assert outcome(judged(replace(FOUND, grown=Grown(activity(1000), activity(10))))) == ("error", restarted)


def again(**changes: Any) -> Judgement:
    return judged(replace(FOUND, again=replace(AGAIN, **changes)))


def test_ports_are_not_used_again() -> None:
    told_ = "3 of 16 source ports could be used again 2.5 s after their connections"
    assert outcome(again(reused=3)) == ("fail", f"{WHAT}: {told_}, want all: net.ipv4.tcp_tw_reuse of the pod is 1 ({SYSCTLS})")
    no_effect = "without net.ipv4.tcp_timestamps, which is 0, it has no effect"
    assert outcome(again(reused=3, timestamps=False, tcp_timestamps="0")) == (
        "fail",
        f"{WHAT}: {told_}, want all: net.ipv4.tcp_tw_reuse of the pod is 1; {no_effect} ({SYSCTLS})",
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tcp_tw_reuse": "2"}, "net.ipv4.tcp_tw_reuse of the pod is 2"),
        ({"timestamps": False}, "the pod on node-2 does without TCP timestamps, and tcp_tw_reuse needs them"),
    ],
    ids=["nobody-says-so", "peer"],
)
def test_ports_that_need_not_be_used_again(changes: dict[str, Any], words: str) -> None:
    judgement = again(reused=0, **changes)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, Weight.REMARK) == [f"{WHAT}: 0 of 16 source ports could be used again 2.5 s after their connections: {words}"]


@pytest.mark.parametrize(
    ("over", "so"),
    [(None, "one more could be opened"), ("ETIMEDOUT", "one more failed with ETIMEDOUT, not with EADDRNOTAVAIL")],
)
def test_ports_that_do_not_run_out_prove_nothing(over: str | None, so: str) -> None:
    unseen = f"{WHAT}: with few ports left 17 were held, and {so}: whether source ports are used again is not seen"
    assert outcome(again(held=17, reused=17, over=over)) == ("inconclusive", unseen)


def test_it_was_not_seen_whether_ports_are_used_again() -> None:
    judgement = judged(replace(FOUND, again="no way into the pod"))
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, Weight.REMARK) == [f"{WHAT}: whether source ports are used again was not seen: no way into the pod"]


def test_nothing_to_connect_to() -> None:
    none = "no probe pod on another node than node-1 answers: there is nothing to connect to"
    assert outcome(judged(None, endpoint=None)) == ("skip", none)
    own = judged(None, endpoint=None, not_serving={"node-1": "evicted"})
    assert outcome(own) == ("error", "node-1: its probe pod could not be made to answer: evicted")


def test_what_is_not_asked_for() -> None:
    words = "a burst of connections is sent only when --k8snet-conntrack-burst asks for it"
    assert outcome(judged(None, asked=0)) == ("skip", words)


def test_documents_that_cannot_be_read() -> None:
    def document(values: dict[str, Any] | None) -> Document:
        reason = None if values else "gone"
        return Document(kind="burst", subject="node-1", started="x", duration_s=0.0, method="x", values=values, reason=reason)

    with pytest.raises(RecordError, match="node-1: no burst of connections: gone"):
        BurstRecord.from_document(document(None))
    with pytest.raises(RecordError, match="node-1: the burst document is damaged"):
        BurstRecord.from_document(document({"x": 1}))
