from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import fake_node, healthy_dns, healthy_host_facts
from pytest_k8snet.cluster.model import Claim, Cluster
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import DnsExpectation, Wanted
from pytest_k8snet.judge import dns
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.dns import DnsRecord
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.facts import NodeFacts
from tests.unit.judge.builder import facts, outcome, told

NAME = "kubernetes.default.svc.cluster.local."
SERVICE = "node-1: Service kube-system/kube-dns (10.96.0.10) over"
SERVER = "node-1: pod coredns-2 on node-2 (10.244.2.4) over"
DIG = f"dig @10.96.0.10 {NAME}"
NOBODY = "no kube-proxy runs in this cluster, and nothing is known to stand for it: no Service address leads anywhere"
PROXIES = ({"name": "kube-proxy", "namespace": "kube-system", "desired": 3, "ready": 3, "node_selector": {}, "pods": []},)
EXPECT = DnsExpectation()


def done(asked: int = 100, lost: int = 0, **changes: Any) -> dict[str, Any]:
    answered = asked - lost
    times = {"p50_ms": 0.5, "p99_ms": 2.0, "max_ms": 3.0} if answered else dict.fromkeys(("p50_ms", "p99_ms", "max_ms"))
    errors = {"timed out": lost} if lost else {}
    return {"asked": asked, "answered": answered, **times, "addresses": ["10.96.0.1"], "errors": errors, "missing": {}, **changes}


def series(protocol: str, *rounds: dict[str, Any], what: str = "service", **changes: Any) -> dict[str, Any]:
    whom = {"server": "kube-system/kube-dns", "node": None, "address": "10.96.0.10"}
    if what == "server":
        whom = {"server": "coredns-2", "node": "node-2", "address": "10.244.2.4"}
    return {"what": what, **whom, "port": 53, "protocol": protocol, "name": NAME, "rounds": rounds or [done()], **changes}


def record(*changed: Mapping[str, Any], **changes: Any) -> DnsRecord:
    """Return what a healthy cluster answers but for the series in `changed`."""
    healthy = [
        series("UDP"),
        series("TCP", done(20)),
        series("pair", done(20)),
        series("loopback", slow(0.2), what="loopback"),
        series("UDP", done(10), what="server"),
        series("TCP", done(5), what="server"),
    ]
    known = {(item["what"], item["protocol"]): item for item in (*healthy, *changed)}
    walk = {"questions": 6, "tried": [["k.a", "NXDOMAIN"], ["k.b", "NXDOMAIN"], ["k.c", "NOERROR"]], "addresses": ["10.96.0.1"]}
    values = {
        "absent": None,
        "domain": "cluster.local",
        "domain_from": "Corefile",
        "want": ["10.96.0.1"],
        "servers_total": 1,
        "series": [*known.values()],
        "search": {"search": ["a", "b", "c"], "names": {"k": walk}},
        **changes,
    }
    return DnsRecord.from_document(document(values))


def document(values: Mapping[str, Any] | None, reason: str | None = None) -> Document:
    return Document(kind="dns", subject="node-1", started="2026-11-26", duration_s=1.0, method="x", values=values, reason=reason)


def cluster(**changes: Any) -> Cluster:
    nodes = tuple(map(fake_node, ("node-1", "node-2")))
    return replace(Cluster("v1.37.2", nodes, {}, PROXIES, None, dns=healthy_dns(("node-1", "node-2"))), **changes)


def without_proxy() -> NodeFacts:
    return facts(kube_proxy={"mode": None, "mode_error": "Connection refused", "listening": False, "processes": []})


def answers(judged: DnsRecord, expect: DnsExpectation = EXPECT, node: NodeFacts | None = None, **changes: Any) -> Judgement:
    return dns.answers(judged, node or facts(), cluster(**changes), expect)


def slow(ms: float) -> dict[str, Any]:
    return done(p50_ms=ms / 2, p99_ms=ms, max_ms=ms)


QUICK = DnsExpectation(p99_ms=Wanted(1.0, "profile x.yaml:3"))
LOST = f"{SERVICE} UDP: 4 of 200 questions for {NAME} failed: timed out (4)"


