from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.access.fakes import ingress as fakes
from pytest_k8snet.access.probe_ingresses import ProbeIngress
from pytest_k8snet.cluster.api_error import ApiError, ApiRefusedError
from pytest_k8snet.cluster.ingress import Route
from pytest_k8snet.errors import AccessError, ProbeError
from pytest_k8snet.measure import ingress, restart
from pytest_k8snet.measure.registry import MEASUREMENTS, MeasureContext
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.ingress import IngressRecord
from tests.unit.measure.faked import Cut

PLAIN = Route(name="plain", ingress_class="nginx", address="198.51.100.7", port=80, header_bytes=12288)
TLS = Route(name="tls", ingress_class="nginx", service="ingress/ingress", port=443, tls=True, header_bytes=8000)
SERVICE = {"metadata": {"namespace": "ingress", "name": "ingress"}, "spec": {"clusterIP": "10.96.0.80"}}


def measure(fake: FakeCluster, *routes: Route, refused: Exception | None = None, lead: Callable[[str], None] | None = None) -> Document:
    cluster = fake.read_cluster()
    probing = fake.start_probes(cluster, [*fake.nodes], "1")
    probes = probing.wait(Deadline.after(1))

    def ingresses() -> Sequence[ProbeIngress]:
        if refused is not None:
            raise refused
        usable = [name for name, probe in probes.items() if probe.error is None]
        return probing.make_ingresses(usable[0], routes) if usable else []

    access = fake.open_access(cluster, probes)
    context = MeasureContext(
        cluster=cluster,
        access=access,
        probes=probes,
        services=fake.services,
        routes=routes,
        probe_ingresses=ingresses,
        lead_ingress=lead,
    )
    (document,) = MEASUREMENTS["ingress"].take(context, ["cluster"])
    return document


def record(fake: FakeCluster, *routes: Route, lead: Callable[[str], None] | None = None) -> IngressRecord:
    return IngressRecord.from_document(measure(fake, *routes, lead=lead))


def test_one_pod_asks_through_every_route_and_straight_and_another_counts() -> None:
    fake = FakeCluster(services=[SERVICE])
    found = record(fake, PLAIN, TLS)
    assert (found.absent, found.client, found.backend) == (None, "node-2", "node-1")
    plain, tls = found.routes
    assert (plain.url, plain.host) == ("http://198.51.100.7:80/", "ingress-1-r1.k8snet.invalid")
    assert (tls.url, tls.host) == ("https://10.96.0.80:443/", "ingress-2-r1.k8snet.invalid")
    assert plain.through is not None
    assert (plain.control.asked, plain.through.asked, plain.through.seen_connections) == (200, 200, 1)
    assert tls.sent is not None
    assert (tls.sent.seen_header_bytes, tls.control_sent.seen_header_bytes, tls.header_bytes) == (8000, 8000, 8000)
    asked = {(node, op) for node, _, op in fake.requests if op.startswith("ingress.")}
    assert asked == {("node-2", "ingress.ask"), *(("node-1", f"ingress.{op}") for op in ("serve", "seen", "stop"))}
    assert [role for _, role, op in fake.requests if op.startswith("ingress.") and role != "pod"] == []


def test_one_node_asks_itself() -> None:
    found = record(FakeCluster(["node-1"]), PLAIN)
    assert (found.client, found.backend) == ("node-1", "node-1")


def test_a_controller_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "_BETWEEN_S", 0.0)
    fake = FakeCluster()
    asked: list[str] = []

    def slow(params: Mapping[str, Any]) -> dict[str, Any]:
        fake.kept[params["token"]] = params
        if params["address"] == PLAIN.address:
            asked.append(params["token"])
            if len(asked) <= 3:
                return fakes.answered(params, answered=0, others={"404": 1})
        return fakes.answered(params)

    fake.answer("node-2", "ingress.ask", slow, role="pod")
    (route,) = record(fake, PLAIN).routes
    assert route.first is None
    assert route.through is not None
    assert len(asked) == 3 + 1 + 3


