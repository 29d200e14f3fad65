"""Asks a network segment who has an address, and waits for everybody who says so.

A program of the agent (see agent.py), sent when one of these operations is first asked for. It needs the right to open packet sockets.

- ``ask``: ``uplink_ip``, ``addresses``, ``control`` (another node's address), ``tries``, ``wait_s``; in the node's network namespace: asks
  by ARP, from the device that has ``uplink_ip``, for those of the addresses (IPv4) that are in its subnet. Gives the ``device``, its
  ``mac`` and those of the node's hardware (``macs``), its ``network`` (address/length) and ``answers``: of each that was asked for the
  hardware addresses that said so. Everybody hears the question, for the control only the machine that the kernel knows there, if it does:
  the kernel takes every answer that comes, and of two machines the later one's
- ``own``: ``uplink_ip``, ``others`` (IPv4), ``most``, ``tries``, ``wait_s``; asks likewise for the node's own address, by ARP probes as of
  RFC 5227: they bear no sender, and nobody remembers them. Of the others that are in its subnet so many are asked for as controls: those
  that the kernel has no entry for, in ``answers`` as well, as every machine hears the question; where it knows all, each is asked itself
  (``controls``), as above. ``macs`` are those of all its devices
  but for ends of pods, ``routers`` those of its gateways; ``absent`` says why there is no ARP
"""

from __future__ import annotations

import ipaddress
import json
import select
import socket
import struct
import time

from pytest_k8snet.agent.agent import Failed, find_uplink, output, physical_devices, read, read_or_none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

ETH_P_ARP = 0x0806
ARPHRD_ETHER = 1
REQUEST, REPLY = 1, 2
BROADCAST = b"\xff" * 6
NOBODY = "0.0.0.0"  # noqa: S104 - the sender of a probe
BODY = struct.Struct("!HHBBH6s4s6s4s")
GAP_S = 0.02


def request(mac: bytes, own: str, target: str, to: bytes = BROADCAST) -> bytes:
    """Return the frame that asks who has `target`: everybody, or one machine alone."""
    body = BODY.pack(ARPHRD_ETHER, 0x0800, 6, 4, REQUEST, mac, socket.inet_aton(own), bytes(6), socket.inet_aton(target))
    return to + mac + struct.pack("!H", ETH_P_ARP) + body


def said_in(frame: bytes) -> tuple[str, str] | None:
    """Return address and hardware address of an answer, None of everything else."""
    if len(frame) < 14 + BODY.size:
        return None
    kind, protocol, _, _, operation, mac, address, _, _ = BODY.unpack_from(frame, 14)
    if (kind, protocol, operation) != (ARPHRD_ETHER, 0x0800, REPLY):
        return None
    return socket.inet_ntoa(address), mac.hex(":")


