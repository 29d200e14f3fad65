"""Cilium's maps of Services, read as what they serve."""

from __future__ import annotations

import base64
import ipaddress
import struct
from typing import Any

import pytest

from pytest_k8snet.cluster import cilium_map
from pytest_k8snet.cluster.ipvs_table import Endpoint, ServerKey
from pytest_k8snet.errors import RecordError

AFFINITY, HOST_PORT, LOCAL_REDIRECT = 1 << 4, 1 << 3, 1 << 0


def service_entry(address: str, port: int, slot: int, number: int = 0, *, count: int = 0, **more: Any) -> bytes:
    packed = ipaddress.ip_address(address).packed
    order = more.get("order", "<")
    key = packed + struct.pack(">H", port) + struct.pack(f"{order}HBB2x", slot, more.get("protocol", 0), more.get("scope", 0))
    return key + struct.pack(f"{order}IHHBB2x", number, count, 1, more.get("flags", 0), more.get("flags2", 0))


def backend_entry(number: int, address: str, port: int, order: str = "<") -> bytes:
    return struct.pack(f"{order}I", number) + ipaddress.ip_address(address).packed + struct.pack(">HBBHBB", port, 0, 0, 0, 0, 0)


def table(key_bytes: int, value_bytes: int, *entries: bytes) -> dict[str, Any]:
    return {"key_bytes": key_bytes, "value_bytes": value_bytes, "entries": base64.b64encode(b"".join(entries)).decode()}


def answer(services: list[bytes], backends: list[bytes], *, big_endian: bool = False) -> dict[str, Any]:
    return {"big_endian": big_endian, "4": {"services": table(12, 12, *services), "backends": table(4, 12, *backends)}, "6": None}


def frontend(services: list[bytes], backends: list[bytes]) -> dict[str, Any]:
    (only,) = cilium_map.frontends(answer(services, backends))
    return only


def service(name: str, cluster_ip: str, *ports: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "default", "name": name, **metadata}, "spec": {"clusterIP": cluster_ip, "ports": list(ports)}}


def endpoint_slice(name: str, port: int, *addresses: str, **entry: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": f"{name}-x", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "", "protocol": protocol, "port": port} for protocol in ("TCP", "UDP")],
        "endpoints": [{"addresses": [address], **entry} for address in addresses],
    }


WEB = service("web", "10.96.7.7", {"port": 80})
TWO = [service_entry("10.96.7.7", 80, 0, count=2), service_entry("10.96.7.7", 80, 1, 5), service_entry("10.96.7.7", 80, 2, 6)]
BACKENDS = [backend_entry(5, "10.200.1.5", 8080), backend_entry(6, "10.200.2.6", 8080)]


def found(services: list[bytes], backends: list[bytes], asked: list[dict[str, Any]], *slices: dict[str, Any]) -> list[str]:
    known = cilium_map.frontends(answer(services, backends))
    return [
        item.message
        for item in cilium_map.differences(known, asked, list(slices), (), node="node-1", node_ips=["10.199.0.11"], zone="zone-a")
    ]


def test_a_frontend_has_the_backends_of_its_slots() -> None:
    assert frontend(TWO, BACKENDS) == {
        "address": "10.96.7.7",
        "port": 80,
        "protocol": "ANY",
        "affinity_s": None,
        "redirected": False,
        "backends": ["10.200.1.5:8080", "10.200.2.6:8080"],
        "lost_slots": 0,
    }


def test_slots_that_lead_to_no_backend_are_counted() -> None:
    assert frontend(TWO[:2], BACKENDS)["lost_slots"] == 1
    lost = frontend(TWO, BACKENDS[:1])
    assert (lost["backends"], lost["lost_slots"]) == (["10.200.1.5:8080"], 1)


def test_slots_beyond_the_count_are_left_over() -> None:
    assert frontend([service_entry("10.96.7.7", 80, 0, count=1), *TWO[1:]], BACKENDS)["backends"] == ["10.200.1.5:8080"]


def test_flags() -> None:
    sticky = frontend([service_entry("10.96.7.7", 80, 0, 10800, flags=AFFINITY)], [])
    assert (sticky["affinity_s"], sticky["backends"]) == (10800, [])
    assert frontend([service_entry("10.96.7.7", 80, 0, flags2=LOCAL_REDIRECT)], [])["redirected"]
    assert frontend([service_entry("10.96.7.7", 80, 0, protocol=17)], [])["protocol"] == "UDP"


@pytest.mark.parametrize(
    "entry",
    [
        service_entry("10.199.0.11", 8080, 0, flags=HOST_PORT),
        service_entry("0.0.0.0", 30080, 0),  # noqa: S104 - an entry of a map
        service_entry("10.96.7.7", 80, 0, scope=1),
        service_entry("10.96.7.7", 0, 0),
    ],
    ids=["hostPort", "all of the node's addresses", "clients inside", "all ports"],
)
def test_what_no_service_asks_for_is_left_out(entry: bytes) -> None:
    assert cilium_map.frontends(answer([entry], [])) == []


