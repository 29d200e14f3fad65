from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.access.client import program_source
from pytest_k8snet.agent import wire
from pytest_k8snet.agent.wire import Numbers, covered, dissect, growth, named_counters
from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.record.pcap import section
from tests.unit.agent.test_agent import LocalAgent

MARK = bytes.fromhex("deadbeef")
TOKEN = bytes.fromhex("0011223344556677")
POD, PEER = "10.244.1.5", "10.244.2.5"


def ours(number: int = 7) -> bytes:
    head = wire.PREFIX + TOKEN + number.to_bytes(4, "big")
    return head + bytes(wire.PAYLOAD_BYTES - len(head) - 8) + MARK + MARK


def udp(payload: bytes, port: int = 40000) -> bytes:
    return struct.pack(">HHHH", 50000, port, 8 + len(payload), 0) + payload


def tcp(payload: bytes, first: int = 1000) -> bytes:
    return struct.pack(">HHIIBBHHH", 50000, 5001, first, 0, 5 << 4, 0x18, 1000, 0, 0) + payload


def ip(protocol: int, payload: bytes, source: str = POD, target: str = PEER, fragment: int = 0) -> bytes:
    if ":" in source:
        return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + ip_address(source).packed + ip_address(target).packed + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0)
    return head + ip_address(source).packed + ip_address(target).packed + payload


def ethernet(packet: bytes, vlan: bool = False) -> bytes:
    return bytes(12) + (b"\x81\x00\x00\x05" if vlan else b"") + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00") + packet


INNER = ip(17, udp(ours()))
INNER6 = ip(17, udp(ours()), "fd00::1", "fd00::2")
NODES = ("192.168.10.1", "192.168.10.2")


def outer(protocol: int, payload: bytes) -> bytes:
    return ip(protocol, payload, *NODES)


@pytest.mark.parametrize(
    ("packet", "form"),
    [
        pytest.param(INNER, "native", id="native"),
        pytest.param(INNER6, "native", id="native-ipv6"),
        pytest.param(b"\x00\x05\x08\x00" + INNER, "native", id="vlan-tag-in-the-data"),
        pytest.param(outer(17, udp(b"\x08" + bytes(7) + ethernet(INNER), 8472)), "vxlan/8472", id="vxlan"),
        pytest.param(outer(17, udp(b"\x08" + bytes(7) + ethernet(INNER6), 31999)), "vxlan/31999", id="vxlan-on-any-port"),
        pytest.param(outer(17, udp(b"\x08" + bytes(7) + ethernet(INNER, vlan=True), 4789)), "vxlan/4789", id="vxlan-with-vlan"),
        pytest.param(outer(17, udp(b"\x88" + bytes(7) + ethernet(INNER), 4789)), "vxlan/4789", id="vxlan-gbp"),
        pytest.param(outer(17, udp(b"\x0c\x00\x00\x01" + bytes(4) + INNER, 4790)), "vxlan/4790", id="vxlan-gpe"),
        pytest.param(outer(17, udp(b"\x00\x00\x65\x58" + bytes(4) + ethernet(INNER), 6081)), "geneve/6081", id="geneve"),
        pytest.param(outer(17, udp(b"\x02\x00\x65\x58" + bytes(12) + ethernet(INNER), 700)), "geneve/700", id="geneve-with-options"),
        pytest.param(outer(17, udp(INNER, 5555)), "fou/5555", id="fou"),
        pytest.param(outer(17, udp(b"\x00\x04\x00\x00" + INNER, 5556)), "gue/5556", id="gue"),
        pytest.param(outer(4, INNER), "ipip", id="ipip"),
        pytest.param(ip(4, INNER, "fd00::1", "fd00::2"), "ipip", id="ip4-in-ip6"),
        pytest.param(outer(41, INNER6), "ipip", id="sit"),
        pytest.param(outer(47, b"\x00\x00\x08\x00" + INNER), "gre", id="gre"),
        pytest.param(outer(47, b"\x20\x00\x65\x58" + bytes(4) + ethernet(INNER)), "gre", id="gretap-with-key"),
        pytest.param(outer(17, udp(b"\x08" + bytes(7) + ethernet(outer(4, INNER)), 8472)), "vxlan/8472+ipip", id="ipip-in-vxlan"),
        pytest.param(outer(17, udp(b"\xff" * 40 + ours(), 9)), None, id="not-understood"),
        pytest.param(ip(17, udp(ours()), fragment=5), None, id="later-fragment"),
        pytest.param(outer(132, INNER), None, id="another-protocol"),
        pytest.param(b"\x45", None, id="cut"),
        pytest.param(INNER[:24], None, id="cut-behind-ip"),
        pytest.param(outer(17, udp(b"\x08")), None, id="cut-in-the-tunnel"),
    ],
)
def test_what_a_packet_is_inside_of(packet: bytes, form: str | None) -> None:
    found = dissect(packet, len(packet), 0x8100 if packet[:2] == b"\x00\x05" else 0x0800)
    assert (found and found[0]) == form
    if found:
        _, source, target, protocol, at, size = found
        assert protocol == 17
        assert packet[at : at + size] == ours()
        assert (wire.text_address(source), wire.text_address(target)) in ((POD, PEER), ("fd00::1", "fd00::2"))