@pytest.mark.parametrize(
    ("judged", "expect", "expected"),
    [
        pytest.param(record(), EXPECT, ("pass", ""), id="healthy"),
        pytest.param(record(series("UDP", done(lost=2), done(lost=2))), EXPECT, ("fail", f"{LOST} ({DIG})"), id="unanswered"),
        pytest.param(
            record(series("TCP", done(20, lost=2), done(20, lost=2))),
            EXPECT,
            ("fail", f"{SERVICE} TCP: 4 of 40 questions for {NAME} failed: timed out (4) (dig +tcp @10.96.0.10 {NAME})"),
            id="tcp",
        ),
        pytest.param(
            record(series("UDP", done(addresses=["10.96.0.1", "192.0.2.1"]))),
            EXPECT,
            ("fail", f"{SERVICE} UDP: {NAME} is 192.0.2.1, want 10.96.0.1 ({DIG})"),
            id="wrong",
        ),
        pytest.param(
            record(series("UDP", slow(90), slow(70), slow(80))),
            EXPECT,
            ("fail", f"{SERVICE} UDP: 99 of 100 answers took up to 70 ms, want 50 (built-in)"),
            id="slow",
        ),
        pytest.param(record(series("UDP", slow(90), slow(40))), EXPECT, ("pass", ""), id="slow-once"),
        pytest.param(
            record(), QUICK, ("fail", f"{SERVICE} UDP: 99 of 100 answers took up to 2 ms, want 1 (profile x.yaml:3)"), id="profile"
        ),
        pytest.param(
            record(series("UDP", slow(70)), series("loopback", slow(30), what="loopback")),
            EXPECT,
            (
                "inconclusive",
                (
                    f"{SERVICE} UDP: 99 of 100 answers took up to 70 ms, want 50 (built-in); the pod's own loopback took 30 ms: "
                    "its node is too busy to tell"
                ),
            ),
            id="busy",
        ),
        pytest.param(
            record(series("UDP", done(lost=2, errors={"NXDOMAIN": 2}), done(lost=2, errors={"NXDOMAIN": 2})), domain_from="assumed"),
            EXPECT,
            (
                "inconclusive",
                (
                    f"{SERVICE} UDP: 4 of 200 questions for {NAME} failed: NXDOMAIN (4); no Corefile tells the cluster's domain: give "
                    f"dns.domain in a profile ({DIG})"
                ),
            ),
            id="domain-assumed",
        ),
        pytest.param(
            record(series("UDP", done(5, lost=2, errors={"SERVFAIL": 2}), what="outside", name="example.com.")),
            EXPECT,
            (
                "fail",
                (
                    "node-1: kube-system/kube-dns (10.96.0.10) over UDP: 2 of 5 questions for example.com. failed: SERVFAIL (2) "
                    "(dig @10.96.0.10 example.com.)"
                ),
            ),
            id="outside",
        ),
    ],
)
def test_answers(judged: DnsRecord, expect: DnsExpectation, expected: tuple[str, str]) -> None:
    assert outcome(answers(judged, expect)) == expected


def test_cloud_dns_of_gke() -> None:
    told_so = healthy_host_facts()["kubelet"]
    told_so["files"] = [{"path": "/home/kubernetes/kubelet-config.yaml", "text": "clusterDNS: [169.254.169.254]"}]
    whom = {"what": "cloud", "server": "Cloud DNS", "address": "169.254.169.254"}
    gke = "v1.33.4-gke.1134000"
    asked = record(series("UDP", **whom), series("TCP", **whom), series("pair", **whom))
    assert outcome(answers(asked, node=facts(kubelet=told_so), version=gke)) == ("pass", "")
    lost = record(series("UDP", done(lost=2), **whom))
    message = f"node-1: Cloud DNS (169.254.169.254) over UDP: 2 of 100 questions for {NAME} failed: timed out (2)"
    assert outcome(answers(lost, version=gke)) == ("fail", f"{message} (dig @169.254.169.254 {NAME})")
    stalled = dns.both_answers(record(series("pair", done(20, lost=1, missing={"A": 1}), **whom)), facts(), cluster(version=gke))
    assert stalled.message.startswith("node-1: Cloud DNS (169.254.169.254) left one question of a pair from one socket unanswered")
    kube_dns_alone = answers(record(), node=facts(kubelet=told_so), version=gke)
    assert outcome(kube_dns_alone) == (
        "inconclusive",
        (
            "node-1: the kubelet tells new pods to ask 169.254.169.254 (Cloud DNS), which did not answer rightly for the API server's name "
            f"in cluster.local: give dns.domain in a profile if the cluster has another one (dig @169.254.169.254 {NAME})"
        ),
    )
    assert outcome(answers(record(), node=facts(kubelet=told_so))) == ("pass", ""), "NET-DNS-008 judges that"


