"""Throughput of pairs by iperf3: the host path, the pod path, the host path again, and of one node never two takes at a time.

One take in a few is slowed by something that passes. Where the best takes of the two paths disagree, in speed or in how late answers come
meanwhile, pod and host are taken again, up to `MOST_TAKES` in all; every take is recorded, and what they say is for the judge.

Beside every take little answers go there and back over a connection of their own: how long they take while the path is full.

Pairs that have no node in common are measured at the same time (``max_parallel``), after a first one alone, which says what a pair can do.
They may share an uplink of switches or of virtual machines all the same: a pair that did worse in company, by its host path or by its pod
path, is measured again alone, and that counts. When that was so of most pairs of a round, the others are measured one by one.

One TCP stream may not fill a line: it is one flow for a bond and for a cloud's limit of flows, and one processor's work. The first pair's
host path is tried with more of them, and where they carry more, all pairs are measured by as many.

Behind the takes of a pair there is one through the Service of the target's probe pod, and more of them where it does not reach what pods do
directly: the same pods, and nothing but the Service between.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.base import run
from pytest_k8snet.access.probe_services import MOST, PORT, TARGET_PORT
from pytest_k8snet.cluster.pairs import pair_nodes
from pytest_k8snet.errors import TRANSPORT_ERRORS, AccessError, CommandTimeout, MeasurementError, NoPodError
from pytest_k8snet.measure.answering import Place, address_of, agent_of, serving
from pytest_k8snet.measure.distress import Watch
from pytest_k8snet.measure.latency import figures
from pytest_k8snet.measure.taking import MEASURE_ERRORS, again, now, take_document
from pytest_k8snet.plan import CALIBRATION_S, HOST_TAKES, MOST_SERVICE_TAKES, MOST_TAKES, STREAMS, disjoint
from pytest_k8snet.record.processors import busy_share

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Agent
    from pytest_k8snet.access.probe_services import ProbeService
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

PORTS = (5201, 5299)  # iperf3's own first: the one a firewall is most likely to know
ORDER: tuple[Place, ...] = ("host", "pod", "host")
HOST_ORDER: tuple[Place, ...] = tuple(ORDER[0] for _ in range(HOST_TAKES))
AGAIN: tuple[Place, ...] = ("pod", "host")
AGREE = 0.9  # of the quicker path's best take
GAIN = 1.1  # by which more streams have to carry more
LATER_MS = 30.0  # that answers of the pod path may take more; less than what is wanted of them (latency.loaded_slack_ms)
TUNNELS = frozenset({"vxlan", "geneve", "ipip", "ip6tnl", "sit", "gre", "gretap", "ip6gre", "wireguard", "tun"})

#: After these the next take would wait for the same node, which is gone.
BROKEN = (CommandTimeout, *TRANSPORT_ERRORS)

_SERVER_TRIES = 3
_SHORT_S = 15.0
_END_S = 2.0
_SPARE_S = 60.0  # that a server or answers go on when nobody ends them


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Measure the pairs `subjects`, in rounds of pairs without a node in common."""
    load = _Load(context)
    most, alone_bps = context.settings.max_parallel, 0.0
    left = [*subjects]
    watch = Watch.begin(context.ask_api)
    while left:
        pairs = disjoint(left, most if alone_bps else 1)  # without a figure of a pair alone nothing says what the others should do
        left = [pair for pair in left if pair not in pairs]
        documents = _together(load, pairs)
        if len(pairs) > 1:
            worse = {pair for pair, document in documents.items() if _did_worse(document, alone_bps)}
            most = 1 if 2 * len(worse) > len(pairs) else most
            for pair in worse:
                (documents[pair],) = _together(load, [pair], _taken(documents[pair])).values()
        else:
            if not alone_bps:
                documents = _calibrated(load, pairs[0], documents[pairs[0]])
            alone_bps = max(alone_bps, _best(_taken(documents[pairs[0]]), "host"))
        yield from documents.values()
        if left and (distress := watch.distress(context.stopped.wait)) is not None:
            yield from spared("throughput", left, f"after the load on {' and '.join(pairs)} {distress}")
            return


def spared(kind: str, pairs: Sequence[str], why: str) -> Iterator[Document]:
    """Yield the documents of pairs that are not measured, so as not to make it worse."""

    def refuse() -> Mapping[str, Any]:
        raise MeasurementError(f"not measured, to spare the cluster: {why}; --k8snet-bitrate would send less")

    for pair in pairs:
        yield take_document(kind, pair, "not measured", refuse)


@dataclass(slots=True)
class _Load:
    """What is found out once for all pairs."""

    context: MeasureContext
    uplinks: dict[str, str | None] = field(default_factory=dict)
    calibration: list[dict[str, Any]] = field(default_factory=list)  # what the first host path carries, by more and more streams
    streams: int = 1

    def __post_init__(self) -> None:
        self.streams = self.context.settings.streams or 1


