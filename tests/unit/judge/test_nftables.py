"""Judge kube-proxy's nftables table: what a real node listed, and what may be wrong with it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.cluster import nft_table
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import ProxyExpectation
from pytest_k8snet.judge import proxy
from pytest_k8snet.record.document import Document
from tests.unit.judge.builder import document, facts, outcome, told

LISTING = (Path(__file__).parent.parent / "cluster" / "nft" / "kube-proxy.json").read_text()
HEALTHY = nft_table.trimmed(LISTING)
METRICS = "service-AS2KJYAD-kube-system/kube-dns/tcp/metrics"
READ = "(nft list table ip kube-proxy)"


def ports(*given: tuple[str, str, int]) -> list[dict[str, Any]]:
    return [{"name": name, "protocol": protocol, "port": port} for name, protocol, port in given]


DNS = ports(("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("metrics", "TCP", 9153))
NODE_PORT = {
    "metadata": {"namespace": "default", "name": "web"},
    "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80, "nodePort": 30080}]},
}
SERVICES = [
    {"metadata": {"namespace": "default", "name": "kubernetes"}, "spec": {"clusterIP": "10.96.0.1", "ports": ports(("https", "TCP", 443))}},
    {"metadata": {"namespace": "kube-system", "name": "kube-dns"}, "spec": {"clusterIP": "10.96.0.10", "ports": DNS}},
]
SLICES = [
    {
        "metadata": {"namespace": "default", "name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "ports": ports(("https", "TCP", 6443)),
        "endpoints": [{"addresses": ["10.199.0.1"]}],
    },
    {
        "metadata": {"namespace": "kube-system", "name": "kube-dns-x", "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "ports": DNS,
        "endpoints": [{"addresses": ["10.200.1.2"]}, {"addresses": ["10.200.2.2"]}],
    },
]
NFTABLES = facts(kube_proxy={"mode": "nftables", "mode_error": None, "listening": True, "processes": []})


def changed(change: Callable[[Any], object]) -> dict[str, Any]:
    table = copy.deepcopy(HEALTHY)
    change(table)
    return table


def reading(*tables: dict[str, Any], second: int = 0, services: list[dict[str, Any]] = SERVICES, objects: tuple[str, ...] = ()) -> Any:
    at = f"2026-11-24T03:00:{second:02}+00:00"
    return {"at": at, "table": None, "nft": list(tables), "services": services, "endpoint_slices": SLICES, "changed": list(objects)}


def record(*readings: Any, **changes: Any) -> Document:
    values = {"loaded": False, "sync_period_s": 30.0, "kube_ipvs0": False, "node_ips": ["10.199.0.11"], "readings": list(readings)}
    return document("ipvs", "node-1", {**values, **changes})


def judged(given: Document) -> tuple[str, str]:
    return outcome(proxy.nft_table_matches(given, NFTABLES, ProxyExpectation(), "10.199.0.11"))


def lasting(*tables: dict[str, Any], **options: Any) -> Document:
    return record(reading(*tables, **options), reading(*tables, second=35, **options))


STALE = changed(lambda table: table["chains"].update({METRICS: [[{"dnat": {"addr": "192.0.2.1", "port": 9153}}]]}))
ONE_LESS = changed(lambda table: table["elements"]["service-ips"].pop())
OWNER = "Service kube-system/kube-dns port metrics"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(record(reading(HEALTHY)), ("pass", ""), id="healthy"),
        pytest.param(record(reading(STALE), reading(HEALTHY, second=12)), ("pass", ""), id="healed-within-one-sync"),
        pytest.param(
            lasting(STALE),
            (
                "fail",
                (
                    f"node-1: TCP 10.96.0.10:9153: destination 192.0.2.1:9153 is no endpoint of {OWNER}, for 35 s {READ}\n"
                    f"node-1: TCP 10.96.0.10:9153: no destination 10.200.1.2:9153, an endpoint of {OWNER}, for 35 s {READ}\n"
                    f"node-1: TCP 10.96.0.10:9153: no destination 10.200.2.2:9153, an endpoint of {OWNER}, for 35 s {READ}"
                ),
            ),
            id="stale-endpoint",
        ),
        pytest.param(
            lasting(ONE_LESS),
            ("fail", f"node-1: TCP 10.96.0.10:9153: no entry, {OWNER} wants one, for 35 s {READ}"),
            id="missing",
        ),
        pytest.param(
            lasting(HEALTHY, services=SERVICES[1:]),
            ("fail", f"node-1: TCP 10.96.0.1:443: no Service asks for this entry, for 35 s {READ}"),
            id="left-over",
        ),
        pytest.param(
            record(reading(ONE_LESS)),
            (
                "inconclusive",
                (
                    "node-1: seen over 0 s only, kube-proxy has one sync period (30 s) to heal it: "
                    f"TCP 10.96.0.10:9153: no entry, {OWNER} wants one {READ}"
                ),
            ),
            id="not-read-again",
        ),
        pytest.param(record(), ("error", f"node-1: kube-proxy's nftables table was not read {READ}"), id="no-reading"),
        pytest.param(
            record({**reading(), "nft": None, "table": "IP Virtual Server version 1.2.1\nProt\n  ->\n"}),
            ("error", f"node-1: kube-proxy's nftables table was not read {READ}"),
            id="only-the-ipvs-table",
        ),
    ],
)
def test_nft_table_matches(given: Document, expected: tuple[str, str]) -> None:
    assert judged(given) == expected


def test_a_table_that_was_removed_serves_nothing() -> None:
    verdict, message = judged(lasting())
    assert verdict == "fail"
    assert len(message.splitlines()) == 4
    assert "TCP 10.96.0.1:443: no entry, Service default/kubernetes port https wants one" in message


def test_node_ports_are_judged_where_an_address_has_them() -> None:
    """Of a Service without endpoints: it must be among those that are refused."""
    refused = {"concat": ["10.96.7.7", "tcp", 80]}, {"goto": {"target": "reject-chain"}}
    table = changed(lambda table: table["elements"]["no-endpoint-services"].append(refused))
    verdict, message = judged(lasting(table, services=[*SERVICES, NODE_PORT]))
    assert (verdict, message) == (
        "fail",
        f"node-1: TCP 10.199.0.11:30080: no entry, Service default/web port 80 wants one, for 35 s {READ}",
    )
    nowhere = changed(lambda table: table["elements"].update({"no-endpoint-services": [refused], "nodeport-ips": []}))
    assert judged(lasting(nowhere, services=[*SERVICES, NODE_PORT])) == ("pass", "")


def test_what_changed_meanwhile_is_told_and_not_judged() -> None:
    judgement = proxy.nft_table_matches(
        lasting(STALE, objects=("EndpointSlice kube-system/kube-dns-x",)), NFTABLES, ProxyExpectation(), "10.199.0.11"
    )
    assert outcome(judgement) == ("pass", "")
    assert len(told(judgement, "remark")) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (document("ipvs", "node-1", None, "node-1: nft: exit status 1"), "node-1: no nftables table: nft: exit status 1"),
        (record(reading({"elements": {}})), "node-1: the ipvs document is damaged: KeyError('service-ips')"),
    ],
)
def test_an_unusable_record_is_never_a_verdict(given: Document, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        judged(given)
    assert str(caught.value) == message


def test_the_listing_is_of_a_lab() -> None:
    assert json.loads(LISTING)["nftables"][0]["metainfo"]["version"] == "1.0.6"
