"""Throughput of pairs by iperf3: the host path, the pod path, the host path again, and never two takes at a time.

One take in a few is slowed by something that passes. Where the best takes of the two paths disagree, pod and host are taken again, up to
`MOST_TAKES` in all; every take is recorded, and what they say is for the judge.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.access.base import run
from pytest_k8snet.cluster.model import pair_nodes
from pytest_k8snet.errors import TRANSPORT_ERRORS, AccessError, CommandTimeout, MeasurementError, NoPodError
from pytest_k8snet.measure.answering import address_of, agent_of
from pytest_k8snet.measure.taking import again, now, take_document
from pytest_k8snet.plan import HOST_TAKES, MOST_TAKES

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Agent
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

PORTS = (5201, 5299)  # iperf3's own first: the one a firewall is most likely to know
ORDER: tuple[Literal["host", "pod"], ...] = ("host", "pod", "host")
HOST_ORDER: tuple[Literal["host", "pod"], ...] = tuple(ORDER[0] for _ in range(HOST_TAKES))
AGAIN: tuple[Literal["host", "pod"], ...] = ("pod", "host")
AGREE = 0.9  # of the quicker path's best take
TUNNELS = frozenset({"vxlan", "geneve", "ipip", "ip6tnl", "sit", "gre", "gretap", "ip6gre", "wireguard", "tun"})

#: After these the next take would wait for the same node, which is gone.
_BROKEN = (CommandTimeout, *TRANSPORT_ERRORS)

_SERVER_TRIES = 3
_SHORT_S = 15.0
_END_S = 2.0


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Measure the pairs `subjects`, one after the other."""
    uplinks: dict[str, str | None] = {}
    settings = context.settings
    method = f"iperf3, one TCP stream, {settings.take_s} s after {settings.omit_s} s omitted"
    for subject in subjects:
        document = take_document("throughput", subject, method, partial(_pair, context, subject, uplinks))
        cuts = [take["retried"] for take in (document.values or {}).get("takes", ()) if take["retried"]]
        yield replace(document, retried=document.retried or "; ".join(cuts) or None)


def _pair(context: MeasureContext, subject: str, uplinks: dict[str, str | None]) -> dict[str, Any]:
    source, target = pair_nodes(subject)
    # Both ends of both paths have to be there before any traffic is sent.
    absent: str | None = None
    for name in (source, target):
        try:
            context.access.pod(name)
        except NoPodError as error:
            absent = str(error)
        if name not in uplinks:
            uplinks[name] = _uplink(context, name)
    return {
        "source": source,
        "target": target,
        "seconds": context.settings.take_s,
        "omit_s": context.settings.omit_s,
        "encapsulated": _encapsulated(context, source, target, uplinks[source]),
        "pod_absent": absent,
        "takes": _takes(context, source, target, uplinks, pods=absent is None),
    }


def _takes(context: MeasureContext, source: str, target: str, uplinks: Mapping[str, str | None], *, pods: bool) -> list[dict[str, Any]]:
    takes: list[dict[str, Any]] = []
    for path in ORDER if pods else HOST_ORDER:
        broken = next((take["error"] for take in takes if take["broken"]), None)
        takes.append(_take(context, source, target, path, uplinks) if broken is None else _untaken(path, f"not taken: {broken}"))
    while pods and len(takes) < MOST_TAKES and disagree(takes):
        takes += [_take(context, source, target, path, uplinks) for path in AGAIN]
    return takes


