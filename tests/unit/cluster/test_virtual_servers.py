from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.cluster.ipvs_table import ServerKey, parse_table
from pytest_k8snet.cluster.virtual_servers import differences, wanted
from tests.unit.judge.builder import TABLE_HEAD

NODE_IPS = ["192.168.10.11", "fd00:10::11"]
CLUSTER_IP = ServerKey("TCP", "10.96.0.20", 80)
NODE_PORT = ServerKey("TCP", "192.168.10.11", 30080)
HERE, THERE, FAR = "10.244.1.5:8080", "10.244.2.5:8080", "10.244.3.5:8080"


def service(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": "web", "labels": spec.pop("labels", {})},
        "spec": {"clusterIP": "10.96.0.20", "ports": [{"port": 80, "targetPort": 8080}], **spec},
        "status": {"loadBalancer": {"ingress": spec.pop("ingress", [])}},
    }


def endpoint(address: str, node: str, **conditions: Any) -> dict[str, Any]:
    hints = conditions.pop("hints", {})
    return {"addresses": [address], "nodeName": node, "conditions": conditions, "hints": hints}


def slices(*endpoints: dict[str, Any], family: str = "IPv4") -> list[dict[str, Any]]:
    metadata = {"namespace": "default", "name": f"web-{family}", "labels": {"kubernetes.io/service-name": "web"}}
    return [{"metadata": metadata, "addressType": family, "ports": [{"port": 8080}], "endpoints": list(endpoints)}]


THREE = slices(endpoint("10.244.1.5", "node-1"), endpoint("10.244.2.5", "node-2"), endpoint("10.244.3.5", "node-3"))
LOCAL_NODE_PORT = {"ports": [{"port": 80, "nodePort": 30080}], "externalTrafficPolicy": "Local"}


def zone(name: str) -> dict[str, Any]:
    return {"forZones": [{"name": name}]}


@pytest.mark.parametrize(
    ("spec", "found", "expected"),
    [
        pytest.param({}, THREE, {CLUSTER_IP: {HERE, THERE, FAR}}, id="cluster-ip"),
        pytest.param({}, [], {CLUSTER_IP: set()}, id="no-endpoints"),
        pytest.param({"clusterIP": "None"}, THREE, {}, id="headless"),
        pytest.param({"type": "ExternalName", "clusterIP": None}, THREE, {}, id="external-name"),
        pytest.param({"labels": {"service.kubernetes.io/service-proxy-name": "other"}}, THREE, {}, id="of-another-proxy"),
        pytest.param(
            {},
            slices(endpoint("10.244.1.5", "node-1", ready=False), endpoint("10.244.2.5", "node-2", ready=True)),
            {CLUSTER_IP: {THERE}},
            id="not-ready",
        ),
        pytest.param(
            {},
            slices(
                endpoint("10.244.1.5", "node-1", ready=False, serving=True, terminating=True),
                endpoint("10.244.2.5", "node-2", ready=False, serving=False, terminating=True),
            ),
            {CLUSTER_IP: {HERE}},
            id="only-terminating-ones",
        ),
        pytest.param({"internalTrafficPolicy": "Local"}, THREE, {CLUSTER_IP: {HERE}}, id="internal-local"),
        pytest.param(
            {"internalTrafficPolicy": "Local"}, slices(endpoint("10.244.2.5", "node-2")), {CLUSTER_IP: set()}, id="internal-elsewhere"
        ),
        pytest.param(LOCAL_NODE_PORT, THREE, {CLUSTER_IP: {HERE, THERE, FAR}, NODE_PORT: {HERE}}, id="external-local"),
        pytest.param(
            LOCAL_NODE_PORT,
            slices(endpoint("10.244.2.5", "node-2")),
            {CLUSTER_IP: {THERE}, NODE_PORT: {THERE}},
            id="external-local-elsewhere-falls-back",
        ),
        pytest.param(
            {"ingress": [{"ip": "203.0.113.7"}, {"ip": "203.0.113.8", "ipMode": "Proxy"}, {"hostname": "lb.example"}]},
            slices(endpoint("10.244.1.5", "node-1")),
            {CLUSTER_IP: {HERE}, ServerKey("TCP", "203.0.113.7", 80): {HERE}},
            id="load-balancer",
        ),
        pytest.param(
            {},
            slices(endpoint("10.244.1.5", "node-1", hints=zone("a")), endpoint("10.244.2.5", "node-2", hints=zone("b"))),
            {CLUSTER_IP: {HERE}},
            id="hints",
        ),
        pytest.param(
            {},
            slices(endpoint("10.244.1.5", "node-1", hints=zone("a")), endpoint("10.244.2.5", "node-2")),
            {CLUSTER_IP: {HERE, THERE}},
            id="hints-of-some-only",
        ),
        pytest.param(
            {"clusterIPs": ["10.96.0.20", "fd00:96::20"]},
            [*slices(endpoint("10.244.1.5", "node-1")), *slices(endpoint("fd00:244:1::5", "node-1"), family="IPv6")],
            {CLUSTER_IP: {HERE}, ServerKey("TCP", "fd00:96::20", 80): {"[fd00:244:1::5]:8080"}},
            id="both-families",
        ),
    ],
)
def test_what_a_service_asks_for(spec: dict[str, Any], found: list[dict[str, Any]], expected: dict[ServerKey, set[str]]) -> None:
    servers = wanted([service(**dict(spec))], found, node="node-1", node_ips=NODE_IPS, zone="a")
    assert {key: {str(item) for item in server.endpoints} for key, server in servers.items()} == expected