def test_what_was_answered_the_second_time_is_a_remark() -> None:
    judgement = answers(record(series("UDP", done(lost=1), done())))
    assert outcome(judgement) == ("pass", "")
    lost = f"{SERVICE} UDP: 1 of 200 questions for {NAME} failed: timed out (1); not again when they were asked again"
    assert told(judgement, Weight.REMARK) == [lost]


SILENT = [series(protocol, done(2, lost=2), done(2, lost=2)) for protocol in ("UDP", "TCP", "pair")]


def walked(*tried: tuple[str, str], addresses: Sequence[str] = (), questions: int = 6) -> dict[str, Any]:
    walk = {"questions": questions, "tried": [[*item] for item in tried], "addresses": [*addresses]}
    return {"search": ["a", "b"], "names": {"k": walk}}


@pytest.mark.parametrize(
    ("changes", "node", "skipped"),
    [
        ({"kube_proxy_daemonsets": ()}, without_proxy(), True),
        ({}, without_proxy(), False),  # gone from this node alone
        ({"kube_proxy_daemonsets": ()}, facts(), False),  # k3s
        ({"kube_proxy_daemonsets": (), "cni": "cilium"}, without_proxy(), False),
        ({"kube_proxy_daemonsets": (), "claims": {"proxy.mode": Claim("none", "x")}}, without_proxy(), False),
    ],
    ids=["nobody", "one-node", "k3s", "cilium", "claimed"],
)
def test_where_no_service_leads_anywhere(changes: dict[str, Any], node: NodeFacts, *, skipped: bool) -> None:
    silent = record(*SILENT, search=walked(("k.a", "no answer for A and AAAA")))
    seen = cluster(**changes)
    judged = [
        dns.answers(silent, node, seen, EXPECT),
        dns.both_answers(silent, node, seen),
        dns.search_list(silent, node, seen, EXPECT),
    ]
    if skipped:
        assert [outcome(item) for item in judged] == [("skip", NOBODY)] * 3
        assert outcome(dns.answers(record(), node, seen, EXPECT)) == ("pass", ""), "what answers is judged"
    else:
        assert [item.verdict for item in judged] == ["fail", "inconclusive", "inconclusive"]
        assert judged[1].message == "node-1: not one pair of questions was answered at all; NET-DNS-004 says more"
        assert judged[2].message == "node-1: not one question was answered at all; NET-DNS-004 says more"


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        pytest.param(record(), ("pass", ""), id="healthy"),
        pytest.param(
            record(series("UDP", done(2, lost=2), done(2, lost=2), what="server")),
            ("fail", f"{SERVER} UDP: 4 of 4 questions for {NAME} failed: timed out (4) (dig @10.244.2.4 {NAME})"),
            id="dead",
        ),
        pytest.param(
            record(series("TCP", done(5, lost=5, errors={"Connection refused": 5}), what="server", port=5353)),
            ("fail", f"{SERVER} TCP: 5 of 5 questions for {NAME} failed: Connection refused (5) (dig -p 5353 +tcp @10.244.2.4 {NAME})"),
            id="refused",
        ),
        pytest.param(
            record(series("UDP", slow(300), slow(200), what="server")),
            ("fail", f"{SERVER} UDP: half of the answers took up to 100 ms, want 50 (built-in)"),
            id="slow",
        ),
        pytest.param(
            record(series=[]), ("skip", "the DNS Service has no address and no ready endpoint that could be asked"), id="no-endpoint"
        ),
        pytest.param(record(absent="DNS is somebody else's"), ("skip", "DNS is somebody else's"), id="absent"),
    ],
)
def test_every_server(judged: DnsRecord, expected: tuple[str, str]) -> None:
    assert outcome(dns.every_server(judged, EXPECT)) == expected


def test_a_dns_that_could_not_be_read_is_no_absent_one() -> None:
    unread = dns.every_server(record(absent="the cluster's DNS is not known: 403", unread=True), EXPECT)
    assert (outcome(unread), unread.unsupported) == (("skip", "the cluster's DNS is not known: 403"), True)
    assert not dns.every_server(record(absent="DNS is somebody else's"), EXPECT).unsupported


def test_servers_that_were_not_asked_are_told() -> None:
    judgement = dns.every_server(record(servers_total=20), EXPECT)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, Weight.REMARK) == ["node-1: 1 of 20 servers were asked from here"]


def lost(count: int) -> dict[str, Any]:
    return done(20, lost=count, errors={"no answer for AAAA": count}, missing={"AAAA": count})