def test_a_segment_that_a_device_cuts_later_has_no_length_of_its_own() -> None:
    data = bytearray(ip(6, tcp(MARK * 3000)))
    data[2:4] = b"\0\0"
    found = dissect(bytes(data), len(data), 0x0800)
    assert found is not None
    assert found[5] == 20 + 12000


def test_merged_datagrams_are_counted_one_by_one() -> None:
    numbers = wire.counted_in(ours(3) + ours(4) + ours(5), {TOKEN: 10})
    assert numbers == [(TOKEN, 3), (TOKEN, 4), (TOKEN, 5)]
    assert wire.counted_in(ours(3), {bytes(8): 10}) == []
    assert wire.counted_in(b"x" * 300, {TOKEN: 10}) == []


def test_numbers() -> None:
    numbers = Numbers(12)
    for number in (0, 9, 9, 11, 12, 4000):
        numbers.add(number)
    assert numbers.to_json() == {"bits": "010a", "different": 3, "again": 1}
    assert int.from_bytes(bytes.fromhex("010a"), "little").bit_count() == 3


@pytest.mark.parametrize(
    ("segments", "size"),
    [
        ({}, 0),
        ({100: 50, 150: 50}, 100),
        ({100: 50, 120: 50}, 70),  # sent again, cut differently
        ({100: 90, 120: 10}, 90),
        ({150: 50, 100: 20}, 70),
        ({0xFFFFFFF0: 32, 16: 10}, 42),  # around the end of the numbers
    ],
)
def test_no_byte_of_a_connection_counts_twice(segments: dict[int, int], size: int) -> None:
    assert covered(segments) == size


@pytest.mark.parametrize(
    ("packet", "kind"),
    [
        (outer(50, bytes(100)), "esp"),
        (outer(51, bytes(100)), "ah"),
        (outer(17, udp(b"\x04\0\0\0" + bytes(96), 51820)), "wireguard"),
        (outer(17, udp(b"\x12\x34\x56\x78" + bytes(96), 4500)), "esp"),
        (outer(17, udp(bytes(100), 4500)), None),  # IKE
        (ip(50, bytes(100), "fd00::1", "fd00::2"), "esp"),
        (b"\x45", None),
    ],
)
def test_what_looks_encrypted(packet: bytes, kind: str | None) -> None:
    found = wire.cipher(packet)
    assert (found and found[0]) == kind
    assert found is None or found[3] == len(packet)


def test_counters() -> None:
    text = "Ip: Forwarding InDiscards\nIp: 1 5\nUdp: NoPorts\nUdp: 2\n"
    assert named_counters(text) == {"Ip.Forwarding": 1, "Ip.InDiscards": 5, "Udp.NoPorts": 2}
    assert growth({"a": 1, "b": 2}, {"a": 1, "b": 5, "new": 3}) == {"b": 3}


class Isolated(LocalAgent):
    """The agent in a network namespace of its own, where it may capture."""

    def __init__(self) -> None:
        super().__init__("unshare", "-Urn")
        assert self.result("run", argv=["ip", "link", "set", "lo", "up"])["exit_status"] == 0
        self.result("load", name="wire", source=program_source("wire"))

    def result(self, op: str, **params: Any) -> Any:
        """Ask for what must not fail."""
        answer = self.ask(op, **params)
        assert "error" not in answer, answer
        return answer["result"]


