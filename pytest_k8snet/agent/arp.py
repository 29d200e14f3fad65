"""Asks a network segment who has an address, and waits for everybody who says so.

A program of the agent (see agent.py), sent when one of these operations is first asked for. It needs the right to open packet sockets.

- ``ask``: ``uplink_ip``, ``addresses``, ``tries``, ``wait_s``; in the node's network namespace: asks by ARP, from the device that has
  ``uplink_ip``, for those of the addresses (IPv4) that are in its subnet. Gives the ``device``, its ``mac`` and those of the node's
  hardware (``macs``), its ``network`` (address/length) and ``answers``: of each that was asked for the hardware addresses that said so
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
BODY = struct.Struct("!HHBBH6s4s6s4s")
GAP_S = 0.02


def request(mac: bytes, own: str, target: str) -> bytes:
    """Return the frame that asks who has `target`."""
    body = BODY.pack(ARPHRD_ETHER, 0x0800, 6, 4, REQUEST, mac, socket.inet_aton(own), bytes(6), socket.inet_aton(target))
    return BROADCAST + mac + struct.pack("!H", ETH_P_ARP) + body


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
    device = find_uplink(own)
    if device is None:
        raise Failed("failed", f"no device has {own}")
    if read(f"/sys/class/net/{device}/type").strip() != str(ARPHRD_ETHER):
        raise Failed("failed", f"{device} is no Ethernet: there is no ARP")
    mac = read(f"/sys/class/net/{device}/address").strip()
    hardware = {(read_or_none(f"/sys/class/net/{name}/address") or mac).strip() for name in physical_devices(device)}
    network = network_of(json.loads(output(["ip", "-j", "-4", "addr", "show", "dev", device])), own)
    wanted = [address for address in params["addresses"] if ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)]
    answers: dict[str, set[str]] = {address: set() for address in wanted}
    if wanted:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP)) as sock:
            sock.bind((device, ETH_P_ARP))
            for _ in range(int(params["tries"])):
                for address in wanted:
                    sock.send(request(bytes.fromhex(mac.replace(":", "")), own, address))
                    collect(sock, answers, GAP_S)
                collect(sock, answers, float(params["wait_s"]))
    told = {address: sorted(macs) for address, macs in answers.items()}
    return {"device": device, "mac": mac, "macs": sorted({mac, *hardware}), "network": network, "answers": told}


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


OPERATIONS = {"ask": ask}