STALL = "node-1: Service kube-system/kube-dns (10.96.0.10) left one question of a pair from one socket unanswered"


def test_both_answers() -> None:
    def judged(*rounds: dict[str, Any]) -> Judgement:
        return dns.both_answers(record(series("pair", *rounds)), facts(), cluster())

    assert outcome(judged(done(20))) == ("pass", "")
    assert outcome(judged(lost(2), lost(2))) == ("fail", f"{STALL} 4 of 40 times (AAAA): a resolver waits 5 s then ({DIG})")
    once = judged(lost(1), done(20))
    assert outcome(once) == ("pass", "")
    assert told(once, Weight.REMARK) == [f"{STALL} 1 of 40 times (AAAA): a resolver waits 5 s then; not again when they were asked again"]
    assert outcome(judged(done(9, lost=2), done(9, lost=2))) == ("pass", ""), "what neither is answered of is another check's"


def requested(name: str, resolve_ms: float | None, share: float | None, error: str | None = None) -> dict[str, Any]:
    parts = {"resolve_ms": resolve_ms, "connect_ms": None if error else 1.0, "answer_ms": None if error else 9.0}
    return {"name": name, "requests": 0 if error else 7, **parts, "share": share, "error": error}


def test_what_part_of_a_request_its_name_takes() -> None:
    def judged(*items: dict[str, Any]) -> Judgement:
        return dns.search_list(record(requests=[*items]), facts(), cluster(), EXPECT)

    quick = judged(requested("k.d", 2.0, 0.17))
    assert outcome(quick) == ("pass", "")
    assert told(quick, Weight.ADVICE) == []
    assert quick.evidence["request to k.d"] == {"resolve_ms": 2.0, "connect_ms": 1.0, "answer_ms": 9.0, "share": 0.17, "requests": 7}
    assert told(judged(requested("k.d", 9.9, 0.9)), Weight.ADVICE) == [], "that nobody notices"
    slow = judged(requested("k.d", 40.0, 0.8), requested(NAME.rstrip("."), 90.0, 0.9), requested(NAME, 20.0, 0.66))
    assert outcome(slow) == ("pass", ""), "nobody says how long it may take"
    full, dot = NAME.rstrip("."), "(with a dot at the end of its full name 20 ms)"
    assert told(slow, Weight.ADVICE) == [
        f"node-1: 80% of an HTTPS request to k.d is the resolution of its name: 40 of 50 ms {dot}",
        f"node-1: 90% of an HTTPS request to {full} is the resolution of its name: 90 of 100 ms {dot}",
        f"node-1: 66% of an HTTPS request to {NAME} is the resolution of its name: 20 of 30 ms",
    ]
    lost = judged(requested("k.d", None, None, "Connection refused"))
    assert outcome(lost) == ("pass", "")
    assert told(lost, Weight.REMARK) == ["node-1: no HTTPS request to k.d could be timed: Connection refused"]


def test_search_list() -> None:
    def judged(walk: dict[str, Any] | None = None, expect: DnsExpectation = EXPECT) -> Judgement:
        return dns.search_list(record(search=walk) if walk else record(), facts(), cluster(), expect)

    few = DnsExpectation(questions=Wanted(4, "profile x.yaml:9"))
    assert outcome(judged()) == ("pass", "")
    assert judged().evidence == {"questions k": 6}
    assert outcome(judged(expect=few)) == (
        "fail",
        "node-1: k takes 6 questions, want at most 4 (profile x.yaml:9): k.a: NXDOMAIN, k.b: NXDOMAIN, k.c: NOERROR",
    )
    assert outcome(judged(walked(("k.a", "NXDOMAIN"), ("k.b", "SERVFAIL")))) == (
        "fail",
        "node-1: k is not found by the search list a b (k.a: NXDOMAIN, k.b: SERVFAIL)",
    )
    stuck = walked(("k.a", "no answer for A and AAAA"), ("k.b", "no answer for AAAA"), addresses=["10.96.0.1"])
    assert outcome(judged(stuck)) == (
        "fail",
        "node-1: k is found only after names that nobody answers for (k.a: no answer for A and AAAA)",
    )


def test_documents_that_cannot_be_read() -> None:
    for values, message in (({"absent": None}, "the dns document is damaged"), (None, "node-1: no DNS: gone")):
        with pytest.raises(RecordError, match=message):
            DnsRecord.from_document(document(values, None if values else "gone"))