def test_ipv6_and_the_other_byte_order() -> None:
    services = table(24, 12, service_entry("fd00::1", 80, 0, count=1, order=">"), service_entry("fd00::1", 80, 1, 5, order=">"))
    backends = table(4, 24, backend_entry(5, "fd01::5", 8080, ">"))
    (only,) = cilium_map.frontends({"big_endian": True, "4": None, "6": {"services": services, "backends": backends}})
    assert (only["address"], only["backends"]) == ("fd00::1", ["[fd01::5]:8080"])
    (server,) = cilium_map.servers([only], [])
    assert server.endpoints == {Endpoint("fd01::5", 8080)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"services": table(16, 12)}, r"map of services \(IPv4\) has keys of 16 and values of 12 bytes, those of Cilium 1\.13 to 1\.18"),
        ({"backends": table(4, 16)}, r"map of backends \(IPv4\) has keys of 4 and values of 16 bytes"),
        ({"backends": None}, r"map of backends \(IPv4\) is not there"),
    ],
)
def test_maps_that_nobody_here_knows_are_an_error(changes: dict[str, Any], message: str) -> None:
    told = answer(TWO, BACKENDS)
    told["4"] |= changes
    with pytest.raises(RecordError, match=message):
        cilium_map.frontends(told)


def test_a_frontend_without_a_protocol_stands_for_those_that_are_asked_for() -> None:
    known = cilium_map.frontends(answer([*TWO, service_entry("10.199.0.11", 30080, 0)], BACKENDS))
    dns = service("dns", "10.96.7.7", {"port": 80, "protocol": "UDP", "nodePort": 30080}, {"port": 80})
    keys = {server.key for server in cilium_map.servers(known, [dns])}
    assert keys == {ServerKey("TCP", "10.96.7.7", 80), ServerKey("UDP", "10.96.7.7", 80), ServerKey("UDP", "10.199.0.11", 30080)}
    assert {server.key.protocol for server in cilium_map.servers(known, [])} == {"TCP"}


def test_nothing_differs() -> None:
    assert found(TWO, BACKENDS, [WEB], endpoint_slice("web", 8080, "10.200.1.5", "10.200.2.6")) == []


def test_differences() -> None:
    slices = endpoint_slice("web", 8080, "10.200.1.5", "10.200.2.6")
    assert found([], [], [WEB], slices) == ["TCP 10.96.7.7:80: no frontend, Service default/web port 80 wants one"]
    assert found(TWO, BACKENDS[:1], [WEB], slices) == [
        "TCP 10.96.7.7:80: no backend 10.200.2.6:8080, an endpoint of Service default/web port 80"
    ]
    assert found(TWO, BACKENDS, [WEB], endpoint_slice("web", 8080, "10.200.1.5"))[0].startswith("TCP 10.96.7.7:80: ")
    assert found(TWO, BACKENDS, []) == ["TCP 10.96.7.7:80: no Service asks for this frontend"]
    sticky = [service_entry("10.96.7.7", 80, 0, 60, count=2, flags=AFFINITY), *TWO[1:]]
    assert found(sticky, BACKENDS, [WEB], slices) == [
        "TCP 10.96.7.7:80: session affinity ClientIP for 60 s, want none (Service default/web port 80)"
    ]


def test_stale_backends_are_named() -> None:
    assert found(TWO, BACKENDS, [WEB], endpoint_slice("web", 8080, "10.200.1.5")) == [
        "TCP 10.96.7.7:80: backend 10.200.2.6:8080 is no endpoint of Service default/web port 80"
    ]


def test_topology_hints_may_be_heeded_or_not() -> None:
    here = endpoint_slice("web", 8080, "10.200.1.5", hints={"forZones": [{"name": "zone-a"}]})
    there = endpoint_slice("web", 8080, "10.200.2.6", hints={"forZones": [{"name": "zone-b"}]})
    there["metadata"]["name"] = "web-y"
    assert found(TWO, BACKENDS, [WEB], here, there) == []
    assert found([service_entry("10.96.7.7", 80, 0, count=1), TWO[1]], BACKENDS, [WEB], here, there) == []
    assert len(found([service_entry("10.96.7.7", 80, 0, count=1), TWO[2]], BACKENDS, [WEB], here, there)) == 1


@pytest.mark.parametrize("annotation", ["service.cilium.io/global", "io.cilium/global-service"])
def test_services_of_a_mesh_have_endpoints_elsewhere(annotation: str) -> None:
    shared = service("web", "10.96.7.7", {"port": 80}, annotations={annotation: "true"})
    assert found(TWO, BACKENDS, [shared], endpoint_slice("web", 8080, "10.200.1.5")) == []


def test_services_that_some_nodes_serve_are_not_judged() -> None:
    some = service("web", "10.96.7.7", {"port": 80}, annotations={"service.cilium.io/node": "edge"})
    assert found([], [], [some], endpoint_slice("web", 8080, "10.200.1.5")) == []


def test_cilium_waits_for_a_first_endpoint_slice() -> None:
    assert found([], [], [WEB]) == []
    assert found([], [], [WEB], endpoint_slice("web", 8080)) == ["TCP 10.96.7.7:80: no frontend, Service default/web port 80 wants one"]
    assert found([service_entry("10.96.7.7", 80, 0)], [], [WEB], endpoint_slice("web", 8080)) == []


def test_what_is_led_elsewhere_on_purpose_is_not_judged() -> None:
    redirected = [service_entry("10.96.7.7", 80, 0, count=1, flags2=LOCAL_REDIRECT), TWO[1]]
    assert found(redirected, BACKENDS, [WEB], endpoint_slice("web", 8080, "10.200.2.6")) == []