def test_what_was_closed_or_not_answered_is_taken_again_and_the_best_take_counts() -> None:
    """Controllers close connections when somebody's Ingress is new."""
    fake = FakeCluster()
    takes = iter([{"opened": 2, "closed_after": [70]}, {"answered": 199, "others": {"502": 1}}, {}])
    sizes = iter([{"answered": 0, "others": {"502": 1}}, {}])

    def answer(params: Mapping[str, Any]) -> dict[str, Any]:
        fake.kept[params["token"]] = params
        if params["address"] != PLAIN.address:
            return fakes.answered(params)
        return fakes.answered(params, **(next(takes) if params["requests"] > 1 else next(sizes) if params["return_bytes"] else {}))

    fake.answer("node-2", "ingress.ask", answer, role="pod")
    (route,) = record(fake, PLAIN).routes
    assert route.through is not None
    assert route.through.complete
    assert route.through.closed_after == ()
    assert [take.others for take in route.incomplete] == [{"502": 1}]
    assert route.returned is not None
    assert route.returned.complete


def test_what_is_closed_every_time_is_taken_three_times() -> None:
    fake = FakeCluster()
    asked: list[int] = []

    def answer(params: Mapping[str, Any]) -> dict[str, Any]:
        fake.kept[params["token"]] = params
        through = params["address"] == PLAIN.address and params["requests"] > 1
        asked.extend([params["requests"]] if through else [])
        return fakes.answered(params, **({"opened": 2, "closed_after": [100]} if through else {}))

    fake.answer("node-2", "ingress.ask", answer, role="pod")
    (route,) = record(fake, PLAIN).routes
    assert asked == [200] * 3
    assert route.through is not None
    assert route.through.closed_after == (100,)


def test_all_routes_are_served_before_the_first_is_measured() -> None:
    fake = FakeCluster(services=[SERVICE])
    asked: list[tuple[str, int]] = []

    def answer(params: Mapping[str, Any]) -> dict[str, Any]:
        fake.kept[params["token"]] = params
        asked.append((params["address"], params["requests"]))
        return fakes.answered(params)

    fake.answer("node-2", "ingress.ask", answer, role="pod")
    record(fake, PLAIN, TLS)
    assert asked[:2] == [("198.51.100.7", 1), ("10.96.0.80", 1)]
    assert {count for _, count in asked[2:]} == {1, 200}


def test_one_that_never_serves_is_not_asked_on() -> None:
    fake = FakeCluster()

    def never(params: Mapping[str, Any]) -> dict[str, Any]:
        fake.kept[params["token"]] = params
        through = params["address"] == PLAIN.address
        return fakes.answered(params, **({"answered": 0, "others": {"503": 1}} if through else {}))

    fake.answer("node-2", "ingress.ask", never, role="pod")
    (route,) = record(fake, replace(PLAIN, served_within_s=0)).routes
    assert (route.first, route.through, route.sent, route.returned) == ("503", None, None, None)
    assert route.control.complete


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "BEFORE_S", 0.0)


QUICK = replace(PLAIN, drain_s=0)


@pytest.mark.usefixtures("quick")
def test_another_pod_takes_over_and_the_old_one_ends() -> None:
    fake = FakeCluster(services=[SERVICE])
    led: list[str] = []
    found = record(fake, QUICK, replace(TLS, drain_s=0), lead=led.append).restart
    assert found is not None
    assert (found.new, found.refused, found.control is not None) == ("node-3", None, True)
    assert led == ["node-1", "node-3"], "where it leads already at first: that shows whether the run may"
    assert set(found.routes) == {"plain", "tls"}
    for stream in found.routes.values():
        assert stream.asked == stream.answered == stream.seen == fakes.STREAMED
    ops = [(node, op) for node, _, op in fake.requests if op in ("ingress.serve", "ingress.stop", "ingress.stream")]
    assert ops.count(("node-2", "ingress.stream")) == 2
    assert ops.index(("node-3", "ingress.serve")) < ops.index(("node-1", "ingress.stop")) < ops.index(("node-3", "ingress.stop"))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("refused", [False, True])