def _calibrated(load: _Load, pair: str, by_one: Document) -> dict[str, Document]:
    """Find out how many streams the host path of a pair needs, and measure it anew where that is more than one."""
    settings = load.context.settings
    if settings.streams or settings.bitrate_bps is not None or not _all_well(_taken(by_one)):
        return {pair: by_one}
    best = _best(_taken(by_one), "host")
    source, target = pair_nodes(pair)
    for streams in STREAMS:
        tried: dict[str, Any] = {"streams": streams, "received_bps": None, "error": None}
        load.calibration.append(tried)
        try:
            server, client = agent_of(load.context, target, "host"), agent_of(load.context, source, "host")
            address = address_of(load.context, target, "host")
            result = iperf3(load.context, server, client, address, streams=streams, take_s=CALIBRATION_S)
            tried["received_bps"] = read_result(result)["received_bps"]
        except (AccessError, MeasurementError) as error:
            tried["error"] = str(error)
            break
        if tried["received_bps"] < GAIN * best:
            break
        load.streams, best = streams, tried["received_bps"]
    if load.streams > 1:
        return _together(load, [pair])
    return {pair: replace(by_one, values={**(by_one.values or {}), "calibration": [*load.calibration]})}


def _together(load: _Load, pairs: Sequence[str], in_company: Sequence[Mapping[str, Any]] = ()) -> dict[str, Document]:
    """Measure pairs at the same time; `in_company` are takes of the pair that were made before, beside other pairs."""
    settings = load.context.settings
    by = "one TCP stream" if load.streams == 1 else f"{load.streams} TCP streams"
    method = f"iperf3, {by}, {settings.take_s} s after {settings.omit_s} s omitted"

    def measured(subject: str) -> Document:
        beside = [pair for pair in pairs if pair != subject]
        document = take_document("throughput", subject, method, partial(_pair, load, subject, beside, in_company))
        cuts = [take["retried"] for take in _taken(document) if take["retried"]]
        return replace(document, retried=document.retried or "; ".join(cuts) or None)

    if len(pairs) == 1:
        return {pairs[0]: measured(pairs[0])}
    with ThreadPoolExecutor(max_workers=len(pairs), thread_name_prefix="k8snet-throughput") as pool:
        return dict(zip(pairs, pool.map(measured, pairs), strict=True))


def _did_worse(document: Document, alone_bps: float) -> bool:
    """Whether a pair that was measured in company did worse than one alone; what went wrong altogether would do so alone as well."""
    takes = _taken(document)
    return _all_well(takes) and (_best(takes, "host") < AGREE * alone_bps or disagree(takes) or _service_slower(document, takes))


def _service_slower(document: Document, takes: Sequence[Mapping[str, Any]]) -> bool:
    through = ((document.values or {}).get("service") or {}).get("takes", ())
    return _all_well(through) and _best(through, "pod") < AGREE * _best(takes, "pod")


def _taken(document: Document) -> Sequence[Mapping[str, Any]]:
    takes: Sequence[Mapping[str, Any]] = (document.values or {}).get("takes", ())
    return takes


def _best(takes: Sequence[Mapping[str, Any]], path: Place) -> float:
    """Return the rate of a path's best take, 0 when it has none."""
    return max((take["received_bps"] or 0.0 for take in takes if take["path"] == path), default=0.0)


