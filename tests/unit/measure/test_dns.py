from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.fake import ENDPOINT_SLICES, SERVICES, FakeCluster, healthy_dns
from pytest_k8snet.access.fakes import dns as fake_dns
from pytest_k8snet.cluster.dns import Dns, NodeLocal
from pytest_k8snet.measure import dns
from pytest_k8snet.measure.registry import MEASUREMENTS, DnsWishes, MeasureContext
from pytest_k8snet.record.dns import DnsRecord
from pytest_k8snet.record.document import Document

KUBE_DNS = {
    "metadata": {"name": "kube-dns", "namespace": "kube-system"},
    "spec": {"clusterIP": "10.96.0.10", "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]},
}


def endpoints(*addresses: str, ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {"name": "kube-dns-1", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "ports": [{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "dns-tcp", "port": 5353}, {"name": "metrics", "port": 9153}],
        "endpoints": [
            {"addresses": [address], "nodeName": "node-1", "targetRef": {"name": f"coredns-{address}"}, "conditions": {"ready": ready}}
            for address in addresses
        ],
    }


def measure(fake: FakeCluster, wishes: DnsWishes | None = None, *, settled_s: float = 0.0) -> dict[str, Document]:
    cluster = fake.read_cluster()
    probes = fake.start_probes(cluster, [*fake.nodes], "1").wait(Deadline.after(1))
    context = MeasureContext(
        cluster=cluster,
        access=fake.open_access(cluster, probes),
        probes=probes,
        services=fake.services,
        dns=wishes or DnsWishes(),
        settled=Deadline.after(settled_s),
    )
    return {item.subject: item for item in MEASUREMENTS["dns"].take(context, [*fake.nodes])}


def cluster(*slices: Mapping[str, Any], nodes: Sequence[str] = ("node-1", "node-2"), **changes: Any) -> FakeCluster:
    return FakeCluster(nodes, services=[*SERVICES, KUBE_DNS], endpoint_slices=[*ENDPOINT_SLICES, *slices], **changes)


def test_whom_a_pod_asks_and_what() -> None:
    fake = cluster(endpoints("10.244.1.9"), endpoints("10.244.1.8", ready=False))
    record = DnsRecord.from_document(measure(fake, DnsWishes(names=["example.com"]))["node-2"])
    asked = {(item.what, item.address, item.port, item.protocol, item.name, item.rounds[0].asked) for item in record.series}
    name = "kubernetes.default.svc.cluster.local."
    assert asked == {
        ("service", "10.96.0.10", 53, "UDP", name, 100),
        ("service", "10.96.0.10", 53, "TCP", name, 20),
        ("service", "10.96.0.10", 53, "pair", name, 20),
        ("outside", "10.96.0.10", 53, "UDP", "example.com.", 5),
        ("loopback", "127.0.0.1", 0, "loopback", name, 100),
        ("server", "10.244.1.9", 5353, "UDP", name, 10),
        ("server", "10.244.1.9", 5353, "TCP", name, 5),
    }
    assert {len(item.rounds) for item in record.series} == {1}
    assert (record.want, record.domain, record.domain_from, record.servers_total) == (("10.96.0.1",), "cluster.local", "Corefile", 1)
    assert record.search == ("k8snet-1.svc.cluster.local", "svc.cluster.local", "cluster.local")
    assert {walk.name: walk.questions for walk in record.walks} == {"kubernetes.default.svc": 6, "example.com": 6}
    assert {(node, role) for node, role, _ in fake.requests} == {("node-1", "pod"), ("node-2", "pod")}
    assert [(item.name, item.requests, item.resolve_ms, item.share, item.error) for item in record.requested] == [
        ("kubernetes.default", 7, 0.8, 0.113, None),
        ("kubernetes.default.svc.cluster.local", 7, 1.6, 0.203, None),
        (name, 7, 0.4, 0.06, None),
    ]


@pytest.mark.parametrize(("makes_device", "addresses"), [(True, ["169.254.20.10", "10.96.0.10"]), (False, ["10.96.0.10"])])
def test_a_cache_is_asked_at_addresses_that_it_makes(makes_device: bool, addresses: list[str]) -> None:
    fake = cluster(nodes=["node-1"])
    local = NodeLocal("kube-system/node-local-dns", 1, 1, ("169.254.20.10", "10.96.0.10"), makes_device)
    fake.dns = replace(healthy_dns(["node-1"]), node_local=local)
    record = DnsRecord.from_document(measure(fake)["node-1"])
    assert [series.address for series in record.of("cache", "service", protocols=("UDP",))] == addresses


@pytest.mark.parametrize(
    ("version", "said", "asked"),
    [
        ("v1.33.4-gke.1134000", {}, [("cloud", "169.254.169.254")]),
        ("v1.33.4-gke.1134000", {"addresses": [], "errors": {"NXDOMAIN": 1}}, [("service", "10.96.0.10")]),
        ("v1.33.4-gke.1134000", {"addresses": ["192.0.2.1"]}, [("service", "10.96.0.10")]),
        ("v1.33.4", {}, [("service", "10.96.0.10")]),
    ],
    ids=["cloud", "kube-dns", "another-cluster's", "elsewhere"],
)
def test_cloud_dns_is_asked_where_it_knows_the_cluster(version: str, said: Mapping[str, Any], asked: list[tuple[str, str]]) -> None:
    fake = cluster(nodes=["node-1"], version=version)

    def respond(params: Mapping[str, Any]) -> Any:
        alone = [series["address"] for series in params["series"]] == ["169.254.169.254"]
        return answering(said if alone else {})(params)

    fake.answer("node-1", "dns.ask", respond, role="pod")
    record = DnsRecord.from_document(measure(fake)["node-1"])
    assert [(series.what, series.address) for series in record.series if series.protocol == "pair"] == asked


def test_requests_that_were_not_answered() -> None:
    fake = cluster(endpoints("10.244.1.9"), nodes=["node-1"])
    silent = {"requests": [], "error": "timed out"}
    fake.answer("node-1", "dns.request", lambda params: dict.fromkeys(params["names"], silent), role="pod")
    first, *_ = DnsRecord.from_document(measure(fake)["node-1"]).requested
    assert (first.requests, first.resolve_ms, first.connect_ms, first.answer_ms, first.share, first.error) == (0, *[None] * 4, "timed out")


def answering(change: Mapping[str, Any]) -> Any:
    def respond(params: Mapping[str, Any]) -> Any:
        return {series["key"]: {**fake_dns.answered(series), **change} for series in params["series"]}

    return respond


@pytest.mark.parametrize(
    ("change", "rounds"),
    [({"ms": [0.4, 70.0]}, 3), ({"answered": 99, "errors": {"timed out": 1}}, 2), ({"ms": [], "errors": {"timed out": 2}}, 2)],
    ids=["slow", "unanswered", "silent"],
)
def test_what_was_not_well_is_asked_again(change: Mapping[str, Any], rounds: int) -> None:
    fake = cluster(nodes=["node-1"])
    fake.answer("node-1", "dns.ask", answering(change), role="pod")
    record = DnsRecord.from_document(measure(fake)["node-1"])
    assert {len(series.rounds) for series in record.of("service")} == {rounds}
    patient = DnsRecord.from_document(measure(fake, DnsWishes(slow_ms=100.0))["node-1"])
    assert {len(series.rounds) for series in patient.of("service")} == {1 if rounds == 3 else rounds}


@pytest.mark.parametrize(
    ("change", "timeout_s"), [({}, 5.0), ({"ms": [], "answered": 0, "errors": {"timed out": 2}}, 1.0)], ids=["answers", "silent"]
)
def test_where_nothing_is_answered_nothing_is_waited_for_long(change: Mapping[str, Any], timeout_s: float) -> None:
    """A walk through the search list would take minutes of time-outs, and no answer of it would be known."""
    fake, waited, ending = cluster(nodes=["node-1"]), [], []

    def ask(params: Mapping[str, Any]) -> Any:
        ending.append(params["most_unanswered"])
        return answering(change)(params)

    def walk(params: Mapping[str, Any]) -> Any:
        waited.append(params["timeout_s"])
        return fake_dns.respond(fake, "node-1", "pod", "dns.walk", params)

    fake.answer("node-1", "dns.ask", ask, role="pod")
    fake.answer("node-1", "dns.walk", walk, role="pod")
    measure(fake)
    assert waited == [timeout_s]
    assert ending == ([2, 2] if timeout_s == dns.TIMEOUT_S else [2, 1, 1])


def test_a_proxy_that_has_just_begun_is_given_the_time_of_a_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "_BETWEEN_S", 0.0)
    fake, asked = cluster(nodes=["node-1"]), []

    def respond(params: Mapping[str, Any]) -> Any:
        asked.append({series["address"] for series in params["series"]})
        refused = {"ms": [], "answered": 0, "errors": {"Connection refused": 2}}
        return answering({} if len(asked) > 5 else refused)(params)

    fake.answer("node-1", "dns.ask", respond, role="pod")
    record = DnsRecord.from_document(measure(fake, settled_s=60)["node-1"])
    for series in record.of("service"):
        assert len(series.rounds) > dns.FAILED_ROUNDS
        assert series.rounds[-1].answered == series.rounds[-1].asked


def test_of_many_servers_each_node_asks_others() -> None:
    fake = cluster(endpoints(*(f"10.244.1.{number:02}" for number in range(10, 30))))
    records = {name: DnsRecord.from_document(document) for name, document in measure(fake).items()}
    asked = {name: {series.address for series in record.of("server")} for name, record in records.items()}
    assert {len(addresses) for addresses in asked.values()} == {dns.MOST_SERVERS}
    assert asked["node-1"].isdisjoint(asked["node-2"])
    assert records["node-1"].servers_total == 20


def test_the_domain() -> None:
    fake = cluster(nodes=["node-1"])
    given = DnsRecord.from_document(measure(fake, DnsWishes(domain="k8s.example."))["node-1"])
    assert (given.domain, given.domain_from) == ("k8s.example", "profile")
    fake.dns = Dns(service="kube-system/kube-dns", addresses=("10.96.0.10",))
    assumed = DnsRecord.from_document(measure(fake)["node-1"])
    assert (assumed.domain, assumed.domain_from) == ("cluster.local", "assumed")


@pytest.mark.parametrize(
    ("found", "absent", "unread"),
    [
        (Dns(), "kube-system has no Service with label k8s-app=kube-dns: DNS is somebody else's here", False),
        (Dns(unreadable={"Services": "403"}), "the cluster's DNS is not known: 403", True),
    ],
)
def test_a_cluster_without_dns_of_its_own(found: Dns, absent: str, unread: bool) -> None:
    fake = FakeCluster(["node-1"], dns=found)
    record = DnsRecord.from_document(measure(fake)["node-1"])
    assert (record.absent, record.unread) == (absent, unread)


def test_without_pods_there_is_nobody_to_ask() -> None:
    fake = FakeCluster(["node-1"], pods=False)
    document = measure(fake)["node-1"]
    assert (document.unsupported, document.reason) == (True, "access fake makes no probe pods here")