@pytest.fixture
def isolated() -> Iterator[Isolated]:
    probe = subprocess.run(["unshare", "-Urn", "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    if shutil.which("ip") is None or probe.returncode != 0:
        pytest.skip("this machine lets nobody make network namespaces")
    agent = Isolated()
    with agent.process:
        yield agent
        assert agent.process.stdin is not None
        agent.process.stdin.close()
        assert agent.process.wait(10) == 0


def test_packets_are_sent_seen_and_received(isolated: Isolated) -> None:
    token = TOKEN.hex()
    receiver = isolated.result("wire.receive", address="127.0.0.1", udp=3, tcp=1, streams={token: 200}, max_s=30)
    capture = isolated.result(
        "wire.capture",
        uplink_ip="127.0.0.1",
        links=[],
        streams={token: 200},
        tcp=[["127.0.0.1", receiver["tcp"][0]]],
        mark=MARK.hex(),
        kept=2,
        max_s=30,
    )
    assert capture["devices"] == {"uplink": "lo", "wire": ["lo"], "pod": [], "indices": {"lo": 1}}
    sent = isolated.result(
        "wire.send",
        mark=MARK.hex(),
        rate_pps=4000,
        streams=[{"address": "127.0.0.1", "ports": receiver["udp"], "token": token, "count": 200, "sources": 8}],
        tcp=[{"address": "127.0.0.1", "port": receiver["tcp"][0], "bytes": 300_000}],
    )
    assert sent["streams"] == [{"bits": "ff" * 25, "different": 200, "again": 0, "errors": {}}]
    assert (sent["tcp"][0]["sent"], sent["tcp"][0]["error"]) == (300_000, None)
    seen = isolated.result("wire.captured", id=capture["id"])
    got = isolated.result("wire.received", id=receiver["id"])
    assert got["streams"][token] == {"bits": "ff" * 25, "different": 200, "again": 0, "senders": {"127.0.0.1": 200}}
    assert (got["overflow"], got["told"], seen["told"]) == (0, True, True)
    assert [item["bytes"] for item in got["tcp"]] == [300_000]
    assert [(item["device"], item["form"], item["different"]) for item in seen["seen"]] == [("lo", "native", 200)]
    assert [(item["device"], item["form"], item["bytes"]) for item in seen["tcp"]] == [("lo", "native", 300_000)]
    assert (seen["dropped"], seen["cipher_dropped"], seen["cut"], seen["unread"]) == (0, 0, False, 0)
    assert seen["sources"][0]["addresses"] == {"127.0.0.1": 400}  # of one device both ways
    assert len(seen["frames"]) == 4
    kept = section("node-1", seen["frames"])
    assert kept.count(b"node-1 lo") == 1
    assert kept.count(wire.PREFIX + TOKEN) == 2
    if tcpdump := shutil.which("tcpdump"):
        read = subprocess.run([tcpdump, "-r", "-", "-n"], input=kept, capture_output=True, check=False)
        assert read.stdout.decode().count("127.0.0.1") == 8, read.stderr


def test_other_packets_are_not_seen_and_refusals_are_told(isolated: Isolated) -> None:
    token = TOKEN.hex()
    capture = isolated.result(
        "wire.capture", uplink_ip="127.0.0.1", links=[], streams={token: 5}, tcp=[], mark="01020304", kept=2, max_s=30
    )
    stream = {"address": "127.0.0.1", "ports": [9], "token": token, "count": 5, "sources": 1}
    beyond = {**stream, "address": "192.0.2.1"}
    tcp_item = {"address": "127.0.0.1", "port": 9, "bytes": 100}
    sent = isolated.result("wire.send", mark=MARK.hex(), rate_pps=1000, streams=[stream, beyond], tcp=[tcp_item])
    assert sent["tcp"] == [{"sent": 0, "error": "Connection refused", "mss": None}]
    assert sent["streams"][0]["different"] == 5
    assert sent["streams"][1]["errors"] == {"Network is unreachable": 5}
    seen = isolated.result("wire.captured", id=capture["id"])
    assert (seen["seen"], seen["frames"], seen["unread"]) == ([], [], 0)


def is_over(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()


def test_a_child_ends_with_its_time_and_with_the_agent(isolated: Isolated) -> None:
    short = isolated.result("wire.receive", address="127.0.0.1", udp=1, tcp=0, streams={}, max_s=0.1)
    long = isolated.result("wire.receive", address="127.0.0.1", udp=1, tcp=0, streams={}, max_s=300)
    wait_until(lambda: is_over(short["id"]), "the child to end", timeout_s=20, interval_s=0.05)
    assert not isolated.result("wire.received", id=short["id"])["told"]
    assert isolated.process.stdin is not None
    isolated.process.stdin.close()
    assert isolated.process.wait(10) == 0
    assert isolated.process.stdout is not None
    assert isolated.process.stdout.read() == b""  # nobody holds it open
    wait_until(lambda: not Path(f"/proc/{long['id']}").exists(), "the child to end", timeout_s=20, interval_s=0.05)