def _pair(load: _Load, subject: str, beside: Sequence[str], in_company: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    context, uplinks = load.context, load.uplinks
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
    values: dict[str, Any] = {
        "source": source,
        "target": target,
        "seconds": context.settings.take_s,
        "omit_s": context.settings.omit_s,
        "streams": load.streams,
        "bitrate_bps": context.settings.bitrate_bps,
        "calibration": [*load.calibration],
        "encapsulated": _encapsulated(context, source, target, uplinks[source]),
        "pod_absent": absent,
        "beside": [*beside],
        "takes_in_company": [*in_company],
        "takes": _takes(load, source, target, pods=absent is None, alone=not beside),
    }
    by_service = context.service_load and absent is None and _all_well(values["takes"])
    return {**values, "service": _through_service(load, source, target, values["takes"], alone=not beside) if by_service else None}


def _through_service(load: _Load, source: str, target: str, direct: Sequence[Mapping[str, Any]], *, alone: bool) -> dict[str, Any]:
    """Return the takes from pod to pod by the ClusterIP of a Service whose only endpoint is the target, or why there are none."""
    context = load.context
    try:
        services = {service.node: service for service in context.probe_services()}
    except MEASURE_ERRORS as error:
        return {"error": str(error), "absent": None, "address": None, "port": None, "takes": []}
    if target not in services:
        absent = f"no Service of the run leads to a pod of {target}: {MOST} nodes have one at most"
        return {"error": None, "absent": absent, "address": None, "port": None, "takes": []}
    service = services[target]
    wanted_bps = AGREE * _best(direct, "pod")
    takes: list[dict[str, Any]] = []
    while len(takes) < (MOST_SERVICE_TAKES if alone else 1) and not context.stopped.is_set():
        takes.append(_take(load, source, target, "pod", service))
        if takes[-1]["error"] is not None or _best(takes, "pod") >= wanted_bps:
            break
    return {"error": None, "absent": None, "address": service.cluster_ip, "port": PORT, "takes": takes}


def _takes(load: _Load, source: str, target: str, *, pods: bool, alone: bool) -> list[dict[str, Any]]:
    def again(takes: Sequence[Mapping[str, Any]]) -> bool:
        return alone and len(takes) < MOST_TAKES and disagree(takes) and not load.context.stopped.is_set()

    return take_paths(lambda path: _take(load, source, target, path), _untaken, again, pods=pods)


def take_paths(
    take: Callable[[Place], dict[str, Any]],
    untaken: Callable[[Place, str], dict[str, Any]],
    again: Callable[[Sequence[Mapping[str, Any]]], bool],
    *,
    pods: bool,
) -> list[dict[str, Any]]:
    """Return the takes of host and pod path in their order, and more while `again` says so. Nothing is taken after a broken one."""
    takes: list[dict[str, Any]] = []
    for path in ORDER if pods else HOST_ORDER:
        broken = next((item["error"] for item in takes if item["broken"]), None)
        takes.append(take(path) if broken is None else untaken(path, f"not taken: {broken}"))
    while pods and again(takes):
        takes += [take(path) for path in AGAIN]
    return takes


def disagree(takes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the best takes of host and pod path are too far apart to leave it at that; takes that went wrong are not repeated."""
    if not _all_well(takes):
        return False
    best = [_best(takes, path) for path in {take["path"] for take in takes}]
    if min(best) < AGREE * max(best):
        return True
    host, pod = (_soonest(takes, path) for path in ("host", "pod"))
    return host is not None and pod is not None and pod > host + LATER_MS


def _soonest(takes: Sequence[Mapping[str, Any]], path: str) -> float | None:
    """Return how long answers took beside a path's best take, by their median; None where none came."""
    return min((take["rtt"]["p50_ms"] for take in takes if take["path"] == path and take["rtt"]["p50_ms"] is not None), default=None)


def _all_well(takes: Sequence[Mapping[str, Any]]) -> bool:
    return bool(takes) and all(take["error"] is None for take in takes)


def _take(load: _Load, source: str, target: str, path: Place, service: ProbeService | None = None) -> dict[str, Any]:
    """Run iperf3 once, and again when the way to it was cut. Whatever goes wrong becomes the take's error, never a figure.

    By `service` it goes through its ClusterIP, to the one port that leads from there to the target's pod.
    """
    context, uplinks = load.context, load.uplinks
    values = _untaken(path, None)
    try:
        address = address_of(context, target, path)
        server, client = agent_of(context, target, path), agent_of(context, source, path)
        over = 0.0  # when a take whose way was cut has ended by itself: until then it would be in the way of the next

        def measure() -> tuple[Mapping[str, Any], dict[str, Any]]:
            nonlocal over
            time.sleep(max(0.0, over - time.monotonic()))
            over = time.monotonic() + context.settings.take_s + context.settings.omit_s + _END_S
            before = _look(context, source, target, uplinks)
            started = time.monotonic()
            # Anew for each take, and not on the ports that a firewall may know: a way that was cut has taken the server with it.
            with (
                serving(context, [target], path, port=0) as servers,
                _answers(context, client, address, servers[target]) as values["rtt"],
            ):
                result = iperf3(context, server, client, address, streams=load.streams, service=service)
            seconds = time.monotonic() - started
            after = _look(context, source, target, uplinks)
            return result, {"wire": _wire(before, after, seconds), "processors": _processors(before, after)}

        (result, meanwhile), values["retried"] = again(measure)
        values.update(read_result(result), **meanwhile)
    except (AccessError, MeasurementError) as error:
        values.update(error=str(error), broken=isinstance(error, BROKEN))
    return values


@contextmanager
def _answers(context: MeasureContext, client: Agent, address: str, answering: Mapping[str, Any] | Exception) -> Iterator[dict[str, Any]]:
    """Take times of answers meanwhile; give what is known of them afterwards. That there are none is no fault of the take."""
    rtt: dict[str, Any] = {"samples": 0, **dict.fromkeys(RTT_FIGURES), "jitter_ms": None, "error": None}
    settings = context.settings
    number = None
    try:
        if isinstance(answering, Exception):
            raise answering
        max_s = settings.take_s + settings.omit_s + _SPARE_S
        params = {"address": address, "port": answering["port"], "after_s": settings.omit_s, "max_s": max_s}
        number = client.request("latency.begin", params, timeout_s=_SHORT_S)["number"]
    except MEASURE_ERRORS as error:
        if isinstance(error, BROKEN):
            raise
        rtt["error"] = str(error)
    try:
        yield rtt
    except (AccessError, MeasurementError) as error:
        if number is not None and not isinstance(error, BROKEN):
            with suppress(AccessError):
                client.request("latency.end", {"number": number}, timeout_s=_SHORT_S)
        raise
    if number is None:
        return
    try:
        answer = client.request("latency.end", {"number": number}, timeout_s=_SHORT_S)
    except AccessError as error:
        rtt["error"] = str(error)
        return
    times = answer["sorted_ms"]
    rtt.update(samples=len(times), jitter_ms=answer["jitter_ms"], error=answer["error"])
    if times:
        rtt.update({key: value for key, value in figures(times).items() if key in RTT_FIGURES})
    elif rtt["error"] is None:
        rtt["error"] = "no answer came in the whole take"


RTT_FIGURES = ("p50_ms", "p99_ms", "max_ms")


def _untaken(path: Place, error: str | None) -> dict[str, Any]:
    """Return a take without figures."""
    return {
        "path": path,
        "at": now(),
        **dict.fromkeys(FIGURES),
        "error": error,
        "broken": False,
        "retried": None,
        "wire": None,
        "processors": None,
        "rtt": None,
        "iperf3": None,
    }


Look = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Counters of the source and of the target."""


def _look(context: MeasureContext, source: str, target: str, uplinks: Mapping[str, str | None]) -> Look:
    """Return what both uplinks have carried, by everybody, and what the processors have been spent on."""
    first, second = (
        context.access.host(node).request("counters", {"device": uplinks[node]}, timeout_s=_SHORT_S) for node in (source, target)
    )
    return first, second


def _wire(before: Look, after: Look, seconds: float) -> dict[str, Any] | None:
    sent, received = (before[0]["tx_bytes"], after[0]["tx_bytes"]), (before[1]["rx_bytes"], after[1]["rx_bytes"])
    if None in (*sent, *received):
        return None
    return {"source_tx_bytes": sent[1] - sent[0], "target_rx_bytes": received[1] - received[0], "seconds": round(seconds, 3)}


def _processors(before: Look, after: Look) -> dict[str, Any]:
    """Return what each node's processors did between two looks; None of a node whose kernel does not tell."""
    looks = zip(("source", "target"), before, after, strict=True)
    return {side: spent(first["processors"], second["processors"]) for side, first, second in looks}


def spent(before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]) -> dict[str, Any] | None:
    """Return ticks between two readings by use: of all processors together, and of the busiest of those that were there both times."""
    grown = {
        name: {use: max(0, ticks - before[name][use]) for use, ticks in uses.items()} for name, uses in after.items() if name in before
    }
    together = grown.pop("cpu", None)
    if together is None or not grown:
        return None
    return {"online": len(grown), "together": together, "busiest": max(grown.values(), key=busy_share)}


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


def iperf3(
    context: MeasureContext,
    server: Agent,
    client: Agent,
    address: str,
    *,
    udp_bps: int | None = None,
    streams: int = 1,
    take_s: int | None = None,
    service: ProbeService | None = None,
) -> Mapping[str, Any]:
    """Run a one-off server and a client, by TCP or by UDP at a rate; a server that somebody else's test got hold of is replaced.

    The client goes to the server's address, or by the ClusterIP of `service` when there is one.
    """
    settings = context.settings
    seconds = settings.take_s if take_s is None else take_s
    length = seconds + settings.omit_s
    for attempt in range(_SERVER_TRIES):
        params = {"address": address, "ports": PORTS if service is None else (TARGET_PORT, TARGET_PORT), "max_s": length + _SPARE_S}
        running = server.request("iperf3_server", params, timeout_s=_SHORT_S)
        called = (address, running["port"]) if service is None else (service.cluster_ip, PORT)
        try:
            answer = client.request(
                "iperf3_client",
                {
                    "address": called[0],
                    "port": called[1],
                    "seconds": seconds,
                    "omit_s": settings.omit_s,
                    "streams": streams,
                    "bitrate_bps": settings.bitrate_bps if udp_bps is None else udp_bps,
                    "udp": udp_bps is not None,
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
                f"iperf3: {error} ({client.where} to {server.where}, {called[0]} port {called[1]}): "
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
