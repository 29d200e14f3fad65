"""kube-proxy's nftables table, as a node of a real lab listed it, read as what it serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.cluster import nft_table
from pytest_k8snet.cluster.ipvs_table import Endpoint, ServerKey
from pytest_k8snet.cluster.virtual_servers import IPVS, NFTABLES, Backend, differences, wanted
from pytest_k8snet.errors import RecordError

LISTING = (Path(__file__).parent / "nft" / "kube-proxy.json").read_text()
L4 = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}}
SADDR = {"payload": {"protocol": "ip", "field": "saddr"}}


def rule(chain: str, *expr: Any) -> dict[str, Any]:
    return {"rule": {"family": "ip", "table": "kube-proxy", "chain": chain, "handle": 1, "expr": list(expr)}}


def goto(chain: str) -> dict[str, Any]:
    return {"goto": {"target": chain}}


def dnat(address: str, port: int) -> dict[str, Any]:
    return {"dnat": {"addr": address, "port": port}}


def listing(elements: dict[str, list[Any]], *others: dict[str, Any]) -> str:
    names = (*nft_table.SERVICE_MAPS, *nft_table.NODE_PORT_MAPS, nft_table.NODE_PORT_ADDRESSES)
    maps = [{"map": {"name": name, "elem": elements[name]} if name in elements else {"name": name}} for name in names]
    return json.dumps({"nftables": [*maps, *others]})


def served(text: str) -> dict[str, tuple[set[str], int | None]]:
    found = nft_table.servers([nft_table.trimmed(text)])
    return {str(server.key): ({str(endpoint) for endpoint in server.endpoints}, server.persistent_s) for server in found}


def test_a_table_of_the_lab() -> None:
    metrics = {"10.200.1.2:9153", "10.200.2.2:9153"}
    dns = {"10.200.1.2:53", "10.200.2.2:53"}
    assert served(LISTING) == {
        "TCP 10.96.0.1:443": ({"10.199.0.1:6443"}, None),
        "TCP 10.96.0.10:53": (dns, None),
        "UDP 10.96.0.10:53": (dns, None),
        "TCP 10.96.0.10:9153": (metrics, None),
    }
    assert nft_table.node_port_addresses([nft_table.trimmed(LISTING)]) == ["10.199.0.11"]


def test_what_is_kept_is_what_is_read() -> None:
    kept = json.dumps(nft_table.trimmed(LISTING))
    assert len(kept) < len(LISTING) / 4
    assert "handle" not in kept


def test_session_affinity_is_that_of_the_endpoints_chains() -> None:
    key = [{"concat": ["10.96.0.7", "tcp", 80]}, goto("service-A")]
    random = {"numgen": {"mode": "random", "mod": 2, "offset": 0}}
    text = listing(
        {"service-ips": [key]},
        {"set": {"name": "affinity-1", "timeout": 900}},
        {"set": {"name": "affinity-2", "timeout": 900}},
        rule("service-A", {"match": {"op": "==", "left": SADDR, "right": "@affinity-1"}}, goto("endpoint-1")),
        rule("service-A", {"vmap": {"key": random, "data": {"set": [[0, goto("endpoint-1")], [1, goto("endpoint-2")]]}}}),
        rule("endpoint-1", {"set": {"op": "update", "elem": SADDR, "set": "@affinity-1"}}),
        rule("endpoint-1", L4, dnat("10.244.1.5", 8080)),
        rule("endpoint-2", {"set": {"op": "update", "elem": SADDR, "set": "@affinity-2"}}),
        rule("endpoint-2", L4, dnat("10.244.2.6", 8080)),
    )
    assert served(text) == {"TCP 10.96.0.7:80": ({"10.244.1.5:8080", "10.244.2.6:8080"}, 900)}


def test_node_ports_are_on_the_addresses_that_have_them_and_a_local_policy_has_the_nodes_own_endpoints() -> None:
    text = listing(
        {
            "service-nodeports": [[{"concat": ["tcp", 30080]}, goto("external-A")]],
            "nodeport-ips": ["192.168.10.11"],
        },
        rule("external-A", {"match": {"op": "==", "left": SADDR, "right": "10.244.0.0/16"}}, goto("service-A")),
        rule("external-A", goto("local-A")),
        rule("service-A", L4, dnat("10.244.2.6", 8080)),
        rule("local-A", L4, dnat("10.244.1.5", 8080)),
    )
    assert served(text) == {"TCP 192.168.10.11:30080": ({"10.244.1.5:8080"}, None)}


def test_a_service_without_endpoints_is_served_with_none() -> None:
    refused = [{"elem": {"val": {"concat": ["10.96.0.8", "udp", 53]}, "comment": "default/nobody"}}, goto("reject-chain")]
    dropped = [{"concat": ["tcp", 30081]}, {"drop": None}]
    text = listing({"no-endpoint-services": [refused], "no-endpoint-nodeports": [dropped], "nodeport-ips": ["192.168.10.11"]})
    assert served(text) == {"UDP 10.96.0.8:53": (set(), None), "TCP 192.168.10.11:30081": (set(), None)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Error: syntax", "not a listing of nft: "),
        ('{"nftables": [{"map": {}}]}', "not a listing of nft: KeyError('name')"),
        ('{"nftables": []}', "the table kube-proxy has no no-endpoint-nodeports, no-endpoint-services, nodeport-ips, "),
        (listing({"service-ips": [["x", goto("service-A")]]}), "a key of the table kube-proxy is not one that kube-proxy writes: x"),
        (
            listing({"service-ips": [[{"concat": ["10.96.0.1", "tcp", 1]}, {"drop": None}]]}),
            "a verdict of the table kube-proxy leads to no",
        ),
        (
            listing(
                {"service-ips": [[{"concat": ["10.96.0.1", "tcp", 1]}, goto("service-A")]]}, rule("service-A", {"dnat": {"addr": {"x": 1}}})
            ),
            "a DNAT of the table kube-proxy is not one that kube-proxy writes: ",
        ),
    ],
)
def test_what_is_not_understood_is_never_a_verdict(text: str, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        served(text)
    assert message in str(caught.value)


LOCAL = {
    "metadata": {"namespace": "default", "name": "web"},
    "spec": {"clusterIP": "10.96.0.9", "internalTrafficPolicy": "Local", "ports": [{"port": 80}]},
}
ELSEWHERE = {
    "metadata": {"namespace": "default", "name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "ports": [{"port": 8080}],
    "endpoints": [{"addresses": ["10.244.2.6"], "nodeName": "node-2"}],
}


@pytest.mark.parametrize(("backend", "endpoints"), [(IPVS, set()), (NFTABLES, set())])
def test_an_internal_local_policy_without_own_endpoints(backend: Backend, endpoints: set[Endpoint]) -> None:
    found = wanted([LOCAL], [ELSEWHERE], node="node-1", node_ips=["192.168.10.11"], backend=backend)
    assert found[ServerKey("TCP", "10.96.0.9", 80)].endpoints == endpoints


@pytest.mark.parametrize(("backend", "endpoints"), [(IPVS, {Endpoint("10.244.2.6", 8080)}), (NFTABLES, set())])
def test_only_ipvs_mode_serves_an_external_local_policy_with_endpoints_of_other_nodes(backend: Backend, endpoints: set[Endpoint]) -> None:
    spec = {"clusterIP": "10.96.0.9", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]}
    services = [{**LOCAL, "spec": spec}]
    found = wanted(services, [ELSEWHERE], node="node-1", node_ips=["192.168.10.11"], backend=backend)
    assert found[ServerKey("TCP", "192.168.10.11", 30080)].endpoints == endpoints
    assert found[ServerKey("TCP", "10.96.0.9", 80)].endpoints == {Endpoint("10.244.2.6", 8080)}


def test_differences_are_told_in_words_of_this_mode() -> None:
    text = listing(
        {"service-ips": [[{"concat": ["10.96.0.99", "tcp", 80]}, goto("service-A")]]}, rule("service-A", L4, dnat("10.244.2.6", 8080))
    )
    found = differences(
        nft_table.servers([nft_table.trimmed(text)]), [LOCAL], [], [], node="node-1", node_ips=["192.168.10.11"], backend=NFTABLES
    )
    assert [difference.message for difference in found] == [
        "TCP 10.96.0.9:80: no entry, Service default/web port 80 wants one",
        "TCP 10.96.0.99:80: no Service asks for this entry",
    ]
