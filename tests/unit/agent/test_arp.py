from __future__ import annotations

import json
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.agent import arp
from pytest_k8snet.agent.agent import Failed

MAC = bytes.fromhex("020000000001")
OWN, OTHER, VIP = "192.168.10.11", "192.168.10.12", "192.168.10.250"
ADDRESSES = [{"ifname": "eth0", "addr_info": [{"local": VIP, "prefixlen": 32}, {"local": OWN, "prefixlen": 24}]}]


def answer(address: str, mac: str, operation: int = arp.REPLY) -> bytes:
    sender = bytes.fromhex(mac.replace(":", ""))
    body = arp.BODY.pack(arp.ARPHRD_ETHER, 0x0800, 6, 4, operation, sender, socket.inet_aton(address), MAC, socket.inet_aton(OWN))
    return MAC + sender + b"\x08\x06" + body


def test_a_question_goes_to_everybody() -> None:
    frame = arp.request(MAC, OWN, VIP)
    assert (frame[:6], frame[6:12], frame[12:14]) == (b"\xff" * 6, MAC, b"\x08\x06")
    assert frame[14:].hex() == "0001080006040001" + "020000000001" + "c0a80a0b" + "000000000000" + "c0a80afa"
    assert arp.said_in(frame) is None, "it is no answer"


def test_what_an_answer_says() -> None:
    assert arp.said_in(answer(VIP, "02:00:00:00:00:02")) == (VIP, "02:00:00:00:00:02")
    assert arp.said_in(answer(VIP, "02:00:00:00:00:02") + bytes(18)) == (VIP, "02:00:00:00:00:02"), "padded"
    assert arp.said_in(answer(VIP, "02:00:00:00:00:02")[:41]) is None
    assert arp.said_in(b"\x00" * 60) is None


class Segment:
    """A socket on a segment whose members answer."""

    def __init__(self, members: dict[str, list[str]]) -> None:
        self.asking, self.answering = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.members = members
        self.asked: list[str] = []

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, *_: object) -> None:
        self.asking.close()
        self.answering.close()

    def bind(self, where: tuple[str, int]) -> None:
        assert where == ("eth0", arp.ETH_P_ARP)

    def fileno(self) -> int:
        return self.asking.fileno()

    def recv(self, size: int) -> bytes:
        return self.asking.recv(size)

    def send(self, frame: bytes) -> None:
        target = socket.inet_ntoa(frame[38:42])
        self.asked.append(target)
        self.answering.send(answer(OTHER, "02:00:00:00:00:99"))  # to somebody else's question
        for mac in self.members.get(target, ()):
            self.answering.send(answer(target, mac))


def ask(monkeypatch: pytest.MonkeyPatch, members: dict[str, list[str]], kind: str = "1", **more: Any) -> tuple[dict[str, Any], list[str]]:
    segment = Segment(members)
    files = {"type": kind, "address": "02:00:00:00:00:01\n"}
    monkeypatch.setattr(arp, "find_uplink", lambda address: "eth0" if address == OWN else None)
    monkeypatch.setattr(arp, "read", lambda path: files[Path(path).name])
    monkeypatch.setattr(arp, "physical_devices", lambda uplink: [uplink, "eth1"])
    monkeypatch.setattr(arp, "read_or_none", lambda path: "02:00:00:00:00:07\n" if "eth1" in path else None)
    monkeypatch.setattr(arp, "output", lambda argv: json.dumps(ADDRESSES))
    monkeypatch.setattr(socket, "socket", lambda *_: segment)
    params = {"uplink_ip": OWN, "addresses": [VIP, "192.168.10.251", "10.0.0.1"], "tries": 2, "wait_s": 0.01, **more}
    with segment:
        return arp.ask(params), segment.asked


def test_everybody_who_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = ask(monkeypatch, {VIP: ["02:00:00:00:00:03", "02:00:00:00:00:02"]})
    assert found == {
        "device": "eth0",
        "mac": "02:00:00:00:00:01",
        "macs": ["02:00:00:00:00:01", "02:00:00:00:00:07"],
        "network": "192.168.10.11/24",
        "answers": {VIP: ["02:00:00:00:00:02", "02:00:00:00:00:03"], "192.168.10.251": []},
    }
    assert asked == [VIP, "192.168.10.251"] * 2, "and what is in another subnet is not asked for"


def test_a_control_is_asked_itself_where_the_kernel_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[bytes] = []
    send = Segment.send

    def kept(segment: Segment, frame: bytes) -> None:
        frames.append(frame)
        send(segment, frame)

    monkeypatch.setattr(Segment, "send", kept)
    monkeypatch.setattr(arp, "known_on", lambda device: {OTHER: "02:00:00:00:00:02", VIP: "02:00:00:00:00:05"})
    found, asked = ask(monkeypatch, {}, control=OTHER)
    assert asked == [VIP, "192.168.10.251", OTHER] * 2
    assert [frame[:6].hex(":") for frame in frames[:3]] == ["ff:ff:ff:ff:ff:ff"] * 2 + ["02:00:00:00:00:02"]
    assert found["answers"][OTHER] == ["02:00:00:00:00:99"]


