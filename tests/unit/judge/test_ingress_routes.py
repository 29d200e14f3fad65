"""What comes of requests through an ingress, judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.cluster.ingress import Route
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import IngressExpectation, RouteExpectation, Wanted
from pytest_k8snet.judge import ingress
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.ingress import IngressRecord, RouteRecord, Series
from pytest_k8snet.record.restart import Restart, Stream
from tests.unit.judge.builder import outcome, told

ROUTE = Route(name="edge", ingress_class="nginx", service="ingress/ingress", port=443, tls=True, header_bytes=12288)
WANT = RouteExpectation(
    route=ROUTE,
    requests_per_connection=Wanted(20, "built-in"),
    header_bytes=Wanted(12288, "built-in"),
    hsts_max_age=Wanted(31536000, "profile x.yaml:9"),
    origin="profile x.yaml:4",
)
EXPECT = IngressExpectation(routes=(WANT,))
URL, HOST = "https://10.96.0.80:443/", "ingress-1-r1.k8snet.invalid"
CURL = f"(curl -vk --resolve {HOST}:443:10.96.0.80 https://{HOST}:443/)"
JUDGES = (ingress.reached, ingress.kept_to_pods, ingress.kept_for_clients, ingress.headers, ingress.hsts, ingress.restarted)


def series(count: int = 200, **changes: Any) -> Series:
    healthy: dict[str, Any] = {
        "asked": count,
        "answered": count,
        "opened": 1,
        "closed_after": (),
        "others": {},
        "hsts": "max-age=31536000; includeSubDomains",
        "seen_requests": count,
        "seen_connections": 1,
        "seen_protocols": {"HTTP/1.1": count},
        "seen_connection": {"": count},
        "seen_header_bytes": 0,
    }
    return Series(**{**healthy, **changes})


def route(**changes: Any) -> RouteRecord:
    healthy: dict[str, Any] = {
        "name": "edge",
        "url": URL,
        "host": HOST,
        "waited_s": 1.2,
        "first": None,
        "header_bytes": 12288,
        "control": series(),
        "through": series(),
        "sent": series(1, seen_header_bytes=12288),
        "returned": series(1),
        "control_sent": series(1, seen_header_bytes=12288),
        "control_returned": series(1),
    }
    return RouteRecord(**{**healthy, **changes})


def stream(count: int = 300, **changes: Any) -> Stream:
    return replace(Stream(count, count, {}, (), count // 2), **changes)


RESTART = Restart("node-3", 10.0, 2.0, None, stream(10, seen=0), {"edge": stream(), "other": stream()})


def record(*routes: RouteRecord, restart: Restart | None = RESTART) -> IngressRecord:
    return IngressRecord(None, False, "node-2", "node-1", routes, restart)


@pytest.mark.parametrize("judge", JUDGES)
def test_healthy(judge: Callable[[IngressRecord, IngressExpectation], Judgement]) -> None:
    assert outcome(judge(record(route()), EXPECT)) == ("pass", "")


UNREACHED: Mapping[str, Any] = {"through": None, "sent": None, "returned": None, "first": "404", "waited_s": 61.0}
FAILED: Mapping[str, Any] = {"asked": 3, "answered": 0, "others": {"timed out": 3}}


@pytest.mark.parametrize(
    ("judge", "changes", "expected"),
    [
        pytest.param(
            ingress.reached,
            UNREACHED,
            (
                "fail",
                f"edge: {URL} for {HOST} is not answered by the pod behind it, 61 s after its Ingress of class nginx was made: 404 {CURL}",
            ),
            id="not-taken-by-the-controller",
        ),
        pytest.param(
            ingress.reached,
            {"through": series(answered=197, others={"502": 2, "timed out": 1})},
            (
                "fail",
                f"edge: {URL} for {HOST}: 3 of 200 requests were not answered by the pod: 502 (2), timed out (1) {CURL}",
            ),
            id="some-are-not-answered",
        ),
        pytest.param(
            ingress.kept_to_pods,
            {"through": series(seen_connections=200, seen_protocols={"HTTP/1.0": 200}, seen_connection={"close": 200})},
            (
                "fail",
                (
                    "edge: 200 requests reached the pod over 200 connections (HTTP/1.0, Connection: close), want 10 at most: "
                    "20 requests each (built-in) (ss -tn in the pod)"
                ),
            ),
            id="a-connection-for-every-request",
        ),
        pytest.param(
            ingress.kept_to_pods,
            {"through": series(seen_connections=11)},
            (
                "fail",
                (
                    "edge: 200 requests reached the pod over 11 connections (HTTP/1.1), want 10 at most: "
                    "20 requests each (built-in) (ss -tn in the pod)"
                ),
            ),
            id="one-too-many",
        ),
        pytest.param(ingress.kept_to_pods, {"through": series(seen_connections=10)}, ("pass", ""), id="just-enough"),
        pytest.param(
            ingress.kept_to_pods,
            {"through": series(seen_connections=40, opened=40, closed_after=(5,) * 39)},
            (
                "inconclusive",
                (
                    "edge: 200 requests reached the pod over 40 connections (HTTP/1.1), want 10 at most: 20 requests each (built-in); the "
                    "client had to open 40 itself (NET-INGRESS-006), and another process may have answered each time"
                ),
            ),
            id="the-client-was-closed-as-often",
        ),
        pytest.param(
            ingress.kept_to_pods,
            {"through": series(seen_connections=200), "control": series(seen_connections=3)},
            (
                "inconclusive",
                (
                    "edge: 200 requests straight to the pod were seen on 3 connections, and 1 were opened for them: what counts them does "
                    "not tell"
                ),
            ),
            id="control-counts-otherwise",
        ),
        pytest.param(
            ingress.kept_for_clients,
            {"through": series(opened=2, closed_after=(100,))},
            ("fail", f"edge: {URL} closed the client's connection after 100 requests, want it kept for all 200 {CURL}"),
            id="closed-after-100",
        ),
        pytest.param(
            ingress.kept_for_clients,
            {"through": series(opened=200, closed_after=(1,) * 200)},
            (
                "fail",
                (
                    f"edge: {URL} closed the client's connection after 1, 1, 1, 1, 1 and 195 more times requests, want it kept for all 200 "
                    f"{CURL}"
                ),
            ),
            id="closed-every-time",
        ),
        pytest.param(
            ingress.kept_for_clients,
            {"through": series(opened=2, closed_after=(100,)), "control": series(opened=2, closed_after=(50,))},
            ("inconclusive", "edge: a connection straight to the pod was closed after 50 requests as well"),
            id="control-closed",
        ),
        pytest.param(
            ingress.headers,
            {"sent": series(1, answered=0, others={"400": 1})},
            (
                "fail",
                (
                    f"edge: {URL}: a request with a header of 12288 bytes does not reach the pod whole: 400 (1), want that it does "
                    f"(built-in); ingress-nginx: large-client-header-buffers {CURL}"
                ),
            ),
            id="request-refused",
        ),
        pytest.param(
            ingress.headers,
            {"sent": series(1, seen_header_bytes=8000)},
            (
                "fail",
                (
                    f"edge: {URL}: a request with a header of 12288 bytes does not reach the pod whole: cut, want that it does (built-in); "
                    f"ingress-nginx: large-client-header-buffers {CURL}"
                ),
            ),
            id="request-cut",
        ),
        pytest.param(
            ingress.headers,
            {"returned": series(1, answered=0, others={"502": 1})},
            (
                "fail",
                (
                    f"edge: {URL}: an answer of the pod with a header of 12288 bytes does not come back: 502 (1), want that it does "
                    f"(built-in); ingress-nginx: proxy-buffer-size {CURL}"
                ),
            ),
            id="answer-refused",
        ),
        pytest.param(
            ingress.headers,
            {"returned": series(1, answered=0, others={"502": 1}), "control_returned": series(1, answered=0, others={"timed out": 1})},
            ("inconclusive", "edge: a header of 12288 bytes does not even pass straight to the pod and back"),
            id="control-refused",
        ),
        pytest.param(
            ingress.headers,
            {"header_bytes": 8192},
            ("error", "edge: headers of 8192 bytes were sent, and 12288 (built-in) are wanted"),
            id="record-of-another-size",
        ),
        pytest.param(
            ingress.hsts,
            {"through": series(hsts=None)},
            (
                "fail",
                f"edge: {URL}: Strict-Transport-Security is missing, want max-age 31536000 (profile x.yaml:9) at least {CURL}",
            ),
            id="no-hsts",
        ),
        pytest.param(
            ingress.hsts,
            {"through": series(hsts="includeSubDomains; max-age=0")},
            (
                "fail",
                (
                    f"edge: {URL}: Strict-Transport-Security is includeSubDomains; max-age=0, want max-age 31536000 (profile x.yaml:9) "
                    f"at least {CURL}"
                ),
            ),
            id="hsts-taken-back",
        ),
        pytest.param(ingress.hsts, {"through": series(hsts='Max-Age="31536000"')}, ("pass", ""), id="hsts-quoted"),
    ],
)
def test_one_route(
    judge: Callable[[IngressRecord, IngressExpectation], Judgement], changes: Mapping[str, Any], expected: tuple[str, str]
) -> None:
    assert outcome(judge(record(route(**changes)), EXPECT)) == expected


@pytest.mark.parametrize("judge", JUDGES)
def test_what_holds_for_all_judges(judge: Callable[[IngressRecord, IngressExpectation], Judgement]) -> None:
    nothing = IngressRecord("no profile names one", False, "", "", ())
    assert outcome(judge(nothing, IngressExpectation())) == (
        "skip",
        "no profile names a way into the cluster to send requests through (ingress.routes)",
    )
    assert outcome(judge(nothing, EXPECT)) == ("skip", "no profile names one")
    in_shards = judge(replace(nothing, beyond=True), EXPECT)
    assert (outcome(in_shards), in_shards.unsupported) == (("skip", "no profile names one"), True)
    assert outcome(judge(record(), EXPECT)) == ("error", "edge: was not measured; the record is of another profile")
    cut_off = route(control=series(**FAILED), **UNREACHED)
    assert outcome(judge(record(cut_off), EXPECT)) == (
        "inconclusive",
        "edge: the pod on node-1 does not even answer the pod on node-2 straight: timed out (3); NET-REACH-001 says more",
    )


@pytest.mark.parametrize("judge", JUDGES[1:])
def test_a_route_that_does_not_answer_is_one_checks_alone(judge: Callable[[IngressRecord, IngressExpectation], Judgement]) -> None:
    silent = route(**UNREACHED)
    assert outcome(judge(record(silent), EXPECT)) == ("skip", "requests do not get through edge: NET-INGRESS-004 judges that")
    both = IngressExpectation(routes=(WANT, replace(WANT, route=replace(ROUTE, name="other"))))
    assert outcome(judge(record(silent, route(name="other")), both)) == ("pass", "")


def test_what_was_not_answered_once_is_told() -> None:
    judgement = ingress.reached(record(route(incomplete=(series(answered=199, others={"502": 1}),))), EXPECT)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [f"edge: {URL} for {HOST}: 1 of 200 requests were not answered: 502 (1); not again"]


def test_hsts_is_judged_where_it_is_wanted_alone() -> None:
    plain = IngressExpectation(routes=(replace(WANT, hsts_max_age=None),))
    assert outcome(ingress.hsts(record(route(through=series(hsts=None))), plain)) == (
        "skip",
        "no profile wants HSTS of a way into the cluster (hsts_max_age in ingress.routes)",
    )
    both = IngressExpectation(routes=(replace(WANT, route=replace(ROUTE, name="plain"), hsts_max_age=None), WANT))
    judgement = ingress.hsts(record(route(name="plain", through=series(hsts=None)), route()), both)
    assert (outcome(judgement), judgement.checked, told(judgement, "remark")) == (("pass", ""), 1, [])


def restarted(restart: Restart | None, *routes: RouteRecord) -> Judgement:
    return ingress.restarted(record(*(routes or (route(),)), restart=restart), EXPECT)


def taken(found: Stream, **changes: Any) -> Restart:
    return replace(RESTART, routes={"edge": found}, **changes)


def test_requests_that_fail_while_a_pod_takes_over() -> None:
    failing = stream(answered=297, others={"502": 2, "timed out": 1}, failed_s=(12.1, 12.2, 14.05))
    message = (
        f"edge: {URL}: 3 of 300 requests failed while the pod on node-3 took over from that on node-1, 10.1 s to 12.1 s after it was led "
        f"there: 502 (2), timed out (1); the old one went on for 10 s {CURL}"
    )
    assert outcome(restarted(taken(failing))) == ("fail", message)
    assert restarted(RESTART).evidence["edge"] == {"answered": "300 of 300", "by the new pod": 150}


def test_what_failed_before_is_nothing_of_the_restart() -> None:
    before = restarted(taken(stream(answered=299, others={"502": 1}, failed_s=(0.4,))))
    assert outcome(before) == ("pass", "")
    assert told(before, "remark") == ["edge: 1 requests failed before anything was changed"]


def test_a_pod_that_never_took_over() -> None:
    silent = "edge: the pod on node-3 was to take over, and got no request"
    assert outcome(restarted(taken(stream(seen=0)))) == ("inconclusive", silent)
    late = taken(stream(answered=100, others={"502": 200}, failed_s=tuple(12 + number / 100 for number in range(200)), seen=0))
    assert outcome(restarted(late))[0] == "fail", "that nobody answers is seen all the same"


def test_requests_for_which_there_was_no_time_are_told() -> None:
    judgement = ingress.reached(record(route(through=series(4))), EXPECT)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [
        f"edge: {URL} for {HOST}: 4 of 200 requests could be sent in the time that there was, and straight to the pod all: answers are slow"
    ]


def test_a_restart_without_a_control() -> None:
    words = "edge: not even straight to the pod on node-1 all requests were answered"
    assert outcome(restarted(replace(RESTART, control=stream(10, answered=9)))) == ("inconclusive", words)
    assert outcome(restarted(replace(RESTART, control=None))) == ("inconclusive", words)


def test_where_no_pod_takes_over() -> None:
    older = restarted(None)
    assert (outcome(older), older.unsupported) == (("skip", "no pod was replaced when this was measured"), True)
    assert outcome(restarted(None, route(**UNREACHED))) == ("skip", "no request gets through: NET-INGRESS-004 judges that")
    alone = restarted(replace(RESTART, new=None, routes={}))
    assert (outcome(alone), alone.unsupported) == (("skip", "there is one probe pod alone, and none that could take over from it"), False)
    refused = restarted(replace(RESTART, refused="PATCH: HTTP 403", routes={}))
    assert outcome(refused) == ("skip", "the run may not change what its own Service leads to: PATCH: HTTP 403")
    assert refused.unsupported


def test_documents_that_are_damaged_or_empty() -> None:
    document = Document(kind="ingress", subject="cluster", started="2026-01-01T00:00:00+00:00", duration_s=1.0, method="x")
    with pytest.raises(RecordError, match="cluster: no requests through the ingress: no way"):
        IngressRecord.from_document(replace(document, reason="no way"))
    for values in ({}, {"absent": "x"}, {"absent": None}, {"absent": None, "client": "a", "backend": "b", "routes": [{"name": "x"}]}):
        with pytest.raises(RecordError, match="cluster: the ingress document is damaged: KeyError"):
            IngressRecord.from_document(replace(document, values=values))