V6 = f"{TABLE_HEAD}TCP  0A600014:0050 rr\n  -> 0AF40105:1F90      Masq    1      0          0\n"


@pytest.mark.parametrize(
    ("table", "messages"),
    [
        pytest.param(
            V6 + "TCP  [fd00:0096:0000:0000:0000:0000:0000:0020]:0050 rr\n"
            "  -> [fd00:0244:0001:0000:0000:0000:0000:0005]:1F90      Masq    1      0          0\n",
            [],
            id="both-families",
        ),
        pytest.param(
            V6, ["TCP [fd00:96::20]:80: no virtual server, Service default/web port 80 wants one"], id="the-second-family-is-missing"
        ),
    ],
)
def test_both_families_of_a_table(table: str, messages: list[str]) -> None:
    found = [*slices(endpoint("10.244.1.5", "node-1")), *slices(endpoint("fd00:244:1::5", "node-1"), family="IPv6")]
    dual = [service(clusterIPs=["10.96.0.20", "fd00:96::20"])]
    result = differences(parse_table(table), dual, found, [], node="node-1", node_ips=NODE_IPS)
    assert [item.message for item in result] == messages


def virtual_servers(*places: str) -> str:
    return TABLE_HEAD + "".join(f"TCP  {place} rr\n  -> 0AF40105:1F90      Masq    1      0          0\n" for place in places)


@pytest.mark.parametrize(
    ("address", "messages"),
    [
        ("C0A80AFA", []),  # the load balancer's, which kube-vip has put on the uplink
        ("C0A80A63", []),  # that of any other device of the node
        ("0A600014", ["TCP 10.96.0.20:30080: no Service asks for this virtual server"]),
    ],
    ids=["load-balancer", "other-device", "cluster-ip"],
)
def test_node_ports_are_on_every_address_of_the_node(address: str, messages: list[str]) -> None:
    spec = {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080}], "ingress": [{"ip": "192.168.10.250"}]}
    table = parse_table(virtual_servers("0A600014:0050", "C0A80AFA:0050", "C0A80A0B:7580", f"{address}:7580"))
    found = differences(table, [service(**spec)], slices(endpoint("10.244.1.5", "node-1")), [], node="node-1", node_ips=NODE_IPS[:1])
    assert [item.message for item in found] == messages


AFFINITY = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}
WANTS = "want ClientIP for 10800 s (Service default/web port 80)"


@pytest.mark.parametrize(
    ("flags", "spec", "told"),
    [
        ("persistent 1080000 FFFFFFFF", AFFINITY, None),
        ("persistent 2700000 FFFFFFFF", AFFINITY, None),
        ("persistent 10800000 FFFFFFFF", AFFINITY, None),
        ("", {}, None),
        ("persistent 36000 FFFFFFFF", AFFINITY, f"session affinity ClientIP for 36000 ticks of the kernel's clock, {WANTS}"),
        ("", AFFINITY, f"session affinity none, {WANTS}"),
        ("persistent 1080000 FFFFFFFF", {}, "session affinity ClientIP for 1080000 ticks of the kernel's clock, want none"),
    ],
    ids=["100-hz", "250-hz", "1000-hz", "none", "another-time", "lost", "left"],
)
def test_ipvs_tells_the_time_of_an_affinity_in_ticks(flags: str, spec: dict[str, Any], told: str | None) -> None:
    table = parse_table(f"{TABLE_HEAD}TCP  0A600014:0050 rr {flags}\n  -> 0AF40105:1F90      Masq    1      0          0\n")
    found = differences(table, [service(**spec)], slices(endpoint("10.244.1.5", "node-1")), [], node="node-1", node_ips=NODE_IPS)
    messages = [item.message for item in found]
    assert len(messages) == (told is not None)
    assert told is None or told in messages[0]