def test_where_there_is_no_arp(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failed, match="eth0 is no Ethernet: there is no ARP"):
        ask(monkeypatch, {}, kind="65534")
    with pytest.raises(Failed, match=r"no device has 10\.9\.9\.9"):
        arp.ask({"uplink_ip": "10.9.9.9", "addresses": [], "tries": 1, "wait_s": 0})
    with pytest.raises(Failed, match=r"10\.9\.9\.9 has no subnet"):
        arp.network_of(ADDRESSES, "10.9.9.9")


LINKS = [
    {"ifname": "lo", "link_type": "loopback", "address": "00:00:00:00:00:00"},
    {"ifname": "eth0", "link_type": "ether", "address": "02:00:00:00:00:01"},
    {"ifname": "veth1", "link_type": "ether", "address": "02:00:00:00:00:08", "linkinfo": {"info_kind": "veth"}},
    {"ifname": "shim", "link_type": "ether", "address": "02:00:00:00:00:06", "linkinfo": {"info_kind": "macvlan"}},
]
NEIGHBOURS = [
    {"dst": "192.168.10.1", "lladdr": "02:00:00:00:00:fe"},
    {"dst": OTHER, "lladdr": "02:00:00:00:00:02"},
    {"dst": "192.168.10.3"},
]


def own(
    monkeypatch: pytest.MonkeyPatch, members: dict[str, list[str]], kind: str = "1", neighbours: list[dict[str, Any]] = NEIGHBOURS
) -> tuple[dict[str, Any], list[bytes]]:
    segment = Segment(members)
    frames: list[bytes] = []
    send = segment.send

    def kept(frame: bytes) -> None:
        frames.append(frame)
        send(frame)

    monkeypatch.setattr(segment, "send", kept)
    said = {"addr": ADDRESSES, "route": [{"dst": "default", "gateway": "192.168.10.1"}], "neigh": neighbours, "link": LINKS}
    monkeypatch.setattr(arp, "find_uplink", lambda address: "eth0" if address == OWN else None)
    monkeypatch.setattr(arp, "read", lambda path: kind if path.endswith("/type") else "02:00:00:00:00:01\n")
    monkeypatch.setattr(arp, "output", lambda argv: json.dumps(next(said[word] for word in argv if word in said)))
    monkeypatch.setattr(socket, "socket", lambda *_: nullcontext(segment))
    params = {"uplink_ip": OWN, "others": ["10.0.0.1", OTHER, OWN, "192.168.10.13"], "most": 1, "tries": 2, "wait_s": 0.01}
    with segment:
        return arp.own(params), frames


def test_the_own_address_is_asked_for_without_a_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    found, frames = own(monkeypatch, {OWN: ["02:00:00:00:00:03"]})
    assert found == {
        "device": "eth0",
        "mac": "02:00:00:00:00:01",
        "macs": ["02:00:00:00:00:01", "02:00:00:00:00:06"],
        "network": "192.168.10.11/24",
        "answers": {OWN: ["02:00:00:00:00:03"], "192.168.10.13": []},
        "controls": {},
        "routers": ["02:00:00:00:00:fe"],
    }
    assert [socket.inet_ntoa(frame[38:42]) for frame in frames] == [OWN, "192.168.10.13"] * 2, "one that the kernel does not know"
    assert {frame[28:32] for frame in frames} == {bytes(4)}, "as RFC 5227 wants it"
    assert {frame[:6] for frame in frames} == {b"\xff" * 6}


def test_a_machine_that_the_kernel_knows_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [*NEIGHBOURS, {"dst": "192.168.10.13", "lladdr": "02:00:00:00:00:13"}]
    found, frames = own(monkeypatch, {OWN: []}, neighbours=known)
    assert found["answers"] == {OWN: []}
    assert found["controls"] == {OTHER: ["02:00:00:00:00:99"]}
    to = {(socket.inet_ntoa(frame[38:42]), frame[:6].hex(":")) for frame in frames}
    assert to == {(OWN, "ff:ff:ff:ff:ff:ff"), (OTHER, "02:00:00:00:00:02")}, "an answer of a second one would get into the kernel's table"


def test_nobody_whom_the_kernel_has_not_found_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = [{"dst": OTHER}, {"dst": "192.168.10.13"}]
    assert own(monkeypatch, {OWN: []}, neighbours=failed)[0]["controls"] == {}, "nobody is known to be there"


def test_a_device_without_arp_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own(monkeypatch, {}, kind="32")[0] == {"absent": "eth0 is no Ethernet: there is no ARP"}