def ask(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``ask``."""
    own = str(params["uplink_ip"])
    segment = segment_of(own)
    if "absent" in segment:
        raise Failed("failed", segment["absent"])
    device, mac = segment["device"], segment["mac"]
    hardware = {(read_or_none(f"/sys/class/net/{name}/address") or mac).strip() for name in physical_devices(device)}
    control, known = params.get("control"), known_on(device)
    wanted = within(segment["network"], [*params["addresses"], *([control] if control else [])])
    told = answers_for(wanted, own, segment, params, {control: known.get(str(control))})
    return {**segment, "macs": sorted({mac, *hardware}), "answers": told}


def own(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``own``."""
    address = str(params["uplink_ip"])
    segment = segment_of(address)
    if "absent" in segment:
        return {**segment}
    others = [other for other in within(segment["network"], params["others"]) if other != address]
    known, most = known_on(segment["device"]), int(params["most"])
    strange = [other for other in others if other not in known][:most]
    friends = [] if strange else [other for other in others if known[other]][:most]
    answers = answers_for([address, *strange, *friends], NOBODY, segment, params, known)
    gateways = {route.get("gateway") for route in json.loads(output(["ip", "-j", "-4", "route", "show", "default"]) or "[]")}
    return {
        **segment,
        "macs": sorted({segment["mac"], *own_macs(json.loads(output(["ip", "-j", "-d", "link", "show"])))}),
        "answers": {asked: macs for asked, macs in answers.items() if asked not in friends},
        "controls": {asked: macs for asked, macs in answers.items() if asked in friends},
        "routers": sorted({mac for gateway, mac in known.items() if mac and gateway in gateways}),
    }


def segment_of(address: str) -> dict[str, str]:
    """Return the ``device`` that has an address, its ``mac`` and ``network`` (address/length); ``absent`` where it has no ARP."""
    device = device_of(address)
    if read(f"/sys/class/net/{device}/type").strip() != str(ARPHRD_ETHER):
        return {"absent": f"{device} is no Ethernet: there is no ARP"}
    mac = read(f"/sys/class/net/{device}/address").strip()
    network = network_of(json.loads(output(["ip", "-j", "-4", "addr", "show", "dev", device])), address)
    return {"device": device, "mac": mac, "network": network}


def known_on(device: str) -> dict[str, str | None]:
    """Return the addresses that the kernel has neighbour entries for there, with the hardware addresses that it has found."""
    entries = json.loads(output(["ip", "-j", "-4", "neigh", "show", "dev", device]) or "[]")
    return {item["dst"]: item.get("lladdr") for item in entries if "dst" in item}


def device_of(address: str) -> str:
    """Return the device that has an address."""
    device = find_uplink(address)
    if device is None:
        raise Failed("failed", f"no device has {address}")
    return device


def own_macs(links: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the hardware addresses of all devices, from ``ip -j -d link``, without the ends of pods."""
    return [
        link["address"]
        for link in links
        if link.get("link_type") == "ether" and "address" in link and link.get("linkinfo", {}).get("info_kind") != "veth"
    ]


def within(network: str, addresses: Sequence[str]) -> list[str]:
    """Return those of the addresses that are in a subnet."""
    subnet = ipaddress.ip_network(network, strict=False)
    return [address for address in addresses if ipaddress.ip_address(address) in subnet]


def answers_for(
    wanted: Sequence[str], sender: str, segment: Mapping[str, str], params: Mapping[str, Any], at: Mapping[Any, str | None]
) -> dict[str, list[str]]:
    """Ask for each address, everybody or the machine that it is said to be `at`; return the hardware addresses that answered."""
    answers: dict[str, set[str]] = {address: set() for address in wanted}
    if wanted:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP)) as sock:
            sock.bind((segment["device"], ETH_P_ARP))
            for _ in range(int(params["tries"])):
                for address in wanted:
                    there = at.get(address)
                    sock.send(request(packed(segment["mac"]), sender, address, packed(there) if there else BROADCAST))
                    collect(sock, answers, GAP_S)
                collect(sock, answers, float(params["wait_s"]))
    return {address: sorted(macs) for address, macs in answers.items()}


def packed(mac: str) -> bytes:
    """Return a hardware address as it is sent."""
    return bytes.fromhex(mac.replace(":", ""))


def network_of(links: Sequence[Mapping[str, Any]], own: str) -> str:
    """Return an address with the length of its subnet, from ``ip -j addr``."""
    for link in links:
        for item in link.get("addr_info", ()):
            if item.get("local") == own:
                return f"{own}/{item['prefixlen']}"
    raise Failed("failed", f"{own} has no subnet")


def collect(sock: socket.socket, answers: dict[str, set[str]], for_s: float) -> None:
    """Take what is answered for so long."""
    until = time.monotonic() + for_s
    left = for_s
    while left >= 0 and select.select([sock], [], [], left)[0]:
        found = said_in(sock.recv(2048))
        if found is not None and found[0] in answers:
            answers[found[0]].add(found[1])
        left = until - time.monotonic()


OPERATIONS = {"ask": ask, "own": own}