def disagree(takes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the best takes of host and pod path are too far apart to leave it at that; takes that went wrong are not repeated."""
    if any(take["error"] is not None for take in takes):
        return False
    best: list[float] = [max(take["received_bps"] for take in takes if take["path"] == path) for path in ("host", "pod")]
    return min(best) < AGREE * max(best)


def _take(
    context: MeasureContext, source: str, target: str, path: Literal["host", "pod"], uplinks: Mapping[str, str | None]
) -> dict[str, Any]:
    """Run iperf3 once, and again when the way to it was cut. Whatever goes wrong becomes the take's error, never a figure."""
    values = _untaken(path, None)
    try:
        address = address_of(context, target, path)
        server, client = agent_of(context, target, path), agent_of(context, source, path)
        over = 0.0  # when a take whose way was cut has ended by itself: until then it would be in the way of the next

        def measure() -> tuple[Mapping[str, Any], dict[str, Any] | None]:
            nonlocal over
            time.sleep(max(0.0, over - time.monotonic()))
            over = time.monotonic() + context.settings.take_s + context.settings.omit_s + _END_S
            before = _counters(context, source, target, uplinks)
            started = time.monotonic()
            result = _iperf3(context, server, client, address)
            seconds = time.monotonic() - started
            return result, _wire(before, _counters(context, source, target, uplinks), seconds)

        (result, wire), values["retried"] = again(measure)
        values.update(read_result(result), wire=wire)
    except (AccessError, MeasurementError) as error:
        values.update(error=str(error), broken=isinstance(error, _BROKEN))
    return values


def _untaken(path: Literal["host", "pod"], error: str | None) -> dict[str, Any]:
    """Return a take without figures."""
    return {
        "path": path,
        "at": now(),
        **dict.fromkeys(FIGURES),
        "error": error,
        "broken": False,
        "retried": None,
        "wire": None,
        "iperf3": None,
    }


def _wire(before: tuple[int, int] | None, after: tuple[int, int] | None, seconds: float) -> dict[str, Any] | None:
    if before is None or after is None:
        return None
    return {"source_tx_bytes": after[0] - before[0], "target_rx_bytes": after[1] - before[1], "seconds": round(seconds, 3)}


FIGURES = ("received_bps", "received_bytes", "sent_bytes", "retransmits", "mss_bytes", "cpu_sender_percent", "cpu_receiver_percent")


def read_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures in iperf3's JSON.

    Raises `MeasurementError` when it holds an error, whatever the exit status was, and when the receiver's own count is missing.
    """
    if result.get("error"):
        raise MeasurementError(f"iperf3: {result['error']}")
    end = result.get("end") or {}
    received = end.get("sum_received") or {}
    sent = end.get("sum_sent") or {}
    if not isinstance(received.get("bits_per_second"), int | float) or not received.get("bytes"):
        raise MeasurementError("iperf3: no sum_received in its result: the receiver's count never came back")
    cpu = end.get("cpu_utilization_percent") or {}
    return {
        "received_bps": received["bits_per_second"],
        "received_bytes": received["bytes"],
        "sent_bytes": sent.get("bytes"),
        "retransmits": sent.get("retransmits"),
        "mss_bytes": (result.get("start") or {}).get("tcp_mss_default"),
        "cpu_sender_percent": cpu.get("host_total"),
        "cpu_receiver_percent": cpu.get("remote_total"),
        # The wire counters have seen the omitted seconds as well.
        "sent_with_omitted_bytes": sum((interval.get("sum") or {}).get("bytes", 0) for interval in result.get("intervals") or ()),
        "iperf3": {
            "version": (result.get("start") or {}).get("version"),
            "sum_sent": sent,
            "sum_received": received,
            "cpu_utilization_percent": cpu,
            "sender_tcp_congestion": end.get("sender_tcp_congestion"),
            "receiver_tcp_congestion": end.get("receiver_tcp_congestion"),
        },
    }


def _iperf3(context: MeasureContext, server: Agent, client: Agent, address: str) -> Mapping[str, Any]:
    """Run a one-off server and a client against it; a server that somebody else's test got hold of is replaced."""
    settings = context.settings
    length = settings.take_s + settings.omit_s
    for attempt in range(_SERVER_TRIES):
        running = server.request("iperf3_server", {"address": address, "ports": PORTS, "max_s": length + 60}, timeout_s=_SHORT_S)
        try:
            answer = client.request(
                "iperf3_client",
                {
                    "address": address,
                    "port": running["port"],
                    "seconds": settings.take_s,
                    "omit_s": settings.omit_s,
                    "bitrate_bps": settings.bitrate_bps,
                },
                timeout_s=length + 30,
            )
        finally:
            with suppress(AccessError):  # it ends by itself when its time is over
                server.request("stop", {"pid": running["pid"]}, timeout_s=_SHORT_S)
        result: Mapping[str, Any] = answer["result"]
        error = str(result.get("error") or "")
        if "busy" in error and attempt + 1 < _SERVER_TRIES:
            continue
        if "unable to connect" in error:
            raise MeasurementError(
                f"iperf3: {error} ({client.where} to {server.where}, {address} port {running['port']}): "
                "is this port kept closed by a firewall or a NetworkPolicy?"
            )
        if answer["exit_status"] != 0 and not error:
            raise MeasurementError(f"iperf3: exit status {answer['exit_status']}: {answer['stderr'].strip()}")
        return result
    raise MeasurementError(f"iperf3: the server on {server.where} was busy {_SERVER_TRIES} times")


def _uplink(context: MeasureContext, node: str) -> str | None:
    address = context.cluster.node(node).internal_ip
    if address is None:
        return None
    result = run(context.access.host(node), ["ip", "-j", "addr", "show", "to", address])
    devices = json.loads(result.stdout or "[]") if result.exit_status == 0 else []
    names = [device["ifname"] for device in devices if device.get("ifname") not in (None, "kube-ipvs0")]
    return names[0] if names else None


def _encapsulated(context: MeasureContext, source: str, target: str, uplink: str | None) -> bool | None:
    """Whether the kernel's route to the target's pod leaves by a tunnel; None when its device does not tell."""
    probe = context.probes.get(target)
    if probe is None or probe.pod_ip is None:
        return None
    host = context.access.host(source)
    result = run(host, ["ip", "-j", "route", "get", probe.pod_ip])
    routes = json.loads(result.stdout or "[]") if result.exit_status == 0 else []
    device = routes[0].get("dev") if routes else None
    if device is None:
        return None
    if device == uplink:
        return False
    result = run(host, ["ip", "-j", "-d", "link", "show", "dev", device])
    links = json.loads(result.stdout or "[]") if result.exit_status == 0 else []
    kind = links[0].get("linkinfo", {}).get("info_kind") if links else None
    return True if kind in TUNNELS else None


def _counters(context: MeasureContext, source: str, target: str, uplinks: Mapping[str, str | None]) -> tuple[int, int] | None:
    """Return what the source's uplink has sent and the target's has received, by everybody."""
    out, into = uplinks[source], uplinks[target]
    if out is None or into is None:
        return None
    sent = context.access.host(source).request("counters", {"device": out}, timeout_s=_SHORT_S)
    received = context.access.host(target).request("counters", {"device": into}, timeout_s=_SHORT_S)
    return int(sent["tx_bytes"]), int(received["rx_bytes"])