def test_a_restart_that_was_cut_off_is_undone_before_it_is_taken_again(refused: bool) -> None:
    """Else nothing answers behind the Ingresses: they lead to the other pod, where nobody serves any more."""
    fake = FakeCluster(services=[SERVICE])
    led: list[str] = []
    cut = Cut(fake, "node-2", "pod", "ingress.ask" if refused else "ingress.stream")
    fake.answer("node-2", "ingress.ask" if refused else "ingress.stream", cut, role="pod")

    def lead(node: str) -> None:
        led.append(node)
        if refused:
            raise ApiRefusedError("PATCH: HTTP 403: no", status=403)

    document = measure(fake, QUICK, lead=lead)
    assert (document.failed, document.retried) == (False, "node-2: the exec stream ended")
    assert led == (["node-1", "node-1"] if refused else ["node-1", "node-1", "node-1", "node-3"])


@pytest.mark.usefixtures("quick")
def test_where_no_pod_can_take_over() -> None:
    def forbid(node: str) -> None:
        raise ApiError("PATCH: HTTP 403: User cannot patch", status=403)

    def fail(node: str) -> None:
        raise ApiError("PATCH: HTTP 500: no", status=500)

    found = record(FakeCluster(), QUICK, lead=forbid).restart
    assert found is not None
    assert (found.refused, found.routes) == ("PATCH: HTTP 403: User cannot patch", {})
    assert measure(FakeCluster(), QUICK, lead=fail).reason == "PATCH: HTTP 500: no"
    alone = record(FakeCluster(["node-1"]), QUICK, lead=lambda node: None).restart
    assert alone is not None
    assert alone.new is None
    assert record(FakeCluster(), QUICK).restart is None, "nobody asks for it"


def test_nothing_is_done_without_a_route() -> None:
    fake = FakeCluster()
    assert record(fake).absent == "no profile names a way into the cluster to send requests through (ingress.routes)"
    assert fake.requests == []
    assert record(FakeCluster(pods=False)).absent is not None
    assert not record(fake).beyond


@pytest.mark.parametrize(
    ("route", "services", "reason"),
    [
        (TLS, [], "tls: there is no Service ingress/ingress (ingress.routes of the profile)"),
        (
            TLS,
            [{**SERVICE, "spec": {"clusterIP": "None"}}],
            "tls: Service ingress/ingress has no address of its own; give ingress.routes an address",
        ),
    ],
)
def test_where_the_controller_answers_is_not_known(route: Route, services: list[dict[str, Any]], reason: str) -> None:
    assert measure(FakeCluster(services=services), route).reason == reason


def test_what_keeps_from_measuring_is_the_reason() -> None:
    refused = measure(FakeCluster(), PLAIN, refused=ProbeError("Ingress k8snet-1/ingress-1 could not be made: no"))
    assert (refused.values, refused.reason) == (None, "Ingress k8snet-1/ingress-1 could not be made: no")
    fake = FakeCluster()
    fake.answer("node-1", "ingress.serve", AccessError("node-1: no server on port 8721: Address already in use"), role="pod")
    assert measure(fake, PLAIN).reason == "node-1: no server on port 8721: Address already in use"
    without = measure(FakeCluster(pods=False), PLAIN)
    assert (without.unsupported, without.reason) == (True, "access fake makes no probe pods here")
    broken = FakeCluster(["node-1"])
    broken.fail_probe("node-1", "node-1: no image")
    assert measure(broken, PLAIN).reason == "there is no probe pod that an Ingress could lead to"


def test_the_server_is_stopped_whatever_happens() -> None:
    fake = FakeCluster()
    fake.answer("node-2", "ingress.ask", AccessError("node-2: gone"), role="pod")
    assert measure(fake, PLAIN).reason == "node-2: gone"
    assert ("node-1", "pod", "ingress.stop") in fake.requests


def test_ipv6_addresses_are_written_as_urls_have_them() -> None:
    fake = FakeCluster()
    (route,) = record(fake, replace(PLAIN, address="2001:db8::7")).routes
    assert route.url == "http://[2001:db8::7]:80/"
